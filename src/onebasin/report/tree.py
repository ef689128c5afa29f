"""Networks and the barriers between them: a graph with its spanning tree, and a matrix in the order of the tree."""

from collections.abc import Iterable, Mapping, Sequence
from math import cos, dist, pi, sin
from typing import TYPE_CHECKING, Any

from onebasin.report.chart import Row
from onebasin.report.surface import CHARACTER, SCHEME, beside, finite
from onebasin.report.table import loss_text

if TYPE_CHECKING:
    import altair as alt

SIDE = 420
"""Pixels of a graph."""
RADIUS = 1.0
REACH = 1.3
"""Half of what is drawn of a graph, in radii: room for names."""
CELL = 56
"""Pixels of a cell of a matrix with a number in it."""
_NAMED = 16
"""Networks up to which cells hold numbers."""

Edge = tuple[str, str, float]


def graph_edges(data: Mapping[str, Any]) -> tuple[list[str], list[Edge], list[Edge]]:
    """Names, the edges of a tree over them, and all edges known.

    Args:
        data: `names` or `vertices`; edges as `pairs`, `saddles`, `edges` or `tree`, rows of two names and a height, or
            `faces` and `tree`, of rows with two `vertices` and a `barrier`. Where there is no tree among these, it is
            the one whose greatest height between any two is least (Kruskal 1956).
    """
    names = [str(name) for name in data.get("names") or data["vertices"]]
    known = {name: list(_edges(data.get(name) or (), names)) for name in ("pairs", "saddles", "faces", "edges", "tree")}
    every = known["pairs"] or known["saddles"] or known["faces"] or known["edges"] or known["tree"]
    tree = known["tree"] or known["edges"] or spanning_tree(names, every)
    return names, tree, every


def _edges(rows: Iterable[Any], names: Sequence[str]) -> Iterable[Edge]:
    """Edges of two networks with a finite height; networks are told by name or by number."""
    for row in rows:
        ends, height = (row["vertices"], row["barrier"]) if isinstance(row, Mapping) else (row[:2], row[2])
        if len(ends) == 2 and finite(height):  # noqa: PLR2004 - faces may have more corners
            a, b = (names[end] if isinstance(end, int) else str(end) for end in ends)
            yield a, b, float(height)


def spanning_tree(names: Sequence[str], edges: Iterable[Edge]) -> list[Edge]:
    """The edges at which single linkage joins networks, the lowest first (Kruskal 1956)."""
    group = {name: {name} for name in names}
    found = []
    for a, b, height in sorted(edges, key=lambda edge: edge[2]):
        if group[a] is not group[b]:
            group[a] |= group[b]
            for name in group[b]:
                group[name] = group[a]
            found.append((a, b, height))
    return found


def in_order(names: Sequence[str], tree: Iterable[Edge]) -> list[str]:
    """Names so ordered that those which are joined first stand side by side."""
    rows = {name: [name] for name in names}
    for a, b, _ in sorted(tree, key=lambda edge: edge[2]):
        joined = rows[a] + rows[b]
        for name in joined:
            rows[name] = joined
    return [name for row in {id(row): row for row in rows.values()}.values() for name in row]


def graph_chart(data: Mapping[str, Any]) -> "alt.LayerChart":
    """Draw networks on a circle, all edges thin, those of the tree thick and with their heights.

    Args:
        data: see `graph_edges`.

    Returns:
        A chart without colours of its own but those of the tree.
    """
    # Slow to import, and only reports draw.
    import altair as alt

    names, tree, every = graph_edges(data)
    ordered = in_order(names, tree)
    count = max(1, len(ordered))
    places = {
        name: (RADIUS * sin(2 * pi * k / count), RADIUS * cos(2 * pi * k / count)) for k, name in enumerate(ordered)
    }
    x = alt.X("x:Q", scale=alt.Scale(domain=[-REACH, REACH], nice=False), axis=None)
    low = min(py for _, py in places.values()) - REACH + RADIUS
    y = alt.Y("y:Q", scale=alt.Scale(domain=[low, REACH], nice=False), axis=None)
    tooltip = [alt.Tooltip("pair:N", title="between"), alt.Tooltip("height:Q", format=".4~g")]
    thin, thick = (alt.Chart({"values": [_edge_row(edge, places) for edge in edges]}) for edges in (every, tree))
    labels = alt.Chart({"values": edge_labels(tree, places)})
    dots = alt.Chart({"values": [{"name": name, "x": px, "y": py} for name, (px, py) in places.items()]})
    ends = {"x": x, "x2": "x2:Q", "y": y, "y2": "y2:Q", "tooltip": tooltip}
    layers = [
        thin.mark_rule(style="chord", opacity=0.6).encode(**ends),
        thick.mark_rule(strokeWidth=3, color="#0072b2").encode(**ends),
        *(labels.mark_text(style=style).encode(x=x, y=y, text="text:N") for style in (["name", "halo"], ["name"])),
        dots.mark_point(filled=True, size=150, opacity=1, fill="#d55e00", stroke="white").encode(
            x=x, y=y, tooltip=alt.Tooltip("name:N", title="network")),
        *_names(places, x, y),
    ]  # fmt: skip
    found: alt.LayerChart = alt.LayerChart(layer=layers, width=SIDE, height=SIDE * (REACH - low) / (2 * REACH))
    return found


