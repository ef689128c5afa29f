"""`onebasin plane`: loss and error on a plane, or on a polygon of averages of networks."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from onebasin.checkpoint import Source as Network
from onebasin.cli.alignment import align
from onebasin.cli.inputs import Source
from onebasin.cli.kept import open_folder
from onebasin.cli.options import (
    SAMPLES,
    TASK,
    DataRootOption,
    JsonOption,
    PointStatisticsOption,
    SamplesOption,
    SeedOption,
    SplitOption,
    SymmetryOption,
    ThreadsOption,
    VerifyOption,
)
from onebasin.cli.points import Study, built
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.versions import versions
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
from onebasin.report import Page, Picture, Table, save_page, save_picture
from onebasin.report.table import loss_text, percent

JSON_FILE, PAGE_FILE = "plane.json", "report.html"
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
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="A folder for numbers, pictures and a page; run again, the command goes on where it was.",
        show_default=False,
    ),
]


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


@with_search_options
def plane(
    models: Annotated[list[Path], typer.Argument(metavar="A B ...", help="Checkpoints of one architecture.")],
    task: Annotated[str, TASK],
    search: Search,
    random: Annotated[bool, typer.Option("--random", help="Two random directions from A, scaled by filters.")] = False,
    pca: Annotated[bool, typer.Option("--pca", help="The plane in which A B C ..., a trajectory, vary most.")] = False,
    polygon: Annotated[
        bool, typer.Option("--polygon", help="All averages of A B C; of more, a surface with them at its corners.")
    ] = False,
    aligned: Annotated[bool, typer.Option("--aligned", help="Reorder the units of all to match A first.")] = False,
    data_root: DataRootOption = None,
    symmetry: SymmetryOption = None,
    resolution: Annotated[int, typer.Option("--resolution", metavar="N", min=3, help="Points along each axis.")] = 21,
    margin: Annotated[
        float, typer.Option("--margin", metavar="SHARE", min=0, help="How far to look beyond the networks.")
    ] = 0.2,
    split: SplitOption = "test",
    batchnorm: PointStatisticsOption = None,
    samples: SamplesOption = SAMPLES,
    out: OutOption = None,
    proving: VerifyOption = True,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
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
    with session(as_json=as_json, threads=threads, task=task) as screen:
        kind = _kind(models, random=random, pca=pca, polygon=polygon)
        source = Source(task, data_root, symmetry, proving, seed=seed)
        study = Study.of("onebasin plane", models, source, split, batchnorm, samples)
        options = {"kind": kind, "resolution": resolution, "margin": margin, "aligned": aligned}
        open_folder(out, study.settings | options | {"search": asdict(search)})
        sources: list[Network] = [str(path) for path in models]
        about = study.about
        if aligned and len(models) > 1:
            found = align(screen, models, source, search=search)
            sources[1:] = found.params
            about["symmetry"] = found.subject.proof
        job = Job(kind, study, sources, resolution, margin, out / JSON_FILE if out is not None else None)
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
    names, model, evaluation = list(job.study.paths), built(job.study.task), job.study.evaluation
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
        surface = random_plane(model, job.sources[0], seed=job.study.source.seed, name=names[0])
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
        with screen.during("drawing"):
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
    measures = ["loss", *(["error"] if grid.error else [])]
    drawn = "polygon" if kind == POLYGON else "plane"
    note = "Dots: where it was measured. Cross: the largest value." if kind == POLYGON else "White: the networks."
    pictures = []
    for measure in measures:
        file = out / f"{measure}.png"
        title = f"{measure.capitalize()}: {TITLES[kind]}"
        save_picture(drawn, grid, file, title=title, measure=measure)
        screen.wrote(file)
        pictures.append(Picture(drawn, grid, title, note, {"measure": measure}))
    page = Page(
        about["task"],
        tables=(network_table(grid),),
        settings=dict(about) | versions(),
        sentence=f"{TITLES[kind].capitalize()}: {about['networks']}",
        pictures=tuple(pictures),
    )
    save_page(page, out / PAGE_FILE)
    screen.wrote(out / PAGE_FILE)
