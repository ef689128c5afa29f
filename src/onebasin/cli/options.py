"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        "-t",
        metavar="TASK",
        help="The model and its data: digits, mnist, fashion-mnist, cifar10, cifar100, your file my_task.py, "
        "or a module.",
        show_default=False,
    ),
]
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
TrialsOption = Annotated[int, typer.Option("--trials", min=1, help="Random reorderings to try in the proof.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of everything random: same seed, same result.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads that torch may use; its own choice if left out.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
SplitOption = Annotated[str, typer.Option("--split", metavar="SPLIT", help="Evaluate on train, val or test.")]
SamplesOption = Annotated[
    int, typer.Option("--samples", min=1, help="Training samples to re-estimate BatchNorm's statistics from.")
]
SweepsOption = Annotated[int, typer.Option("--max-sweeps", min=1, help="Passes over all groups before giving up.")]

SAMPLES = 5000
"""Enough for means and variances of channels, few enough for every point of a path."""
SWEEPS = 100


class BatchNorm(StrEnum):
    """What happens to BatchNorm's running statistics."""

    REESTIMATE = "reestimate"
    KEEP = "keep"
