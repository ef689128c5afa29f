"""Snapshots of cyclic training for the commands, kept in a folder so that training can be taken up again."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor

from onebasin.checkpoint import open_checkpoint, save_checkpoint
from onebasin.cli.inputs import make_folder
from onebasin.cli.kept import unit
from onebasin.cli.screen import Screen
from onebasin.cli.study import Study, shuffled
from onebasin.connectivity import cyclic
from onebasin.errors import TaskError
from onebasin.tasks import Task


@dataclass(frozen=True)
class Cycling:
    """How snapshots are made.

    Attributes:
        count: of snapshots, one a cycle.
        epochs: passes over the training data in a cycle.
        high: the higher learning rate.
        low: the lower one.
        batch_size: samples a step, where the task's batches can be taken apart.
        seed: of their order.
        weight_decay: of SGD, as Garipov et al. have it; without it a network that fits its data hardly moves.
    """

    count: int
    epochs: int
    high: float
    low: float
    batch_size: int
    seed: int
    weight_decay: float = 5e-4


@dataclass(frozen=True)
class Snapshot:
    """The network at the end of a cycle."""

    params: dict[str, Tensor]
    complete: bool = True

    def save(self, path: Path) -> None:
        """Write it as a checkpoint."""
        save_checkpoint(self.params, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if it cannot be read.
        """
        with open_checkpoint(path) as opened:
            return cls(dict(opened))


def snapshots(screen: Screen, study: Study, cycling: Cycling, folder: Path | None) -> list[dict[str, Tensor]]:
    """Train on from the first network, cycle by cycle; those whose snapshot is in the folder are not trained again.

    Args:
        screen: shows progress.
        study: gives network, model, loss and training data.
        cycling: how.
        folder: to keep snapshots in; None keeps none.

    Raises:
        KeyboardInterrupt: it was interrupted; the cycles finished are in the folder.
    """
    with open_checkpoint(next(iter(study.paths.values()))) as opened:
        last: dict[str, Tensor] = dict(opened)
    made = []
    for cycle in range(cycling.count):
        path = None if folder is None else make_folder(folder) / f"cycle_{cycle + 1}.safetensors"
        last = unit(screen, path, Snapshot, _cycle(screen, study, cycling, last, cycle)).params
        made.append(last)
    return made


def _cycle(
    screen: Screen, study: Study, cycling: Cycling, start: Mapping[str, Tensor], cycle: int
) -> Callable[[], Snapshot]:
    """What trains one cycle."""

    def train() -> Snapshot:
        found = cyclic(
            study.model,
            start,
            _batches(study.task, cycling.batch_size, cycling.seed + cycle),
            study.task.evaluate,
            cycles=1,
            epochs=cycling.epochs,
            rates=(cycling.high, cycling.low),
            weight_decay=cycling.weight_decay,
            seed=cycling.seed + cycle,
            progress=screen.stage(f"cycle {cycle + 1} of {cycling.count}"),
        )
        return Snapshot(found.snapshots[0] if found.complete else {}, found.complete)

    return train


def _batches(task: Task, size: int, seed: int) -> Callable[[], Iterable[object]] | Iterable[object]:
    """Shuffled batches, or the task's own where these are no tuples of tensors."""
    try:
        return shuffled(task, size, seed)
    except TaskError:
        return task.batches("train")
