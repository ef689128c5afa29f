"""What the commands that train between networks share: options, networks in one order, data, a folder to go on in."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from onebasin import Evaluation
from onebasin.checkpoint import Source as Network
from onebasin.cli.alignment import Aligned, align
from onebasin.cli.bundle import bundled
from onebasin.cli.inputs import Source
from onebasin.cli.kept import fingerprint, open_folder
from onebasin.cli.options import (
    SAMPLES,
    TASK,
    DataRootOption,
    JsonOption,
    PointStatisticsOption,
    SamplesOption,
    SeedOption,
    SymmetryOption,
    ThreadsOption,
    VerifyOption,
)
from onebasin.cli.points import built, check_fit, evaluation_of
from onebasin.cli.screen import Screen
from onebasin.cli.search import Search
from onebasin.connectivity import Schedule
from onebasin.errors import OptionError
from onebasin.report import ALIGNED, NAIVE
from onebasin.tasks import Task
from onebasin.tasks.protocol import check_split
from onebasin.tasks.train import gather


@dataclass(frozen=True)
class Setting:
    """The options that all these commands have."""

    task: Annotated[str, TASK]
    data_root: DataRootOption = None
    symmetry: SymmetryOption = None
    split: Annotated[
        str | None, typer.Option("--split", metavar="SPLIT", help="Measure on train, val or test.", show_default=False)
    ] = None
    batchnorm: PointStatisticsOption = None
    samples: SamplesOption = SAMPLES
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="A folder for what is found. Run again with the same options, the command goes on from it.",
            show_default=False,
        ),
    ] = None
    proving: VerifyOption = True
    seed: SeedOption = 0
    threads: ThreadsOption = None
    as_json: JsonOption = False


@dataclass(frozen=True)
class Training:
    """The options of training."""

    train_epochs: Annotated[
        int, typer.Option("--train-epochs", metavar="N", min=1, help="Passes over the training data.")
    ] = 20
    rate: Annotated[float, typer.Option("--rate", metavar="X", help="The highest learning rate of SGD.")] = 0.05
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", min=2, help="Samples a step.")] = 128
    weight_decay: Annotated[float, typer.Option("--weight-decay", metavar="X", help="Of the points trained.")] = 0.0

    def schedule(self, seed: int) -> Schedule:
        """The library's form of these."""
        return Schedule(self.train_epochs, self.rate, weight_decay=self.weight_decay, seed=seed)


def _rows(kind: type) -> list[inspect.Parameter]:
    missing, empty = dataclasses.MISSING, inspect.Parameter.empty
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=empty if field.default is missing else field.default,
            annotation=field.type,
        )
        for field in dataclasses.fields(kind)
    ]


with_setting = bundled("setting", _rows(Setting), Setting)
"""A command whose argument `setting` becomes the options of a `Setting`."""
with_training = bundled("training", _rows(Training), Training)
"""A command whose argument `training` becomes the options of a `Training`."""
NaiveOption = Annotated[bool, typer.Option("--naive", help="Only with the networks as they are.")]
AlignedOption = Annotated[bool, typer.Option("--aligned", help="Only with all reordered to match the first.")]


@dataclass(frozen=True)
class Laboratory:
    """A task, networks and how to measure them.

    Attributes:
        task: with data.
        model: of its architecture.
        names: of the networks: their files.
        networks: by `NAIVE` and `ALIGNED`, in the coordinates that this says.
        evaluation: how to measure.
        split: measured on.
        aligned: the symmetry and matchings, where some were needed.
    """

    task: Task
    model: nn.Module
    names: tuple[str, ...]
    networks: Mapping[str, Sequence[Network]]
    evaluation: Evaluation
    split: str
    aligned: Aligned | None

    @classmethod
    def open(
        cls,
        screen: Screen,
        files: Sequence[Path],
        setting: Setting,
        search: Search,
        wanted: Sequence[str],
        split: str,
        least: int = 2,
    ) -> "Laboratory":
        """Load everything, and align the networks where that is wanted.

        Args:
            screen: shows progress.
            files: the checkpoints.
            setting: the options.
            search: for matchings.
            wanted: `NAIVE`, `ALIGNED`, or both.
            split: to measure on where the options do not say.
            least: networks that there must be.

        Raises:
            OneBasinError: if an option or a file cannot be used.
        """
        if len(files) < least:
            raise OptionError("networks", expected="two or more", found=str(len(files)), remedy="name more checkpoints")
        split = setting.split or split
        check_split(split, "--split")
        source = Source(setting.task, setting.data_root, setting.symmetry, setting.proving, seed=setting.seed)
        task = source.require_task("this command")
        task.batches(split)  # fails now, and not after the search, where there is no data
        check_fit(task, files)
        found = align(screen, files, source, search=search) if ALIGNED in wanted else None
        networks: dict[str, Sequence[Network]] = {NAIVE: [str(file) for file in files]} if NAIVE in wanted else {}
        if found is not None:
            networks[ALIGNED] = [str(files[0]), *found.params]
        model = built(task)
        evaluation = evaluation_of(task, split, setting.batchnorm, setting.samples)
        names = [file.name for file in files]
        unique = names if len(set(names)) == len(names) else [str(file) for file in files]
        return cls(task, model, tuple(unique), networks, evaluation, split, found)

    def named(self, wanted: str) -> dict[str, Network]:
        """The networks by name.

        Raises:
            OptionError: if one was named twice.
        """
        found = dict(zip(self.names, self.networks[wanted], strict=True))
        if len(found) < len(self.names):
            raise OptionError("networks", expected="different ones", found="one twice", remedy="name each once")
        return found

    def describe(self, setting: Setting) -> dict[str, object]:
        """What a result depends on, for its JSON form."""
        verification = self.aligned.subject.to_json() if self.aligned else None
        return {
            "task": self.task.name,
            "split": self.split,
            "networks": list(self.names),
            "batchnorm": self.evaluation.batchnorm,
            "seed": setting.seed,
            "verification": verification,
        }


def ways(*, naive: bool, aligned: bool) -> list[str]:
    """The coordinates that are wanted: both where neither is asked for."""
    return [name for name, chosen in ((NAIVE, naive), (ALIGNED, aligned)) if chosen] or [NAIVE, ALIGNED]


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


def go_on(command: str, files: Sequence[Path], setting: Setting, *others: object) -> Path | None:
    """The folder of the results, begun or begun before with the same options and networks.

    Args:
        command: the name.
        files: the checkpoints, known by their content.
        setting: names the folder.
        others: dataclasses, and mappings, of further options.

    Raises:
        OptionError: if it is a file, or holds the results of other options.
        CheckpointError: if it cannot be made or written to.
    """
    options: dict[str, Any] = dataclasses.asdict(setting)
    for other in others:
        options |= other if isinstance(other, dict) else dataclasses.asdict(other)  # type: ignore[call-overload]
    told = {name: value for name, value in options.items() if name not in {"out", "threads", "as_json"}}
    settings: dict[str, object] = {
        n: value if isinstance(value, int | float | None) else str(value) for n, value in told.items()
    }
    digests = [fingerprint(file) for file in files] if setting.out is not None else []
    open_folder(setting.out, {"command": command, "networks": digests} | settings)
    return setting.out
