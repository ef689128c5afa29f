"""AutoNEB: an elastic band of networks that settles on the lowest pass between two minima (Draxler et al. 2018).

Pivots follow the gradient of the loss across the band and are spread evenly along it (nudged elastic band with stiff
springs, Jonsson et al. 1998), with the tangents of Henkelman and Jonsson (2000). After every cycle the band is measured
between its pivots, too, and gets new ones where it misses most.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.connectivity.curve import Curve, chain
from onebasin.connectivity.curve_profile import CurveProfile, profile_curve
from onebasin.connectivity.span import Span
from onebasin.connectivity.training import point_loss, table_of
from onebasin.errors import OptionError
from onebasin.evaluation import Batches, Evaluate, Evaluation, Params, batch_statistics, repeatable
from onebasin.json_file import numbers, read_json, record, typed, write_json
from onebasin.progress import Progress, Report, silent

FORMAT = "onebasin-band/1"
JSON_FILE, PROFILE_FILE = "band.json", "profile.json"
_PHASES = ((3 / 7, 1.0), (5 / 7, 0.1), (1.0, 0.01))
"""Until which part of the cycles the learning rate is which part of the highest."""


@dataclass(frozen=True)
class BandSchedule:
    """How a band is relaxed: SGD with momentum, in cycles.

    The defaults are those of Draxler et al. for ResNet-20, but for their two double cycles.

    Attributes:
        cycles: rounds of relaxing, measuring and inserting.
        steps: batches a cycle.
        rate: the learning rate of the first three sevenths of the cycles; a tenth of it holds for the next two
            sevenths, a hundredth for the rest.
        momentum: of SGD.
        weight_decay: half of it times the squared length of a pivot is added to its loss.
        pivots: to begin with, between the ends.
        insertions: new pivots after a cycle, at most.
        threshold: a segment gets a pivot where it lies higher above the line between its pivots' losses than this part
            of the range of losses on the band.
        between: points measured inside every segment.
    """

    cycles: int = 14
    steps: int = 1000
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    pivots: int = 3
    insertions: int = 2
    threshold: float = 0.1
    between: int = 9

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            OptionError: if one is out of range.
        """
        for name, least in (("cycles", 1), ("steps", 1), ("pivots", 1), ("insertions", 0), ("between", 1)):
            value = getattr(self, name)
            if value < least:
                raise OptionError(name, expected=f"{least} or more", found=str(value), remedy="raise it")
        if not 0 < self.rate < math.inf:
            raise OptionError("rate", expected="a positive number", found=str(self.rate), remedy="try 0.1")
        for name in ("momentum", "weight_decay", "threshold"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(
                    name, expected="a number from 0 to 1", found=str(getattr(self, name)), remedy="leave it out"
                )

    def rate_of(self, cycle: int) -> float:
        """The learning rate of a cycle, counted from 0."""
        return self.rate * next(factor for until, factor in _PHASES if cycle / self.cycles < until)


@dataclass(frozen=True)
class Band:
    """A relaxed band.

    Attributes:
        curve: the chain of its pivots, ends included.
        profile: loss and error on it, at and between pivots.
        saddles: the highest loss on the band: on the straight line, then after every cycle.
        complete: False where it was interrupted; the band is then the best by then.
    """

    curve: Curve
    profile: CurveProfile
    saddles: tuple[float, ...]
    complete: bool = True

    @property
    def saddle(self) -> float:
        """The highest loss on the band: at most so high is the pass between the ends, on the data measured."""
        return max(self.profile.loss)

    def save(self, folder: str | Path) -> None:
        """Write the pivots, the profile and `band.json`, which comes last.

        Raises:
            CheckpointError: if the folder cannot be made or written to.
        """
        folder = Path(folder)
        self.curve.save(folder)
        self.profile.save(folder / PROFILE_FILE)
        data = {"format": FORMAT, "saddle": self.saddle, "saddles": list(self.saddles), "complete": self.complete}
        write_json(folder / JSON_FILE, data)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if a file is missing or the folder holds no band.
        """
        where = Path(folder) / JSON_FILE
        with record(read_json(where), where, "a band", FORMAT) as data:
            saddles, complete = numbers(data["saddles"], f"{where}: saddles"), typed(data, "complete", bool)
        return cls(Curve.load(folder), CurveProfile.load(Path(folder) / PROFILE_FILE), saddles, complete)


def redistribute(points: Tensor, shares: Tensor | None = None) -> Tensor:
    """Spread the inner points of a polyline along it.

    Args:
        points: `[k, D]`; the ends stay.
        shares: `[k - 1]`, of the length that each segment is to have; None: equal ones. Cutting corners makes the new
            segments a little shorter than their parts of the old line.

    Returns:
        new points on the old line, `[k, D]`.
    """
    gaps = torch.linalg.vector_norm(points.diff(dim=0), dim=1, dtype=torch.float64)
    wanted = torch.ones_like(gaps) if shares is None else shares.to(gaps)
    arc = torch.cat([gaps.new_zeros(1), gaps.cumsum(0)])
    places = (wanted.cumsum(0) / wanted.sum() * arc[-1])[:-1]
    segment = (torch.searchsorted(arc, places, right=True) - 1).clamp(0, len(gaps) - 1)
    part = torch.where(gaps[segment] > 0, (places - arc[segment]) / gaps[segment], 0).to(points.dtype)
    inner = torch.lerp(points[segment], points[segment + 1], part[:, None])
    return torch.cat([points[:1], inner, points[-1:]])


def tangents(points: Tensor, losses: Tensor) -> Tensor:
    """Unit tangents of a band at its inner points (Henkelman and Jonsson 2000, equations 8 to 11).

    With t+ = R_(i+1) - R_i and t- = R_i - R_(i-1): the one towards the higher neighbour where the loss rises or falls
    through the point; at a maximum or minimum t+ dmax + t- dmin if the next neighbour is higher than the one before,
    else t+ dmin + t- dmax, dmax and dmin the larger and smaller of the two differences of loss.

    Args:
        points: `[k, D]`.
        losses: at these, `[k]`.

    Returns:
        `[k - 2, D]`; zero where neighbours coincide.
    """
    steps, rises = points.diff(dim=0), losses.to(points).diff()
    before, after = rises[:-1], rises[1:]
    forward, backward = steps[1:], steps[:-1]
    most, least = torch.maximum(before.abs(), after.abs()), torch.minimum(before.abs(), after.abs())
    next_higher = before + after > 0  # V_(i+1) > V_(i-1)
    mixed = torch.where(next_higher, most, least), torch.where(next_higher, least, most)
    climbing, falling = (before > 0) & (after > 0), (before < 0) & (after < 0)
    flat = most == 0
    ahead = torch.where(climbing | flat, 1, torch.where(falling, 0, mixed[0]))
    behind = torch.where(falling | flat, 1, torch.where(climbing, 0, mixed[1]))
    return nn.functional.normalize(ahead[:, None] * forward + behind[:, None] * backward, dim=1)


def auto_neb(
    model: nn.Module,
    a: Source,
    b: Source,
    batches: Batches,
    evaluate: Evaluate,
    *,
    evaluation: Evaluation | None = None,
    schedule: BandSchedule | None = None,
    progress: Report = silent,
) -> Band:
    """Find a path of low loss between two minima, and how high its pass is.

    Args:
        model: of the architecture of `a` and `b`; left as it is.
        a: a minimum, where the band begins.
        b: a minimum, in `a`'s coordinates, where it ends.
        batches: each step takes one, for all pivots; started again when they end.
        evaluate: the loss.
        evaluation: how to measure the band between cycles; None measures on all batches.
        schedule: None takes `BandSchedule()`.
        progress: called after every cycle.

    Returns:
        the band after the cycle with the lowest pass. Interrupted with Ctrl-C, the best by then.

    Raises:
        OptionError: if an option or the data cannot work.
        MismatchError: if a network does not fit the model.
        KeyboardInterrupt: if it is interrupted before the straight line is measured.
    """
    plan = schedule or BandSchedule()
    data = repeatable(batches, "batches")
    dense = evaluation or Evaluation(evaluate, data)
    relaxer = _Relaxer(Span(model, [a, b]), plan, _endless(data), evaluate)
    bands: list[Band] = []
    with suppress(KeyboardInterrupt):
        for cycle in range(-1, plan.cycles):
            if cycle > 0:
                relaxer.insert(bands[-1].profile.loss)
            if cycle >= 0:
                relaxer.relax(plan.rate_of(cycle))
            curve = relaxer.curve()
            segments = len(curve.controls) - 1
            profile = profile_curve(curve, model, dense, segments * (plan.between + 1) + 1)
            if not profile.complete:
                break
            bands.append(Band(curve, profile, ()))
            progress(Progress("band", cycle + 1, plan.cycles, f"saddle {bands[-1].saddle:.4g}"))
    if not bands:
        raise KeyboardInterrupt
    best = min(bands, key=lambda band: band.saddle)
    return Band(best.curve, best.profile, tuple(band.saddle for band in bands), len(bands) == plan.cycles + 1)


def _endless(data: Callable[[], Iterable[object]]) -> Iterator[object]:
    """Batches without end."""
    while True:
        empty = True
        for batch in data():
            empty = False
            yield batch
        if empty:
            raise OptionError("batches", expected="at least one batch", found="none", remedy="pass a list of batches")


class _Relaxer:
    """A band while it is relaxed.

    Args:
        span: its ends.
        plan: how.
        batches: without end.
        evaluate: the loss.
    """

    def __init__(self, span: Span, plan: BandSchedule, batches: Iterator[object], evaluate: Evaluate) -> None:
        self.span, self.plan, self.batches, self.evaluate = span, plan, batches, evaluate
        ends = table_of(span)
        places = torch.linspace(0, 1, plan.pivots + 2, dtype=ends.dtype, device=ends.device)
        self.points = torch.lerp(ends[:1], ends[1:], places[:, None])
        self.shares = torch.ones(plan.pivots + 1, dtype=torch.float64)

    def relax(self, rate: float) -> None:
        """One cycle."""
        velocity = torch.zeros_like(self.points[1:-1])
        buffers = self._buffers()
        with batch_statistics(self.span.model):
            for _ in range(self.plan.steps):
                losses, slopes = self._slopes(next(self.batches), buffers)
                slopes += self.plan.weight_decay * self.points[1:-1]
                along = tangents(self.points, losses)
                slopes -= (slopes * along).sum(1, keepdim=True) * along
                velocity = self.plan.momentum * velocity + slopes
                self.points[1:-1] -= rate * velocity
                self.points = redistribute(self.points, self.shares)

    def _slopes(self, batch: object, buffers: Sequence[Params]) -> tuple[Tensor, Tensor]:
        """The losses of all points, `[k]`, and the gradients at the inner ones, `[k - 2, D]`."""
        losses, slopes = [], []
        for place, (point, held) in enumerate(zip(self.points, buffers, strict=True)):
            row = point.clone().requires_grad_()
            loss = point_loss(self.span, held, row, self.evaluate, batch)
            losses.append(loss.detach())
            if 0 < place < len(self.points) - 1:
                slopes.append(torch.autograd.grad(loss, row)[0])
        return torch.stack(losses), torch.stack(slopes)

    def insert(self, losses: Sequence[float]) -> None:
        """New pivots where the band between two of them lies highest above the line between their losses.

        Args:
            losses: at the pivots and at `between` points inside every segment.
        """
        pieces = self.plan.between + 1
        values = torch.tensor(losses, dtype=torch.float64)
        rows = values.unfold(0, pieces + 1, pieces)
        line = torch.lerp(rows[:, :1], rows[:, -1:], torch.linspace(0, 1, pieces + 1, dtype=torch.float64))
        over, places = (rows - line)[:, 1:-1].max(dim=1)
        wanted = over.topk(min(self.plan.insertions, len(over)))
        chosen = wanted.indices[wanted.values > self.plan.threshold * (values.max() - values.min())]
        for segment in sorted(chosen.tolist(), reverse=True):
            part = (float(places[segment]) + 1) / pieces
            new = torch.lerp(self.points[segment], self.points[segment + 1], part)
            self.points = torch.cat([self.points[: segment + 1], new[None], self.points[segment + 1 :]])
            share = self.shares[segment]
            halves = torch.stack([part * share, (1 - part) * share])
            self.shares = torch.cat([self.shares[:segment], halves, self.shares[segment + 1 :]])

    def _buffers(self) -> list[dict[str, Tensor]]:
        """Everything at the points but their coordinates: those of the ends, by the share of the length."""
        places = torch.cat([self.shares.new_zeros(1), self.shares.cumsum(0)]) / self.shares.sum()
        return [self.span.buffers((1 - float(place), float(place))) for place in places]

    def curve(self) -> Curve:
        """The chain of the points as they are now, its ends to the bit."""
        own = self.span.runner.own
        pivots: list[Params] = []
        for point, held in zip(self.points, self._buffers(), strict=True):
            moving = {name: tensor.to(own[name].dtype).clone() for name, tensor in self.span.unflatten(point).items()}
            pivots.append(held | moving)
        return chain(self.span.model, [self.span.vertices[0], *pivots[1:-1], self.span.vertices[1]], "polygonal")
