"""What maps of losses are drawn with: colours, tiles, lines of equal height, and labels that keep apart."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from onebasin.connectivity.polygon import Mesh, polygon_corners
from onebasin.errors import OptionError
from onebasin.report.chart import Row

if TYPE_CHECKING:
    import altair as alt

TITLES = {"loss": "loss", "error": "error (%)"}
SCHEME: Final = "viridis"
"""Colours that are told apart with any kind of colour blindness, and whose lightness rises with the value."""
LEVELS = 9
"""Lines of equal height in a map."""
TILES = 400
"""Triangles that a map is drawn with, at least."""
CHARACTER, LINE_HEIGHT = 7.0, 15.0
"""Pixels that a character and a line of a label take, rounded up."""
_NEAREST = 8
_MESH = 12

Values = NDArray[np.float64]


def measured(data: dict[str, object], measure: str) -> Values:
    """A field of losses, or of errors in percent, as numbers; null stands for one that is not finite.

    Raises:
        OptionError: if there is none.
    """
    given = data.get(measure)
    if measure not in TITLES or not given:
        raise OptionError(
            "measure",
            expected=" or ".join(name for name in TITLES if data.get(name)),
            found=repr(measure),
            remedy="choose one that was measured",
        )
    values = np.array(given, dtype=np.float64)  # None becomes NaN
    return 100 * values if measure == "error" else values


def colours(values: Values, measure: str) -> "tuple[alt.Scale, alt.Legend]":
    """A colour for every value, and a legend: of its logarithm where all are positive losses (Garipov et al. 2018)."""
    # Slow to import, and only reports draw.
    import altair as alt

    low, high = extent(values)
    scale = alt.Scale(
        type="log" if logarithmic(values, measure) else "linear", scheme=SCHEME, domain=[low, high], clamp=True
    )
    legend = alt.Legend(
        title=TITLES[measure],
        type="gradient",
        orient="right",
        gradientLength=200,
        gradientOpacity=1,
        format=".3~g",
        tickCount=5,
    )
    return scale, legend


def extent(values: Values) -> tuple[float, float]:
    """The least and the largest finite value, never the same."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return low, high if high > low else low + max(abs(low), 1.0) * 1e-6


def logarithmic(values: Values, measure: str) -> bool:
    """Whether the colours are those of logarithms."""
    return measure == "loss" and extent(values)[0] > 0


def levels(values: Values, measure: str) -> list[float]:
    """Heights to draw lines at, evenly spread over the colours."""
    low, high = extent(values)
    spread = np.geomspace if logarithmic(values, measure) else np.linspace
    return [float(height) for height in spread(low, high, LEVELS + 2)[1:-1]]


def isolines(corners: Values, values: Values, heights: Sequence[float]) -> Iterator[Row]:
    """The lines on which a function that is linear on every triangle has some heights, a row a piece.

    Args:
        corners: `[t, 3, 2]`, of the triangles.
        values: `[t, 3]`, at their corners.
        heights: to draw.
    """
    for height in heights:
        for triangle, value in zip(corners, values, strict=True):
            above = value > height
            if not np.isfinite(value).all() or above.all() or not above.any():
                continue
            ends = []
            for i, j in ((0, 1), (1, 2), (2, 0)):
                if above[i] != above[j]:
                    share = (height - value[i]) / (value[j] - value[i])
                    ends.append(triangle[i] + share * (triangle[j] - triangle[i]))
            (x, y), (x2, y2) = (end.tolist() for end in ends)
            yield {"x": x, "y": y, "x2": x2, "y2": y2, "height": height}


