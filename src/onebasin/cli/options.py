"""Options that several commands share."""

from dataclasses import dataclass
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
        help="Training samples to re-estimate BatchNorm from, and to compare activations on.",
    ),
]
PointsOption = Annotated[int, typer.Option("--points", metavar="N", min=3, help="Points on the line, ends included.")]
SweepsOption = Annotated[
    int, typer.Option("--max-sweeps", metavar="N", min=1, help="Passes over all groups before giving up.")
]

MatchMethodOption = Annotated[
    str,
    typer.Option(
        "--match-method",
        metavar="METHOD",
        help="How to search: best, weight, anneal or frank-wolfe; for three networks or more "
        "cycle-consistent (best), frank-wolfe, merge-many or hierarchical.",
    ),
]
AlphaOption = Annotated[
    float,
    typer.Option(
        "--alpha",
        metavar="SHARE",
        min=0,
        max=1,
        help="Share of activations in what is compared: 0 weights only, 1 activations only. Above 0 it needs a task "
        "with data.",
    ),
]
NormalisedOption = Annotated[
    bool, typer.Option("--normalised", help="Bring every tensor to unit variance before weights are compared.")
]
RestartsOption = Annotated[
    int, typer.Option("--restarts", metavar="N", min=0, help="For best: how often the best so far is heated up again.")
]

SAMPLES = 5000
"""Enough for means and variances of channels, few enough for every point of a path."""
SWEEPS = 100
POINTS = 25
"""An odd number, so that one point is the average."""


@dataclass(frozen=True)
class Search:
    """How matchings are searched for; the options of these names."""

    match_method: str = "best"
    alpha: float = 0.0
    normalised: bool = False
    restarts: int = 1
    max_sweeps: int = SWEEPS
    samples: int = SAMPLES


class BatchNorm(StrEnum):
    """What happens to BatchNorm's running statistics."""

    REESTIMATE = "reestimate"
    KEEP = "keep"


BatchNormOption = Annotated[
    BatchNorm | None,
    typer.Option(
        "--batchnorm",
        help="BatchNorm's statistics: reestimate them on training data (as is done where there are both), or keep.",
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
