"""The tables of symmetries, matchings, networks and paths."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_lowercase

import numpy as np

from onebasin.connectivity import PathProfile
from onebasin.connectivity.path import BASELINES
from onebasin.correction import ClassAccuracies
from onebasin.layout import AxisGroup
from onebasin.report.paths import Paths
from onebasin.report.table import Table, listed, loss_text, percent, points
from onebasin.symmetry import AxisRef, Matching, Symmetry

Networks = Mapping[str, Mapping[str, float]]
"""Averages of a task (`loss`, `correct` where counted, `count`) by the name of a network."""


def symmetry_table(symmetry: Symmetry, most: int = 4) -> Table:
    """Every axis group: its size, the groups it is nested in, and the axes it is made of, `most` of them named."""
    axes = axes_of(symmetry)
    rows = [
        (*_shape(group), ("stays in place: " if group.fixed else "") + listed(axes[group.name], most))
        for group in symmetry.groups.values()
    ]
    return _group_table("Groups that move together", "made of", rows)


def _shape(group: AxisGroup) -> tuple[str, str, str]:
    """Name, size and the groups around, nearest first."""
    return group.name, f"{group.size:,}", " in ".join(reversed(group.inside))


def _group_table(title: str, last: str, rows: Sequence[tuple[str, str, str, str]]) -> Table:
    """A row a group; where no group is nested there is no column for it."""
    nested = any(inside for _, _, inside, _ in rows)
    columns = ("group", "size", *(("inside",) if nested else ()), last)
    shown = tuple((name, size, *((inside,) if nested else ()), text) for name, size, inside, text in rows)
    return Table(title, columns, shown, frozenset({"size", "moved"}))


def axes_of(symmetry: Symmetry) -> dict[str, list[str]]:
    """The axes that hold each group, as `tensor:axis`, with the layout where the axis holds more than the group."""
    found: dict[str, list[str]] = {name: [] for name in symmetry.groups}
    for tensor, layouts in symmetry.layouts.items():
        for axis, layout in enumerate(layouts):
            for name in layout.groups:
                text = str(AxisRef(tensor, axis))
                found[name].append(text if str(layout) == name else f"{text} ({layout})")
    return found


def pin_table(symmetry: Symmetry, most: int = 3) -> Table:
    """Why axes are held in place: one row a reason, with the axes and the operations that demand it."""
    axes: dict[str, list[str]] = {}
    for ref, why in symmetry.pins.items():
        axes.setdefault(_reason(why), []).append(str(ref))
    rows = [(reason, f"{len(refs):,}", listed(refs, most)) for reason, refs in axes.items()]
    return Table("Held in place", ("because", "axes", "which"), tuple(rows), frozenset({"axes"}))


def _reason(why: str) -> str:
    """A reason without the place it arose at, `positions under a kernel: convolution in conv1 (models.py:91)`.

    Operations are kept where they are the reason.
    """
    reason, colon, place = why.partition(": ")
    operation = re.match(r"\S+", place)
    told = ("rule", "order matters")
    return f"{reason}: {operation[0]}" if colon and operation and reason.endswith(told) else reason


def matching_table(matching: Matching) -> Table:
    """For every group the share of its members that moved."""
    shares = moved_shares(matching)
    rows = [(*_shape(group), percent(shares[name])) for name, group in matching.symmetry.groups.items()]
    return _group_table("Reordering", "moved", rows)


def trial_table(matching: Matching) -> Table:
    """What was tried, where the best of several searches was kept."""
    rows = [
        (trial.name, f"{trial.objective:,.6g}", str(trial.sweeps), "kept" if trial.objective == best else "")
        for best in [max((trial.objective for trial in matching.tried), default=0.0)]
        for trial in (matching.tried if len(matching.tried) > 1 else ())
    ]
    return Table("Tried", ("from", "objective", "sweeps", ""), tuple(rows), frozenset({"objective", "sweeps"}))


def moved_shares(matching: Matching) -> dict[str, float]:
    """For every group the share, 0 to 1, of its members that are taken from another position."""
    return {
        name: float(np.mean(matching.permutations[name].index != np.arange(group.size)))
        for name, group in matching.symmetry.groups.items()
    }


def network_table(title: str, networks: Networks) -> Table:
    """Accuracy, where the task counts correct answers, and loss of every network."""
    counted = all("correct" in sums for sums in networks.values())
    columns = ("network", "accuracy", "loss") if counted else ("network", "loss")
    rows = [
        (name, *((percent(sums["correct"]),) if counted else ()), loss_text(sums["loss"]))
        for name, sums in networks.items()
    ]
    return Table(title, columns, tuple(rows), frozenset({"accuracy", "loss"}))


def class_table(title: str, classes: ClassAccuracies, parents: Sequence[str]) -> Table:
    """Accuracy class by class: of the parents, by letters, of the last network measured, and what that one lost.

    Args:
        title: of the table.
        classes: what was measured.
        parents: labels of the networks that the last one was made of.
    """
    last = list(classes.accuracies)[-1]
    letters = [ascii_lowercase[k] if k < len(ascii_lowercase) else str(k + 1) for k in range(len(parents))]
    columns = ("class", "samples", *letters, "merged", "lost to the best")
    shown = [classes.accuracies[label] for label in (*parents, last)]
    lost = classes.lost(last, parents)
    rows = [
        (
            str(number),
            str(count),
            *("-" if math.isnan(row[number]) else percent(row[number]) for row in shown),
            "-" if math.isnan(lost[number]) else points(lost[number]),
        )
        for number, count in enumerate(classes.counts)
    ]
    return Table(title, columns, tuple(rows), frozenset(columns[1:]))


BARRIERS = {"linear": "above the line", "mean": "above the mean", "worst": "above the worse"}
"""What each definition of a barrier measures from: the line between the ends, their mean, the worse of them."""


def barrier_table(paths: Paths) -> Table:
    """Barriers of loss and error under each of the three definitions, for every complete path."""
    rows = [row for name, profile in paths.profiles.items() if profile.complete for row in _barriers(name, profile)]
    columns = ("path", "measure", *(f"{baseline}: {BARRIERS[baseline]}" for baseline in BASELINES))
    return Table("Barriers: how far a path rises", columns, tuple(rows), frozenset(columns[2:]))


def _barriers(name: str, profile: PathProfile) -> Iterator[tuple[str, ...]]:
    if profile.error:
        yield name, "error (points)", *(points(profile.error_barrier(baseline)) for baseline in BASELINES)
    yield name, "loss", *(loss_text(profile.loss_barrier(baseline)) for baseline in BASELINES)
