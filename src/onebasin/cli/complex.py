"""`onebasin complex`: which networks belong together at which loss, and what going around them does."""

import itertools
import math
from pathlib import Path
from typing import Annotated

import typer

from onebasin import Matching, PathProfile, Status, match
from onebasin.cli.drawing import draw
from onebasin.cli.inputs import Subject, find_subject
from onebasin.cli.kept import unit
from onebasin.cli.screen import Screen, session
from onebasin.cli.setting import Setting, with_setting
from onebasin.cli.simplexes import JOINT, Look, Simplexes, with_look
from onebasin.cli.study import Study
from onebasin.connectivity import Filtration, Holonomy, Interval, triangles
from onebasin.errors import OptionError
from onebasin.report import Picture
from onebasin.report.table import Table, loss_text, percent

Trips = dict[str, dict[str, float]]
_TRIANGLE = 3


@with_setting
@with_look
def complex(  # noqa: A001 - commands are functions of their names
    networks: Annotated[
        list[Path], typer.Argument(metavar="A B ...", help="Checkpoints of one architecture, two or more.")
    ],
    setting: Setting,
    look: Look,
    largest: Annotated[
        int, typer.Option("--largest", metavar="N", min=2, help="Networks of the largest faces to measure and list.")
    ] = 4,
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
    with session(as_json=setting.as_json, threads=setting.threads, task=setting.task) as screen:
        study = Study.open(networks, setting, batches=look.batches)
        out = study.go_on("complex", look, {"largest": largest})
        subject = find_subject(screen, study.source).require()
        simplexes = Simplexes(study, look, subject, out)
        profile = simplexes.measured(screen, JOINT, simplexes.joint(screen, subject), largest)
        filtration = Filtration.of(profile, largest)
        _finish(screen, simplexes, subject, filtration, _trips(screen, simplexes, subject))


def _trips(screen: Screen, simplexes: Simplexes, subject: Subject) -> Trips:
    """The holonomy of every triangle: the share of units moved, and the barrier of the round trip."""
    names = simplexes.study.names
    edges = itertools.combinations(range(len(names)), 2) if len(names) >= _TRIANGLE else ()
    found = triangles({(u, v): _pair(screen, simplexes, subject, u, v) for u, v in edges})
    return {
        " ".join(names[k] for k in corners): _trip(screen, simplexes, corners, around)
        for corners, around in found.items()
    }


def _pair(screen: Screen, simplexes: Simplexes, subject: Subject, u: int, v: int) -> Matching:
    """What brings network v into the coordinates of network u, without a look at the others."""
    study = simplexes.study

    def search() -> tuple[Matching, ...]:
        stage = screen.stage(f"matching {study.names[v]} to {study.names[u]}")
        found = match(study.sources[u], study.sources[v], subject.symmetry, seed=study.setting.seed, progress=stage)
        if found.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return (found,)

    return simplexes.kept(screen, f"pair-{u + 1}-{v + 1}", search)[0]


def _trip(screen: Screen, simplexes: Simplexes, corners: tuple[int, ...], around: Holonomy) -> dict[str, float]:
    """The share of units that a round trip moves, and the barrier between the first network before and after it."""
    study, name = simplexes.study, "-".join(str(k + 1) for k in corners)

    def go() -> PathProfile:
        source, stage = study.sources[corners[0]], screen.stage("round trips")
        return around.round_trip(study.model, source, study.evaluation, progress=stage)

    line = unit(screen, None if simplexes.out is None else simplexes.out / f"trip-{name}.json", PathProfile, go)
    return {"moved": around.share, "barrier": line.loss_barrier()}


def _finish(screen: Screen, simplexes: Simplexes, subject: Subject, filtration: Filtration, trips: Trips) -> None:
    study, tau, out = simplexes.study, simplexes.look.tau, simplexes.out
    try:
        intervals = filtration.persistence()
    except OptionError as error:
        intervals = ()
        screen.note(str(error))
    screen.close()
    screen.result({
        "settings": study.about,
        "filtration": filtration.to_json(),
        "facets": [list(face) for face in filtration.facets(tau)],
        "persistence": [row._asdict() for row in intervals],
        "triangles": trips,
        "verification": subject.to_json(),
    })  # fmt: skip
    if out is not None:
        filtration.save(out / "filtration.json")
        screen.wrote(out / "filtration.json")
        title = f"{study.title}: barriers of pairs, jointly permuted"
        draw(screen, out, title, {"graph": Picture("graph", filtration.to_json(), title)}, [], study.about)
    _show(screen, study, tau, filtration, intervals, trips)


def _show(
    screen: Screen, study: Study, tau: float, filtration: Filtration, intervals: tuple[Interval, ...], trips: Trips
) -> None:
    names = study.names
    facets = " | ".join(" ".join(names[k] for k in face) for face in filtration.facets(tau))
    screen.line(f"Sets in which no average found loses more than {tau:g}: {facets}", "bold")
    screen.line()
    rows = sorted((row for row in filtration.barriers.items() if len(row[0]) > 1), key=lambda row: (row[1], row[0]))
    joined = {(a, b) for a, b, _ in filtration.tree()}
    shown = tuple((" ".join(names[k] for k in f), loss_text(x), "yes" if f in joined else "") for f, x in rows)
    title = f"{study.title}: sets of networks, jointly permuted"
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
