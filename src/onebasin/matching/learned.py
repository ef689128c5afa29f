"""Matching with the task's loss: the permutations whose average of the networks works best on data.

The objectives of `onebasin.matching.match` know weights or activations; what a merge is wanted for is its loss. Here
every step takes a batch, averages the networks as they are matched by now, with the share of each drawn anew around its
mean, and lets latent numbers follow the gradient of the loss (see `onebasin.matching.latents`). The averages lie on the
line between two networks, or on the simplex between n (Ito, Yamada and Kumagai 2025), not only in its middle, so that
what is between them becomes good as a whole.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from onebasin.checkpoint import Source, load_params
from onebasin.errors import OptionError
from onebasin.evaluation import Batches, Evaluate, batch_statistics, repeatable
from onebasin.matching.checks import comparable
from onebasin.matching.latents import LATENTS, Latent
from onebasin.matching.pair import match
from onebasin.matching.task_loss import TaskLoss
from onebasin.progress import Progress, Report, silent
from onebasin.symmetry import Matching, Status, Symmetry, Trial

RATES = {"learned": 0.05, "straight-through": 0.03}
"""Learning rates that did well on digits and MNIST; relative, see `onebasin.matching.latents`."""


def learn_matching(
    model: nn.Module,
    a: Source,
    b: Source,
    symmetry: Symmetry,
    batches: Batches,
    evaluate: Evaluate,
    *,
    start: Matching | None = None,
    method: str = "learned",
    epochs: int = 10,
    rate: float | None = None,
    lam: tuple[float, float] = (0.4, 0.6),
    validation: Batches | None = None,
    seed: int = 0,
    progress: Report = silent,
) -> Matching:
    """Learn the permutations that make points between `a` and `b` good at a task.

    Args:
        model: of the architecture of both; left as it is. It runs in eval mode, BatchNorm on each batch's statistics.
        a: the reference: a module, its state dict, or a checkpoint's path.
        b: the network to be moved.
        symmetry: as discovered on the model, or loaded.
        batches: the data to learn from, one step a batch, in the order they come.
        evaluate: `evaluate(model, batch)` returns sums over the batch: `loss` and `count`.
        start: where to begin; None searches for the best matching without data first.
        method: `"learned"` keeps latent scores for every group; `"straight-through"` a latent network, as published
            (Ainsworth et al. 2023, section 3.3). The first is faster and reached lower losses.
        epochs: passes over the data.
        rate: how far a step goes, relative to the scale of what is learned; None takes that of `RATES`.
        lam: the share of `b` is drawn from this range at every step; (0.5, 0.5) is the published estimator.
        validation: the data that decide which matching is kept; None takes `batches`.
        seed: of the search for a start and of the shares drawn.
        progress: called after every epoch.

    Returns:
        the matching with the least mean loss on `validation` of the average in the middle of `lam`, among the start
        and those after every epoch: never worse than the start. `objective` is that loss, `history` all of them,
        `tried` the start and the best learned. Interrupted with Ctrl-C it returns the best so far. The same seed gives
        the same bytes for one number of threads, on which only the last bits of the model's own passes depend.

    Raises:
        OptionError: if an option is unknown or out of range, there are no batches, or the loss cannot be learned from.
        MismatchError: if model, `a` and `b` do not fit the symmetry and each other.
    """
    (low, high), middle = lam, sum(lam) / 2
    if not 0 < low <= high < 1:
        raise OptionError("lam", expected="a range between 0 and 1", found=str(lam), remedy="try (0.4, 0.6)")

    def draw(generator: np.random.Generator) -> list[float]:
        share = float(generator.uniform(low, high))
        return [1 - share, share]

    data = repeatable(batches, "batches")
    judge = average_loss([1 - middle, middle], data if validation is None else validation)
    plan = Plan(data, judge, draw, method, epochs, rate, seed, progress)
    networks = Networks(model, (a, b), ("a", "b"), symmetry, evaluate)
    return learn(networks, None if start is None else [start], plan)[0]


def learn_universe(
    model: nn.Module,
    models: Sequence[Source],
    symmetry: Symmetry,
    batches: Batches,
    evaluate: Evaluate,
    *,
    starts: Sequence[Matching] | None = None,
    method: str = "learned",
    epochs: int = 10,
    rate: float | None = None,
    spread: float = 0.2,
    validation: Batches | None = None,
    seed: int = 0,
    progress: Report = silent,
) -> tuple[Matching, ...]:
    """Learn to bring n networks into the coordinates of the first so that their average is good at a task.

    Every network but the first has its own latent; all follow the loss of one average. All matchings lead to the first
    network, so that going around any circle of networks leads back.

    Args:
        model: see `learn_matching`, as for all that is not listed here.
        models: two networks or more; the first stays where it is.
        symmetry: fits all.
        batches: the data to learn from.
        evaluate: the loss.
        starts: where to begin, one for every network but the first; None matches each with the first, without data.
        method: `"learned"` or `"straight-through"`.
        epochs: passes over the data.
        rate: how far a step goes.
        spread: shares are drawn uniformly from a simplex of this size, from 0 (always equal) to 1 (all of it), around
            equal ones; for two networks 0.2 draws from 0.4 to 0.6.
        validation: the data that decide which matchings are kept, by the mean loss of the equal average.
        seed: of everything random.
        progress: called after every epoch.

    Returns:
        one matching for every network but the first; losses and histories are those of the average of all.

    Raises:
        OptionError: as `learn_matching`; if there are fewer than two networks, or not as many starts as matchings.
        MismatchError: as `learn_matching`.
    """
    count = len(models)
    if count < 2:  # noqa: PLR2004 - an average needs two
        raise OptionError("models", expected="two or more", found=str(count), remedy="pass the networks to match")
    if not 0 <= spread <= 1:
        raise OptionError("spread", expected="a number from 0 to 1", found=str(spread), remedy="choose one of these")

    def draw(generator: np.random.Generator) -> list[float]:
        return [(1 - spread) / count + spread * float(share) for share in generator.dirichlet(np.ones(count))]

    data = repeatable(batches, "batches")
    judge = average_loss([1 / count] * count, data if validation is None else validation)
    plan = Plan(data, judge, draw, method, epochs, rate, seed, progress)
    labels = [f"model {number}" for number in range(1, count + 1)]
    return learn(Networks(model, models, labels, symmetry, evaluate), starts, plan)


Judge = Callable[[TaskLoss, tuple[Matching, ...]], float]
"""What decides which matchings are kept: one number, the lower the better, for one matching a network but the first."""


def average_loss(shares: Sequence[float], batches: Batches) -> Judge:
    """Judge by the mean loss of one average.

    Args:
        shares: of each network.
        batches: to take the loss on.
    """
    data = repeatable(batches, "validation")
    return lambda loss, matchings: loss.mean(loss.moved(matchings), shares, data())


@dataclass(frozen=True, slots=True)
class Networks:
    """What is to be averaged, and what its loss is.

    Attributes:
        model: gives code, devices and dtypes.
        sources: the networks; the first stays.
        labels: what to call them in errors.
        symmetry: of all.
        evaluate: the loss.
    """

    model: nn.Module
    sources: Sequence[Source]
    labels: Sequence[str]
    symmetry: Symmetry
    evaluate: Evaluate

    def check(self) -> None:
        """Refuse networks that do not fit the symmetry or each other."""
        self.symmetry.check(self.model.state_dict(), "model")
        comparable(self.sources, self.symmetry, self.labels)

    def loss(self) -> TaskLoss:
        """The loss at their averages."""
        return TaskLoss(self.model, self.evaluate, [load_params(source) for source in self.sources], self.symmetry)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to learn.

    Attributes:
        batches: to learn from.
        judge: decides what is kept.
        draw: gives the shares of a step.
        method: a name of `LATENTS`.
        epochs: passes over the data.
        rate: how far a step goes; None takes that of `RATES`.
        seed: of the shares.
        progress: called after every epoch.
    """

    batches: Batches
    judge: Judge
    draw: Callable[[np.random.Generator], list[float]]
    method: str
    epochs: int
    rate: float | None
    seed: int
    progress: Report

    def __post_init__(self) -> None:
        """Check the options."""
        if self.method not in LATENTS:
            expected = " or ".join(LATENTS)
            raise OptionError("method", expected=expected, found=repr(self.method), remedy="choose one of them")
        for name, value, least in (("epochs", self.epochs, 1), ("seed", self.seed, 0)):
            if value < least:
                raise OptionError(name, expected=f"{least} or more", found=str(value), remedy="raise it")
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise OptionError("rate", expected="a positive number", found=str(self.rate), remedy="leave it out")


