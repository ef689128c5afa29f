"""`onebasin band`: the lowest pass between networks, by elastic bands."""

from pathlib import Path
from typing import Annotated

import typer

from onebasin.checkpoint import Source as Network
from onebasin.cli.alignment import Aligned
from onebasin.cli.bundle import bundled, rows_of
from onebasin.cli.drawing import draw
from onebasin.cli.kept import unit
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.setting import Setting
from onebasin.cli.study import Study
from onebasin.connectivity import Band, BandSchedule, Tree, auto_neb, explore
from onebasin.connectivity.band import JSON_FILE
from onebasin.connectivity.measure import measure
from onebasin.connectivity.span import Span
from onebasin.json_file import write_json
from onebasin.report import ALIGNED, NAIVE, Picture, Table
from onebasin.report.table import loss_text

FORMAT = "onebasin-bands/1"
RESULT, TREE = "bands.json", "tree.json"


@bundled("setting", rows_of(Setting, split="train"), Setting)  # cycles are chosen by what is measured
@with_search_options
def band(
    networks: Annotated[list[Path], typer.Argument(metavar="A B [C ...]", help="Checkpoints of one architecture.")],
    setting: Setting,
    search: Search,
    naive: Annotated[bool, typer.Option("--naive", help="Leave the networks as they are.")] = False,
    bands: Annotated[
        int | None,
        typer.Option(
            "--bands", metavar="N", min=1, help="Pairs to connect; as many as networks if left out.", show_default=False
        ),
    ] = None,
    cycles: Annotated[int, typer.Option("--cycles", metavar="N", min=1, help="Rounds of relaxing a band.")] = 7,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Batches a cycle.")] = 200,
    rate: Annotated[float, typer.Option("--rate", metavar="X", help="The learning rate of the first cycles.")] = 0.1,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", min=2, help="Samples a step.")] = 512,
    pivots: Annotated[int, typer.Option("--pivots", metavar="N", min=1, help="Networks on a band at first.")] = 3,
    between: Annotated[
        int, typer.Option("--between", metavar="N", min=1, help="Points measured between two pivots.")
    ] = 9,
) -> None:
    """Find the lowest pass between networks with elastic bands.

    Bands are those of AutoNEB. The networks are reordered to match the first. Of more than two, pairs are connected
    until the budget is spent, each time where it may lower the tree of passes most. Everything is measured on training
    data unless --split says otherwise. In --out every pair has a folder with its pivots and profile.json, and tree.json
    is the tree.

    \b
    Examples:
      onebasin band a.safetensors b.safetensors --task my_task.py --out bands
      onebasin band a.pt b.pt c.pt d.pt --task cifar10 --data-root data --bands 6

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=setting.as_json, threads=setting.threads, task=setting.task) as screen:
        schedule = BandSchedule(cycles, steps, rate, pivots=pivots, between=between)
        wanted = NAIVE if naive else ALIGNED
        budget = bands or (len(networks) if len(networks) > 2 else 1)  # noqa: PLR2004 - two networks are one pair
        _run(screen, networks, setting, search, schedule, wanted, batch_size, budget)


def _run(
    screen: Screen,
    files: list[Path],
    setting: Setting,
    search: Search,
    schedule: BandSchedule,
    wanted: str,
    batch_size: int,
    budget: int,
) -> None:
    study = Study.open(files, setting)
    out = study.go_on("band", search, schedule, {"wanted": wanted, "batch_size": batch_size})
    ways, found = study.networks(screen, search, [wanted])
    places = dict(zip(study.names, ways[wanted], strict=True))
    bands: dict[tuple[str, str], Band] = {}

    def connect(a: str, b: str) -> float:
        bands[a, b] = _band(screen, study, (a, b), (places[a], places[b]), schedule, batch_size, out)
        return bands[a, b].saddle

    corners = [[float(i == j) for j in range(len(files))] for i in range(len(files))]
    ends = measure(Span(study.model, list(places.values())), corners, study.evaluation)
    losses = {name: row.loss for name, row in zip(places, ends, strict=True)}
    tree = explore(losses, connect, budget, progress=screen.stage("pairs"))
    _finish(screen, study, found, bands, tree, losses, out)


def _band(
    screen: Screen,
    study: Study,
    pair: tuple[str, str],
    ends: tuple[Network, Network],
    schedule: BandSchedule,
    batch_size: int,
    out: Path | None,
) -> Band:
    """The band that the folder of a pair holds, else a new one, which is kept there."""
    first, second = sorted(study.names.index(name) + 1 for name in pair)

    def relax() -> Band:
        return auto_neb(
            study.model,
            *ends,
            study.shuffled(batch_size),  # anew, so that a band is the same whatever was connected before
            study.task.evaluate,
            evaluation=study.evaluation,
            schedule=schedule,
            progress=screen.stage(f"{pair[0]} to {pair[1]}"),
        )

    return unit(screen, None if out is None else out / f"band_{first}_{second}", Band, relax, last=JSON_FILE)


def _finish(
    screen: Screen,
    study: Study,
    aligned: Aligned | None,
    bands: dict[tuple[str, str], Band],
    tree: Tree,
    losses: dict[str, float],
    out: Path | None,
) -> None:
    """Write and show what was found."""
    found: dict[str, object] = {"format": FORMAT, **study.describe(aligned), "losses": losses, "tree": tree.to_json()}
    found["bands"] = [
        {"a": a, "b": b, "saddle": band.saddle, "saddles": list(band.saddles), "profile": band.profile.to_json()}
        for (a, b), band in bands.items()
    ]
    if out is not None:
        write_json(out / RESULT, found)
        tree.save(out / TREE)
        screen.wrote(out / RESULT, out / TREE)
    table = _table(study, bands, tree, losses)
    shown = {f"{a} to {b}": band.profile.to_json() for (a, b), band in bands.items()}
    pictures = {"bands": Picture("profiles", {"profiles": shown}, f"{study.title}: loss on bands")} if shown else {}
    if len(tree.names) > 2:  # noqa: PLR2004 - a tree of two is a band
        pictures["tree"] = Picture("graph", tree, f"{study.title}: lowest passes", options={})
    draw(screen, out, f"{study.task.name}: passes between networks", pictures, [table], study.about)
    screen.close()
    screen.result(found)
    if aligned is not None:
        screen.line(aligned.subject.proof)
    screen.table(table)
    if not tree.complete:
        screen.refuse(f"interrupted after {len(bands)} pairs")
    for file in screen.written:
        screen.line(f"written: {file}")


def _table(study: Study, bands: dict[tuple[str, str], Band], tree: Tree, losses: dict[str, float]) -> Table:
    """A row a pair: the worse of its ends, the highest on the line, on the band, and on the best way by others."""
    columns = ("from", "to", "ends", "line", "band", "others", "length")
    rows = []
    for (a, b), found in bands.items():
        heights = (max(losses[a], losses[b]), found.saddles[0], found.saddle, tree.saddle(a, b))
        rows.append((a, b, *map(loss_text, heights), f"{found.profile.length:.4g}"))
    return Table(f"Highest loss, {study.title}", columns, tuple(rows), frozenset(columns[2:]))
