"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

TASK = typer.Option(
    "--task",
    "-t",
    metavar="TASK",
    help="The model and its data: digits, mnist, fashion-mnist, cifar10, cifar100, your file my_task.py, or a module.",
    show_default=False,
)
TaskOption = Annotated[str | None, TASK]
DataRootOption = Annotated[
    Path | None,
    typer.Option("--data-root", metavar="DIR", help="The folder that holds the task's data.", show_default=False),
]
SymmetryOption = Annotated[
    Path | None,
    typer.Option(
        "--symmetry",
        metavar="FILE",
        help="A saved symmetry, in place of finding it on the task's model.",
        show_default=False,
    ),
]
VerifyOption = Annotated[
    bool,
    typer.Option("--verify/--no-verify", help="Prove the symmetry on the task's model in float64."),
]
TrialsOption = Annotated[
    int, typer.Option("--trials", metavar="N", min=1, help="Random reorderings to try in the proof.")
]
SeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Of everything random: same seed, same result.")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads", metavar="N", min=1, help="Threads for torch; its own choice if left out.", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
SplitOption = Annotated[str, typer.Option("--split", metavar="SPLIT", help="Evaluate on train, val or test.")]
SamplesOption = Annotated[
    int,
    typer.Option(
        "--samples",
        metavar="N",
        min=1,
        help="Training samples to correct or re-estimate statistics from; their labels are not used.",
    ),
]
PointsOption = Annotated[int, typer.Option("--points", metavar="N", min=3, help="Points on the line, ends included.")]

SAMPLES = 5000
"""Enough for means and variances of channels, few enough for every point of a path."""
POINTS = 25
"""An odd number, so that one point is the average."""


class PointStatistics(StrEnum):
    """What happens to statistics at a point between networks."""

    REESTIMATE = "reestimate"
    KEEP = "keep"
    REPAIR = "repair"


CORRECTIONS = (
    "none",
    "auto",
    "batchnorm",
    "rescale",
    "repair",
    "repair_closed",
    "refit",
    "refit_mixture",
    "rescale_from_weights",
    "calibrate_biases",
)
"""What can be done after averaging: the methods of `onebasin.correction`, which are not loaded for the help."""
CorrectOption = Annotated[
    str | None,
    typer.Option(
        "--correct",
        metavar="HOW",
        help=f"What to do after averaging: {', '.join(CORRECTIONS)}. Left out: batchnorm where there is any, and data.",
        show_default=False,
    ),
]
PointStatisticsOption = Annotated[
    PointStatistics | None,
    typer.Option(
        "--batchnorm",
        help="BatchNorm's statistics at every point: reestimate them on training data (the default where there are "
        "both), keep, or repair the mean and spread of every unit.",
        show_default=False,
    ),
]
MatchingOption = Annotated[
    Path | None,
    typer.Option("--matching", metavar="FILE", help="A saved matching in place of a search.", show_default=False),
]
MatchingsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--matching",
        metavar="FILE",
        help="A saved matching in place of a search; repeat it for every network but A.",
        show_default=False,
    ),
]