@dataclass(slots=True)
class _Record:
    """The best so far, all losses measured, and where the time went."""

    best: tuple[Matching, ...]
    losses: list[float] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("start", "learn", "measure"), 0.0))

    def keep(self, matchings: tuple[Matching, ...], loss: float) -> None:
        """Note a loss; the first of the lowest ones counts."""
        if self.losses and loss < min(self.losses):
            self.best = matchings
        self.losses.append(loss)

    def finished(self, starts: Sequence[Matching], status: Status, plan: Plan) -> tuple[Matching, ...]:
        """The best matchings with their history."""
        found = []
        for matching, start in zip(self.best, starts, strict=True):
            tried = [Trial(f"the start, {start.method}", loss, 0) for loss in self.losses[:1]]
            if self.losses[1:]:
                tried.append(Trial(plan.method, min(self.losses[1:]), len(self.losses) - 1))
            found.append(
                Matching(
                    matching.symmetry,
                    matching.permutations,
                    objective=min(self.losses, default=None),
                    history=tuple(self.losses),
                    status=status,
                    seconds=dict(self.seconds),
                    method=plan.method,
                    seed=plan.seed,
                    tried=tuple(tried),
                )
            )
        return tuple(found)


def learn(networks: Networks, given: Sequence[Matching] | None, plan: Plan) -> tuple[Matching, ...]:
    """Learn one matching for every network but the first; see `learn_universe`.

    Args:
        networks: at least two.
        given: where to begin; None searches without data.
        plan: how to learn.

    Raises:
        OptionError: the starts are not those of the networks, there are no batches, or the loss cannot be learned from.
        MismatchError: the networks do not fit the symmetry or each other.
    """
    begun = time.perf_counter()
    networks.check()
    data = repeatable(plan.batches, "batches")
    starts = _searched(networks, plan) if given is None else _fitting(networks, given)
    record = _Record(starts)
    record.seconds["start"] = time.perf_counter() - begun
    if given is None and any(start.status is Status.INTERRUPTED for start in starts):
        status = Status.INTERRUPTED
    else:
        try:
            with batch_statistics(networks.model):
                status = _follow(networks.loss(), record, data, plan)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
    record.seconds["total"] = time.perf_counter() - begun
    return record.finished(starts, status, plan)


