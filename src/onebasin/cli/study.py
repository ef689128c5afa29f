"""What the commands on what lies between networks work on: a task, networks, data, and a folder to go on in."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from onebasin import Evaluation
from onebasin.checkpoint import Source as Network
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.alignment import Aligned, align
from onebasin.cli.inputs import Source, check_inputs, seeded
from onebasin.cli.kept import fingerprint, names_of, open_folder
from onebasin.cli.options import PointStatistics
from onebasin.cli.screen import Screen
from onebasin.cli.search import Search
from onebasin.cli.setting import Setting
from onebasin.correction.batchnorm import batchnorm_layers
from onebasin.errors import OptionError
from onebasin.evaluation import check_shapes
from onebasin.report import ALIGNED, NAIVE
from onebasin.tasks import Task, predictor
from onebasin.tasks.protocol import check_split
from onebasin.tasks.train import gather

DONE = {
    "keep": "kept as they are between the networks",
    "reestimate": "re-estimated at every point, the ends included",
    "repair": "every unit's mean and spread set to the average of the ends' (REPAIR)",
}
"""What becomes of BatchNorm's statistics, in words."""
FREE = {"out", "threads", "as_json", "proving"}
"""Options that do not decide results."""


def built(task: Task) -> nn.Module:
    """The task's model; whatever it draws beside its tensors is the same every time."""
    with seeded(0):
        return task.build_model()


def evaluation_of(
    task: Task,
    model: nn.Module,
    split: str,
    chosen: PointStatistics | None,
    samples: int,
    *,
    batches: int | None = None,
    temperature: bool = False,
    calibration: str = "train",
) -> Evaluation:
    """How to measure on a task's data.

    Args:
        task: gives data, and logits where it can.
        model: of the task.
        split: to measure on.
        chosen: what becomes of BatchNorm's statistics: re-estimated unless chosen otherwise, where there are any.
        samples: of the calibration data, to estimate statistics and temperatures from.
        batches: at most so many of the split; None takes all.
        temperature: whether to measure losses at the best temperature, too.
        calibration: the split of the calibration data; statistics need no labels.

    Raises:
        TaskError: there are no data.
        OptionError: a temperature is wanted of a task that does not predict.
    """
    statistics = "keep"
    if chosen is PointStatistics.REPAIR or (chosen is not PointStatistics.KEEP and batchnorm_layers(model)):
        statistics = (chosen or PointStatistics.REESTIMATE).value
    estimated = temperature or statistics != "keep"
    return Evaluation(
        task.evaluate,
        first(task.batches(split), batches),
        predictor(task),
        batchnorm=statistics,
        calibration=task.batches(calibration) if estimated else None,
        calibration_samples=samples if estimated else None,
        temperature=temperature,
    )


def first(batches: Iterable[object], count: int | None) -> Iterable[object] | Callable[[], Iterable[object]]:
    """The first batches, or all."""
    return batches if count is None else lambda: itertools.islice(batches, count)


