"""Weight matching: coordinate ascent on a sum of bilinear assignment problems (Ainsworth et al. 2023, section 3.2).

The objective (see `onebasin.matching.problem`) is linear in one P_l while the others are fixed: every step is one
linear assignment problem, solved exactly, so that the objective never falls. Groups nested in others (units inside
heads) are solved together with them.

Steps are taken in aligned coordinates: B is seen permuted by what was found so far, so that a step looks for a
*relative* reordering. No permuted copy of B is kept. Between two steps of one group few units of its neighbours have
moved; only what they contribute is computed again, and the assignment starts from the prices of the last one.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from onebasin.apply import permute_part
from onebasin.assignment import Nested, solve_nested
from onebasin.matching.moves import Move
from onebasin.matching.problem import Mode, Problem, Term, Tree, turns
from onebasin.parallel import workers
from onebasin.permutation import Permutation
from onebasin.progress import Progress, Report, silent
from onebasin.similarity import inner_products
from onebasin.symmetry import Matching, Status

_GAIN = 1e-12
"""The smallest gain, relative to the product of both networks' norms, that counts: smaller ones are rounding."""
_SURE = 1e-6
"""From this gain on, relative likewise, the rounding of float32 scores is out of the question."""
_OPTIMAL = 1e-12
"""An objective this close to its upper bound, relatively, has reached it."""
_MOSTLY = 0.5
"""Where more members have moved than this share and no score needs it, what each gains is not looked at."""
_CORRECTIONS = 32
"""So many terms are corrected before a score is computed anew: float32 sums drift."""


_KEPT = 1 << 28
"""Bytes of scores that are kept between visits; of a network with many large groups the rest is computed anew."""


def ascend(
    problem: Problem, start: Matching, seed: int, max_sweeps: int, progress: Report = silent, stage: str = "matching"
) -> Matching:
    """Coordinate ascent from `start` until no tree of groups can be reordered better; see the module's text.

    Args:
        problem: what to maximise.
        start: where to begin; the identity for plain weight matching.
        seed: of the order in which trees are visited; the first pass follows the data flow, so that what is known at
            the inputs spreads.
        max_sweeps: the largest number of passes over all trees.
        progress: called after every sweep.
        stage: its name for `progress`.

    Returns:
        the matching; its history has the objective of B as given, of the start where that is another, and after every
        sweep.
    """
    started = time.perf_counter()
    generator = np.random.default_rng(seed)
    with workers():
        state = _State(problem, start)
        history, status = [problem.given], Status.MAX_SWEEPS
        if not start.is_identity:
            history.append(state.objective)
        try:
            for sweep in range(max_sweeps):
                order = generator.permutation(len(problem.trees)) if sweep else np.arange(len(problem.trees))
                improved = state.sweep(order)
                history.append(state.measure())
                progress(Progress(stage, sweep + 1, None, f"objective {state.objective:.6g}"))
                if state.objective >= (1 - _OPTIMAL) * problem.ceiling:
                    status = Status.OPTIMAL
                elif not improved:
                    status = Status.CONVERGED
                if status is not Status.MAX_SWEEPS:
                    break
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
            state.measure()
    return state.current.replace(
        objective=state.objective,
        history=tuple(history),
        status=status,
        seconds={**state.seconds, "total": time.perf_counter() - started},
        method="weight",
        seed=seed,
        gaps={} if status is Status.OPTIMAL else state.gaps(),
    )


@dataclass(slots=True, eq=False)
class _Score:
    """Members of one group against each other, in aligned coordinates.

    Attributes:
        group: whose members.
        terms: where they are, and at which dimensions.
        value: `[m, m]`; None where it has to be computed anew.
        corrections: how often it was corrected since it was computed.
        settled: whether its step has been solved since it last changed.
    """

    group: str
    terms: list[tuple[Term, Mode]]
    value: Tensor | None = None
    corrections: int = 0
    settled: bool = False

    def correct(self, change: Tensor | None) -> None:
        """Add what a neighbour's move has changed; None forgets the score."""
        self.settled = False
        if change is None or self.value is None or self.corrections == _CORRECTIONS:
            self.value = None
        else:
            self.value += change
            self.corrections += 1


