"""`onebasin curve`: a curve of low loss between two networks."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from onebasin.cli.drawing import draw
from onebasin.cli.inputs import make_folder
from onebasin.cli.laboratory import (
    AlignedOption,
    Laboratory,
    NaiveOption,
    Setting,
    Training,
    go_on,
    shuffled,
    ways,
    with_setting,
    with_training,
)
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.connectivity import Curve, CurveProfile, fit_curve, profile_curve, straight
from onebasin.connectivity.curve import JSON_FILE, basis_of
from onebasin.errors import OptionError
from onebasin.json_file import write_json
from onebasin.report import NAIVE, Picture, Table
from onebasin.report.table import loss_text, percent

FORMAT = "onebasin-curves/1"
PROFILE, LINE, RESULT = "profile.json", "line.json", "curves.json"


@with_setting
@with_training
@with_search_options
def curve(
    a: Annotated[Path, typer.Argument(metavar="A", help="A checkpoint: where the curve begins.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="A checkpoint of the same architecture: where it ends.")],
    setting: Setting,
    training: Training,
    search: Search,
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="bezier or polygonal.")] = "bezier",
    bends: Annotated[int, typer.Option("--bends", metavar="N", min=1, help="Control networks between the ends.")] = 1,
    free_ends: Annotated[bool, typer.Option("--free-ends", help="Train the ends as well.")] = False,
    rematch: Annotated[
        int, typer.Option("--rematch", metavar="N", min=0, help="Times to reorder B's units again while training.")
    ] = 0,
    points: Annotated[int, typer.Option("--points", metavar="N", min=2, help="Points measured, ends included.")] = 61,
    naive: NaiveOption = False,
    aligned: AlignedOption = False,
) -> None:
    """Train a curve of low loss between two networks.

    It is measured beside the straight line. There are two of each: to B as it is, and to B with its units reordered to
    match A. In --out each has a folder with its control networks, profile.json of the curve, and line.json of the
    straight line.

    \b
    Examples:
      onebasin curve a.safetensors b.safetensors --task my_task.py --out curves
      onebasin curve a.pt b.pt --task cifar10 --data-root data --aligned --kind polygonal --bends 3 --split train

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=setting.as_json, threads=setting.threads, task=setting.task) as screen:
        shape = _Shape(kind, bends, free_ends, rematch, points)
        _run(screen, [a, b], setting, training, search, shape, ways(naive=naive, aligned=aligned))


@dataclass(frozen=True)
class _Shape:
    """The options of the curve itself."""

    kind: str
    bends: int
    free_ends: bool
    rematch: int
    points: int


def _run(
    screen: Screen,
    files: list[Path],
    setting: Setting,
    training: Training,
    search: Search,
    shape: _Shape,
    wanted: list[str],
) -> None:
    basis_of(shape.kind)
    if shape.rematch and NAIVE in wanted:
        raise OptionError("--rematch", expected="--aligned", found="networks as they are", remedy="pass both")
    out = go_on("curve", files, setting, training, search, shape, {"wanted": wanted})
    lab = Laboratory.open(screen, files, setting, search, wanted, "test")
    rows = {
        name: _measured(screen, lab, name, setting, training, shape, None if out is None else make_folder(out / name))
        for name in wanted
    }
    found: dict[str, object] = lab.describe(setting) | dataclasses.asdict(shape)
    found["curves"] = {
        name: {shown: profile.to_json() for shown, profile in profiles.items()} for name, profiles in rows.items()
    }
    if out is not None:
        write_json(out / RESULT, {"format": FORMAT, **found})
        screen.wrote(out / RESULT)
    table = _table(lab, rows)
    shown = {f"{name} {kind}": p.to_json() for name, profiles in rows.items() for kind, p in profiles.items()}
    chart = Picture("profiles", {"profiles": shown}, f"{lab.task.name}, {lab.split} split: loss on lines and curves")
    draw(screen, out, f"{lab.task.name}: {', '.join(lab.names)}", {"curves": chart}, [table], lab.describe(setting))
    screen.close()
    screen.result({"format": FORMAT, **found})
    if lab.aligned is not None:
        screen.line(lab.aligned.subject.proof)
    screen.table(table)
    for file in screen.written:
        screen.line(f"written: {file}")


def _measured(
    screen: Screen,
    lab: Laboratory,
    name: str,
    setting: Setting,
    training: Training,
    shape: _Shape,
    folder: Path | None,
) -> dict[str, CurveProfile]:
    """The profiles of the straight line and of the curve; what the folder holds of them is not made again."""
    a, b = lab.networks[name]

    def train() -> Curve:
        return fit_curve(
            lab.model,
            a,
            b,
            shuffled(lab.task, training.batch_size, setting.seed),
            lab.task.evaluate,
            kind=shape.kind,
            bends=shape.bends,
            free_ends=shape.free_ends,
            symmetry=lab.aligned.subject.symmetry if lab.aligned else None,
            rematch=shape.rematch,
            schedule=training.schedule(setting.seed),
            progress=screen.stage(f"training the {name} curve"),
        )

    found = {}
    makers: dict[str, tuple[str, Callable[[], Curve]]] = {
        "line": (LINE, lambda: straight(lab.model, [a, b])),
        shape.kind: (PROFILE, train),
    }
    for shown, (file, make) in makers.items():
        if folder is not None and (folder / file).exists():
            found[shown] = CurveProfile.load(folder / file)
            continue
        curve = _kept(folder, make) if file == PROFILE else make()
        progress = screen.stage(f"{name} {shown}")
        found[shown] = profile_curve(curve, lab.model, lab.evaluation, shape.points, progress=progress)
        if not found[shown].complete:
            raise KeyboardInterrupt
        if folder is not None:
            found[shown].save(folder / file)
            screen.wrote(folder / file)
    return found


def _kept(folder: Path | None, train: Callable[[], Curve]) -> Curve:
    """The curve that a folder holds, else a new one, which is kept there."""
    if folder is not None and (folder / JSON_FILE).exists():
        return Curve.load(folder)
    made = train()
    if not made.complete:
        raise KeyboardInterrupt
    if folder is not None:
        made.save(folder)
    return made


def _table(lab: Laboratory, rows: dict[str, dict[str, CurveProfile]]) -> Table:
    """A row a path: losses, the highest error where errors are counted, the length and its part of the chord."""
    columns = ("path", "a", "highest", "b", "mean", "error", "length", "stretch")
    texts = []
    for name, profiles in rows.items():
        for shown, profile in profiles.items():
            summary = profile.summary()
            losses = (profile.loss[0], summary["max"], profile.loss[-1], summary["integral"])
            error = percent(max(profile.error)) if profile.error else ""
            lengths = (f"{profile.length:.4g}", f"{profile.straightness:.2f}")
            texts.append((f"{name} {shown}", *map(loss_text, losses), error, *lengths))
    return Table(f"Loss, {lab.task.name}, {lab.split} split", columns, tuple(texts), frozenset(columns[1:]))
