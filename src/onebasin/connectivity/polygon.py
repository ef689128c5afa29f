"""Maps of all weighted averages of networks: the networks at the corners of a regular polygon."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from math import nan
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from onebasin.connectivity.measure import measure
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation
from onebasin.json_file import read_json, record, write_json
from onebasin.progress import Progress, Report, silent

FORMAT = "onebasin-polygon/1"
LEAST = 3
"""Corners of a polygon."""
PART = 10
"""Points that are measured before what there is is handed on."""
_ROUNDING = 1e-14
"""Weights below it are rounding errors: exactly 0 on the other side of an edge."""

Values = NDArray[np.float64]


def polygon_corners(count: int) -> Values:
    """The corners of a regular polygon, float64 `[count, 2]`, at distance 1 from the origin.

    The first is at the top and the others follow clockwise.
    """
    angles = np.pi / 2 - 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def wachspress(points: Values, corners: Values) -> Values:
    """Wachspress coordinates (1975) of points in a convex polygon: weights of its corners.

    With A(p, q, r) the area of a triangle, the weight of corner i is A(v_{i-1}, v_i, v_{i+1}) times the product of
    A(x, v_j, v_{j+1}) over all edges that do not meet in corner i, divided by the sum of all of these. The weights add
    up to 1, give back the point as the weighted sum of the corners, are linear on every edge, and in a triangle are its
    barycentric coordinates.

    Args:
        points: float64 `[m, 2]`, inside or on the border.
        corners: float64 `[n, 2]`, in order around the polygon.

    Returns:
        float64 `[m, n]`.
    """
    count = len(corners)
    after = np.roll(corners, -1, axis=0)
    edges = np.abs(_cross(corners[None] - points[:, None], after[None] - points[:, None]))
    angles = np.abs(_cross(corners - np.roll(corners, 1, axis=0), after - corners))
    edges[edges < _ROUNDING * angles.max()] = 0
    apart = [[j for j in range(count) if j not in (i, (i - 1) % count)] for i in range(count)]
    found = np.stack([angles[i] * edges[:, apart[i]].prod(axis=1) for i in range(count)], axis=1)
    weights: Values = found / found.sum(axis=1, keepdims=True)
    return weights


def _cross(a: Values, b: Values) -> Values:
    found: Values = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return found


@dataclass(frozen=True)
class Mesh:
    """Points of a regular polygon and the triangles between them.

    Attributes:
        points: float64 `[m, 2]`: the centre, then ring after ring out to the border.
        triangles: int64 `[t, 3]`, positions of their corners in `points`.
    """

    points: Values
    triangles: NDArray[np.int64]

    @classmethod
    def of(cls, count: int, rings: int) -> Self:
        """The mesh of a polygon: every triangle of the centre and an edge is divided into `rings` squared ones."""
        corners = polygon_corners(count)
        points = [np.zeros(2)]
        for ring in range(1, rings + 1):
            for i in range(count):
                start, end = corners[i], corners[(i + 1) % count]
                points += [(start * (ring - q) + end * q) / rings for q in range(ring)]

        def place(ring: int, sector: int, q: int) -> int:
            return 0 if ring == 0 else 1 + count * ring * (ring - 1) // 2 + (sector * ring + q) % (count * ring)

        triangles = []
        for i in range(count):
            for r in range(rings):
                triangles += [(place(r, i, q), place(r + 1, i, q), place(r + 1, i, q + 1)) for q in range(r + 1)]
                triangles += [(place(r, i, q), place(r + 1, i, q + 1), place(r, i, q + 1)) for q in range(r)]
        return cls(np.stack(points), np.array(triangles))


@dataclass(frozen=True)
class PolygonGrid:
    """Loss and error at weighted averages of networks.

    Attributes:
        names: of the networks.
        weights: of each point, one a network.
        loss: for every point measured so far the mean loss a sample.
        error: likewise the share of wrong answers, 0 to 1; empty where correct answers are not counted.
        count: samples evaluated at every point.
        batchnorm: what became of BatchNorm's statistics at every point.
        complete: whether all points are measured.
    """

    names: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    loss: tuple[float, ...]
    error: tuple[float, ...]
    count: int
    batchnorm: str
    complete: bool = True

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {"format": FORMAT} | asdict(self)

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read or is not such a grid.
        """
        with record(read_json(path), path, "a map of averages", FORMAT) as data:
            held = {field.name: data[field.name] for field in fields(cls)}
            tables = {name: tuple(nan if v is None else v for v in held[name]) for name in ("loss", "error")}
            weights = tuple(tuple(row) for row in held["weights"])
            return cls(**held | tables | {"names": tuple(held["names"]), "weights": weights})


def measure_polygon(
    span: Span,
    names: Sequence[str],
    evaluation: Evaluation,
    *,
    rings: int = 8,
    so_far: PolygonGrid | None = None,
    after_part: Callable[[PolygonGrid], None] | None = None,
    progress: Report = silent,
) -> PolygonGrid:
    """Measure weighted averages of networks at the points of a regular polygon with them at its corners.

    Weights are Wachspress coordinates: with three networks all averages are shown, with more a surface through them
    that holds the edges between neighbours and the average of all.

    Args:
        span: the networks, three or more, in the same coordinates and in order around the polygon.
        names: of the networks.
        evaluation: how to measure.
        rings: between the centre and the border; there are `1 + n rings (rings + 1) / 2` points.
        so_far: an interrupted grid of the same networks and settings, whose points are not measured again.
        after_part: called with the grid after every few points, to save it.
        progress: likewise.

    Returns:
        the grid; interrupted with Ctrl-C it holds the points measured by then.

    Raises:
        OptionError: if there are fewer than three networks, an option or the evaluation cannot work, or `so_far` is
            another grid.
    """
    grid = _started(span, names, evaluation, rings, so_far)
    weights = grid.weights
    with suppress(KeyboardInterrupt):
        while len(grid.loss) < len(weights):
            rows = list(measure(span, weights[len(grid.loss) : len(grid.loss) + PART], evaluation))
            loss = (*grid.loss, *(row.loss for row in rows))
            error = (*grid.error, *(row.error for row in rows if row.error is not None))
            grid = replace(grid, loss=loss, error=error, count=rows[0].count, complete=len(loss) == len(weights))
            if after_part is not None:
                after_part(grid)
            progress(Progress("polygon", len(loss), len(weights), f"greatest loss {max(loss):.4g}"))
    return grid


def _started(
    span: Span, names: Sequence[str], evaluation: Evaluation, rings: int, so_far: PolygonGrid | None
) -> PolygonGrid:
    """The grid with no value, or with those measured before."""
    count = len(span)
    if count < LEAST or len(names) != count:
        raise OptionError(
            "polygon",
            expected="three networks or more, and a name for each",
            found=f"{count} and {len(names)}",
            remedy="pass them",
        )
    if rings < 1:
        raise OptionError("rings", expected="1 or more", found=str(rings), remedy="raise it")
    weights = tuple(map(tuple, wachspress(Mesh.of(count, rings).points, polygon_corners(count)).tolist()))
    grid = PolygonGrid(tuple(names), weights, (), (), 0, evaluation.batchnorm, complete=False)
    if so_far is not None:
        if (so_far.names, so_far.weights, so_far.batchnorm) != (grid.names, grid.weights, grid.batchnorm):
            raise OptionError(
                "so_far",
                expected="a grid of the same networks and settings",
                found="another one",
                remedy="leave it out",
            )
        return so_far
    return grid
