"""`onebasin complex`: which networks belong together at which loss, and what going around them does."""

import itertools
import math
from typing import Annotated

import typer

from onebasin import Matching, Status, match
from onebasin.cli.drawing import draw
from onebasin.cli.inputs import Source, Subject, check_folder, find_subject
from onebasin.cli.options import (
    TASK,
    DataRootOption,
    JsonOption,
    PointStatisticsOption,
    SeedOption,
    SplitOption,
    SymmetryOption,
    ThreadsOption,
    VerifyOption,
)
from onebasin.cli.screen import Screen, session
from onebasin.cli.simplex import (
    AscentsOption,
    BatchesOption,
    NetworksArgument,
    OutFolderOption,
    PointsDrawnOption,
    SearchEpochsOption,
    TauOption,
)
from onebasin.cli.simplexes import JOINT, Setting, find_joint, found_before, kept, measured, moved
from onebasin.connectivity import Filtration, Holonomy, Interval, triangles
from onebasin.errors import CheckpointError, OptionError
from onebasin.report import Picture
from onebasin.report.table import Table, loss_text, percent
from onebasin.tasks.protocol import check_split

Trips = dict[str, dict[str, float]]
_TRIANGLE = 3


def complex(  # noqa: A001 - commands are functions of their names
    networks: NetworksArgument,
    task: Annotated[str, TASK],
    largest: Annotated[
        int, typer.Option("--largest", metavar="N", min=2, help="Networks of the largest faces to measure and list.")
    ] = 4,
    samples: PointsDrawnOption = 64,
    ascents: AscentsOption = 16,
    tau: TauOption = 0.05,
    epochs: SearchEpochsOption = 5,
    batches: BatchesOption = None,
    split: SplitOption = "test",
    batchnorm: PointStatisticsOption = None,
    data_root: DataRootOption = None,
    symmetry: SymmetryOption = None,
    out: OutFolderOption = None,
    proving: VerifyOption = True,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find which of several networks form good simplexes.

    All networks are brought into common coordinates jointly. Every set of them then has a barrier; components and holes
    of the sets below a threshold are listed from where they begin to where they end. The holonomy of a triangle tells
    how many units a round trip by pairwise matchings leaves elsewhere, and what lies between before and after.

    \b
    Examples:
      onebasin complex a.pt b.pt c.pt d.pt --task my_task.py --out report
      onebasin complex runs/*.safetensors --task mnist --data-root data --batches 4 --largest 3

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted (with --out, what was finished is
    kept), 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json, threads=threads, task=task) as screen:
        check_split(split, "--split")
        check_folder("--out", out)
        source = Source(task, data_root, symmetry, proving, seed=seed)
        setting = Setting(networks, source, split, batches, batchnorm, samples, ascents, tau, epochs, out)
        setting.evaluation().data()  # fails now, and not after the search, where there is no data
        subject = find_subject(screen, source).require()
        found = find_joint(screen, setting, subject)
        profile = measured(screen, setting, JOINT, lambda: moved(setting, found), largest)
        filtration = Filtration.of(profile, largest)
        _finish(screen, setting, subject, filtration, _trips(screen, setting, subject))


def _trips(screen: Screen, setting: Setting, subject: Subject) -> Trips:
    """The holonomy of every triangle: the share of units moved, and the barrier of the round trip."""
    count = len(setting.paths)
    edges = itertools.combinations(range(count), 2) if count >= _TRIANGLE else ()
    found = triangles({(u, v): _pair(screen, setting, subject, u, v) for u, v in edges})
    return {
        " ".join(setting.names[k] for k in corners): _trip(screen, setting, corners, around)
        for corners, around in found.items()
    }


def _pair(screen: Screen, setting: Setting, subject: Subject, u: int, v: int) -> Matching:
    """What brings network v into the coordinates of network u, without a look at the others."""

    def search() -> tuple[Matching, ...]:
        stage = screen.stage(f"matching {setting.names[v]} to {setting.names[u]}")
        a, b = str(setting.paths[u]), str(setting.paths[v])
        found = match(a, b, subject.symmetry, seed=setting.source.seed, progress=stage)
        if found.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return (found,)

    return found_before(screen, setting, subject, f"pair-{u + 1}-{v + 1}", setting.settings(), search)[0]


def _trip(screen: Screen, setting: Setting, corners: tuple[int, ...], around: Holonomy) -> dict[str, float]:
    """The share of units that a round trip moves, and the barrier between the first network before and after it."""

    def measure() -> object:
        source, stage = str(setting.paths[corners[0]]), screen.stage("round trips")
        line = around.round_trip(setting.model, source, setting.evaluation(), progress=stage)
        if not line.complete:
            raise KeyboardInterrupt
        return {"moved": around.share, "barrier": line.loss_barrier()}

    name = "-".join(str(k + 1) for k in corners)
    result = kept(screen, setting, f"trip-{name}.json", setting.settings("split"), measure)
    if not isinstance(result, dict):
        raise CheckpointError(f"trip-{name}", expected="two figures", found=repr(result)[:60], remedy="remove the file")
    return result


def _finish(screen: Screen, setting: Setting, subject: Subject, filtration: Filtration, trips: Trips) -> None:
    try:
        intervals = filtration.persistence()
    except OptionError as error:
        intervals = ()
        screen.note(str(error))
    screen.close()
    screen.result({
        "settings": setting.settings("split", "samples", "ascents", "tau", "epochs"),
        "filtration": filtration.to_json(),
        "facets": [list(face) for face in filtration.facets(setting.tau)],
        "persistence": [row._asdict() for row in intervals],
        "triangles": trips,
        "verification": subject.to_json(),
    })  # fmt: skip
    if setting.out is not None:
        filtration.save(setting.out / "filtration.json")
        screen.wrote(setting.out / "filtration.json")
        title = f"{setting.task.name}, {setting.split} split: barriers of pairs, jointly permuted"
        chart = Picture("graph", filtration.to_json(), title)
        draw(screen, setting.out, title, {"graph": chart}, [], setting.settings("split", "samples", "ascents", "tau"))
    _show(screen, setting, filtration, intervals, trips)


def _show(
    screen: Screen, setting: Setting, filtration: Filtration, intervals: tuple[Interval, ...], trips: Trips
) -> None:
    names, tau = setting.names, setting.tau
    facets = " | ".join(" ".join(names[k] for k in face) for face in filtration.facets(tau))
    screen.line(f"Sets in which no average found loses more than {tau:g}: {facets}", "bold")
    screen.line()
    rows = sorted((row for row in filtration.barriers.items() if len(row[0]) > 1), key=lambda row: (row[1], row[0]))
    joined = {(a, b) for a, b, _ in filtration.tree()}
    shown = tuple((" ".join(names[k] for k in f), loss_text(x), "yes" if f in joined else "") for f, x in rows)
    title = f"{setting.task.name}, {setting.split} split: sets of networks, jointly permuted"
    screen.table(Table(title, ("networks", "barrier", "in the tree"), shown, frozenset({"barrier"})))
    kinds = ("component", "circle", "hollow")
    lasting = tuple(
        (kinds[row.dimension] if row.dimension < len(kinds) else f"dimension {row.dimension}",
         loss_text(row.birth), "never" if math.isinf(row.death) else loss_text(row.death))
        for row in intervals
    )  # fmt: skip
    screen.table(Table("Components and holes", ("kind", "begins", "ends"), lasting, frozenset({"begins", "ends"})))
    circles = tuple((name, percent(row["moved"]), loss_text(row["barrier"])) for name, row in trips.items())
    title = "Round trips by pairwise matchings (joint ones move nothing)"
    screen.table(Table(title, ("triangle", "units moved", "barrier"), circles, frozenset({"units moved", "barrier"})))
    for file in screen.written:
        screen.line(f"written: {file}")
