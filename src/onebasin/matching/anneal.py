"""Mean-field annealing: graduated assignment (Gold and Rangarajan 1996) over all groups of a network.

Coordinate ascent from the identity fixes the first groups by scores in which all their neighbours are still wrong, and
never recovers. Here the neighbours are uncertain instead: every group starts in full doubt and is made sharper step by
step, each time given what the others know by then. Along the data flow certainty spreads from the inputs and outputs,
whose coordinates are known; a residual stream that no fixed axis touches finds its own beginning in the row sums of its
weights.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

from onebasin.assignment import solve_nested
from onebasin.matching.problem import Problem
from onebasin.matching.relaxed import Relaxed, soften
from onebasin.parallel import workers
from onebasin.permutation import Permutation
from onebasin.progress import Progress, Report, silent
from onebasin.symmetry import Matching

SCHEDULE = (2.0, 2.5, 3.0, 3.5, 4.0)
"""Sharpness by step, in standard deviations of a group's scores: doubt ends between 2 and 4."""


def anneal(
    problem: Problem,
    schedule: Sequence[float] = SCHEDULE,
    seed: int | None = None,
    start: Matching | None = None,
    progress: Report = silent,
    stage: str = "annealing",
) -> Matching:
    """A matching to start coordinate ascent from.

    Args:
        problem: what to maximise.
        schedule: the sharpness of every step; slower ones find better optima.
        seed: of the order of the groups in every step; None follows the data flow, which is best as a rule.
        start: an element to reheat: where the neighbours are believed to be at first. None is full doubt.
        progress: called after every step.
        stage: its name for `progress`.

    Returns:
        an element of the symmetry group, without objective.
    """
    generator = None if seed is None else np.random.default_rng(seed)
    permutations = dict(problem.symmetry.identity().permutations)
    with workers():
        relaxed = Relaxed.of(problem)
        X = relaxed.uniform() if start is None else relaxed.hard(start.permutations)
        for step, sharpness in enumerate(schedule, start=1):
            order = range(len(problem.trees)) if generator is None else generator.permutation(len(problem.trees))
            if step < len(schedule):
                sharpen(relaxed, X, sharpness, order)
            else:
                permutations = decide(relaxed, X, order)
            progress(Progress(stage, step, len(schedule)))
    return Matching(problem.symmetry, permutations, method="anneal", seed=seed)


def sharpen(relaxed: Relaxed, X: dict[str, Tensor], sharpness: float, order: Iterable[int]) -> None:
    """One step: every tree, given what the others know by then; `X` is updated."""
    for tree in (relaxed.problem.trees[position] for position in order):
        X |= soften(tree, relaxed.scores(tree, X), sharpness, relaxed.problem.device)


def decide(relaxed: Relaxed, X: dict[str, Tensor], order: Iterable[int]) -> dict[str, Permutation]:
    """The last step: every tree is solved for, given what the others know or have decided; `X` is updated."""
    permutations = dict(relaxed.problem.symmetry.identity().permutations)
    for tree in (relaxed.problem.trees[position] for position in order):
        found = solve_nested(tree.node(relaxed.scores(tree, X), tree.names)).index
        permutations |= {name: Permutation(found[name]) for name in tree.names}
        X |= {name: x for name, x in relaxed.hard(permutations).items() if name in tree.names}
    return permutations
