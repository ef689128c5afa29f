"""Options that the commands on what lies between networks share; they arrive as one argument."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from onebasin.cli.bundle import bundled, rows_of
from onebasin.cli.inputs import Source
from onebasin.cli.options import (
    SAMPLES,
    TASK,
    DataRootOption,
    JsonOption,
    PointStatisticsOption,
    SeedOption,
    SymmetryOption,
    ThreadsOption,
    VerifyOption,
)
from onebasin.connectivity import Schedule
from onebasin.report import ALIGNED, NAIVE


@dataclass(frozen=True)
class Setting:
    """What all these commands are told."""

    task: Annotated[str, TASK]
    data_root: DataRootOption = None
    symmetry: SymmetryOption = None
    split: Annotated[str, typer.Option("--split", metavar="SPLIT", help="Measure on train, val or test.")] = "test"
    batchnorm: PointStatisticsOption = None
    samples: Annotated[
        int,
        typer.Option(
            "--samples",
            metavar="N",
            min=1,
            help="Samples to estimate BatchNorm's statistics, and temperatures, from: of the split train, or of "
            "--calibration where there is one.",
        ),
    ] = SAMPLES
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="A folder for what is found; from finished parts that it holds, the same command goes on.",
            show_default=False,
        ),
    ] = None
    proving: VerifyOption = True
    seed: SeedOption = 0
    threads: ThreadsOption = None
    as_json: JsonOption = False

    @property
    def source(self) -> Source:
        """Where the task and its symmetry come from."""
        return Source(self.task, self.data_root, self.symmetry, self.proving, seed=self.seed)


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


with_setting = bundled("setting", rows_of(Setting), Setting)
"""A command whose argument `setting` becomes the options of a `Setting`."""
with_training = bundled("training", rows_of(Training), Training)
"""A command whose argument `training` becomes the options of a `Training`."""
NaiveOption = Annotated[bool, typer.Option("--naive", help="Only with the networks as they are.")]
AlignedOption = Annotated[bool, typer.Option("--aligned", help="Only with all reordered to match the first.")]


def ways(*, naive: bool, aligned: bool) -> list[str]:
    """The coordinates that are wanted: both where neither is asked for."""
    return [name for name, chosen in ((NAIVE, naive), (ALIGNED, aligned)) if chosen] or [NAIVE, ALIGNED]