def grid_triangles(xs: Sequence[float], ys: Sequence[float], values: Values) -> tuple[Values, Values]:
    """Every cell of a grid as four triangles around its centre, whose value is the mean: corners and values."""
    corners, heights = [], []
    for i in range(len(ys) - 1):
        for j in range(len(xs) - 1):
            around = [(i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j)]
            middle = ((xs[j] + xs[j + 1]) / 2, (ys[i] + ys[i + 1]) / 2)
            mean = float(np.mean([values[place] for place in around]))
            for (r, c), (r2, c2) in zip(around, [*around[1:], around[0]], strict=True):
                corners.append(((xs[c], ys[r]), (xs[c2], ys[r2]), middle))
                heights.append((values[r, c], values[r2, c2], mean))
    return np.array(corners), np.array(heights)


def polygon_triangles(count: int, points: Values, values: Values) -> tuple[Values, Values]:
    """A polygon as small triangles: linear between points that are those of a mesh, else weighted by distance.

    Args:
        count: corners.
        points: `[m, 2]`, where there are values.
        values: `[m]`.

    Returns:
        corners `[t, 3, 2]` and values `[t, 3]`.
    """
    rings = next((r for r in range(1, len(points)) if 1 + count * r * (r + 1) // 2 >= len(points)), 1)
    mesh = Mesh.of(count, rings)
    if len(mesh.points) == len(points) and np.allclose(mesh.points, points):
        found = values
    else:
        mesh = Mesh.of(count, _MESH)
        found = np.array([_near(point, points, values) for point in mesh.points])
    corners, heights = mesh.points[mesh.triangles], found[mesh.triangles]
    while len(corners) < TILES:
        corners, heights = _quartered(corners), _quartered(heights)
    return corners, heights


def _near(point: Values, points: Values, values: Values) -> float:
    """The mean of the nearest values, weighted by the inverse cube of their distances (Shepard 1968)."""
    apart = np.linalg.norm(points - point, axis=1)
    nearest = np.argsort(apart, kind="stable")[:_NEAREST]
    if apart[nearest[0]] < 1e-9:  # noqa: PLR2004 - the point itself
        return float(values[nearest[0]])
    weights = apart[nearest] ** -3.0
    return float((weights @ values[nearest]) / weights.sum())


def _quartered(corners: Values) -> Values:
    """Every triangle as four, by the middles of its edges; what lies on the second axis is averaged."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.concatenate([np.stack(part, axis=1) for part in parts])


def outline(count: int) -> list[Row]:
    """The border of a regular polygon, closed."""
    corners = [*polygon_corners(count).tolist(), polygon_corners(count)[0].tolist()]
    return [{"x": x, "y": y, "step": step} for step, (x, y) in enumerate(corners)]


def placed(
    points: Sequence[tuple[float, float]], texts: Sequence[str], taken: Sequence[tuple[float, float]] = ()
) -> list[tuple[float, float] | None]:
    """Where to write names beside points so that none lies on another name or point; the first names come first.

    Args:
        points: in pixels.
        texts: their names.
        taken: further points that names keep away from.

    Returns:
        the middle of each name, or None where there is no room for it.
    """
    boxes = [(x - 6, y - 6, x + 6, y + 6) for x, y in (*points, *taken)]
    found: list[tuple[float, float] | None] = []
    for (x, y), text in zip(points, texts, strict=True):
        half = CHARACTER * len(text) / 2
        ways = [(half + 10, 0), (-half - 10, 0), (0, -17), (0, 17), (half + 8, -12), (-half - 8, -12), (half + 8, 12)]
        place = None
        for dx, dy in [*ways, (-half - 8, 12)]:
            box = (x + dx - half, y + dy - LINE_HEIGHT / 2, x + dx + half, y + dy + LINE_HEIGHT / 2)
            if not any(_meet(box, other) for other in boxes):
                place = (x + dx, y + dy)
                boxes.append(box)
                break
        found.append(place)
    return found


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def finite(value: float | None) -> bool:
    """Whether a value can be drawn."""
    return value is not None and math.isfinite(value)


def beside(x: float) -> Literal["left", "center", "right"]:
    """How a name is aligned that is written outside of a point of a circle around the origin."""
    if abs(x) < 0.35:  # noqa: PLR2004 - the top and the bottom
        return "center"
    return "left" if x > 0 else "right"
