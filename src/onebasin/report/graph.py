"""The picture of a symmetry: its groups in the order the data flows, joined where they meet in a tensor."""

from collections.abc import Iterator
from itertools import combinations
from math import cos, log10, pi, prod, sin
from typing import TYPE_CHECKING

from onebasin.report.chart import Row, config
from onebasin.symmetry import Symmetry

if TYPE_CHECKING:
    import altair as alt

ROW = 22
"""Pixels from one group to the next."""
_STEPS = 24
"""Points on an arc."""
_NAMED = 6
"""Tensors that a tooltip names; more are counted."""


def group_chart(symmetry: Symmetry) -> "alt.LayerChart":
    """One dot a group from top to bottom, as wide as it is large, and an arc for every two that share a tensor.

    Args:
        symmetry: with at least one group.

    Returns:
        A chart without colours of its own; nested groups are set in, groups that cannot move are hollow.
    """
    # Slow to import, and only reports draw.
    import altair as alt

    nodes, arcs = list(_nodes(symmetry)), list(_arcs(symmetry))
    count = len(nodes)
    y = alt.Scale(domain=[count - 0.5, -0.5], nice=False)
    reach = max([1.0, *(float(str(row["span"])) for row in arcs)]) / 2
    x = alt.Scale(domain=[-reach, reach], nice=False)
    dots = alt.Chart({"values": nodes})
    curves = (
        alt.Chart({"values": arcs})
        .mark_line(opacity=0.45, strokeWidth=1.5)
        .encode(
            x=alt.X("x:Q", scale=x, axis=None),
            y=alt.Y("y:Q", scale=y, axis=None),
            detail="arc:N",
            order="step:Q",
            tooltip=[alt.Tooltip("arc:N", title="groups"), alt.Tooltip("tensors:N", title="share")],
        )
    )
    points = dots.mark_point(opacity=1, strokeWidth=1.5).encode(
        x=alt.X("x:Q", scale=x),
        y=alt.Y("y:Q", scale=y),
        size=alt.Size("area:Q", scale=None),
        fill=alt.when("datum.fixed").then(alt.value("transparent")).otherwise(alt.value("#0072b2")),
        tooltip=[alt.Tooltip("group:N"), alt.Tooltip("size:Q"), alt.Tooltip("inside:N", title="nested in")],
    )
    names = dots.mark_text(align="left", dx=14, style="name").encode(
        x=alt.X("indent:Q", scale=x), y=alt.Y("y:Q", scale=y), text="label:N"
    )
    chart: alt.LayerChart = alt.LayerChart(layer=[curves, points, names], height=ROW * max(2, count))
    return chart


def saved_group_chart(symmetry: Symmetry) -> "alt.LayerChart":
    """The chart with a width and the colours for light backgrounds, as it is written to a file."""
    return group_chart(symmetry).properties(
        width=640,
        title=f"{len(symmetry.groups)} groups in the order the data flows, ln(reorderings) {symmetry.log_order:,.1f}",
        config=config("light"),
        padding=10,
    )


def _nodes(symmetry: Symmetry) -> Iterator[Row]:
    for number, group in enumerate(symmetry.groups.values()):
        copies = prod(symmetry.context_sizes(group))
        many = f"{copies} x " if copies > 1 else ""
        yield {
            "group": group.name,
            "size": group.size,
            "inside": ", ".join(group.inside) or "none",
            "fixed": group.fixed,
            "area": 40 + 60 * log10(group.size),
            "x": 0,
            "y": number,
            "indent": 0,
            "label": "\N{NO-BREAK SPACE}" * 4 * len(group.inside)
            + f"{group.name} \N{MIDDLE DOT} {many}{group.size}"
            + (" (fixed)" if group.fixed else ""),
        }


def _arcs(symmetry: Symmetry) -> Iterator[Row]:
    """Half ellipses to the left, from the upper of two groups to the lower."""
    place = {name: number for number, name in enumerate(symmetry.groups)}
    shared: dict[tuple[str, str], list[str]] = {}
    for tensor, layouts in symmetry.layouts.items():
        for one, other in combinations([layout.groups for layout in layouts], 2):
            for pair in {(a, b) if place[a] < place[b] else (b, a) for a in one for b in other if a != b}:
                shared.setdefault(pair, []).append(tensor)
    for (upper, lower), tensors in shared.items():
        top, bottom = place[upper], place[lower]
        more = f" and {len(tensors) - _NAMED} more" if len(tensors) > _NAMED else ""
        for step in range(_STEPS + 1):
            angle = pi * step / _STEPS
            yield {
                "arc": f"{upper} and {lower}",
                "tensors": ", ".join(tensors[:_NAMED]) + more,
                "span": bottom - top,
                "step": step,
                "x": -sin(angle) * (bottom - top) / 2,
                "y": (top + bottom) / 2 - cos(angle) * (bottom - top) / 2,
            }
