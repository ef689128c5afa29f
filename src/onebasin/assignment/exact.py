"""The linear assignment problem, solved exactly: by the compiled kernel, or by SciPy where it was not built.

Both hand over the same: an optimal matching, prices of the columns that prove it, and the bound they prove. Which of
equally good matchings is kept is decided here, once for both.
"""

import importlib
import importlib.util
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onebasin.assignment.fallback import solve_by_scipy
from onebasin.errors import MismatchError

_BUILT = "onebasin.assignment._kernel"
_kernel = importlib.import_module(_BUILT) if importlib.util.find_spec(_BUILT) else None

PATHS: tuple[str, ...] = ("scipy", *(_kernel.paths() if _kernel else ()))
"""The ways of solving on this machine, the fastest last; all give an optimum. The kernel's give the same one."""

_LARGEST = 1e300
_ROUNDING = 2.0**-50

Scores = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Assignment:
    """An optimal matching, with a certificate.

    Attributes:
        index: `[n]` int64 in gather form: unit `i` of the result is `b`'s unit `index[i]`.
        value: the sum of `similarity[i, index[i]]`, in float64.
        bound: no permutation scores more: `value` <= optimum <= `bound`, in float64. It is the dual value
            of prices that prove the matching: their sum + sum over i of max over j of (similarity[i, j] - prices[j]).
        prices: `[n]` float64, these prices moved to the middle of the range in which they do: the start for the next,
            similar problem.
    """

    index: NDArray[np.int64]
    value: float
    bound: float
    prices: NDArray[np.float64]


def solve(similarity: Scores, warm: Assignment | None = None) -> Assignment:
    """The permutation that maximises the sum of `similarity[i, index[i]]`.

    Where several permutations score the same, that of `warm` is kept, or the identity: wherever a cycle of units could
    as well stay, it stays.

    Args:
        similarity: `[n, n]` float32 or float64, entry `[i, j]` scores unit `i` of `a` against unit `j` of `b`; finite.
            Not modified.
        warm: what this function returned for a similar problem of the same size: faster then, and of the same value.

    Returns:
        the matching with its value, an upper bound on the value of all matchings, and prices for the next solve.

    Raises:
        MismatchError: if the matrix is not square or not finite (names the first entry at fault), or if `warm` has
            another size or is no permutation.
    """
    return solve_on(PATHS[-1], similarity, warm)


def solve_on(path: str, similarity: Scores, warm: Assignment | None = None) -> Assignment:
    """As `solve`, on one of `PATHS`."""
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:  # noqa: PLR2004 - a matrix
        raise MismatchError(
            "similarity", expected="a square matrix", found=f"shape {similarity.shape}", remedy="pass [n, n] scores"
        )
    n = len(similarity)
    if warm is not None and not (warm.prices.shape == (n,) and np.array_equal(np.sort(warm.index), np.arange(n))):
        raise MismatchError(
            "warm",
            expected=f"a permutation of {n} units and as many prices",
            found=f"{len(warm.index)} units and {len(warm.prices)} prices",
            remedy="pass what the same problem gave before",
        )
    batch = _plain(similarity)[None]
    kept = np.arange(n)[None] if warm is None else warm.index[None]
    index, prices, bound = _solved(batch, kept, None if warm is None else warm.prices[None], certify=True, path=path)
    index = _settled(batch, index, kept)
    value = float(_picked(batch, index).sum())
    return Assignment(index[0], value, max(value, float(bound[0])), prices[0])


def solve_each(similarity: Scores) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Many independent problems in one call.

    Args:
        similarity: `[k, n, n]` float32 or float64, finite. Not modified.

    Returns:
        the optimal permutations, `[k, n]` int64 in gather form, chosen as by `solve`, and their values, `[k]` float64.

    Raises:
        MismatchError: if the matrices are not square or not finite (names the first entry at fault).
    """
    return solve_each_on(PATHS[-1], similarity)


def solve_each_on(path: str, similarity: Scores) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """As `solve_each`, on one of `PATHS`."""
    if similarity.ndim != 3 or similarity.shape[1] != similarity.shape[2]:  # noqa: PLR2004 - matrices
        raise MismatchError(
            "similarity", expected="square matrices", found=f"shape {similarity.shape}", remedy="pass [k, n, n] scores"
        )
    batch = _plain(similarity)
    kept = np.broadcast_to(np.arange(batch.shape[1]), batch.shape[:2])
    index, _, _ = _solved(batch, kept, None, certify=False, path=path)
    index = _settled(batch, index, kept)
    return index, _picked(batch, index).sum(axis=1)


def _plain(similarity: Scores) -> Scores:
    """The scores as the kernel reads them: rows of float32 or float64 one behind the other."""
    if similarity.dtype == np.float32:
        return np.ascontiguousarray(similarity, np.float32)
    return np.ascontiguousarray(similarity, np.float64)


def _solved(
    batch: Scores, kept: NDArray[np.int64], start: NDArray[np.float64] | None, *, certify: bool, path: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Optimal matchings `[k, n]`, prices `[k, n]`, and `[k]` bounds if wanted."""
    index = np.array(kept, np.int64, order="C")
    prices = np.zeros(index.shape) if start is None else np.array(start, np.float64, order="C")
    bound = np.zeros(len(batch) if certify else 0)
    if _kernel is not None and path != "scipy":
        bad = _kernel.solve(batch, index, prices, bound, start is not None, path)
    else:
        wrong = ~(np.abs(batch) <= np.float64(_LARGEST))
        bad = int(wrong.argmax()) if wrong.any() else -1
        if bad < 0:
            solve_by_scipy(batch, index, prices, bound)
    if bad >= 0:
        place = np.unravel_index(bad, batch.shape)
        entry = ", ".join(str(p) for p in (place if len(batch) > 1 else place[1:]))
        found = batch[place]
        raise MismatchError(
            f"similarity[{entry}]",
            expected=f"a number of at most {_LARGEST:g}" if np.isfinite(found) else "a finite number",
            found=str(found),
            remedy="look for NaN or overflow in the weights or activations it was computed from",
        )
    return index, prices, bound


def _picked(batch: Scores, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """`[k, n]` what each unit scores with its partner."""
    return np.take_along_axis(batch, index[:, :, None], axis=2)[:, :, 0].astype(np.float64)


def _settled(batch: Scores, index: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Undo every cycle of moves away from `kept` that gains nothing."""
    if np.array_equal(index, kept):
        return index
    k, n = index.shape
    # Unit i takes what unit to[i] had: the cycles of `to` move independently. Name each, among the units that move, by
    # its least member.
    to = np.empty((k, n), np.int64)
    np.put_along_axis(to, kept, np.broadcast_to(np.arange(n), (k, n)), axis=1)
    far = (np.take_along_axis(to, index, axis=1) + n * np.arange(k)[:, None]).ravel()
    name = np.arange(k * n)
    units = np.flatnonzero(far != name)
    name[units] = np.arange(len(units))
    far, name = name[far[units]], np.arange(len(units))
    for _ in range(min(n, len(units)).bit_length()):
        name = np.minimum(name, name[far])
        far = far[far]
    b, i = np.divmod(units, n)
    new, old = batch[b, i, index[b, i]].astype(np.float64), batch[b, i, kept[b, i]].astype(np.float64)
    idle = np.bincount(name, new - old) <= _ROUNDING * np.bincount(name, np.abs(new) + np.abs(old))
    back = units[idle[name]]
    settled = index.copy()
    settled.ravel()[back] = kept.ravel()[back]
    return settled
