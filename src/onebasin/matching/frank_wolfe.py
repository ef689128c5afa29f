"""Frank and Wolfe's method over all groups at once (Crisostomi et al., C2M3, 2024), with the exact step.

Every iteration moves all matrices X towards the permutations D that fit the gradient best, found by assignment. Along
the line X + t (D - X) the objective is a polynomial in t whose degree is the largest number of matrices that multiply
one tensor (2 for most networks): its slope at 0 is known from the gradient, a few values give the rest, and the best t
in [0, 1] is exact. All groups move together, so that no order of groups plays a part.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.polynomial import Polynomial
from torch import Tensor

from onebasin.assignment import Nested, solve_nested
from onebasin.matching.problem import Problem
from onebasin.matching.relaxed import Relaxed
from onebasin.parallel import workers
from onebasin.permutation import Permutation
from onebasin.progress import Progress, Report, silent
from onebasin.similarity import dot
from onebasin.symmetry import Matching

_PATIENCE = 5
"""Iterations in a row that gain next to nothing before the search ends."""


def frank_wolfe(
    problem: Problem,
    start: Matching | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-6,
    progress: Report = silent,
) -> Matching:
    """A matching to start coordinate ascent from.

    Args:
        problem: what to maximise.
        start: an element to start from; None starts in full doubt, in the middle of all.
        max_iterations: the largest number of iterations.
        tolerance: a gain below this, relative to the objective's upper bound, is next to nothing.
        progress: called after every iteration.

    Returns:
        the element nearest to where the iteration ended, without objective.
    """
    with workers():
        relaxed = Relaxed.of(problem)
        X = relaxed.uniform() if start is None else relaxed.hard(start.permutations)
        value, warm, idle = relaxed.objective(X), dict[int, Nested](), 0
        for iteration in range(1, max_iterations + 1):
            slopes, D = oracle(relaxed, X, warm)
            t, reached = best_step(value, slopes, relaxed.degree, partial(_at, relaxed, X, D))
            idle = idle + 1 if reached - value <= tolerance * problem.ceiling else 0
            X, value = between(X, D, t), reached
            progress(Progress("Frank-Wolfe", iteration, max_iterations, f"objective {value:.6g}"))
            if idle == _PATIENCE or t == 0:
                break
        return Matching(problem.symmetry, nearest(problem, X), method="frank-wolfe")


def oracle(relaxed: Relaxed, X: Mapping[str, Tensor], warm: dict[int, Nested]) -> tuple[float, dict[str, Tensor]]:
    """The slope towards the best permutations for the gradient, and their matrices."""
    problem = relaxed.problem
    permutations = dict(problem.symmetry.identity().permutations)
    gradients: dict[str, Tensor] = {}
    for position, tree in enumerate(problem.trees):
        scores = relaxed.scores(tree, X)
        warm[position] = solve_nested(tree.node(scores, tree.names), warm.get(position))
        permutations |= {name: Permutation(warm[position].index[name]) for name in tree.names}
        gradients |= scores
    D = {name: x for name, x in relaxed.hard(permutations).items() if name in X}
    return sum(dot(g, D[name]) - dot(g, X[name]) for name, g in gradients.items()), D


def _at(relaxed: Relaxed, X: Mapping[str, Tensor], D: Mapping[str, Tensor], t: float) -> float:
    return relaxed.objective(between(X, D, t))


def best_step(value: float, slope: float, degree: int, at: Callable[[float], float]) -> tuple[float, float]:
    """Where a polynomial is largest on [0, 1], and its value there.

    Args:
        value: at 0.
        slope: at 0.
        degree: of the polynomial.
        at: gives its value anywhere else; asked `degree - 1` times.

    Returns:
        the place and the value; 0 and `value` where nothing is gained.
    """
    t = np.linspace(0, 1, max(degree, 2))[1:]
    rest = np.array([at(float(x)) - value - slope * x for x in t])
    # value + slope t + c_2 t^2 + ... + c_degree t^degree through the values asked for
    powers = np.vander(t, len(t), increasing=True) * t[:, None] ** 2
    curve = Polynomial([value, slope, *np.linalg.solve(powers, rest)])
    roots = np.asarray(curve.deriv().roots(), np.complex128)
    places = [float(x) for x in roots[np.abs(roots.imag) < 1e-9].real if 0 < x < 1]  # noqa: PLR2004
    best = max([0.0, 1.0, *places], key=lambda x: float(curve(x)))
    reached = float(curve(best))
    return (best, reached) if reached > value else (0.0, value)


def between(X: Mapping[str, Tensor], D: Mapping[str, Tensor], t: float) -> dict[str, Tensor]:
    """`X + t (D - X)`, group by group."""
    return {name: x + t * (D[name] - x) for name, x in X.items()}


def nearest(problem: Problem, X: Mapping[str, Tensor]) -> dict[str, Permutation]:
    """The permutations nearest to doubly stochastic matrices."""
    permutations = dict(problem.symmetry.identity().permutations)
    for tree in problem.trees:
        found = solve_nested(tree.node(X, tree.names)).index
        permutations |= {name: Permutation(found[name]) for name in tree.names}
    return permutations
