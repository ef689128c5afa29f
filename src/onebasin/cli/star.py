"""`onebasin star`: a network in the middle of others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from onebasin.cli.drawing import draw
from onebasin.cli.laboratory import (
    Laboratory,
    Setting,
    Training,
    go_on,
    shuffled,
    with_setting,
    with_training,
)
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.connectivity import Star, StarProfile, fit_star, profile_star
from onebasin.connectivity.star import CENTRE_FILE, JSON_FILE, LAWS
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
        out = go_on("star", networks, setting, training, search, shape)
        lab = Laboratory.open(screen, networks, setting, search, [wanted], "test")
        made = _star(screen, lab, setting, training, shape, out)
        profile = _profile(screen, lab, made, shape, out)
        _finish(screen, lab, setting, profile, len(networks) - held_out, out)


@dataclass(frozen=True)
class _Shape:
    """The options of the star itself."""

    held_out: int
    law: str
    points: int
    wanted: str


def _star(
    screen: Screen, lab: Laboratory, setting: Setting, training: Training, shape: _Shape, out: Path | None
) -> Star:
    """The star that the folder holds, else a new one, which is kept there."""
    if out is not None and (out / JSON_FILE).exists():
        return Star.load(out)
    places = list(lab.named(shape.wanted).values())
    found = fit_star(
        lab.model,
        places[: len(places) - shape.held_out],
        shuffled(lab.task, training.batch_size, setting.seed),
        lab.task.evaluate,
        law=shape.law,
        schedule=training.schedule(setting.seed),
        progress=screen.stage("training the centre"),
    )
    if not found.complete:
        raise KeyboardInterrupt
    if out is not None:
        found.save(out)
        screen.wrote(out / CENTRE_FILE)
    return found


def _profile(screen: Screen, lab: Laboratory, made: Star, shape: _Shape, out: Path | None) -> StarProfile:
    """The profile that the folder holds, else a new one, which is kept there."""
    if out is not None and (out / PROFILE).exists():
        return StarProfile.load(out / PROFILE)
    networks = lab.named(shape.wanted)
    found = profile_star(made.centre, networks, lab.model, lab.evaluation, shape.points, progress=screen.stage("lines"))
    if not found.complete:
        raise KeyboardInterrupt
    if out is not None:
        found.save(out / PROFILE)
        screen.wrote(out / PROFILE)
    return found


def _finish(
    screen: Screen, lab: Laboratory, setting: Setting, profile: StarProfile, anchors: int, out: Path | None
) -> None:
    """Write and show what was found."""
    found: dict[str, object] = {
        "format": FORMAT,
        **lab.describe(setting),
        "anchors": anchors,
        "barriers": profile.barriers(),
        "profile": profile.to_json(),
    }
    if out is not None:
        write_json(out / RESULT, found)
        screen.wrote(out / RESULT)
    table = _table(lab, profile, anchors)
    shown = {name: path.to_json() for name, path in profile.spokes.items()}
    chart = Picture("profiles", {"profiles": shown}, f"{lab.task.name}, {lab.split} split: loss from the centre")
    draw(screen, out, f"{lab.task.name}: a star centre", {"star": chart}, [table], lab.describe(setting))
    screen.close()
    screen.result(found)
    if lab.aligned is not None:
        screen.line(lab.aligned.subject.proof)
    screen.table(table)
    for file in screen.written:
        screen.line(f"written: {file}")


def _table(lab: Laboratory, profile: StarProfile, anchors: int) -> Table:
    """A row a spoke."""
    columns = ("to", "trained", "centre", "highest", "end", "barrier", "error")
    rows = []
    for number, (name, spoke) in enumerate(profile.spokes.items()):
        losses = (spoke.loss[0], max(spoke.loss), spoke.loss[-1], spoke.loss_barrier())
        error = points(spoke.error_barrier()) if spoke.error else ""
        rows.append((name, "yes" if number < anchors else "no", *map(loss_text, losses), error))
    return Table(
        f"Loss from the centre, {lab.task.name}, {lab.split} split", columns, tuple(rows), frozenset(columns[2:])
    )
