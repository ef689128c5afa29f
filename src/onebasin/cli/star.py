"""`onebasin star`: a network in the middle of others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from onebasin.checkpoint import Source as Network
from onebasin.cli.alignment import Aligned
from onebasin.cli.drawing import draw
from onebasin.cli.kept import unit
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.setting import Setting, Training, with_setting, with_training
from onebasin.cli.study import Study
from onebasin.connectivity import Star, StarProfile, fit_star, profile_star
from onebasin.connectivity.star import JSON_FILE, LAWS
from onebasin.errors import OptionError
from onebasin.json_file import write_json
from onebasin.report import ALIGNED, NAIVE, Picture, Table
from onebasin.report.table import loss_text, points

FORMAT = "onebasin-star-result/1"
PROFILE, RESULT = "profile.json", "result.json"


@with_setting
@with_training
@with_search_options
def star(
    networks: Annotated[list[Path], typer.Argument(metavar="A B [C ...]", help="Checkpoints of one architecture.")],
    setting: Setting,
    training: Training,
    search: Search,
    held_out: Annotated[
        int, typer.Option("--held-out", metavar="N", min=0, help="So many of the last networks are only measured.")
    ] = 0,
    law: Annotated[str, typer.Option("--law", metavar="LAW", help="How points are drawn: beta or uniform.")] = "beta",
    count: Annotated[int, typer.Option("--points", metavar="N", min=3, help="Points on every line.")] = 11,
    naive: Annotated[bool, typer.Option("--naive", help="Leave the networks as they are.")] = False,
) -> None:
    """Train a network that low lines connect with several others.

    It is the centre of a star domain. The networks are reordered to match the first. In --out are centre.safetensors, a
    checkpoint like the others, and profile.json with the lines to all of them.

    \b
    Examples:
      onebasin star a.safetensors b.safetensors c.safetensors --task my_task.py --out star
      onebasin star a.pt b.pt c.pt d.pt --task cifar10 --data-root data --held-out 1

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=setting.as_json, threads=setting.threads, task=setting.task) as screen:
        if law not in LAWS:
            raise OptionError("--law", expected=" or ".join(LAWS), found=repr(law), remedy="choose one")
        if len(networks) - held_out < 1:
            raise OptionError(
                "--held-out", expected="one network to train with", found=str(held_out), remedy="lower it"
            )
        wanted = NAIVE if naive else ALIGNED
        shape = _Shape(held_out, law, count, wanted)
        study = Study.open(networks, setting)
        out = study.go_on("star", training, search, shape)
        ways, found = study.networks(screen, search, [wanted])
        places = dict(zip(study.names, ways[wanted], strict=True))
        made = _star(screen, study, list(places.values()), training, shape, out)
        profile = _profile(screen, study, places, made, shape, out)
        _finish(screen, study, found, profile, len(networks) - held_out, out)


@dataclass(frozen=True)
class _Shape:
    """The options of the star itself."""

    held_out: int
    law: str
    points: int
    wanted: str


def _star(
    screen: Screen, study: Study, places: list[Network], training: Training, shape: _Shape, out: Path | None
) -> Star:
    """The star that the folder holds, else a new one, which is kept there."""

    def train() -> Star:
        return fit_star(
            study.model,
            places[: len(places) - shape.held_out],
            study.shuffled(training.batch_size),
            study.task.evaluate,
            law=shape.law,
            schedule=training.schedule(study.setting.seed),
            progress=screen.stage("training the centre"),
        )

    return unit(screen, out, Star, train, last=JSON_FILE)


def _profile(
    screen: Screen, study: Study, places: dict[str, Network], made: Star, shape: _Shape, out: Path | None
) -> StarProfile:
    """The profile that the folder holds, else a new one, which is kept there."""

    def look() -> StarProfile:
        return profile_star(
            made.centre, places, study.model, study.evaluation, shape.points, progress=screen.stage("lines")
        )

    return unit(screen, None if out is None else out / PROFILE, StarProfile, look)


def _finish(
    screen: Screen, study: Study, aligned: Aligned | None, profile: StarProfile, anchors: int, out: Path | None
) -> None:
    """Write and show what was found."""
    found: dict[str, object] = {
        "format": FORMAT,
        **study.describe(aligned),
        "anchors": anchors,
        "barriers": profile.barriers(),
        "profile": profile.to_json(),
    }
    if out is not None:
        write_json(out / RESULT, found)
        screen.wrote(out / RESULT)
    table = _table(study, profile, anchors)
    shown = {name: path.to_json() for name, path in profile.spokes.items()}
    chart = Picture("profiles", {"profiles": shown}, f"{study.title}: loss from the centre")
    draw(screen, out, f"{study.task.name}: a star centre", {"star": chart}, [table], study.about)
    screen.close()
    screen.result(found)
    if aligned is not None:
        screen.line(aligned.subject.proof)
    screen.table(table)
    for file in screen.written:
        screen.line(f"written: {file}")


def _table(study: Study, profile: StarProfile, anchors: int) -> Table:
    """A row a spoke."""
    columns = ("to", "trained", "centre", "highest", "end", "barrier", "error")
    rows = []
    for number, (name, spoke) in enumerate(profile.spokes.items()):
        losses = (spoke.loss[0], max(spoke.loss), spoke.loss[-1], spoke.loss_barrier())
        error = points(spoke.error_barrier()) if spoke.error else ""
        rows.append((name, "yes" if number < anchors else "no", *map(loss_text, losses), error))
    return Table(f"Loss from the centre, {study.title}", columns, tuple(rows), frozenset(columns[2:]))
