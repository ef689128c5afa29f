"""`onebasin plane`: loss and error on a plane, or on a polygon of averages of networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from onebasin.checkpoint import Source as Network
from onebasin.cli.drawing import draw
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.setting import Setting, with_setting
from onebasin.cli.study import Study
from onebasin.connectivity import (
    PlaneGrid,
    PolygonGrid,
    measure_plane,
    measure_polygon,
    pca_plane,
    plane_through,
    random_plane,
)
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.report import ALIGNED, NAIVE, Picture, Table
from onebasin.report.table import loss_text, percent

JSON_FILE = "plane.json"
THROUGH, RANDOM, PCA, POLYGON = "through", "random", "pca", "polygon"
NEEDED = {THROUGH: 3, RANDOM: 1, PCA: 3, POLYGON: 3}
"""Networks that each kind needs, at least."""
TITLES = {
    THROUGH: "the plane through three networks",
    RANDOM: "two random directions, by filters",
    PCA: "the plane of a trajectory",
    POLYGON: "averages of networks",
}

Grid = PlaneGrid | PolygonGrid


@dataclass(frozen=True)
class Job:
    """What is to be measured.

    Attributes:
        kind: a key of `TITLES`.
        study: the networks and how to measure them.
        sources: the networks, in the same coordinates.
        resolution: points along an axis.
        margin: how far beyond the networks.
        file: to keep what there is, and to go on from; None for none.
    """

    kind: str
    study: Study
    sources: list[Network]
    resolution: int
    margin: float
    file: Path | None


@with_setting
@with_search_options
def plane(
    models: Annotated[list[Path], typer.Argument(metavar="A B ...", help="Checkpoints of one architecture.")],
    setting: Setting,
    search: Search,
    random: Annotated[bool, typer.Option("--random", help="Two random directions from A, scaled by filters.")] = False,
    pca: Annotated[bool, typer.Option("--pca", help="The plane in which A B C ..., a trajectory, vary most.")] = False,
    polygon: Annotated[
        bool, typer.Option("--polygon", help="All averages of A B C; of more, a surface with them at its corners.")
    ] = False,
    aligned: Annotated[bool, typer.Option("--aligned", help="Reorder the units of all to match A first.")] = False,
    resolution: Annotated[int, typer.Option("--resolution", metavar="N", min=3, help="Points along each axis.")] = 21,
    margin: Annotated[
        float, typer.Option("--margin", metavar="SHARE", min=0, help="How far to look beyond the networks.")
    ] = 0.2,
) -> None:
    """Draw the loss on a plane or polygon of networks.

    Without further options it is the plane through the first three networks; others are marked where it comes nearest
    to them.

    \b
    Examples:
      onebasin plane a.pt b.pt c.pt --task cifar10 --data-root data --aligned --out plane
      onebasin plane a.pt --random --task my_task.py --resolution 15 --out random
      onebasin plane epoch*.pt --pca --task my_task.py --out trajectory
      onebasin plane a.pt b.pt c.pt d.pt --polygon --task digits --out averages

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted (with --out, what was measured is
    kept), 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=setting.as_json, threads=setting.threads, task=setting.task) as screen:
        kind = _kind(models, random=random, pca=pca, polygon=polygon)
        study = Study.open(models, setting, least=1)
        shape = {"kind": kind, "resolution": resolution, "margin": margin, "aligned": aligned}
        out = study.go_on("plane", search, shape)
        wanted = ALIGNED if aligned and len(models) > 1 else NAIVE
        ways, found = study.networks(screen, search, [wanted])
        about = study.about | ({"symmetry": found.subject.proof} if found else {})
        job = Job(kind, study, ways[wanted], resolution, margin, out / JSON_FILE if out is not None else None)
        _finish(screen, _measured(screen, job), kind, out, about)


