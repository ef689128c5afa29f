"""The matching algorithms by name: each a start, or several, from which coordinate ascent goes on to an optimum."""

from collections.abc import Callable

from onebasin.matching.anneal import SCHEDULE, anneal
from onebasin.matching.ascent import ascend
from onebasin.matching.frank_wolfe import frank_wolfe
from onebasin.matching.problem import Problem
from onebasin.progress import Report
from onebasin.symmetry import Matching, Status, Trial

_DOUBT_SHARE = 0.25
"""Annealing keeps a matrix for every group: it is tried where these take less than this share of both networks,"""
_DOUBT_BYTES = 2**28
"""or less than this."""

Method = Callable[[Problem, int, int, int, Report], Matching]
"""Takes the problem, a seed, the largest number of sweeps, of restarts, and where to report."""


def weight(problem: Problem, seed: int, max_sweeps: int, _: int, progress: Report) -> Matching:
    """Weight matching as published: coordinate ascent from the identity (Ainsworth et al. 2023, section 3.2)."""
    return ascend(problem, problem.symmetry.identity(), seed, max_sweeps, progress)


def annealed(problem: Problem, seed: int, max_sweeps: int, _: int, progress: Report) -> Matching:
    """Mean-field annealing along the data flow, then coordinate ascent."""
    return ascend(problem, anneal(problem, progress=progress), seed, max_sweeps, progress)


def relaxed(problem: Problem, seed: int, max_sweeps: int, _: int, progress: Report) -> Matching:
    """Frank and Wolfe's method from the middle of all permutations, then coordinate ascent."""
    return ascend(problem, frank_wolfe(problem, progress=progress), seed, max_sweeps, progress)


def best(problem: Problem, seed: int, max_sweeps: int, restarts: int, progress: Report) -> Matching:
    """The best of coordinate ascent from the identity, from an annealed start, and from reheated ones.

    Ends at once where the objective reaches its upper bound or the user interrupts.
    """
    found: Matching | None = None
    tried: list[Trial] = []
    try:
        for number in range(2 + restarts if _room_for_doubt(problem) else 1):
            name, start = _start(problem, number, seed, found, progress)
            reached = ascend(problem, start, seed, max_sweeps, progress, f"matching from {name}")
            tried.append(Trial(name, _value(reached), len(reached.history) - 1))
            if found is None or _value(reached) > _value(found) + _BETTER * problem.ceiling:
                found = reached
            if reached.status in (Status.OPTIMAL, Status.INTERRUPTED):
                found = found.replace(status=reached.status)
                break
    except KeyboardInterrupt:
        if found is None:
            raise
        found = found.replace(status=Status.INTERRUPTED)
    return problem.symmetry.identity() if found is None else found.replace(tried=tuple(tried))


_BETTER = 1e-9
"""A later search has to be better by more than this, relative to the upper bound: the first of equals is kept."""


def _start(problem: Problem, number: int, seed: int, found: Matching | None, progress: Report) -> tuple[str, Matching]:
    """The start of the search of some number: what was found so far is heated up again from the third on."""
    if number == 0:
        return "the identity", problem.symmetry.identity()
    if number == 1:
        return "annealing", anneal(problem, progress=progress)
    order = None if number == 2 else seed + number  # noqa: PLR2004 - the first reheating follows the data flow
    return f"reheating {number - 1}", anneal(problem, SCHEDULE[1:], order, found, progress, "reheating")


def _room_for_doubt(problem: Problem) -> bool:
    doubt = 4 * sum(problem.size(name) ** 2 for name in problem.names)
    networks = sum(side.numel() * side.element_size() for term in problem.terms for side in (term.a, term.b))
    return doubt <= max(_DOUBT_BYTES, _DOUBT_SHARE * networks)


def _value(matching: Matching) -> float:
    return float("-inf") if matching.objective is None else matching.objective


METHODS: dict[str, Method] = {"best": best, "weight": weight, "anneal": annealed, "frank-wolfe": relaxed}
"""By the names that `onebasin.match` and the command line take."""
