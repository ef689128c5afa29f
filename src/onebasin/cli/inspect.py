"""`onebasin inspect`: which units of a model can be reordered, and the proof."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated

import typer

from onebasin import Symmetry
from onebasin.cli.inputs import Source, Subject, check_inputs, check_target, find_subject
from onebasin.cli.options import (
    DataRootOption,
    JsonOption,
    SeedOption,
    TaskOption,
    ThreadsOption,
    TrialsOption,
    VerifyOption,
)
from onebasin.cli.screen import Screen, session
from onebasin.explanation import Explanation
from onebasin.report import pin_table, save_chart, saved_group_chart, symmetry_table
from onebasin.report.tables import axes_of

CheckpointOption = Annotated[
    Path | None,
    typer.Option("--checkpoint", metavar="FILE", help="Check that the symmetry fits it.", show_default=False),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Save the symmetry as JSON.", show_default=False)
]
WhyOption = Annotated[
    str | None,
    typer.Option(
        "--why",
        metavar="TENSOR[:AXIS]",
        help="Tell why an axis cannot move, or with what it moves, by the chain of operations. With "
        "TENSOR[:AXIS],OTHER: why the two move together.",
        show_default=False,
    ),
]
PictureOption = Annotated[
    Path | None,
    typer.Option("--picture", metavar="FILE", help="Draw the groups: .svg, .png or .html.", show_default=False),
]


def inspect(
    saved: Annotated[
        Path | None, typer.Argument(metavar="SYMMETRY", help="A saved symmetry to show.", show_default=False)
    ] = None,
    task: TaskOption = None,
    data_root: DataRootOption = None,
    checkpoint: CheckpointOption = None,
    out: OutOption = None,
    why: WhyOption = None,
    picture: PictureOption = None,
    proving: VerifyOption = True,
    trials: TrialsOption = 3,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find which units of a model can be reordered, and prove it.

    Reordering them does not change what the model computes; that is tried in float64 on random weights.

    \b
    Examples:
      onebasin inspect --task digits
      onebasin inspect --task my_task.py --out symmetry.json --picture groups.svg
      onebasin inspect --task digits --why fc1.weight:1
      onebasin inspect --task digits --why fc1.weight:0,fc2.weight
      onebasin inspect symmetry.json --checkpoint a.safetensors

    Exit status: 0 proved or not asked to be, 1 the symmetry does not hold, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json, threads=threads, task=task) as screen:
        sources = [path for path in (saved, checkpoint) if path is not None]
        check_target("--out", out, sources)
        check_target("--picture", picture, sources)
        subject = find_subject(screen, Source(task, data_root, saved, proving, trials, seed))
        if why is not None:
            explanation = _explain(subject.symmetry, why)
            screen.close()
            screen.line(str(explanation))
            screen.result(dataclasses.asdict(explanation))
            return
        if checkpoint is not None:
            check_inputs([checkpoint], subject.symmetry)
        if out is not None and subject.holds:
            subject.symmetry.save(out)
            screen.wrote(out)
        if picture is not None and subject.symmetry.groups:
            save_chart(saved_group_chart(subject.symmetry), picture)
            screen.wrote(picture)
        screen.close()
        _show(screen, subject, checkpoint)
        screen.result(_to_json(subject, checkpoint))
        subject.require()


def _explain(symmetry: Symmetry, question: str) -> Explanation:
    """The answer to `TENSOR`, `TENSOR:AXIS` or either with `,OTHER` behind it."""
    asked, _, other = question.partition(",")
    tensor, colon, axis = asked.rpartition(":")
    if not colon or not axis.isdecimal():
        tensor, axis = asked, "0"
    return symmetry.explain(tensor, int(axis), other or None)


def _show(screen: Screen, subject: Subject, checkpoint: Path | None) -> None:
    symmetry = subject.symmetry
    screen.line(_order(symmetry), "bold")
    screen.line(subject.proof, "green" if subject.verification and subject.holds else "")
    if checkpoint is not None:
        screen.line(f"{checkpoint} fits: every tensor is there, has the right shape and is finite")
    screen.line()
    screen.table(symmetry_table(symmetry))
    screen.table(pin_table(symmetry))
    for path in screen.written:
        screen.line(f"written: {path}")


def _order(symmetry: Symmetry) -> str:
    """How many groups there are, and the number of reorderings by its logarithms."""
    count = len(symmetry.groups)
    if count == 0:
        return "no group: nothing can be reordered"
    logarithms = (
        f"10^{symmetry.log_order / math.log(10):,.1f} reorderings (natural logarithm {symmetry.log_order:,.1f})"
    )
    return f"{count} group{'' if count == 1 else 's'}, {logarithms}"


def _to_json(subject: Subject, checkpoint: Path | None) -> dict[str, object]:
    symmetry, axes = subject.symmetry, axes_of(subject.symmetry)
    pins: dict[str, list[str]] = {}
    for ref, reason in symmetry.pins.items():
        pins.setdefault(reason, []).append(str(ref))
    return {
        "groups": {
            group.name: {
                "size": group.size,
                "inside": list(group.inside),
                "fixed": group.fixed,
                "axes": axes[group.name],
            }
            for group in symmetry.groups.values()
        },
        "log_order": symmetry.log_order,
        "log10_order": symmetry.log_order / math.log(10),
        "verification": subject.to_json(),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "pins": pins,
    }