def _edge_row(edge: Edge, places: Mapping[str, tuple[float, float]]) -> Row:
    (x, y), (x2, y2) = places[edge[0]], places[edge[1]]
    return {"x": x, "y": y, "x2": x2, "y2": y2, "pair": f"{edge[0]} and {edge[1]}", "height": edge[2]}


def edge_labels(tree: Sequence[Edge], places: Mapping[str, tuple[float, float]]) -> list[Row]:
    """The height of every edge, written on it where it is farthest from other labels and from networks."""
    found: list[Row] = []
    taken: list[tuple[float, float]] = []
    unit = SIDE / (2 * REACH)
    wide = CHARACTER * 6 / unit
    for a, b, height in tree:
        ways = [
            tuple((1 - t) * p + t * q for p, q in zip(places[a], places[b], strict=True))
            for t in (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74)
        ]
        others = [*taken, *places.values()]
        # Beyond a label's width there is nothing to gain: the middle is best then.
        place = max(ways, key=lambda way: min([wide, *(dist(way, other) for other in others)]))
        taken.append((place[0], place[1]))
        found.append({"x": place[0], "y": place[1], "text": loss_text(height), "pair": f"{a} and {b}"})
    return found


def _names(places: Mapping[str, tuple[float, float]], x: "alt.X", y: "alt.Y") -> "list[alt.Chart]":
    """The networks' names, outside of the circle."""
    # Slow to import, and only reports draw.
    import altair as alt

    found = []
    for name, (px, py) in places.items():
        text = alt.Chart({"values": [{"name": name, "x": px, "y": py}]})
        mark = text.mark_text(style="name", align=beside(px), dx=14 * px, dy=-19 * py)
        found.append(mark.encode(x=x, y=y, text="name:N"))
    return found


def matrix_chart(data: Mapping[str, Any]) -> "alt.LayerChart":
    """Draw the height between every two networks as a matrix, in the order in which they are joined.

    In that order the clusters of the filtration are blocks along the diagonal.

    Args:
        data: see `graph_edges`.

    Returns:
        A chart without colours of its own but those of the cells.
    """
    # Slow to import, and only reports draw.
    import altair as alt

    names, tree, every = graph_edges(data)
    ordered = in_order(names, tree)
    cells = [
        {"row": row, "column": column, "height": height, "text": f"{height:.4g}"}
        for a, b, height in every
        for row, column in ((a, b), (b, a))
    ]
    heights = [height for _, _, height in every] or [0.0]
    low, high = min(*heights, 0.0), max(*heights, 1e-12)
    side = CELL * len(ordered) if len(ordered) <= _NAMED else max(SIDE, 14 * len(ordered))
    x = alt.X("column:N", sort=ordered, title=None, scale=alt.Scale(domain=ordered), axis=alt.Axis(
        labelAngle=-35, labelLimit=160, domain=False, ticks=False))  # fmt: skip
    y = alt.Y("row:N", sort=ordered, title=None, scale=alt.Scale(domain=ordered), axis=alt.Axis(
        labelLimit=220, domain=False, ticks=False))  # fmt: skip
    scale = alt.Scale(scheme=SCHEME, domain=[low, high])
    colour = alt.Color("height:Q", scale=scale, legend=alt.Legend(title=str(data.get("what", "barrier")), tickCount=5))
    base = alt.Chart({"values": cells})
    tooltip = [alt.Tooltip("row:N", title="between"), alt.Tooltip("column:N", title="and"), alt.Tooltip("height:Q")]
    layers = [base.mark_rect().encode(x=x, y=y, color=colour, tooltip=tooltip)]
    if len(ordered) <= _NAMED:
        # Dark cells hold the low values, and white figures.
        ink = alt.when(f"datum.height > {low + 0.6 * (high - low)}").then(alt.value("#1f2328"))
        layers.append(
            base.mark_text(fontSize=11).encode(x=x, y=y, text="text:N", color=ink.otherwise(alt.value("white")))
        )
    found: alt.LayerChart = alt.LayerChart(layer=layers, width=side, height=side)
    return found
