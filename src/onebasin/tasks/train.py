"""Train the network of a task from a seed; made for small networks that fit in memory with their data."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from onebasin.errors import OptionError, TaskError
from onebasin.progress import Progress, Report, silent
from onebasin.tasks.protocol import Task

Schedule = Literal["constant", "cosine"]

# Factor of the learning rate after a given part, 0 to 1, of all steps.
_FACTORS: dict[Schedule, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "cosine": lambda part: 0.5 * (1.0 + math.cos(math.pi * part)),
}


def train(
    task: Task,
    *,
    seed: int,
    epochs: int,
    learning_rate: float = 1e-3,
    batch_size: int = 100,
    weight_decay: float = 0.0,
    schedule: Schedule = "constant",
    splits: Sequence[str] = ("train",),
    progress: Report = silent,
) -> nn.Module:
    """Train a task's network with AdamW (Adam where `weight_decay` is 0) on the CPU.

    The seed decides the initial weights, the order of the samples and whatever the model draws while it trains; the
    global generator is left as it was. Same seed, same bytes, on one machine with one number of threads.

    Args:
        task: its batches are tuples of tensors with the samples along axis 0, and its `"loss"` can be differentiated.
        seed: of everything random.
        epochs: passes over the data; 0 gives the network as initialised.
        learning_rate: at the first step.
        batch_size: samples per step; the last step of an epoch takes what remains.
        weight_decay: decoupled from the gradient (Loshchilov and Hutter 2019).
        schedule: `"constant"`, or `"cosine"` from `learning_rate` to 0 over all steps.
        splits: the splits to train on.
        progress: called after every epoch with the mean training loss of that epoch.

    Returns:
        The trained network, in eval mode.

    Raises:
        OptionError: an unknown schedule, a negative number of epochs, or a batch size below 1.
        TaskError: the batches are not tuples of tensors, or a loss is not finite.
    """
    _check_options(schedule, epochs, batch_size)
    data = gather(task, splits)
    samples, factor = len(data[0]), _FACTORS[schedule]
    shuffler = torch.Generator().manual_seed(seed)
    with _seeded(seed):
        model = task.build_model().train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
        steps = max(1, epochs * math.ceil(samples / batch_size))
        rate = LambdaLR(optimizer, lambda step: factor(step / steps))
        for epoch in range(1, epochs + 1):
            order = torch.randperm(samples, generator=shuffler).split(batch_size)
            batches = (tuple(tensor[chosen] for tensor in data) for chosen in order)
            total = _run_epoch(task, model, batches, optimizer, rate)
            _check_finite(task, epoch, total)
            progress(Progress("training", epoch, epochs, f"loss {total / samples:.4g}"))
    return model.eval()


def gather(task: Task, splits: Sequence[str]) -> tuple[Tensor, ...]:
    """Read whole splits into memory.

    Args:
        task: its batches are tuples of tensors with the samples along axis 0.
        splits: the splits to join, in this order.

    Returns:
        One tensor per member of the batches, with all samples along axis 0.

    Raises:
        TaskError: no batch, one that is not a tuple of tensors of one length, or batches that differ in what they hold.
    """
    batches = [_tensors(task, batch) for split in splits for batch in task.batches(split)]
    if not batches:
        raise TaskError(f"{task.name}: batches", expected="at least one", found="none", remedy="name a split with data")
    try:
        return tuple(torch.cat(members) for members in zip(*batches, strict=True))
    except (ValueError, RuntimeError) as error:
        raise TaskError(
            f"{task.name}: batches", expected="batches alike", found=str(error), remedy="make all batches alike"
        ) from error


def _run_epoch(task: Task, model: nn.Module, batches: Iterable[object], optimizer: Optimizer, rate: LambdaLR) -> float:
    total = 0.0
    for batch in batches:
        sums = task.evaluate(model, batch)
        optimizer.zero_grad()
        (sums["loss"] / sums["count"]).backward()
        optimizer.step()
        rate.step()
        total += sums["loss"].item()
    return total


def _check_options(schedule: Schedule, epochs: int, batch_size: int) -> None:
    if schedule not in _FACTORS:
        expected = " or ".join(_FACTORS)
        raise OptionError("schedule", expected=expected, found=repr(schedule), remedy="choose one of these")
    if epochs < 0 or batch_size < 1:
        found = f"{epochs} and {batch_size}"
        raise OptionError("epochs and batch_size", expected="at least 0 and 1", found=found, remedy="raise them")


def _check_finite(task: Task, epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise TaskError(
            f"{task.name}: training loss of epoch {epoch}",
            expected="a finite number",
            found=str(loss),
            remedy="lower the learning rate",
        )


def _tensors(task: Task, batch: object) -> tuple[Tensor, ...]:
    members = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    tensors = tuple(member for member in members if isinstance(member, Tensor) and member.ndim > 0)
    if not members or len(tensors) < len(members) or len({len(tensor) for tensor in tensors}) != 1:
        raise TaskError(
            f"{task.name}: batches",
            expected="tuples of tensors with the samples along axis 0, to shuffle them",
            found=f"a batch of {', '.join(type(member).__name__ for member in members) or 'nothing'}",
            remedy="yield tuples of tensors of one length",
        )
    return tensors


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    # torch.manual_seed would also seed accelerators, whose state fork_rng(devices=[]) does not put back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
