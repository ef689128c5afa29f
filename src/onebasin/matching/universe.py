"""How many networks are brought together: where to start, and how to climb from there."""

from collections.abc import Callable
from functools import partial

import numpy as np
from torch import Tensor

from onebasin.assignment import Nested
from onebasin.matching.anneal import SCHEDULE, decide, sharpen
from onebasin.matching.ascent import ascend
from onebasin.matching.frank_wolfe import best_step, between, nearest, oracle
from onebasin.matching.methods import best
from onebasin.matching.networks import Networks, State, objective, total
from onebasin.matching.problem import Problem
from onebasin.matching.relaxed import Relaxed
from onebasin.parallel import workers
from onebasin.progress import Progress, silent
from onebasin.symmetry import Matching, Status

_GAIN = 1e-9
"""The smallest gain of a pass, relative to what one network's matching can reach at most, that counts."""
_ITERATIONS = 100
"""Of Frank and Wolfe's method, at most."""


def climb(networks: Networks, matchings: list[Matching], limit: int) -> tuple[list[Matching], Status, list[float]]:
    """Match one network after the other to the sum of the rest until none improves (MergeMany, algorithm 3).

    Returns:
        the matchings, why it stopped, and the objective after every pass.
    """
    generator = np.random.default_rng(networks.seed)
    found, history = list(matchings), list[float]()
    moved = [networks.moved(p, matching) for p, matching in enumerate(found)]
    try:
        for number in range(1, limit + 1):
            improved = False
            for p in map(int, generator.permutation(len(networks))):
                problem = networks.problem(p, moved)
                reached = ascend(problem, found[p], networks.seed, networks.max_sweeps)
                if (reached.objective or 0.0) > problem.objective(found[p]) + _GAIN * problem.ceiling:
                    found[p], improved = reached, True
                    moved[p] = networks.moved(p, reached)
            history.append(objective(moved))
            networks.progress(Progress("matching all", number, None, f"objective {history[-1]:.6g}"))
            if not improved:
                return found, Status.CONVERGED, history
    except KeyboardInterrupt:
        return found, Status.INTERRUPTED, [*history, objective(moved)]
    return found, Status.MAX_SWEEPS, history


def as_given(networks: Networks) -> list[Matching]:
    """All networks where they are."""
    return [networks.symmetry.identity()] * len(networks)


def annealed(networks: Networks) -> list[Matching]:
    """Mean-field annealing of all networks together; only the first one is certain from the beginning."""
    found = as_given(networks)
    with workers():
        relaxed = [Relaxed.of(Problem.of(s, s, networks.symmetry)) for s in networks.states]
        X = [relaxed[0].hard(found[0].permutations), *(r.uniform() for r in relaxed[1:])]
        moved = [networks.softened(p, relaxed[p], X[p]) for p in range(len(networks))]
        for step, sharpness in enumerate(SCHEDULE, start=1):
            for p in range(1, len(networks)):
                here = Relaxed.of(networks.problem(p, moved))
                order = range(len(here.problem.trees))
                if step < len(SCHEDULE):
                    sharpen(here, X[p], sharpness, order)
                else:
                    found[p] = Matching(networks.symmetry, decide(here, X[p], order))
                moved[p] = networks.softened(p, here, X[p])
            networks.progress(Progress("annealing all", step, len(SCHEDULE)))
    return found


def relaxed_together(networks: Networks) -> list[Matching]:
    """Frank and Wolfe's method over all groups of all networks but the first at once, with the exact step."""
    with workers():
        rest = range(1, len(networks))
        pairs = [Relaxed.of(Problem.of(s, s, networks.symmetry)) for s in networks.states]
        X = [pair.uniform() if p else pair.hard(as_given(networks)[0].permutations) for p, pair in enumerate(pairs)]
        moved = [networks.softened(p, pairs[p], X[p]) for p in range(len(networks))]
        value, warm = objective(moved), [dict[int, Nested]() for _ in networks.states]
        for iteration in range(1, _ITERATIONS + 1):
            here = {p: Relaxed.of(networks.problem(p, moved)) for p in rest}
            towards = {p: oracle(here[p], X[p], warm[p]) for p in rest}
            D = {p: matrices for p, (_, matrices) in towards.items()}
            slope = sum(s for s, _ in towards.values())
            degree = 2 * max(pair.degree for pair in pairs)
            t, reached = best_step(value, slope, degree, partial(_at, networks, here, X, D, moved[0]))
            gain, value = reached - value, reached
            for p in rest:
                X[p] = between(X[p], D[p], t)
                moved[p] = networks.softened(p, here[p], X[p])
            networks.progress(Progress("Frank-Wolfe", iteration, _ITERATIONS, f"objective {value:.6g}"))
            if t == 0 or gain <= _GAIN * abs(value):
                break
        found = {p: Matching(networks.symmetry, nearest(pairs[p].problem, X[p])) for p in rest}
    return [networks.symmetry.identity(), *found.values()]


def _at(
    networks: Networks,
    here: dict[int, Relaxed],
    X: list[dict[str, Tensor]],
    D: dict[int, dict[str, Tensor]],
    first: State,
    t: float,
) -> float:
    return objective([first, *(networks.softened(p, here[p], between(X[p], D[p], t)) for p in here)])


def hierarchical(networks: Networks) -> list[Matching]:
    """Pairs are matched and averaged, then pairs of averages, until one is left; the first of each pair stays."""
    found = as_given(networks)
    level: list[tuple[list[int], State]] = [([p], networks.moved(p, found[p])) for p in range(len(networks))]
    while len(level) > 1:
        merged = []
        for left, right in zip(level[::2], level[1::2], strict=False):
            a, b = ({n: t / len(members) for n, t in state.items()} for members, state in (left, right))
            matching = best(Problem.of(a, b, networks.symmetry), networks.seed, networks.max_sweeps, 1, silent)
            for p in right[0]:
                found[p] = matching.compose(found[p])
            members = [*left[0], *right[0]]
            merged.append((members, total([networks.moved(p, found[p]) for p in members])))
            networks.progress(Progress("matching averages", len(members), len(networks)))
        level = [*merged, *level[2 * len(merged) :]]
    return found


STARTS: dict[str, Callable[[Networks], list[Matching]]] = {
    "cycle-consistent": annealed,
    "frank-wolfe": relaxed_together,
    "merge-many": as_given,
    "hierarchical": hierarchical,
}
"""By the names that `match_many` and the command line take."""