@dataclass(frozen=True)
class Study:
    """Networks of a task, and how what lies between them is measured.

    Attributes:
        setting: what the command was told.
        source: of the task and its symmetry.
        task: with data.
        model: of its architecture.
        paths: of the networks, by name.
        evaluation: how to measure.
    """

    setting: Setting
    source: Source
    task: Task
    model: nn.Module
    paths: Mapping[str, Path]
    evaluation: Evaluation

    @classmethod
    def open(
        cls,
        files: Sequence[Path],
        setting: Setting,
        *,
        least: int = 2,
        batches: int | None = None,
        temperature: bool = False,
        calibration: str = "train",
    ) -> Self:
        """Look at everything that a command was given, before long work.

        Args:
            files: the checkpoints.
            setting: the options.
            least: networks that there must be.
            batches: see `evaluation_of`; so are the others.
            temperature: see there.
            calibration: see there.

        Raises:
            OneBasinError: if an option or a file cannot be used.
        """
        if len(files) < least:
            raise OptionError("networks", expected="two or more", found=str(len(files)), remedy="name more checkpoints")
        check_split(setting.split, "--split")
        source = setting.source
        task = source.require_task("this command")
        model = built(task)
        evaluation = evaluation_of(
            task,
            model,
            setting.split,
            setting.batchnorm,
            setting.samples,
            batches=batches,
            temperature=temperature,
            calibration=calibration,
        )
        state = model.state_dict()
        for file in files:
            with open_checkpoint(file) as params:
                check_shapes(state, params, str(file))
        check_inputs(files)
        return cls(setting, source, task, model, dict(zip(names_of(files), files, strict=True)), evaluation)

    @property
    def names(self) -> list[str]:
        """Of the networks, in their order."""
        return list(self.paths)

    @property
    def sources(self) -> list[Network]:
        """The networks as they are, in their order."""
        return [str(path) for path in self.paths.values()]

    def networks(
        self, screen: Screen, search: Search, wanted: Sequence[str], saved: Sequence[Path] = ()
    ) -> tuple[dict[str, list[Network]], Aligned | None]:
        """The networks in the coordinates that are wanted, `NAIVE` or `ALIGNED`, and how they were aligned."""
        found = (
            align(screen, list(self.paths.values()), self.source, saved, search=search) if ALIGNED in wanted else None
        )
        ways = {NAIVE: self.sources} if NAIVE in wanted else {}
        if found is not None:
            ways[ALIGNED] = [self.sources[0], *found.params]
        return ways, found

    def go_on(self, command: str, *others: object) -> Path | None:
        """The folder of the results, begun, or begun before by the same command about the same networks and options.

        Args:
            command: the name.
            others: dataclasses, and mappings, of further options.

        Raises:
            OptionError: if it is a file, or holds the results of other options.
            CheckpointError: if it cannot be made or written to.
        """
        if self.setting.out is None:
            return None
        options: dict[str, object] = {}
        for other in (self.setting, *others):
            options |= other if isinstance(other, dict) else dataclasses.asdict(other)  # type: ignore[call-overload]
        file = Path(self.setting.task).expanduser()
        if file.suffix == ".py" and file.exists():
            options["task"] = f"{file.name} {fingerprint(file)}"
        if self.setting.symmetry is not None:
            options["symmetry"] = fingerprint(self.setting.symmetry)
        told = json.loads(json.dumps({n: v for n, v in options.items() if n not in FREE}, default=str))
        digests = {name: fingerprint(path) for name, path in self.paths.items()}
        open_folder(self.setting.out, {"command": command, "networks": digests} | told)
        return self.setting.out

    @property
    def title(self) -> str:
        """The task and the split."""
        return f"{self.task.name}, {self.setting.split} split"

    @property
    def about(self) -> dict[str, str]:
        """What to tell people about the results."""
        return {
            "networks": ", ".join(self.names),
            "task": self.title,
            "BatchNorm": DONE[self.evaluation.batchnorm],
            "seed": str(self.setting.seed),
        }

    def describe(self, found: Aligned | None) -> dict[str, object]:
        """What a result depends on, for its JSON form."""
        return {
            "task": self.task.name,
            "split": self.setting.split,
            "networks": self.names,
            "batchnorm": self.evaluation.batchnorm,
            "seed": self.setting.seed,
            "verification": found.subject.to_json() if found else None,
        }

    def shuffled(self, size: int) -> Callable[[], Iterator[tuple[Tensor, ...]]]:
        """The training data in batches of a size; see `shuffled`."""
        return shuffled(self.task, size, self.setting.seed)


def shuffled(task: Task, size: int, seed: int) -> Callable[[], Iterator[tuple[Tensor, ...]]]:
    """The training data in batches of a size, in another order every time.

    A single sample left over at the end is left out: BatchNorm finds no variance in it.

    Args:
        task: its batches are tuples of tensors with the samples along axis 0.
        size: samples in a batch.
        seed: of the orders.

    Raises:
        TaskError: if the batches are something else.
    """
    data = gather(task, ("train",))
    generator = torch.Generator().manual_seed(seed)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        for chosen in torch.randperm(len(data[0]), generator=generator).split(size):
            if len(chosen) > 1:
                yield tuple(tensor[chosen] for tensor in data)

    return batches
