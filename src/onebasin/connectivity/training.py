"""Train some of the networks that others are combined with, so that points between them become good."""

import functools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Batches, Evaluate, Params, batch_statistics, repeatable
from onebasin.progress import Progress, Report, silent

Draw = Callable[[np.random.Generator], Sequence[float]]
"""Draws the weights of the point whose loss a step follows, one number a vertex."""
Penalty = Callable[[Tensor], Tensor]
"""From the coordinates of all vertices, `[vertices, numbers]`, to a number that is added to the loss."""


@dataclass(frozen=True)
class Schedule:
    """How vertices are trained: SGD with momentum.

    Attributes:
        epochs: passes over the data.
        rate: the highest learning rate; it stays for the first half of the steps, falls linearly to a hundredth until
            nine tenths, and stays there (Garipov et al. 2018).
        momentum: of SGD.
        weight_decay: half of it times the squared length of the point is added to the loss of every step.
        seed: of the points drawn.
    """

    epochs: int = 10
    rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            OptionError: if one is out of range.
        """
        if self.epochs < 1:
            raise OptionError("epochs", expected="1 or more", found=str(self.epochs), remedy="raise it")
        if not 0 < self.rate < math.inf:
            raise OptionError("rate", expected="a positive number", found=str(self.rate), remedy="try 0.05")
        for name, value in (("momentum", self.momentum), ("weight_decay", self.weight_decay)):
            if not 0 <= value < 1:
                raise OptionError(name, expected="a number from 0 to 1", found=str(value), remedy="try 0")

    def factor(self, done: float) -> float:
        """The learning rate as a part of the highest, after a share of the steps."""
        return min(1.0, max(0.01, 1 - (done - 0.5) / 0.4 * 0.99))


@dataclass(frozen=True)
class Fit:
    """Trained vertices.

    Attributes:
        vertices: all of them, in order, new tensors in the model's dtypes for those that were trained.
        losses: the mean loss of the points drawn, one number an epoch.
        complete: False where it was interrupted; the vertices are then those reached by then.
        seconds: spent.
    """

    vertices: tuple[dict[str, Tensor], ...]
    losses: tuple[float, ...]
    complete: bool
    seconds: float


def fit_vertices(
    span: Span,
    free: Sequence[int],
    draw: Draw,
    batches: Batches,
    evaluate: Evaluate,
    schedule: Schedule,
    *,
    penalty: Penalty | None = None,
    after_epoch: Callable[[int, Tensor], None] | None = None,
    progress: Report = silent,
) -> Fit:
    """Follow the gradient of the loss at points drawn anew for every batch, with respect to some vertices.

    BatchNorm runs on the statistics of each batch, all else in eval mode; buffers are those of the weighted sum. The
    same seed gives the same bytes for one number of threads.

    Args:
        span: all vertices; those to be trained start where they are in it.
        free: the positions of the vertices to be trained.
        draw: gives the point of a step.
        batches: one step each.
        evaluate: the loss.
        schedule: of the learning rate.
        penalty: added to the mean loss of every step.
        after_epoch: called with the number of the epoch and the coordinates, `[vertices, numbers]`, which it may change
            in place.
        progress: called after every epoch.

    Raises:
        OptionError: if there are no batches, or the loss cannot be differentiated or is not finite.
    """
    started = time.perf_counter()
    data = repeatable(batches, "batches")
    trainer = _Trainer(span, free, draw, evaluate, schedule, penalty)
    losses: list[float] = []
    complete = False
    with suppress(KeyboardInterrupt), batch_statistics(span.model):
        for epoch in range(1, schedule.epochs + 1):
            losses.append(trainer.epoch(epoch, data()))
            if after_epoch is not None:
                trainer.change(functools.partial(after_epoch, epoch))
            progress(Progress("training", epoch, schedule.epochs, f"loss {losses[-1]:.4g}"))
        complete = True
    return Fit(trainer.vertices(), tuple(losses), complete, time.perf_counter() - started)


def table_of(span: Span) -> Tensor:
    """The coordinates of all vertices, `[vertices, numbers]`, in the longest dtype of the parameters, or float32."""
    dtypes = {span.runner.own[name].dtype for name in span.parameters}
    return span.matrix().to(functools.reduce(torch.promote_types, dtypes, torch.float32))


def point_loss(span: Span, buffers: Params, point: Tensor, evaluate: Evaluate, batch: object) -> Tensor:
    """The mean loss of a point on a batch, to be differentiated with respect to its coordinates.

    Args:
        span: gives the model and the order of the coordinates.
        buffers: everything at the point but its coordinates; statistics are written to.
        point: the coordinates, `[numbers]`.
        evaluate: the loss.
        batch: passed on.

    Raises:
        OptionError: if the loss cannot be differentiated or is not finite.
    """
    own = span.runner.own
    moving = {name: tensor.to(own[name].dtype) for name, tensor in span.unflatten(point).items()}
    sums = span.runner.sums(evaluate, {**buffers, **moving}, batch)
    loss = sums["loss"] / sums["count"]
    if not loss.requires_grad:
        raise OptionError(
            "evaluate",
            expected="a `loss` that can be differentiated",
            found="one that cannot",
            remedy="return it without detach, item or no_grad",
        )
    if not torch.isfinite(loss):
        raise OptionError(
            "evaluate", expected="a finite loss", found=str(loss.item()), remedy="lower the learning rate"
        )
    return loss


class _Trainer:
    """The vertices while they are trained."""

    def __init__(
        self,
        span: Span,
        free: Sequence[int],
        draw: Draw,
        evaluate: Evaluate,
        schedule: Schedule,
        penalty: Penalty | None,
    ) -> None:
        self.span, self.draw, self.evaluate, self.schedule, self.penalty = span, draw, evaluate, schedule, penalty
        self.table = table_of(span)
        self.rows = {k: self.table[k].clone().requires_grad_() for k in free}
        self.optimizer = torch.optim.SGD(list(self.rows.values()), lr=schedule.rate, momentum=schedule.momentum)
        self.generator = np.random.default_rng(schedule.seed)
        self.steps = 0

    def epoch(self, epoch: int, batches: Iterable[object]) -> float:
        """One pass over the data; the mean loss.

        The first one learns how many steps a pass has; the rate is constant then.
        """
        losses: list[float] = []
        for number, batch in enumerate(batches):
            self.steps = max(self.steps, number + 1)
            done = (epoch - 1 + (number / self.steps if epoch > 1 else 0)) / self.schedule.epochs
            self.optimizer.param_groups[0]["lr"] = self.schedule.rate * self.schedule.factor(done)
            losses.append(self.step(batch))
        if not losses:
            raise OptionError("batches", expected="some in every epoch", found="none", remedy="pass a list of batches")
        return sum(losses) / len(losses)

    def step(self, batch: object) -> float:
        """One step; the loss before it, without decay and penalty."""
        weights = list(self.draw(self.generator))
        fixed = [0.0 if k in self.rows else weight for k, weight in enumerate(weights)]
        point = torch.tensor(fixed, dtype=self.table.dtype, device=self.table.device) @ self.table
        for k, row in self.rows.items():
            point = point + weights[k] * row
        loss = point_loss(self.span, self.span.buffers(weights), point, self.evaluate, batch)
        objective = loss
        if self.schedule.weight_decay:
            objective = objective + 0.5 * self.schedule.weight_decay * point.square().sum()
        if self.penalty is not None:
            objective = objective + self.penalty(
                torch.stack([self.rows.get(k, row) for k, row in enumerate(self.table)])
            )
        self.optimizer.zero_grad()
        objective.backward()
        self.optimizer.step()
        return loss.item()

    def change(self, change: Callable[[Tensor], None]) -> None:
        """Let all coordinates, `[vertices, numbers]`, be changed in place; those of fixed vertices stay."""
        with torch.no_grad():
            table = torch.stack([self.rows.get(k, row) for k, row in enumerate(self.table)])
            change(table)
            for k, row in self.rows.items():
                row.copy_(table[k])

    def vertices(self) -> tuple[dict[str, Tensor], ...]:
        """All vertices as they are now."""
        count = len(self.span)
        found = [self.span.params([float(j == k) for j in range(count)]) for k in range(count)]
        for k, row in self.rows.items():
            for name, tensor in self.span.unflatten(row.detach()).items():
                found[k][name] = tensor.to(self.span.runner.own[name].dtype).clone()
        return tuple(found)
