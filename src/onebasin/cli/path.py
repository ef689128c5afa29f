"""`onebasin path`: loss and error on the line between two networks, as they are and aligned."""

from pathlib import Path
from typing import Annotated

import typer

from onebasin.cli.alignment import Aligned
from onebasin.cli.inputs import check_folder
from onebasin.cli.lines import Measurement, Report, measure_lines, show_lines, write_lines
from onebasin.cli.match import matching_to_json
from onebasin.cli.options import POINTS, MatchingOption, PointsOption
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.setting import AlignedOption, NaiveOption, Setting, ways, with_setting
from onebasin.cli.study import DONE, Study
from onebasin.cli.versions import versions
from onebasin.report import Paths


@with_setting
@with_search_options
def path(
    a: Annotated[Path, typer.Argument(metavar="A", help="A checkpoint: where the line begins.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="A checkpoint of the same architecture: where it ends.")],
    setting: Setting,
    search: Search,
    matching: MatchingOption = None,
    naive: NaiveOption = False,
    aligned: AlignedOption = False,
    points: PointsOption = POINTS,
    refine: Annotated[int, typer.Option("--refine", metavar="N", min=0, help="More points around the highest.")] = 0,
    temperature: Annotated[
        bool, typer.Option("--temperature", help="Measure losses at every point's best temperature, too.")
    ] = False,
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
    with session(as_json=setting.as_json, threads=setting.threads, task=setting.task) as screen:
        check_folder("--out", setting.out)
        study = Study.open([a, b], setting, temperature=temperature)
        wanted = ways(naive=naive, aligned=aligned)
        networks, found = study.networks(screen, search, wanted, [matching] if matching else ())
        measurement = Measurement(study.model, study.evaluation, points, refine)
        profiles = measure_lines(screen, measurement, str(a), {name: ends[1] for name, ends in networks.items()})
        settings: dict[str, object] = {"a": a.name, "b": b.name, "seed": setting.seed}
        statistics = study.evaluation.batchnorm
        if statistics != "keep":
            settings["batchnorm"] = f"{DONE[statistics]}, on up to {setting.samples} samples"
        if found:
            settings["matching"] = matching_to_json(found.matchings[0])
        _finish(screen, Paths(study.task.name, setting.split, profiles, settings), found, setting.out)


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
