"""Match one network to another."""

import time
from collections.abc import Mapping

from torch import Tensor

from onebasin.checkpoint import Source
from onebasin.errors import OptionError
from onebasin.matching.checks import comparable
from onebasin.matching.methods import METHODS
from onebasin.matching.problem import Problem
from onebasin.parallel import workers
from onebasin.progress import Report, silent
from onebasin.symmetry import Matching, Symmetry


def match(
    a: Source,
    b: Source,
    symmetry: Symmetry,
    method: str = "best",
    seed: int = 0,
    *,
    activations: Mapping[str, Tensor] | None = None,
    alpha: float | None = None,
    normalised: bool = False,
    restarts: int = 1,
    max_sweeps: int = 100,
    progress: Report = silent,
) -> Matching:
    """Find the permutations that bring `b` as close to `a` as possible.

    What is maximised is the sum of the products of all weights of `a` with those of `b` in their new places (weight
    matching, Ainsworth et al. 2023, section 3.2), the similarity of activations (activation matching, section 3.1), or
    a mixture `(1 - alpha) * weights + alpha * activations`, both divided by their upper bounds.

    Args:
        a: the reference: a module, its state dict, or a checkpoint's path.
        b: the network to be moved, of the same architecture.
        symmetry: as discovered on the architecture, or loaded.
        method: `"best"` tries several starts and keeps the best, saying what it tried; `"weight"` is coordinate ascent
            from the identity, as published; `"anneal"` starts it from mean-field annealing, `"frank-wolfe"` from Frank
            and Wolfe's method.
        seed: of every random choice; the same seed gives the same matching, with any number of threads.
        activations: for every group, or some, `[m, m]` similarities, member of `a` against member of `b`, members
            counted over those of the groups around; see `activation_similarity`.
        alpha: from 0 (weights only) to 1 (activations only); None is 1 where activations are given, else 0.
        normalised: bring every tensor to unit variance first, so that none outweighs the others by its scale alone.
        restarts: for `"best"`, how often the best so far is heated up again.
        max_sweeps: the largest number of passes over all groups, for each start.
        progress: called after every pass.

    Returns:
        the matching; `matching.apply(b)` gives `b`'s function in `a`'s coordinates. Its `bound` and `gaps` say how far
        it can be from the best. Interrupted with Ctrl-C it returns the best reached so far, its status saying so.

    Raises:
        OptionError: if an option is unknown or out of range.
        MismatchError: if a tensor is missing, has another shape or dtype, or holds NaN or infinite values; if
            activations do not fit the symmetry.
    """
    if method not in METHODS:
        raise OptionError("method", expected=" or ".join(METHODS), found=repr(method), remedy="choose one of them")
    for name, value, least in (("max_sweeps", max_sweeps, 1), ("restarts", restarts, 0), ("seed", seed, 0)):
        if value < least:
            raise OptionError(name, expected=f"{least} or more", found=str(value), remedy="raise it")
    started = time.perf_counter()
    with workers():
        problem = _problem(a, b, symmetry, activations, alpha, normalised=normalised)
        found = METHODS[method](problem, seed, max_sweeps, restarts, progress)
        bound = problem.bound
    seconds = {**found.seconds, "total": time.perf_counter() - started}
    return found.replace(method=method, seed=seed, bound=bound, seconds=seconds)


def _problem(
    a: Source,
    b: Source,
    symmetry: Symmetry,
    activations: Mapping[str, Tensor] | None,
    alpha: float | None,
    *,
    normalised: bool,
) -> Problem:
    share = (0.0 if activations is None else 1.0) if alpha is None else alpha
    if not 0 <= share <= 1:
        raise OptionError("alpha", expected="a number from 0 to 1", found=str(alpha), remedy="choose one of these")
    if share > 0 and activations is None:
        raise OptionError(
            "alpha", expected="0 without activations", found=str(alpha), remedy="pass activations, or leave alpha out"
        )
    params_a, params_b = comparable([a, b], symmetry)
    weights = Problem.of(params_a, params_b, symmetry, normalised=normalised)
    return weights.mixed(activations, share) if activations is not None and share > 0 else weights
