"""`onebasin match`: the reordering that brings one network closest to another."""

from pathlib import Path
from typing import Annotated

import typer

import onebasin
from onebasin import Matching, Status, save_checkpoint
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.inputs import Source, Subject, check_inputs, check_target, find_subject
from onebasin.cli.options import (
    SWEEPS,
    DataRootOption,
    JsonOption,
    SeedOption,
    SweepsOption,
    SymmetryOption,
    TaskOption,
    ThreadsOption,
    TrialsOption,
    VerifyOption,
)
from onebasin.cli.screen import Screen, session
from onebasin.report import matching_table
from onebasin.report.tables import moved_shares


def match(
    a: Annotated[Path, typer.Argument(metavar="A", help="The reference: a checkpoint of any supported format.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The network to be reordered, of the same architecture.")],
    task: TaskOption = None,
    data_root: DataRootOption = None,
    symmetry: SymmetryOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Save the matching as JSON.", show_default=False),
    ] = None,
    write_b: Annotated[
        Path | None,
        typer.Option("--write-b", metavar="FILE", help="Save B reordered, packed as B is.", show_default=False),
    ] = None,
    max_sweeps: SweepsOption = SWEEPS,
    proving: VerifyOption = True,
    trials: TrialsOption = 3,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reorder the units of B so that its weights match those of A.

    What B computes stays the same; with a task that is proved on its model before anything is written.

    \b
    Examples:
      onebasin match a.safetensors b.safetensors --task my_task.py --out matching.json
      onebasin match a.pt b.pt --symmetry symmetry.json --write-b b_aligned.pt

    Exit status: 0 done, 1 the symmetry does not hold or the search was interrupted (what it reached is written),
    2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json, threads=threads, task=task) as screen:
        check_target("--out", out, (a, b))
        check_target("--write-b", write_b, (a, b), checkpoint=True)
        check_inputs([a, b])
        subject = find_subject(screen, Source(task, data_root, symmetry, proving, trials, seed)).require()
        matching = find_matching(screen, a, b, subject, seed=seed, max_sweeps=max_sweeps)
        if out is not None:
            matching.save(out)
            screen.wrote(out)
        if write_b is not None:
            screen.wrote(*save_checkpoint(matching.apply(str(b)), write_b, like=open_checkpoint(b)))
        screen.close()
        _show(screen, matching, subject)
        screen.result(matching_to_json(matching) | {"verification": subject.to_json()})
        if matching.status is Status.INTERRUPTED:
            screen.refuse(matching.status.value)


def find_matching(screen: Screen, a: Path, b: Path, subject: Subject, *, seed: int, max_sweeps: int) -> Matching:
    """Match two checkpoints, showing progress under the name of the second."""
    report = screen.stage(f"matching {b.name}")
    return onebasin.match(str(a), str(b), subject.symmetry, seed=seed, max_sweeps=max_sweeps, progress=report)


def _show(screen: Screen, matching: Matching, subject: Subject) -> None:
    before, after = matching.history[0], matching.history[-1]
    screen.line(f"objective {before:,.4g} before, {after:,.4g} after {len(matching.history) - 1} sweeps", "bold")
    screen.line(subject.proof, "green" if subject.verification else "")
    if matching.status is not Status.INTERRUPTED:
        screen.line(f"{matching.status.value}; {matching.seconds['total']:.1f} s")
    screen.line()
    screen.table(matching_table(matching))
    for path in screen.written:
        screen.line(f"written: {path}")


def matching_to_json(matching: Matching) -> dict[str, object]:
    """A matching without its permutations, for machines."""
    return {
        "method": matching.method,
        "seed": matching.seed,
        "objective_before": matching.history[0] if matching.history else None,
        "objective": matching.objective,
        "status": matching.status.name.lower(),
        "moved": moved_shares(matching),
    }
