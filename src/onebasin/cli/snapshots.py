"""Snapshots of cyclic training for the commands, kept in a folder so that training can be taken up again."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from onebasin.checkpoint import open_checkpoint, save_checkpoint
from onebasin.cli.inputs import make_folder, seeded
from onebasin.cli.screen import Screen
from onebasin.connectivity import cyclic
from onebasin.errors import OptionError, TaskError
from onebasin.json_file import read_json, write_json
from onebasin.tasks import Task
from onebasin.tasks.train import gather

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Training:
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


def snapshots(
    screen: Screen, task: Task, start: Path, training: Training, folder: Path | None
) -> list[dict[str, Tensor]]:
    """Train on from a network, cycle by cycle; those whose snapshot is in the folder are not trained again.

    Args:
        screen: shows progress.
        task: gives model, loss and training data.
        start: a checkpoint.
        training: how.
        folder: to keep snapshots in; None keeps none.

    Raises:
        OptionError: the folder holds snapshots of other settings.
        KeyboardInterrupt: it was interrupted; the cycles finished are in the folder.
    """
    with open_checkpoint(start) as opened:
        last: dict[str, Tensor] = dict(opened)
    if folder is not None:
        _claim(folder, {**asdict(training), "count": None, "start": _digest(last)})
    made = []
    for cycle in range(training.count):
        path = None if folder is None else folder / f"cycle_{cycle + 1}.safetensors"
        if path is not None and path.exists():
            with open_checkpoint(path) as opened:
                last = dict(opened)
        else:
            last = _trained(screen, task, last, training, cycle)
            if path is not None:
                save_checkpoint(last, path)
                screen.wrote(path)
        made.append(last)
    return made


def _trained(
    screen: Screen, task: Task, start: Mapping[str, Tensor], training: Training, cycle: int
) -> dict[str, Tensor]:
    """The end of one cycle."""
    with seeded(0):
        model = task.build_model()
    found = cyclic(
        model,
        start,
        _shuffled(task, training.batch_size, training.seed + cycle),
        task.evaluate,
        cycles=1,
        epochs=training.epochs,
        rates=(training.high, training.low),
        weight_decay=training.weight_decay,
        seed=training.seed + cycle,
        progress=screen.stage(f"cycle {cycle + 1} of {training.count}"),
    )
    if not found.complete:
        raise KeyboardInterrupt
    return found.snapshots[0]


class _Shuffled:
    """The training data in batches of one size, in another order in every pass."""

    def __init__(self, data: tuple[Tensor, ...], size: int, seed: int) -> None:
        self.data, self.size = data, size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.data[0]) / self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for chosen in torch.randperm(len(self.data[0]), generator=self.generator).split(self.size):
            yield tuple(tensor[chosen] for tensor in self.data)


def _shuffled(task: Task, size: int, seed: int) -> Iterable[object]:
    """Shuffled batches, or the task's own where these are no tuples of tensors."""
    try:
        return _Shuffled(gather(task, ("train",)), size, seed)
    except TaskError:
        return task.batches("train")


def _digest(params: Mapping[str, Tensor]) -> str:
    """What tells networks apart."""
    found = hashlib.sha256()
    for name in sorted(params):
        found.update(name.encode())
        found.update(params[name].detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Make a folder for snapshots of these settings, or go on with one."""
    make_folder(folder)
    if not (folder / SETTINGS).exists():
        write_json(folder / SETTINGS, settings)
    elif read_json(folder / SETTINGS) != settings:
        raise OptionError(
            f"--out: {folder}",
            expected="snapshots of the same network and settings",
            found="others",
            remedy="name another folder, or remove that one",
        )