def _kind(models: list[Path], *, random: bool, pca: bool, polygon: bool) -> str:
    """Which picture was asked for."""
    chosen = [kind for kind, wanted in ((RANDOM, random), (PCA, pca), (POLYGON, polygon)) if wanted]
    if len(chosen) > 1:
        raise OptionError(
            "plane", expected="one of --random, --pca, --polygon", found="several", remedy="run the command for each"
        )
    kind = chosen[0] if chosen else THROUGH
    if len(models) < NEEDED[kind] or (kind == RANDOM and len(models) > 1):
        count = "one network" if kind == RANDOM else f"{NEEDED[kind]} networks or more"
        raise OptionError("plane", expected=count, found=str(len(models)), remedy="name them, or choose another kind")
    return kind


def _measured(screen: Screen, job: Job) -> Grid:
    names, model, evaluation = job.study.names, job.study.model, job.study.evaluation
    before = job.file if job.file is not None and job.file.exists() else None
    report = screen.stage("measuring")
    if job.kind == POLYGON:
        return measure_polygon(
            Span(model, job.sources, names),
            names,
            evaluation,
            rings=max(1, (job.resolution - 1) // 2),
            so_far=PolygonGrid.load(before) if before else None,
            after_part=_keeper(screen, job.file),
            progress=report,
        )
    if job.kind == RANDOM:
        surface = random_plane(model, job.sources[0], seed=job.study.setting.seed, name=names[0])
    else:
        surface = (pca_plane if job.kind == PCA else plane_through)(model, job.sources, names)
    return measure_plane(
        surface,
        evaluation,
        resolution=job.resolution,
        margin=job.margin,
        so_far=PlaneGrid.load(before) if before else None,
        after_row=_keeper(screen, job.file),
        progress=report,
    )


def _keeper(screen: Screen, file: Path | None) -> Callable[[Grid], None]:
    """Writes what there is."""

    def keep(grid: Grid) -> None:
        if file is not None:
            grid.save(file)
            if file not in screen.written:
                screen.wrote(file)

    return keep


def network_table(grid: Grid) -> Table:
    """The networks by themselves, and the least and the largest value on a complete grid."""
    values = [x for row in grid.loss for x in (row if isinstance(row, tuple) else (row,))]
    errors = [x for row in grid.error for x in (row if isinstance(row, tuple) else (row,))]
    rows: list[tuple[str, float | None, float | None]] = []
    if isinstance(grid, PlaneGrid):
        rows = [(mark.name, mark.loss, mark.error) for mark in grid.marks]
    else:
        corners = {row.index(1): k for k, row in enumerate(grid.weights) if max(row) == 1}
        rows = [(name, values[corners[k]], errors[corners[k]] if errors else None) for k, name in enumerate(grid.names)]
    rows += [
        (words, choose(values), choose(errors) if errors else None)
        for words, choose in (("least on the grid", min), ("largest on the grid", max))
    ]
    return Table(
        "Losses and errors",
        ("network", "loss", "error"),
        tuple((n, "" if x is None else loss_text(x), "" if e is None else percent(e)) for n, x, e in rows),
        frozenset({"loss", "error"}),
    )


def _finish(screen: Screen, grid: Grid, kind: str, out: Path | None, about: Mapping[str, str]) -> None:
    """Write and show what was measured."""
    if out is not None and grid.complete:
        _draw(screen, grid, kind, out, about)
    screen.close()
    screen.result(grid.to_json() | {"settings": dict(about)})
    if not grid.complete:
        screen.refuse(f"interrupted: measured {len(grid.loss)} {'parts' if kind == POLYGON else 'rows'}")
        return
    screen.line(f"{about['task']}: {TITLES[kind]}", "bold")
    screen.table(network_table(grid))
    for file in screen.written:
        screen.line(f"written: {file}")


def _draw(screen: Screen, grid: Grid, kind: str, out: Path, about: Mapping[str, str]) -> None:
    grid.save(out / JSON_FILE)
    drawn = "polygon" if kind == POLYGON else "plane"
    note = "Dots: where it was measured. Cross: the largest value." if kind == POLYGON else "White: the networks."
    pictures = {
        measure: Picture(drawn, grid, f"{measure.capitalize()}: {TITLES[kind]}", note, {"measure": measure})
        for measure in ("loss", *(["error"] if grid.error else []))
    }
    sentence = f"{TITLES[kind].capitalize()}: {about['networks']}"
    draw(screen, out, about["task"], pictures, [network_table(grid)], about, sentence)
