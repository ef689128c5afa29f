"""The map of all averages of three networks, a triangle, or of a surface through those of more, a polygon."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onebasin.connectivity.polygon import polygon_corners
from onebasin.report.chart import Row
from onebasin.report.surface import (
    TITLES,
    Values,
    beside,
    colours,
    finite,
    isolines,
    levels,
    logarithmic,
    measured,
    outline,
    polygon_triangles,
)

if TYPE_CHECKING:
    import altair as alt

SIDE = 420
REACH = 1.28
"""Half of what is drawn, in units of the distance of a corner from the middle: room for names."""


def polygon_chart(data: dict[str, Any], measure: str = "loss") -> "alt.LayerChart":
    """Draw what was measured at weighted averages: each lies where the corners, weighted like the networks, lie.

    Between the points measured colours are interpolated: linearly where the points are those of a `PolygonGrid`, else
    by distance. Dots show where it was measured. With more than three networks different averages can lie in one place.

    Args:
        data: `vertices` or `names`, a name a network; `weights`, a row a point; `loss`, `error`, one number a point;
            `worst`, the weights of the worst point found: the largest value where it is missing.
        measure: `"loss"` or `"error"`.

    Returns:
        A chart without colours of its own.

    Raises:
        OptionError: if the measure is missing.
    """
    # Slow to import, and only reports draw.
    import altair as alt

    values = measured(data, measure)
    names = list(data.get("vertices") or data["names"])
    weights = np.array(data["weights"], dtype=np.float64)[: len(values)]
    corners = polygon_corners(len(names))
    points = weights @ corners
    known = np.isfinite(values)
    log = logarithmic(values, measure)
    tiles, heights = polygon_triangles(len(names), points[known], np.log(values[known]) if log else values[known])
    wanted = levels(values, measure)
    lines = list(isolines(tiles, heights, np.log(wanted).tolist() if log else wanted))
    x = alt.X("x:Q", scale=alt.Scale(domain=[-REACH, REACH], nice=False), axis=None)
    low, high = float(corners[:, 1].min()) - REACH + 1, REACH
    y = alt.Y("y:Q", scale=alt.Scale(domain=[low, high], nice=False), axis=None)
    scale, legend = colours(values, measure)
    colour = alt.Color("value:Q", scale=scale, legend=legend)
    chart = alt.Chart({"values": list(_tiles(tiles, np.exp(heights) if log else heights))})
    layers = [
        chart.mark_line(interpolate="linear-closed", filled=True, strokeWidth=0).encode(
            x=x, y=y, detail="tile:N", order="corner:Q", color=colour),
        alt.Chart({"values": lines}).mark_rule(color="white", opacity=0.55, strokeWidth=1).encode(
            x=x, x2="x2:Q", y=y, y2="y2:Q"),
        alt.Chart({"values": outline(len(names))}).mark_line(style="edge").encode(x=x, y=y, order="step:Q"),
        *_samples(points, weights, values, names, measure, x, y),
        *_corners(names, corners, x, y),
        *_worst(data, points, values, corners, x, y),
    ]  # fmt: skip
    found: alt.LayerChart = alt.LayerChart(layer=layers, width=SIDE, height=SIDE * (high - low) / (2 * REACH))
    return found


def _tiles(tiles: Values, heights: Values) -> Iterator[Row]:
    """Triangles a little too large, for else the background shines through between two of them."""
    middles = tiles.mean(axis=1, keepdims=True)
    tiles = middles + 1.06 * (tiles - middles)
    for number, (corners, value) in enumerate(zip(tiles.tolist(), heights.mean(axis=1).tolist(), strict=True)):
        for corner, (x, y) in enumerate(corners):
            yield {"tile": number, "corner": corner, "x": round(x, 4), "y": round(y, 4), "value": value}


def _samples(
    points: Values,
    weights: Values,
    values: Values,
    names: Sequence[str],
    measure: str,
    x: "alt.X",
    y: "alt.Y",
) -> "list[alt.Chart]":
    """Where it was measured: dots, and larger ones that are not seen but can be pointed at."""
    # Slow to import, and only reports draw.
    import altair as alt

    rows = [
        {
            "x": px,
            "y": py,
            "value": value,
            "of": ", ".join(f"{share:.2f} {name}" for name, share in zip(names, row, strict=True) if share > 0),
        }
        for (px, py), row, value in zip(points.tolist(), weights.tolist(), values.tolist(), strict=True)
        if finite(value)
    ]
    tooltip = [alt.Tooltip("value:Q", title=TITLES[measure], format=".4~g"), alt.Tooltip("of:N", title="average")]
    base = alt.Chart({"values": rows})
    dots = base.mark_point(filled=True, size=7, color="#1f2328", opacity=0.45).encode(x=x, y=y)
    return [dots, base.mark_point(size=160, opacity=0).encode(x=x, y=y, tooltip=tooltip)]


def _worst(
    data: dict[str, Any], points: Values, values: Values, corners: Values, x: "alt.X", y: "alt.Y"
) -> "list[alt.Chart]":
    """A cross at the worst point."""
    # Slow to import, and only reports draw.
    import altair as alt

    given = data.get("worst")
    place = np.array(given, dtype=np.float64) @ corners if given else points[int(np.nanargmax(values))]
    cross = alt.Chart({"values": [{"x": float(place[0]), "y": float(place[1]), "name": "worst point"}]})
    return [
        cross.mark_point(shape="cross", filled=True, angle=45, size=size, color=colour, opacity=1).encode(
            x=x, y=y, tooltip=alt.Tooltip("name:N", title="marked")
        )
        for size, colour in ((240, "#1f2328"), (90, "#ffffff"))
    ]


def _corners(names: Sequence[str], corners: Values, x: "alt.X", y: "alt.Y") -> "list[alt.Chart]":
    """The networks, named outside of the polygon."""
    # Slow to import, and only reports draw.
    import altair as alt

    rows = [{"name": n, "x": cx, "y": cy} for n, (cx, cy) in zip(names, corners.tolist(), strict=True)]
    dots = alt.Chart({"values": rows}).mark_point(filled=True, size=80, fill="white", stroke="#1f2328", opacity=1)
    named = []
    for row, (cx, cy) in zip(rows, corners.tolist(), strict=True):
        text = alt.Chart({"values": [row]}).mark_text(style="name", align=beside(cx), dx=11 * cx, dy=-16 * cy)
        named.append(text.encode(x=x, y=y, text="name:N"))
    return [dots.encode(x=x, y=y), *named]