@dataclass(slots=True, eq=False)
class _Step:
    """Some groups of one tree that are solved together."""

    tree: Tree
    free: frozenset[str]
    scores: dict[str, _Score]
    warm: Nested | None = None
    gap: float = 0.0

    def keep(self, found: Nested, *, improved: bool) -> None:
        """Keep what the next solve starts from, in the coordinates that B is left in, and what this one proves."""
        self.gap = max(0.0, found.bound - found.value)
        if found.outer is not None:
            prices = found.outer.prices[found.outer.index] if improved else found.outer.prices
            still = replace(found.outer, index=np.arange(len(prices)), prices=prices)
            self.warm = replace(found, outer=still)

    @property
    def terms(self) -> list[tuple[Term, Mode]]:
        """What it moves."""
        return [place for score in self.scores.values() for place in score.terms]

    @property
    def linear(self) -> bool:
        """Whether the objective is linear in these groups: none stands on two axes of a term."""
        terms = [id(term) for term, _ in self.terms]
        return len(terms) == len(set(terms))


class _State:
    """What the search has reached."""

    def __init__(self, problem: Problem, start: Matching) -> None:
        self.current = start
        self.seconds = {"similarity": 0.0, "assignment": 0.0, "apply": 0.0}
        self._problem, self._groups = problem, problem.symmetry.groups
        self._still = problem.symmetry.identity().permutations
        self.steps = [self._plan(tree) for tree in problem.trees]
        self._touching: dict[int, list[tuple[_Score, Mode]]] = {id(term): [] for term in problem.terms}
        for step in (step for row in self.steps for step in row):
            for score in step.scores.values():
                for term, mode in score.terms:
                    self._touching[id(term)].append((score, mode))
        self._visited: dict[int, _Score] = {}
        self._scale = problem.ceiling
        self.objective, self._known = (problem.given, True) if start.is_identity else (0.0, False)
        self.measure()

    def sweep(self, order: Iterable[int]) -> bool:
        """Take every step of the trees in this order; whether the objective grew."""
        improved = False
        for step in (step for position in order for step in self.steps[position]):
            improved |= self.take(step)
        return improved

    def gaps(self) -> dict[str, float]:
        """What each tree of groups, named by its first, could at most still gain."""
        return {row[0].tree.group.name: sum(step.gap for step in row) for row in self.steps}

    def _plan(self, tree: Tree) -> list[_Step]:
        steps = []
        for free in turns(tree, self._problem.terms, self._groups):
            step = _Step(tree, free, {name: _Score(name, []) for name in self._problem.linear.keys() & free})
            for term in self._problem.terms:
                for mode in term.modes(self._groups, free):
                    step.scores.setdefault(mode.group, _Score(mode.group, [])).terms.append((term, mode))
            steps.append(step)
        return steps

    def measure(self) -> float:
        """The objective, in float64: computed from scratch where a large move has left it unknown."""
        if not self._known:
            self.objective, self._known = self._problem.objective(self.current), True
        return self.objective

    def take(self, step: _Step) -> bool:
        """Reorder the free groups of one tree as well as possible, all others fixed; whether the objective grew."""
        if all(score.settled for score in step.scores.values()):
            return False
        times = [time.perf_counter()]
        for score in step.scores.values():
            if score.value is None:
                self._compute(score)
        times.append(time.perf_counter())
        values = {name: score.value for name, score in step.scores.items() if score.value is not None}
        found = solve_nested(step.tree.node(values, step.free), step.warm)
        times.append(time.perf_counter())
        improved = self._accept(step, {name: Permutation(found.index[name]) for name in step.tree.names})
        step.keep(found, improved=improved)
        for score in step.scores.values():
            score.settled = step.linear or not improved
            self._visited[id(score)] = self._visited.pop(id(score), score)
        self._forget()
        times.append(time.perf_counter())
        for part, begin, end in zip(self.seconds, times, times[1:], strict=False):
            self.seconds[part] += end - begin
        return improved

    def _forget(self) -> None:
        """Let go of the scores that were not visited for the longest time, where all together take too much memory."""
        kept = 0
        for score in reversed(self._visited.values()):
            kept += 0 if score.value is None else score.value.nbytes
            if kept > _KEPT:
                score.value = None

    def _compute(self, score: _Score) -> None:
        """Compute a score from scratch: columns as B was given where possible, since reordering them is cheaper."""
        given = self._problem.linear.get(score.group)
        aligned: Tensor | None = None
        for term, mode in score.terms:
            apart = term.apart(mode, self._groups)
            b = permute_part(term.b, term.part, self._groups, self.current.permutations, mode.dims if apart else ())
            found = inner_products(term.a, b, mode.dims).mul_(term.weight)
            if apart:
                given = found if given is None else given + found
            else:
                aligned = found if aligned is None else aligned + found
        if given is not None:
            columns = torch.from_numpy(self.current.members(score.group)).to(given.device)
            given = given.index_select(1, columns)
            aligned = given if aligned is None else aligned + given
        score.value, score.corrections = aligned, 0

    def _accept(self, step: _Step, relative: dict[str, Permutation]) -> bool:
        """Move B by a relative reordering if the objective grows."""
        if all(permutation.is_identity for permutation in relative.values()):
            return False
        element = Matching(self._problem.symmetry, {**self._still, **relative})
        index = {name: torch.from_numpy(element.members(name)) for name in step.scores}
        moved = element.compose(self.current)
        gain = sum(_gain(score.value, index[name]) for name, score in step.scores.items())
        if not step.linear:
            gain = self._problem.objective(moved) - self._problem.objective(self.current)
        elif gain < _SURE * self._scale:
            gain = sum(self._move(term, mode, index).gain for term, mode in step.terms) + self._gain(index)
        if gain <= _GAIN * self._scale:
            return False
        self._correct(step, index)
        self.current = moved
        return True

    def _gain(self, index: Mapping[str, Tensor]) -> float:
        """What the linear scores gain."""
        gain = 0.0
        for name in self._problem.linear.keys() & index.keys():
            columns = torch.from_numpy(self.current.members(name))
            gain += _gain(self._problem.linear[name][:, columns], index[name])
        return gain

    def _move(self, term: Term, mode: Mode, index: Mapping[str, Tensor]) -> Move:
        return Move.of(term, mode, index[mode.group], self._groups, self.current)

    def _correct(self, step: _Step, index: Mapping[str, Tensor]) -> None:
        """Bring all scores and the objective up to date, before B moves."""
        own = {id(score) for score in step.scores.values()}
        for name, score in step.scores.items():
            value = score.value
            columns = index[name]
            score.value = value.index_select(1, columns.to(value.device)) if step.linear and value is not None else None
        gain = self._gain(index)
        for term, mode in step.terms:
            relative = index[mode.group]
            still = float((relative == torch.arange(len(relative))).float().mean())
            others = [(score, m.dims) for score, m in self._touching[id(term)] if id(score) not in own]
            worth = still >= 1 - _MOSTLY or any(score.value is not None for score, _ in others)
            move = self._move(term, mode, index) if step.linear and worth else None
            gain += 0.0 if move is None else move.gain
            self._known = self._known and move is not None
            for score, dims in others:
                score.correct(move.change(dims) if move and score.value is not None else None)
        self.objective += gain


def _gain(value: Tensor | None, index: Tensor) -> float:
    if value is None:
        return 0.0
    rows = torch.arange(len(index), device=value.device)
    return float((value[rows, index.to(value.device)].double() - value.diagonal().double()).sum())
