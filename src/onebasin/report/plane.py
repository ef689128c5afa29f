"""The map of a plane: loss or error as colours, lines of equal height, networks and paths."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from onebasin.report.chart import Row
from onebasin.report.surface import (
    TITLES,
    Values,
    colours,
    finite,
    grid_triangles,
    isolines,
    levels,
    logarithmic,
    measured,
    placed,
)
from onebasin.report.table import loss_text

if TYPE_CHECKING:
    import altair as alt

SIDE = 420
"""Pixels of the longer side."""
LEAST = 220
AXES = {
    "networks": ("distance along the line from the first network to the second", "distance from that line"),
    "random": ("first random direction", "second random direction"),
    "trajectory": ("first principal axis", "second principal axis"),
}


def plane_chart(data: dict[str, Any], measure: str = "loss") -> "alt.LayerChart":
    """Draw a grid of a plane.

    Args:
        data: a `PlaneGrid`, as JSON; `paths`, where there are any, are lists of points `[x, y]` by name.
        measure: `"loss"` or `"error"`.

    Returns:
        A chart without colours of its own, both axes in the same units where neither is much shorter.

    Raises:
        OptionError: if the measure is missing.
    """
    # Slow to import, and only reports draw.
    import altair as alt

    values = measured(data, measure)
    xs, ys = data["xs"], data["ys"][: len(values)]
    left, right, low, high = _frame(data["xs"], data["ys"])
    across = right - left
    width, height = float(SIDE), float(SIDE)
    if data["kind"] != "random":
        larger = max(across, high - low)
        width, height = (max(LEAST, SIDE * side / larger) for side in (across, high - low))
    titles = [_axis(data, axis) for axis in (0, 1)]
    x = alt.X("x:Q", title=titles[0], scale=alt.Scale(domain=[left, right], nice=False))
    y = alt.Y("y:Q", title=titles[1], scale=alt.Scale(domain=[low, high], nice=False))
    tiles = alt.Chart({"values": list(_tiles(xs, ys, values))}).mark_rect(clip=True)
    tooltip = [
        alt.Tooltip("value:Q", title=TITLES[measure], format=".4~g"),
        alt.Tooltip("cx:Q", title="x", format=".3~g"),
        alt.Tooltip("cy:Q", title="y", format=".3~g"),
    ]
    scale, legend = colours(values, measure)
    colour = alt.Color("value:Q", scale=scale, legend=legend)
    corners, heights = grid_triangles(xs, ys, np.log(values) if logarithmic(values, measure) else values)
    wanted = levels(values, measure)
    lines = list(isolines(corners, heights, np.log(wanted).tolist() if logarithmic(values, measure) else wanted))
    layers = [
        tiles.encode(x=x, x2="x2:Q", y=y, y2="y2:Q", color=colour, tooltip=tooltip),
        alt.Chart({"values": lines}).mark_rule(color="white", opacity=0.55, strokeWidth=1).encode(
            x=x, x2="x2:Q", y=y, y2="y2:Q"),
        *_tracks(data, x, y),
        *_networks(data, x, y, lambda m: (width * (m["x"] - left) / across, height * (high - m["y"]) / (high - low))),
    ]  # fmt: skip
    chart: alt.LayerChart = alt.LayerChart(layer=layers, width=width, height=height)
    return chart


def _frame(xs: list[float], ys: list[float]) -> tuple[float, float, float, float]:
    """The ends of the picture: half a cell beyond the grid's points."""
    dx, dy = (xs[1] - xs[0]) / 2, (ys[1] - ys[0]) / 2
    return xs[0] - dx, xs[-1] + dx, ys[0] - dy, ys[-1] + dy


def _axis(data: dict[str, Any], axis: int) -> str:
    shares = data.get("explained") or ()
    return AXES[data["kind"]][axis] + (f" ({100 * shares[axis]:.0f} % of variance)" if shares else "")


def _tiles(xs: list[float], ys: list[float], values: Values) -> Iterator[Row]:
    dx, dy = (xs[1] - xs[0]) / 2, ((ys[1] - ys[0]) if len(ys) > 1 else xs[1] - xs[0]) / 2
    for y, row in zip(ys, values.tolist(), strict=True):
        for x, value in zip(xs, row, strict=True):
            if finite(value):
                # A little too large, for else the background shines through between two of them.
                yield {"x": x - dx, "x2": x + 1.05 * dx, "y": y - dy, "y2": y + 1.05 * dy, "cx": x, "cy": y,
                       "value": value}  # fmt: skip


def _tracks(data: dict[str, Any], x: "alt.X", y: "alt.Y") -> "list[alt.Chart]":
    """Paths, and for a trajectory the line through its networks."""
    # Slow to import, and only reports draw.
    import altair as alt

    tracks = dict(data.get("paths") or {})
    if data["kind"] == "trajectory":
        tracks["trajectory"] = [[mark["x"], mark["y"]] for mark in data["marks"]]
    rows = [
        {"path": name, "x": px, "y": py, "step": step}
        for name, points in tracks.items()
        for step, (px, py) in enumerate(points)
    ]
    line = alt.Chart({"values": rows})
    return [
        line.mark_line(color=colour, strokeWidth=thick).encode(x=x, y=y, detail="path:N", order="step:Q")
        for colour, thick in ((("#1f2328", 3.5), ("white", 1.75)) if rows else ())
    ]


def _networks(data: dict[str, Any], x: "alt.X", y: "alt.Y", pixels: Any) -> "list[alt.Chart]":  # noqa: ANN401 - a function of a mark
    # Slow to import, and only reports draw.
    import altair as alt

    marks = data["marks"]
    order = sorted(range(len(marks)), key=lambda k: (k not in (0, len(marks) - 1), k))  # the ends' names come first
    points = [pixels(marks[k]) for k in order]
    places = dict(zip(order, placed(points, [marks[k]["name"] for k in order]), strict=True))
    rows = [
        {
            "name": mark["name"],
            "x": mark["x"],
            "y": mark["y"],
            "own": "not measured" if mark.get("loss") is None else loss_text(mark["loss"]),
            "away": mark.get("away", 0.0),
        }
        for mark in marks
    ]
    dots = alt.Chart({"values": rows}).mark_point(filled=True, size=70, fill="white", stroke="#1f2328", opacity=1)
    tooltip = [
        alt.Tooltip("name:N", title="network"),
        alt.Tooltip("own:N", title="its loss"),
        alt.Tooltip("away:Q", title="away from the plane", format=".3~g"),
    ]
    named = []
    for k, place in places.items():
        if place is not None:
            px, py = pixels(marks[k])
            text = alt.Chart({"values": [rows[k]]})
            at = {"dx": place[0] - px, "dy": place[1] - py, "align": "center"}
            named += [
                text.mark_text(style=style, **at).encode(x=x, y=y, text="name:N")
                for style in (["name", "halo"], ["name"])
            ]
    return [dots.encode(x=x, y=y, tooltip=tooltip), *named]
