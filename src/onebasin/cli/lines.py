"""Measure lines between two networks, show them and write them down."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from onebasin import Evaluation, Matching, PathProfile, Symmetry, profile_path
from onebasin.checkpoint import Source as Network
from onebasin.cli.inputs import make_folder
from onebasin.cli.screen import Screen, sparkline
from onebasin.report import (
    Page,
    Paths,
    Table,
    barrier_table,
    headline,
    matching_table,
    path_chart,
    pin_table,
    save_chart,
    save_page,
    symmetry_table,
)
from onebasin.report.chart import measures
from onebasin.report.table import loss_text, percent

JSON_FILE, CHART_FILE, PAGE_FILE = "path.json", "path.png", "report.html"


@dataclass(frozen=True)
class Measurement:
    """How a line is measured.

    Attributes:
        model: that runs the networks.
        evaluation: the loss and the data.
        points: how many, ends included.
        refine: so many points more around the highest.
    """

    model: nn.Module
    evaluation: Evaluation
    points: int
    refine: int = 0


def measure_lines(
    screen: Screen, measurement: Measurement, a: Network, others: Mapping[str, Network]
) -> dict[str, PathProfile]:
    """Measure the lines from one network to others; after an interrupted line there is no further one.

    Args:
        screen: shows progress.
        measurement: how to measure.
        a: where every line begins.
        others: where the lines end, by name.
    """
    profiles: dict[str, PathProfile] = {}
    for name, b in others.items():
        profiles[name] = profile_path(
            measurement.model,
            a,
            b,
            measurement.evaluation,
            lams=measurement.points,
            refine=measurement.refine,
            progress=screen.stage(f"{name} path"),
        )
        if not profiles[name].complete:
            break
    return profiles


def show_lines(screen: Screen, paths: Paths) -> None:
    """A sentence, the lines as small pictures, and their barriers."""
    screen.line(headline(paths), "bold")
    screen.line()
    rows = []
    for name, profile in paths.profiles.items():
        for measure in measures(paths):
            tops = [max(getattr(other, measure)) for other in paths.profiles.values()]
            values: tuple[float, ...] = getattr(profile, measure)
            text = percent if measure == "error" else loss_text
            picture = sparkline(_thinned(values), max(tops))
            rows.append((name, measure, text(values[0]), picture, text(values[-1]), text(max(values))))
    columns = ("path", "measure", "at a", "from a to b", "at b", "highest")
    numeric = frozenset({"at a", "at b", "highest"})
    screen.table(Table(f"{paths.task}, {paths.split} split", columns, tuple(rows), numeric))
    screen.table(barrier_table(paths))


def _thinned(values: tuple[float, ...], most: int = 25) -> tuple[float, ...]:
    """At most so many of the values, evenly spread, so that a row fits a terminal."""
    if len(values) <= most:
        return values
    return tuple(values[round(step * (len(values) - 1) / (most - 1))] for step in range(most))


@dataclass(frozen=True)
class Report:
    """What goes to the folder of a report beside the paths.

    Attributes:
        title: of the page.
        tables: to show before the symmetry.
        symmetry: of the networks, where one was needed.
        matching: between them, where one was needed.
        settings: of the page, by name.
    """

    title: str
    tables: tuple[Table, ...]
    symmetry: Symmetry | None
    matching: Matching | None
    settings: Mapping[str, str]


def write_lines(screen: Screen, folder: Path, paths: Paths, report: Report) -> None:
    """Write the paths as JSON and, where they are complete, as a chart and a page.

    Raises:
        CheckpointError: the folder or a file cannot be written.
    """
    make_folder(folder)
    paths.save(folder / JSON_FILE)
    screen.wrote(folder / JSON_FILE)
    if not paths.complete:
        return
    with screen.during("drawing"):
        save_chart(path_chart(paths), folder / CHART_FILE)
        screen.wrote(folder / CHART_FILE)
        tables = [*report.tables, barrier_table(paths)]
        if report.matching is not None:
            tables.append(matching_table(report.matching))
        if report.symmetry is not None:
            tables += [symmetry_table(report.symmetry), pin_table(report.symmetry)]
        save_page(Page(report.title, paths, tuple(tables), report.settings, report.symmetry), folder / PAGE_FILE)
        screen.wrote(folder / PAGE_FILE)