def _searched(networks: Networks, plan: Plan) -> tuple[Matching, ...]:
    """The best matching with the first network that is found without data; where interrupted, the rest stays."""
    found: list[Matching] = []
    for source in networks.sources[1:]:
        if found and found[-1].status is Status.INTERRUPTED:
            found.append(networks.symmetry.identity().replace(status=Status.INTERRUPTED))
        else:
            first = networks.sources[0]
            found.append(match(first, source, networks.symmetry, seed=plan.seed, progress=plan.progress))
    return tuple(found)


def _fitting(networks: Networks, starts: Sequence[Matching]) -> tuple[Matching, ...]:
    """Starts as given, if they fit."""
    moved = len(networks.sources) - 1
    if len(starts) != moved or any(start.symmetry.groups != networks.symmetry.groups for start in starts):
        raise OptionError(
            "start" if moved == 1 else "starts",
            expected=f"{moved} matchings of this symmetry",
            found=f"{len(starts)}" if len(starts) != moved else "one of another symmetry",
            remedy="pass one for every network but the first, or leave them out",
        )
    return tuple(start.replace(symmetry=networks.symmetry) for start in starts)


def _follow(
    loss: TaskLoss,
    record: _Record,
    data: Callable[[], Iterable[object]],
    plan: Plan,
) -> Status:
    """Measure the start, then learn and measure every epoch."""
    if not loss.names:  # Nothing can move.
        record.keep(record.best, plan.judge(loss, record.best))
        return Status.OPTIMAL
    generator = np.random.default_rng(plan.seed)
    rate = RATES[plan.method] if plan.rate is None else plan.rate
    a = {name: loss.states[0][name] for name in loss.names}
    latents = [LATENTS[plan.method](a, b, start, rate) for b, start in zip(loss.states[1:], record.best, strict=True)]
    for epoch in range(plan.epochs + 1):
        begun, count = time.perf_counter(), 0
        for batch in data() if epoch else ():
            _step(loss, latents, plan.draw(generator), batch)
            count += 1
        if epoch and not count:
            raise OptionError("batches", expected="some in every epoch", found="none", remedy="pass a list of batches")
        learned = time.perf_counter()
        matchings = tuple(latent.matching for latent in latents)
        record.keep(matchings, plan.judge(loss, matchings))
        record.seconds["learn"] += learned - begun
        record.seconds["measure"] += time.perf_counter() - learned
        if epoch:
            detail = f"loss {record.losses[-1]:.4g}, lowest {min(record.losses):.4g}"
            plan.progress(Progress("learning", epoch, plan.epochs, detail))
    return Status.EPOCHS


def _step(loss: TaskLoss, latents: Sequence[Latent], shares: Sequence[float], batch: object) -> None:
    moved = loss.moved([latent.matching for latent in latents])
    gradients = loss.gradients(moved, shares, batch)
    for latent, state, share in zip(latents, moved[1:], shares[1:], strict=True):
        latent.follow(gradients, state, share)
