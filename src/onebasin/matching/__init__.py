"""Find the element of a symmetry group that brings one network into the coordinates of another."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from onebasin.checkpoint import check_finite, load_params
from onebasin.errors import MismatchError, OptionError
from onebasin.matching.ascent import ascend
from onebasin.matching.problem import Problem
from onebasin.progress import Report, silent
from onebasin.symmetry import Matching, Symmetry


def _weight(a, b, symmetry, seed, max_sweeps, progress):
    return ascend(Problem.of(a, b, symmetry), symmetry.identity(), seed, max_sweeps, progress)


METHODS = {"weight": _weight}
"""The matching algorithms by name; each takes (a, b, symmetry, seed, max_sweeps, progress)."""


def match(
    a: nn.Module | Mapping[str, Tensor] | str | Path,
    b: nn.Module | Mapping[str, Tensor] | str | Path,
    symmetry: Symmetry,
    method: str = "weight",
    seed: int = 0,
    *,
    max_sweeps: int = 100,
    progress: Report = silent,
) -> Matching:
    """Find the permutations that bring `b` as close to `a` as possible.

    Args:
        a: the reference: a module, its state dict, or a checkpoint's path.
        b: the network to be moved, of the same architecture.
        symmetry: as discovered on the architecture, or loaded.
        method: `"weight"`, weight matching (Ainsworth et al. 2023, section 3.2): needs no data.
        seed: of the order in which groups are visited; the same seed gives the same matching.
        max_sweeps: the largest number of passes over all groups.
        progress: called after every sweep.

    Returns:
        the matching; `matching.apply(b)` gives `b`'s function in `a`'s coordinates. Interrupted with Ctrl-C it returns
        the best reached so far, its status saying so.

    Raises:
        OptionError: if the method is unknown or `max_sweeps` is below 1.
        MismatchError: if a tensor is missing, has another shape or dtype, or holds NaN or infinite values.
    """
    if method not in METHODS:
        raise OptionError("method", expected=" or ".join(METHODS), found=repr(method), remedy="choose one of them")
    if max_sweeps < 1:
        raise OptionError("max_sweeps", expected="1 or more", found=str(max_sweeps), remedy="raise it")
    named_a, named_b = _named(a, "a"), _named(b, "b")
    params_a, params_b = load_params(a), load_params(b)
    for label, params in ((named_a, params_a), (named_b, params_b)):
        symmetry.check(params, label)
        # A tensor that stays where it is, such as a causal mask, may hold infinities.
        check_finite(params, label, infinity=True)
        moving = {n: t for n, t in params.items() if any(layout.groups for layout in symmetry.layouts[n])}
        check_finite(moving, label)
    for name in symmetry.layouts:
        if name in params_a and name in params_b and params_a[name].dtype != params_b[name].dtype:
            raise MismatchError(
                f"{named_b}: {name}",
                expected=f"{params_a[name].dtype}, as in {named_a}",
                found=str(params_b[name].dtype),
                remedy="convert one of the two",
            )
    return METHODS[method](params_a, params_b, symmetry, seed, max_sweeps, progress)


def _named(source: object, fallback: str) -> str:
    return str(source) if isinstance(source, str | Path) else fallback
