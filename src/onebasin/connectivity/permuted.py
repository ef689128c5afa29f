"""Permutations for which the whole simplex of several networks is good: the n-network version of a low barrier.

Wanted are elements P_2 ... P_n of the symmetry group such that the worst average of theta_1, P_2 theta_2, ..., P_n
theta_n has the least excess over the interpolation of their losses (`SimplexProfile`):

    min over P of max over lambda of L(sum of lambda_i P_i theta_i) - sum of lambda_i L(theta_i).

The second sum does not depend on P. Data-free matchings of all networks give the starts, since they are cheap and their
objective is close to the wanted one; the one with the least simplex barrier is refined. Refinement learns the matchings
by the gradient of the loss at points of the simplex (`onebasin.matching.learned`) that are drawn where barriers are:
inside, at the centres of faces, in the middles of edges, and at the worst points that the last measurement found by
climbing (so that min and max alternate). What decides is the barrier itself, searched for anew after every epoch.

Learning the permutations of n networks at points of their simplex is due to Ito, Yamada and Kumagai ("Linear mode
connectivity between multiple models modulo permutation symmetries", ICML 2025), with a straight-through latent network
and uniform points, judged in the middle. Here the points follow the worst ones, and the worst one decides.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from onebasin.checkpoint import Source, load_params
from onebasin.connectivity.simplex import check_vertices, dirichlet
from onebasin.connectivity.simplex_profile import SimplexProfile
from onebasin.connectivity.worst_point import simplex_barrier
from onebasin.errors import OptionError
from onebasin.evaluation import Batches, Evaluate, Evaluation, repeatable
from onebasin.matching import match, match_many
from onebasin.matching.learned import Networks, Plan, learn
from onebasin.matching.task_loss import TaskLoss
from onebasin.progress import Progress, Report, silent
from onebasin.symmetry import Matching, Status, Symmetry

TO_REFERENCE = "to-reference"
STARTS = (TO_REFERENCE, "cycle-consistent", "frank-wolfe", "merge-many", "hierarchical")
"""Data-free ways to bring networks into the coordinates of the first; the first matches each of them with it."""
LAW = (0.4, 0.2, 0.2, 0.2)
"""How often a step follows the loss at a uniform point, a random face's centre, an edge's middle, a worst point."""
BANK = 16
"""Worst points that are kept."""


@dataclass(frozen=True)
class Tried:
    """Matchings that were tried, by the simplex barrier on the validation data.

    Attributes:
        name: of the method.
        barrier: the largest excess found.
        edge: the largest on an edge.
        barycentre: the excess of the equal average.
    """

    name: str
    barrier: float
    edge: float
    barycentre: float


@dataclass(frozen=True)
class PermutedSimplex:
    """Networks in coordinates in which their whole simplex is as good as was found.

    Attributes:
        matchings: one a network, in the order given; the first moves nothing.
        profile: of the simplex they lead to, on the validation data.
        start: of the simplex that refinement began with; its barrier is never below that of `profile`.
        tried: all starts, then `learned` after every epoch.
        status: why the search stopped.
        seed: of everything random.
        seconds: spent on starts, and in all.
    """

    matchings: tuple[Matching, ...]
    profile: SimplexProfile
    start: SimplexProfile
    tried: tuple[Tried, ...]
    status: Status
    seed: int
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    @property
    def barrier(self) -> float:
        """The simplex barrier that was reached, on the validation data."""
        return self.profile.barrier

    def between(self, p: int, q: int) -> Matching:
        """What brings network `q` into the coordinates of network `p`, both counted from 0."""
        return self.matchings[p].inverse().compose(self.matchings[q])

    def vertices(self, models: Sequence[Source]) -> list[dict[str, Tensor]]:
        """The networks in their new coordinates.

        Raises:
            OptionError: if there are not as many as matchings.
        """
        if len(models) != len(self.matchings):
            raise OptionError(
                "models", expected=str(len(self.matchings)), found=str(len(models)), remedy="pass those matched"
            )
        return [matching.apply(source) for matching, source in zip(self.matchings, models, strict=True)]

    def save(self, folder: str | Path) -> None:
        """Write `simplex.json` and `matching-1.json`, `matching-2.json`, ... to a folder, which must exist."""
        for number, matching in enumerate(self.matchings, start=1):
            matching.save(Path(folder) / f"matching-{number}.json")
        self.profile.save(Path(folder) / "simplex.json")


def permuted_simplex(
    model: nn.Module,
    models: Sequence[Source],
    symmetry: Symmetry,
    *,
    batches: Batches,
    evaluate: Evaluate,
    validation: Batches | None = None,
    batchnorm: str = "reestimate",
    calibration_samples: int | None = None,
    starts: Sequence[str | Sequence[Matching]] = STARTS,
    epochs: int = 5,
    rate: float | None = None,
    samples: int = 32,
    ascents: int = 4,
    steps: int = 2,
    seed: int = 0,
    progress: Report = silent,
) -> PermutedSimplex:
    """Search for the permutations with the least simplex barrier.

    Args:
        model: of the architecture; left as it is.
        models: two networks or more; the first stays where it is.
        symmetry: as discovered on the model, or loaded.
        batches: the data to learn from, one step each, and to estimate statistics from.
        evaluate: `evaluate(model, batch)` returns sums over the batch: `loss` and `count`.
        validation: the data to measure barriers on; None takes `batches`.
        batchnorm: what becomes of statistics there; see `Evaluation`.
        calibration_samples: of `batches`, at least so many, to estimate statistics from; None takes all.
        starts: names of `STARTS`, or matchings of your own, one for every network, in any common coordinates.
        epochs: passes over `batches`; 0 only chooses among the starts.
        rate: how far a step goes; see `onebasin.matching.learn_matching`.
        samples: see `simplex_barrier`; the same for every barrier that decides.
        ascents: see there.
        steps: see there.
        seed: of everything random.
        progress: called after every start and epoch.

    Returns:
        the matchings with the least barrier on `validation` among all starts and those after every epoch. Interrupted
        with Ctrl-C after the first start it returns the best so far. Same seed and threads, same bytes.

    Raises:
        OptionError: if an option is unknown or out of range, there are no batches, or the loss cannot be learned from.
        MismatchError: if a network does not fit.
    """
    _check(len(models), starts, epochs)
    data = repeatable(batches, "batches")
    held = Evaluation(evaluate, data if validation is None else validation, None, batchnorm, data, calibration_samples)
    networks = _networks(model, models, symmetry, evaluate)
    search = partial(simplex_barrier, samples=samples, ascents=ascents, steps=steps, seed=seed)
    judge = _Judge(models, partial(search, model, evaluation=held))
    status = _begin(judge, starts, symmetry, seed, progress)
    start, seconds = judge.best, time.perf_counter() - judge.begun
    if status is not Status.INTERRUPTED and epochs and start.profile.barrier > 0:
        plan = Plan(data, judge.learned, judge.draw, "learned", epochs, rate, seed, progress)
        status = learn(networks, start.matchings[1:], plan)[0].status
    return judge.result(start, status, seed, {"starts": seconds, "total": time.perf_counter() - judge.begun})


def to_reference(models: Sequence[Source], symmetry: Symmetry, seed: int = 0) -> tuple[Matching, ...]:
    """Match every network with the first one, without a look at the others.

    Raises:
        MismatchError: if one does not fit the symmetry or the first.
    """
    return (symmetry.identity(), *(match(models[0], other, symmetry, seed=seed) for other in models[1:]))


def _networks(model: nn.Module, models: Sequence[Source], symmetry: Symmetry, evaluate: Evaluate) -> Networks:
    """The networks, after it was found that all fit."""
    networks = Networks(model, models, [f"model {k + 1}" for k in range(len(models))], symmetry, evaluate)
    networks.check()
    return networks


def _check(count: int, starts: Sequence[str | Sequence[Matching]], epochs: int) -> None:
    check_vertices(count)
    unknown = [start for start in starts if isinstance(start, str) and start not in STARTS]
    if unknown or not starts:
        raise OptionError(
            "starts", expected=f"some of {', '.join(STARTS)}", found=repr(unknown or starts), remedy="choose from them"
        )
    if epochs < 0:
        raise OptionError("epochs", expected="0 or more", found=str(epochs), remedy="raise it")


def _begin(
    judge: "_Judge", starts: Sequence[str | Sequence[Matching]], symmetry: Symmetry, seed: int, progress: Report
) -> Status:
    """Measure all starts; interrupted before the first one, there is nothing to return."""
    for number, start in enumerate(starts, start=1):
        name = start if isinstance(start, str) else f"given {number}"
        try:
            barrier = judge.look(name, _found(start, judge.models, symmetry, seed))
            progress(Progress("starts", number, len(starts), f"{name}: barrier {barrier:.4g}"))
        except KeyboardInterrupt:
            if not judge.rows:
                raise
            return Status.INTERRUPTED
    return Status.OPTIMAL if judge.best.profile.barrier <= 0 else Status.EPOCHS


def _found(
    start: str | Sequence[Matching], models: Sequence[Source], symmetry: Symmetry, seed: int
) -> tuple[Matching, ...]:
    if not isinstance(start, str):
        back = start[0].inverse() if start else symmetry.identity()  # the first network stays where it is
        return tuple(back.compose(matching) for matching in start)
    if start == TO_REFERENCE:
        return to_reference(models, symmetry, seed)
    found = match_many(models, symmetry, start, seed)
    if found.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return found.matchings


@dataclass(frozen=True, slots=True)
class _Row:
    """Matchings that were tried and the simplex they lead to."""

    name: str
    matchings: tuple[Matching, ...]
    profile: SimplexProfile

    @property
    def tried(self) -> Tried:
        profile = self.profile
        return Tried(self.name, profile.barrier, profile.edge_barrier, profile.barycentre)


class _Judge:
    """Measures barriers, remembers the best matchings, and draws points where the last simplex is bad."""

    def __init__(self, models: Sequence[Source], search: Callable[[Sequence[Source]], SimplexProfile]) -> None:
        self.models, self.search, self.begun = models, search, time.perf_counter()
        self.rows: list[_Row] = []

    @property
    def best(self) -> _Row:
        """The first with the lowest barrier."""
        return min(self.rows, key=lambda row: row.profile.barrier)

    def look(self, name: str, matchings: tuple[Matching, ...]) -> float:
        """Search for the barrier of some matchings, one a network."""
        if len(matchings) != len(self.models):
            raise OptionError(
                "starts",
                expected=f"{len(self.models)} matchings, one a network",
                found=str(len(matchings)),
                remedy="pass the identity for the first",
            )
        vertices = [matching.apply(load_params(m)) for matching, m in zip(matchings, self.models, strict=True)]
        profile = self.search(vertices)
        if not profile.complete:
            raise KeyboardInterrupt
        self.rows.append(_Row(name, matchings, profile))
        return profile.barrier

    def result(self, start: _Row, status: Status, seed: int, seconds: dict[str, float]) -> PermutedSimplex:
        """The best so far."""
        best, barrier = self.best, self.best.profile.barrier
        return PermutedSimplex(
            tuple(m.replace(method=best.name, seed=seed, objective=barrier) for m in best.matchings),
            best.profile,
            start.profile,
            tuple(row.tried for row in self.rows),
            status,
            seed,
            seconds,
        )

    def learned(self, _: TaskLoss, moved: tuple[Matching, ...]) -> float:
        """Judge what was learned; the start, which comes first, is known."""
        best = self.best
        if all(a.permutations == b.permutations for a, b in zip(moved, best.matchings[1:], strict=True)):
            return best.profile.barrier
        return self.look("learned", (best.matchings[0], *moved))

    def draw(self, generator: np.random.Generator) -> list[float]:
        """The point of a step, by `LAW`."""
        n, profile = len(self.models), self.rows[-1].profile
        kind = generator.choice(len(LAW), p=LAW)
        if kind == 0:
            return [float(x) for x in dirichlet(n, 1, generator)[0]]
        if kind == len(LAW) - 1:
            bank = n + np.argsort(-profile.excess[n:], kind="stable")[:BANK]
            return [float(x) for x in profile.weights[generator.choice(bank)]]
        size = 2 if kind == 2 else int(generator.integers(2, n + 1))  # noqa: PLR2004 - the place of edges in LAW
        chosen = generator.choice(n, size, replace=False)
        return [1 / size if k in chosen else 0.0 for k in range(n)]
