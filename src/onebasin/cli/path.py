"""`onebasin path`: loss and error on the line between two networks, as they are and aligned."""

from pathlib import Path
from typing import Annotated

import typer

from onebasin.checkpoint import Source as Network
from onebasin.cli.alignment import Aligned, align
from onebasin.cli.inputs import Source, check_folder
from onebasin.cli.lines import Measurement, Report, measure_lines, show_lines, write_lines
from onebasin.cli.match import matching_to_json
from onebasin.cli.options import (
    POINTS,
    SAMPLES,
    TASK,
    DataRootOption,
    JsonOption,
    MatchingOption,
    PointsOption,
    PointStatisticsOption,
    SamplesOption,
    SeedOption,
    SplitOption,
    SymmetryOption,
    ThreadsOption,
    VerifyOption,
)
from onebasin.cli.points import DONE, check_fit, evaluation_of
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.versions import versions
from onebasin.report import ALIGNED, NAIVE, Paths
from onebasin.tasks.protocol import check_split

NaiveOption = Annotated[bool, typer.Option("--naive", help="Only the line between the networks as they are.")]
AlignedOption = Annotated[bool, typer.Option("--aligned", help="Only the line to B reordered. Both if left out.")]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="A folder for path.json, path.png, report.html.", show_default=False),
]


@with_search_options
def path(
    a: Annotated[Path, typer.Argument(metavar="A", help="A checkpoint: where the line begins.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="A checkpoint of the same architecture: where it ends.")],
    task: Annotated[str, TASK],
    search: Search,
    data_root: DataRootOption = None,
    symmetry: SymmetryOption = None,
    matching: MatchingOption = None,
    naive: NaiveOption = False,
    aligned: AlignedOption = False,
    points: PointsOption = POINTS,
    split: SplitOption = "test",
    refine: Annotated[int, typer.Option("--refine", metavar="N", min=0, help="More points around the highest.")] = 0,
    batchnorm: PointStatisticsOption = None,
    temperature: Annotated[
        bool, typer.Option("--temperature", help="Measure losses at every point's best temperature, too.")
    ] = False,
    samples: SamplesOption = SAMPLES,
    out: OutOption = None,
    proving: VerifyOption = True,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure loss and error on the line between two networks.

    There are two lines: to B as it is, and to B with its units reordered to match A.

    \b
    Examples:
      onebasin path a.safetensors b.safetensors --task my_task.py --out report
      onebasin path a.pt b.pt --task cifar10 --data-root data --points 11 --samples 1000

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted (with --out, the points measured are
    in path.json), 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json, threads=threads, task=task) as screen:
        check_split(split, "--split")
        check_folder("--out", out)
        source = Source(task, data_root, symmetry, proving, seed=seed)
        loaded = source.require_task("onebasin path")
        loaded.batches(split)  # fails now, and not after the search, where there is no data
        check_fit(loaded, [a, b])
        evaluation = evaluation_of(loaded, split, batchnorm, samples, temperature=temperature)
        wanted = [name for name, chosen in ((NAIVE, naive), (ALIGNED, aligned)) if chosen] or [NAIVE, ALIGNED]
        found = None
        if ALIGNED in wanted:
            found = align(screen, [a, b], source, [matching] if matching else (), search=search)
        measurement = Measurement(loaded, evaluation, points, refine)
        ends: dict[str, Network] = {NAIVE: str(b)}
        if found:
            ends[ALIGNED] = found.params[0]
        profiles = measure_lines(screen, measurement, str(a), {name: ends[name] for name in wanted})
        settings: dict[str, object] = {"a": a.name, "b": b.name, "seed": seed}
        if evaluation.batchnorm != "keep":
            settings["batchnorm"] = f"{DONE[evaluation.batchnorm]}, on up to {samples} samples"
        if found:
            settings["matching"] = matching_to_json(found.matchings[0])
        _finish(screen, Paths(loaded.name, split, profiles, settings), found, out)


def _finish(screen: Screen, paths: Paths, found: Aligned | None, out: Path | None) -> None:
    """Write and show what was measured."""
    if out is not None:
        names = f"{paths.settings['a']} and {paths.settings['b']}"
        about = {"networks": names, "task": f"{paths.task}, {paths.split} split", "seed": str(paths.settings["seed"])}
        if "batchnorm" in paths.settings:
            about["BatchNorm"] = str(paths.settings["batchnorm"])
        if found:
            about["symmetry"] = found.subject.proof
        report = Report(
            f"{paths.task}: {names}",
            (),
            found.subject.symmetry if found else None,
            found.matchings[0] if found else None,
            about | versions(),
        )
        write_lines(screen, out, paths, report)
    screen.close()
    screen.result(paths.to_json() | {"verification": found.subject.to_json() if found else None})
    if paths.complete:
        if found:
            screen.line(found.subject.proof, "green" if found.subject.verification else "")
        if "batchnorm" in paths.settings:
            screen.line(f"BatchNorm: {paths.settings['batchnorm']}")
        show_lines(screen, paths)
    else:
        measured = ", ".join(f"{len(profile.lams)} points of {name}" for name, profile in paths.profiles.items())
        screen.refuse(f"interrupted: measured {measured}")
    for file in screen.written:
        screen.line(f"written: {file}")
