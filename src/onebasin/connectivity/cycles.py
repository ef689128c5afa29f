"""Snapshots of one training run with a cyclic learning rate: members of an ensemble, and their average."""

import copy
import math
import time
from collections.abc import Iterable, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.connectivity.measure import states_of
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Batches, Evaluate, Evaluation, fitting, repeatable, required
from onebasin.modes import in_mode
from onebasin.progress import Progress, Report, silent


@dataclass(frozen=True)
class Cycles:
    """What cyclic training gave.

    Attributes:
        snapshots: the network at the end of every cycle.
        losses: the mean training loss of every cycle.
        complete: False where it was interrupted; the snapshots are those of the cycles finished by then.
        seconds: spent.
    """

    snapshots: tuple[dict[str, Tensor], ...]
    losses: tuple[float, ...]
    complete: bool
    seconds: float


def cyclic(
    model: nn.Module,
    start: Source,
    batches: Batches,
    evaluate: Evaluate,
    *,
    cycles: int = 4,
    epochs: int = 2,
    rates: tuple[float, float] = (0.05, 0.01),
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    seed: int = 0,
    progress: Report = silent,
) -> Cycles:
    """Train on from a network with a learning rate that rises and falls, and keep the network at each of its lows.

    The snapshots are those of fast geometric ensembling (Garipov et al. 2018, section 4), their average (see
    `snapshot_average`) is stochastic weight averaging (Izmailov et al. 2018). Within a cycle the rate goes on straight
    lines from the lower to the higher one and back. SGD's momentum begins anew in every cycle, and cycle k draws from
    the seed and k alone: going on from a snapshot gives what one run would have given.

    Args:
        model: of the architecture of `start`; left as it is.
        start: where training begins, usually a trained network.
        batches: one step each; their number is counted in a pass of its own where they have no length.
        evaluate: the loss; its mean over a batch is followed, in train mode.
        cycles: snapshots to take.
        epochs: passes over the data in a cycle.
        rates: the higher and the lower learning rate.
        momentum: of SGD.
        weight_decay: of SGD.
        seed: of what the model draws while it trains.
        progress: called after every cycle.

    Returns:
        the snapshots; interrupted with Ctrl-C, those of the cycles finished by then.

    Raises:
        OptionError: if a number is out of range, there are no batches, or the loss is not finite.
        MismatchError: if `start` does not fit the model.
    """
    _check(cycles, epochs, rates)
    begun = time.perf_counter()
    data = repeatable(batches, "batches")
    steps = epochs * _length(data())
    trained = copy.deepcopy(model)
    trained.load_state_dict({**trained.state_dict(), **fitting(model, start, "start")})
    snapshots: list[dict[str, Tensor]] = []
    losses, complete = list[float](), False
    with suppress(KeyboardInterrupt), in_mode(trained, train=True):
        for cycle in range(cycles):
            optimizer = torch.optim.SGD(trained.parameters(), rates[1], momentum, weight_decay=weight_decay)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed + cycle)
                passes = (data() for _ in range(epochs))
                losses.append(_cycle(trained, passes, evaluate, optimizer, steps, rates))
            snapshots.append({name: tensor.clone() for name, tensor in trained.state_dict().items()})
            progress(Progress("cycles", cycle + 1, cycles, f"loss {losses[-1]:.4g}"))
        complete = True
    return Cycles(tuple(snapshots), tuple(losses[: len(snapshots)]), complete, time.perf_counter() - begun)


def snapshot_average(model: nn.Module, snapshots: Sequence[Source], evaluation: Evaluation) -> dict[str, Tensor]:
    """The mean of snapshots: stochastic weight averaging.

    Args:
        model: of their architecture; left as it is.
        snapshots: at least one.
        evaluation: what becomes of BatchNorm's statistics: they should be re-estimated.

    Returns:
        tensors by the names of the model's state dict.
    """
    span = Span(model, snapshots)
    return states_of(span, [[1 / len(span)] * len(span)], evaluation)[0]


def _check(cycles: int, epochs: int, rates: tuple[float, float]) -> None:
    for name, value in (("cycles", cycles), ("epochs", epochs)):
        if value < 1:
            raise OptionError(name, expected="1 or more", found=str(value), remedy="raise it")
    if not 0 < rates[1] <= rates[0] < math.inf:
        raise OptionError(
            "rates",
            expected="a higher and a lower positive number",
            found=f"{rates[0]:g} and {rates[1]:g}",
            remedy="try 0.05 and 0.01",
        )


def _length(batches: Iterable[object]) -> int:
    count = len(batches) if isinstance(batches, Sized) else sum(1 for _ in batches)
    if not count:
        raise OptionError("batches", expected="at least one batch", found="none", remedy="pass data to train on")
    return count


def _rate(done: float, rates: tuple[float, float]) -> float:
    """The learning rate after a share of a cycle."""
    high, low = rates
    return low + (high - low) * (1 - abs(2 * done - 1))


def _cycle(
    model: nn.Module,
    passes: Iterable[Iterable[object]],
    evaluate: Evaluate,
    optimizer: torch.optim.Optimizer,
    steps: int,
    rates: tuple[float, float],
) -> float:
    """The mean loss of one cycle of so many steps."""
    losses: list[float] = []
    for batches in passes:
        for batch in batches:
            optimizer.param_groups[0]["lr"] = _rate((len(losses) + 0.5) / steps, rates)
            losses.append(_step(model, batch, evaluate, optimizer))
    return sum(losses) / len(losses)


def _step(model: nn.Module, batch: object, evaluate: Evaluate, optimizer: torch.optim.Optimizer) -> float:
    """One step; the mean loss before it."""
    sums = required(evaluate(model, batch))
    loss = sums["loss"] / sums["count"]
    if not torch.isfinite(loss):
        raise OptionError("evaluate", expected="a finite loss", found=f"{loss:g}", remedy="lower the rates")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())
