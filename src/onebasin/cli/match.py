"""`onebasin match`: the reordering that brings one network closest to another."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from onebasin import Matching, Status, save_checkpoint
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.inputs import Source, Subject, check_inputs, check_target, find_subject
from onebasin.cli.options import (
    DataRootOption,
    JsonOption,
    SeedOption,
    SymmetryOption,
    TaskOption,
    ThreadsOption,
    TrialsOption,
    VerifyOption,
)
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.searching import find_matchings
from onebasin.report import matching_table, trial_table
from onebasin.report.table import percent
from onebasin.report.tables import moved_shares


@with_search_options
def match(
    a: Annotated[Path, typer.Argument(metavar="A", help="The reference: a checkpoint of any supported format.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The network to be reordered, of the same architecture.")],
    search: Search,
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
    proving: VerifyOption = True,
    trials: TrialsOption = 3,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reorder the units of B so that it matches A.

    Several searches are made and the best is kept; how far it is from an upper bound is shown with it. What B computes
    stays the same; with a task that is proved on its model before anything is written.

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
        matching = find_matchings(screen, [a, b], subject, search, seed)[0]
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


def _show(screen: Screen, matching: Matching, subject: Subject) -> None:
    before, after = matching.history[0], matching.history[-1]
    share = "" if matching.share is None else f", {percent(matching.share)} of its upper bound"
    screen.line(f"objective {before:,.4g} before, {after:,.4g} after{share}", "bold")
    screen.line(subject.proof, "green" if subject.verification else "")
    if matching.status is not Status.INTERRUPTED:
        screen.line(f"{matching.status.value}; {matching.seconds['total']:.1f} s")
    screen.line()
    screen.table(trial_table(matching))
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
        "bound": matching.bound,
        "share_of_bound": matching.share,
        "gaps": dict(matching.gaps),
        "tried": [asdict(trial) for trial in matching.tried],
        "status": matching.status.name.lower(),
        "moved": moved_shares(matching),
    }
