"""Assignment where things are nested in things: heads, and the units inside each head, solved exactly together.

Matching head i of `a` with head j of `b` is worth the best that their units can do inside that pair. The inner problems
of all pairs are solved first, in one call a group; their optima are added to the outer matrices. With a tree of nested
groups this is exact: the choices inside different pairs do not interact.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onebasin.assignment.exact import Assignment, Scores, solve, solve_each
from onebasin.errors import MismatchError

_Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Node:
    """A group of a tree of nested groups.

    Attributes:
        name: of the group.
        sizes: the sizes of the groups around it, outermost first, and its own.
        similarity: `[m, m]` float32 or float64 with m the product of `sizes`: member of `a` against member of `b`; None
            scores 0.
        children: the groups nested directly in it.
        fixed: its members stay where they are.
    """

    name: str
    sizes: tuple[int, ...]
    similarity: Scores | None
    children: tuple["Node", ...] = ()
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Nested:
    """The best permutation of a tree of nested groups.

    Attributes:
        index: for every group `[*sizes of the groups around, n]` int64 in gather form, the leading dimensions counted
            in the coordinates of `a`.
        value: the sum over all groups of what is matched, in float64.
        bound: no permutation of the tree scores more: `value` <= optimum <= `bound`, up to the rounding of the sums of
            the inner problems.
        outer: the matching of the outermost group with its prices, which the next similar problem starts from; None
            where that group is fixed.
    """

    index: dict[str, _Index]
    value: float
    bound: float
    outer: Assignment | None


def solve_nested(root: Node, warm: Nested | None = None) -> Nested:
    """The best permutation of a tree of nested groups.

    Args:
        root: the outermost group; its similarity and those of its descendants are summed over what is matched.
        warm: what this function returned for a similar tree of the same sizes; see `solve`.

    Returns:
        the permutation, its value, and a bound on the values of all others.

    Raises:
        MismatchError: if a similarity does not have the shape that `sizes` give it (names the group) or is not finite,
            or if `warm` has another size.
    """
    origin = np.zeros(1, np.int64)
    inner = [_chosen(child, *_pairs(root, origin, origin)) for child in root.children]
    scores = _scores(root, origin, origin, inner)[0]
    outer = None
    if root.fixed:
        value = bound = float(np.trace(scores, dtype=np.float64))
        index = np.arange(root.sizes[-1])
    else:
        outer = solve(scores, None if warm is None else warm.outer)
        index, value, bound = outer.index, outer.value, outer.bound
    found: dict[str, _Index] = {}
    _read(root, _Chosen(np.array([value]), index[None], inner), origin, found)
    return Nested(found, value, bound, outer)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The best of one group for each pair of a member of `a` and one of `b` around it.

    `value` is `[pairs]`, `index` is `[pairs, n]`, `inner` holds the same of the groups inside.
    """

    value: NDArray[np.float64]
    index: _Index
    inner: list["_Chosen"]


def _pairs(node: Node, i: _Index, j: _Index) -> tuple[_Index, _Index]:
    """The members of `a` and of `b` that can meet, counted through all groups around, where `i` meets `j` outside.

    All with all, as `[pairs, n, n]` laid flat; each only with itself in a group that is fixed, as `[pairs, n]`.
    """
    u = np.arange(node.sizes[-1])
    if node.fixed:
        return (i[:, None] * len(u) + u).ravel(), (j[:, None] * len(u) + u).ravel()
    shape = (len(i), len(u), len(u))
    rows, columns = (i[:, None] * len(u) + u)[:, :, None], (j[:, None] * len(u) + u)[:, None, :]
    return np.broadcast_to(rows, shape).ravel(), np.broadcast_to(columns, shape).ravel()


def _scores(node: Node, i: _Index, j: _Index, inner: list[_Chosen]) -> Scores:
    """`[pairs, n, n]`: what the members score, with the best of what is inside them."""
    n, around = node.sizes[-1], math.prod(node.sizes[:-1])
    if node.similarity is None:
        scores: Scores = np.zeros((len(i), n, n))
    elif node.similarity.shape != (around * n, around * n):
        raise MismatchError(
            f"group {node.name}: similarity",
            expected=f"shape {(around * n, around * n)}, all its members against all",
            found=f"shape {node.similarity.shape}",
            remedy="pass the scores of every member inside every group around",
        )
    elif around == 1:
        scores = node.similarity[None]
    else:
        scores = node.similarity.reshape(around, n, around, n)[i, :, j, :]
    for chosen in inner:
        # In a fixed group members meet only themselves: the other entries are never looked at.
        gain = chosen.value.reshape(-1, n)[:, :, None] * np.eye(n) if node.fixed else chosen.value.reshape(-1, n, n)
        scores = scores + gain
    return scores


def _chosen(node: Node, i: _Index, j: _Index) -> _Chosen:
    """The best of a group for all pairs, `i[k]` of `a` and `j[k]` of `b`."""
    inner = [_chosen(child, *_pairs(node, i, j)) for child in node.children]
    scores = _scores(node, i, j, inner)
    if node.fixed:
        index = np.broadcast_to(np.arange(node.sizes[-1]), scores.shape[:2])
        return _Chosen(np.trace(scores, axis1=1, axis2=2, dtype=np.float64), index, inner)
    index, value = solve_each(scores)
    return _Chosen(value, index, inner)


def _read(node: Node, chosen: _Chosen, pairs: _Index, found: dict[str, _Index]) -> None:
    """Write down the choice of a group for the pair of each member of `a` around it, and of those inside."""
    n = node.sizes[-1]
    index = chosen.index[pairs]
    found[node.name] = index.reshape(node.sizes)
    step = pairs[:, None] * n + np.arange(n)
    below = (step if node.fixed else step * n + index).ravel()
    for child, inner in zip(node.children, chosen.inner, strict=True):
        _read(child, inner, below, found)
