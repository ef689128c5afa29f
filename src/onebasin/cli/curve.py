"""`onebasin curve`: a curve of low loss between two networks."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from onebasin import Symmetry
from onebasin.checkpoint import Source as Network
from onebasin.cli.drawing import draw
from onebasin.cli.inputs import make_folder
from onebasin.cli.kept import unit
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.setting import AlignedOption, NaiveOption, Setting, Training, ways, with_setting, with_training
from onebasin.cli.study import Study
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
    study = Study.open(files, setting)
    out = study.go_on("curve", training, search, shape, {"wanted": wanted})
    networks, aligned = study.networks(screen, search, wanted)
    symmetry = aligned.subject.symmetry if aligned else None
    rows = {}
    for name, ends in networks.items():
        job = _Job(study, name, ends, symmetry, training, shape, None if out is None else make_folder(out / name))
        rows[name] = job.measured(screen)
    found: dict[str, object] = study.describe(aligned) | dataclasses.asdict(shape)
    found["curves"] = {
        name: {shown: profile.to_json() for shown, profile in profiles.items()} for name, profiles in rows.items()
    }
    if out is not None:
        write_json(out / RESULT, {"format": FORMAT, **found})
        screen.wrote(out / RESULT)
    table = _table(study, rows)
    shown = {f"{name} {kind}": p.to_json() for name, profiles in rows.items() for kind, p in profiles.items()}
    chart = Picture("profiles", {"profiles": shown}, f"{study.title}: loss on lines and curves")
    draw(screen, out, f"{study.task.name}: {', '.join(study.names)}", {"curves": chart}, [table], study.about)
    screen.close()
    screen.result({"format": FORMAT, **found})
    if aligned is not None:
        screen.line(aligned.subject.proof)
    screen.table(table)
    for file in screen.written:
        screen.line(f"written: {file}")


@dataclass(frozen=True)
class _Job:
    """A line and a curve between two networks.

    Attributes:
        study: the task and how to measure.
        name: of the coordinates.
        ends: the networks.
        symmetry: where they were aligned.
        training: of the curve.
        shape: of the curve.
        folder: that keeps what is done.
    """

    study: Study
    name: str
    ends: list[Network]
    symmetry: Symmetry | None
    training: Training
    shape: _Shape
    folder: Path | None

    def measured(self, screen: Screen) -> dict[str, CurveProfile]:
        """The profiles of the straight line and of the curve."""
        line = self._profile(screen, LINE, "line", lambda: straight(self.study.model, self.ends))
        curve = self._profile(screen, PROFILE, self.shape.kind, lambda: self._curve(screen))
        return {"line": line, self.shape.kind: curve}

    def _profile(self, screen: Screen, file: str, shown: str, make: Callable[[], Curve]) -> CurveProfile:
        study, path = self.study, None if self.folder is None else self.folder / file

        def look() -> CurveProfile:
            progress = screen.stage(f"{self.name} {shown}")
            return profile_curve(make(), study.model, study.evaluation, self.shape.points, progress=progress)

        return unit(screen, path, CurveProfile, look)

    def _curve(self, screen: Screen) -> Curve:
        study, shape, (a, b) = self.study, self.shape, self.ends

        def train() -> Curve:
            return fit_curve(
                study.model,
                a,
                b,
                study.shuffled(self.training.batch_size),
                study.task.evaluate,
                kind=shape.kind,
                bends=shape.bends,
                free_ends=shape.free_ends,
                symmetry=self.symmetry,
                rematch=shape.rematch,
                schedule=self.training.schedule(study.setting.seed),
                progress=screen.stage(f"training the {self.name} curve"),
            )

        return unit(screen, self.folder, Curve, train, last=JSON_FILE)


def _table(study: Study, rows: dict[str, dict[str, CurveProfile]]) -> Table:
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
    return Table(f"Loss, {study.title}", columns, tuple(texts), frozenset(columns[1:]))
