"""Planes through networks, along random directions and along trajectories; loss and error on a grid of one."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.connectivity.measure import measure
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation
from onebasin.json_file import read_json, record, write_json
from onebasin.progress import Progress, Report, silent

FORMAT = "onebasin-plane/1"
NETWORKS, RANDOM, TRAJECTORY = "networks", "random", "trajectory"
KINDS = (NETWORKS, RANDOM, TRAJECTORY)
CORNERS = 3
"""Networks that span a plane."""
FLAT = 1e-7
"""Directions count as parallel where what is left of one is shorter than this part of it."""
_BETWEEN = np.array([[-1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]])
"""From the first of three vertices to the second, and to the third."""

Values = NDArray[np.float64]
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Mark:
    """A network in the picture of a plane.

    Attributes:
        name: of the network.
        x: its coordinate along the first axis, or that of the point of the plane nearest to it.
        y: along the second.
        away: its distance from the plane; 0 where it lies in it.
        loss: of the network itself, wherever it lies; None until it is measured.
        error: likewise, 0 to 1; None also where correct answers are not counted.
    """

    name: str
    x: float
    y: float
    away: float = 0.0
    loss: float | None = None
    error: float | None = None


@dataclass(frozen=True)
class Plane:
    """A plane in the space of parameters; every point of it is a weighted sum of the vertices of a span.

    With directions d_1, d_2 (rows of `directions` times the vertices) and `steps` R, upper triangular, the point of
    coordinates (x, y) is `base + alpha d_1 + beta d_2` where `R (alpha, beta) = (x, y)`.

    Attributes:
        kind: `"networks"`, `"random"` or `"trajectory"`.
        span: whose weighted sums the points are.
        base: the position of the vertex at the origin.
        directions: float64 `[2, vertices]`, rows that add up to 0.
        steps: float64 `[2, 2]`.
        networks: the networks that are marked.
        marks: one for each of them.
        corners: the least and the largest coordinates of what is to be seen: x, x, y, y.
        explained: shares of the variance of the networks along both axes; empty but for trajectories.
    """

    kind: str
    span: Span
    base: int
    directions: Values
    steps: Values
    networks: Span
    marks: tuple[Mark, ...]
    corners: tuple[float, float, float, float]
    explained: tuple[float, ...] = ()

    def weights(self, x: float, y: float) -> tuple[float, ...]:
        """The weights of the vertices at a point; exactly 1 and 0 at the vertices that it was made through."""
        beta = y / self.steps[1, 1]
        alpha = (x - self.steps[0, 1] * beta) / self.steps[0, 0]
        found = alpha * self.directions[0] + beta * self.directions[1]
        found[self.base] += 1
        return tuple(found.tolist())

    def params(self, x: float, y: float) -> dict[str, Tensor]:
        """The tensors at a point."""
        return self.span.params(self.weights(x, y))


def plane_through(model: nn.Module, networks: Sequence[Source], names: Sequence[str] | None = None) -> Plane:
    """The plane through three networks, with axes that are orthonormal in the space of parameters.

    The first network is the origin and the second lies on the first axis (Gram and Schmidt's method, in float64 and
    over parameters only, as in Garipov et al. 2018).

    Args:
        model: of the networks' architecture; left as it is.
        networks: three, in the same coordinates: apply matchings first. Further ones are marked where the point of the
            plane is that is nearest to them.
        names: of the marks; None: model 1, model 2, ...

    Raises:
        OptionError: if there are fewer than three, or they lie on one line.
        MismatchError: if one does not fit the model.
    """
    labels = _labels(networks, names, CORNERS)
    span = Span(model, networks[:CORNERS], labels[:CORNERS])
    rows = span.matrix()
    u, v = rows[1] - rows[0], rows[2] - rows[0]
    length, whole = float(u.norm()), float(v.norm())
    if not length:
        raise _on_a_line()
    along = float(v @ u) / length
    rest = v - (along / length) * u
    height = float(rest.norm())
    if height <= FLAT * whole:
        raise _on_a_line()
    marks = [Mark(n, x, y) for n, (x, y) in zip(labels, [(0.0, 0.0), (length, 0.0), (along, height)], strict=False)]
    axes = torch.stack([u / length, rest / height])
    everything = Span(model, networks, labels)
    for label, network in zip(labels[CORNERS:], networks[CORNERS:], strict=True):
        marks.append(_nearest(label, Span(model, [network], [label]).matrix()[0] - rows[0], axes))
    steps = np.array([[length, along], [0.0, height]])
    return Plane(NETWORKS, span, 0, _BETWEEN, steps, everything, tuple(marks), _box(marks))


def random_plane(
    model: nn.Module,
    network: Source,
    *,
    seed: int = 0,
    filters: bool = True,
    small: bool = False,
    radius: float = 1.0,
    name: str = "network",
) -> Plane:
    """The plane through a network along two random directions, drawn anew for every tensor from N(0, 1).

    With filter normalisation (Li et al. 2018, section 4) every row of a direction, that is every filter or neuron, gets
    the length of the same row of the network, so that a step of 1 means as much in a layer of large weights as in one
    of small ones, and pictures of different networks can be compared.

    Args:
        model: of the network's architecture; left as it is.
        network: at the origin.
        seed: of the directions.
        filters: whether to normalise by rows, along the first axis of every tensor; else each tensor as a whole.
        small: whether parameters with fewer than two axes, which are biases and those of norms, move as well; each of
            their numbers is a row.
        radius: how far to look along both axes.
        name: of the mark.

    Raises:
        OptionError: if the radius is not positive, or nothing moves.
        MismatchError: if the network does not fit the model.
    """
    if not 0 < radius < math.inf:
        raise OptionError("radius", expected="a positive number", found=str(radius), remedy="try 1")
    alone = Span(model, [network], [name])
    origin = alone.params([1.0])
    generator = torch.Generator().manual_seed(seed)
    ends = [dict(origin), dict(origin)]
    for parameter in alone.parameters:
        here = origin[parameter].to("cpu", torch.complex128 if origin[parameter].is_complex() else torch.float64)
        for end in ends:
            drawn = torch.randn(here.shape, generator=generator, dtype=here.dtype)
            if here.ndim > 1 or small:
                end[parameter] = here + _scaled(drawn, here, filters=filters)
    if all(torch.equal(ends[0][n].to(origin[n]), origin[n]) for n in alone.parameters):
        raise OptionError("random plane", expected="tensors that move", found="none", remedy="pass small=True")
    span = Span(model, [origin, *ends], [name, "first direction", "second direction"])
    mark = Mark(name, 0.0, 0.0)
    return Plane(RANDOM, span, 0, _BETWEEN, np.eye(2), alone, (mark,), (-radius, radius, -radius, radius))


def pca_plane(model: nn.Module, networks: Sequence[Source], names: Sequence[str] | None = None) -> Plane:
    """The plane through the last network along which all of them vary most (Li et al. 2018, section 7).

    The axes are the first two principal directions of the networks, over parameters only. The others are marked where
    the point of the plane is that is nearest to them: `Mark.away` says how far they are from it, and `Mark.loss` is
    theirs and not that of the plane, which may differ a lot.

    Args:
        model: of the networks' architecture; left as it is.
        networks: checkpoints of a training, in order, at least three.
        names: of the marks; None: model 1, model 2, ...

    Raises:
        OptionError: if there are fewer than three, or they lie on one line.
        MismatchError: if one does not fit the model.
    """
    labels = _labels(networks, names, CORNERS)
    span = Span(model, networks, labels)
    rows = span.matrix()
    centred = rows - rows.mean(dim=0)
    values, vectors = np.linalg.eigh((centred @ centred.T).cpu().numpy())
    lengths, columns = np.sqrt(np.maximum(values[::-1][:2], 0)), vectors[:, ::-1][:, :2]
    if lengths[1] <= FLAT * lengths[0]:
        raise _on_a_line()
    # Centring makes the sums of the weights 0; eigenvectors have it but for rounding.
    directions = columns.T / lengths[:, None]
    directions -= directions.mean(axis=1, keepdims=True)
    axes = torch.from_numpy(directions) @ rows.cpu()
    offsets = (rows - rows[-1]).cpu()
    for k in range(2):  # an eigenvector is one up to its sign: the first network is on the right, and above
        if float(offsets[0] @ axes[k]) < 0:
            directions[k], axes[k] = -directions[k], -axes[k]
    marks = [_nearest(label, offset, axes) for label, offset in zip(labels, offsets, strict=True)]
    shares = np.maximum(values[::-1][:2], 0) / np.maximum(values, 0).sum()
    last = len(labels) - 1
    explained = tuple(shares.tolist())
    return Plane(TRAJECTORY, span, last, directions, np.eye(2), span, tuple(marks), _box(marks), explained)


def _labels(networks: Sequence[Source], names: Sequence[str] | None, least: int) -> list[str]:
    found = list(names) if names is not None else [f"model {k + 1}" for k in range(len(networks))]
    if len(networks) < least or len(found) != len(networks):
        raise OptionError(
            "plane",
            expected=f"{least} networks or more, and a name for each",
            found=f"{len(networks)} and {len(found)}",
            remedy="pass them, or take a random plane through one",
        )
    return found


def _on_a_line() -> OptionError:
    return OptionError(
        "plane", expected="networks that span a plane", found="some on one line", remedy="pass other networks"
    )


def _nearest(label: str, offset: Tensor, axes: Tensor) -> Mark:
    """A network's mark, from its offset from the origin and the orthonormal axes `[2, numbers]`."""
    place = axes @ offset
    away = float((offset - place @ axes).norm())
    return Mark(label, float(place[0]), float(place[1]), away if away > FLAT * float(offset.norm()) else 0.0)


def _scaled(drawn: Tensor, like: Tensor, *, filters: bool) -> Tensor:
    """A direction whose rows, or which as a whole, is as long as `like`."""
    flat = (drawn.reshape(len(drawn), -1), like.reshape(len(like), -1)) if filters and like.ndim else None
    d, w = flat or (drawn.reshape(1, -1), like.reshape(1, -1))
    factor = w.norm(dim=1, keepdim=True) / d.norm(dim=1, keepdim=True)
    scaled: Tensor = (d * factor).reshape(like.shape)
    return scaled


def _box(marks: Sequence[Mark]) -> tuple[float, float, float, float]:
    x, y = [mark.x for mark in marks], [mark.y for mark in marks]
    return min(x), max(x), min(y), max(y)


@dataclass(frozen=True)
class PlaneGrid:
    """Loss and error on a grid of a plane.

    Attributes:
        kind: of the plane: `"networks"`, `"random"` or `"trajectory"`.
        xs: coordinates of the columns, ascending.
        ys: of the rows, ascending.
        loss: for every row measured so far the mean loss a sample at every column, NaN where it is not finite.
        error: likewise the share of wrong answers, 0 to 1; empty where correct answers are not counted.
        marks: the networks, with their own losses.
        count: samples evaluated at every point.
        batchnorm: what became of BatchNorm's statistics at every point, networks included.
        explained: see `Plane`.
        complete: whether all rows are measured.
    """

    kind: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    loss: Rows
    error: Rows
    marks: tuple[Mark, ...]
    count: int
    batchnorm: str
    explained: tuple[float, ...] = ()
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
            CheckpointError: if the file cannot be read or is not a grid.
        """
        with record(read_json(path), path, "a grid of a plane", FORMAT) as data:
            return cls._of(data)

    @classmethod
    def _of(cls, data: Mapping[str, Any]) -> Self:
        found = cls(**{field.name: data[field.name] for field in fields(cls)})
        loss, error = (tuple(_numbers(row) for row in data[name]) for name in ("loss", "error"))
        if any(len(row) != len(found.xs) for row in (*loss, *error)):
            raise ValueError("rows of another length")
        xs, ys, explained = (_numbers(data[name]) for name in ("xs", "ys", "explained"))
        marks = tuple(Mark(**mark) for mark in data["marks"])
        return replace(found, xs=xs, ys=ys, explained=explained, loss=loss, error=error, marks=marks)


def _numbers(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(math.nan if value is None else float(value) for value in values)


def measure_plane(
    plane: Plane,
    evaluation: Evaluation,
    *,
    resolution: int = 21,
    margin: float = 0.2,
    so_far: PlaneGrid | None = None,
    after_row: Callable[[PlaneGrid], None] | None = None,
    progress: Report = silent,
) -> PlaneGrid:
    """Measure the networks and a grid of points of a plane.

    Args:
        plane: the plane.
        evaluation: how to measure. Outside the triangle of three networks weights are negative: keeping BatchNorm's
            statistics there can leave negative variances, so re-estimate them.
        resolution: points along each axis.
        margin: how far the grid goes beyond the plane's corners at every side, as a part of its width.
        so_far: an interrupted grid of the same plane and settings, whose rows are not measured again.
        after_row: called with the grid after every row, to save it.
        progress: called after every row.

    Returns:
        the grid; interrupted with Ctrl-C it holds the rows measured by then.

    Raises:
        OptionError: if an option or the evaluation cannot work, or `so_far` is another grid.
    """
    grid = _empty(plane, evaluation, resolution, margin)
    with suppress(KeyboardInterrupt):
        if so_far is not None:
            grid = _continued(grid, so_far)
        elif not grid.count:
            grid = _with_networks(plane, grid, evaluation)
        while len(grid.loss) < resolution:
            y = grid.ys[len(grid.loss)]
            row = list(measure(plane.span, [plane.weights(x, y) for x in grid.xs], evaluation))
            errors = [point.error for point in row if point.error is not None]
            loss = (*grid.loss, tuple(point.loss for point in row))
            error = (*grid.error, tuple(errors)) if errors else ()
            grid = replace(grid, loss=loss, error=error, complete=len(loss) == resolution)
            if after_row is not None:
                after_row(grid)
            progress(Progress("plane", len(loss), resolution, f"least loss {min(loss[-1]):.4g}"))
    return grid


def _empty(plane: Plane, evaluation: Evaluation, resolution: int, margin: float) -> PlaneGrid:
    if resolution < 2:  # noqa: PLR2004 - both ends
        raise OptionError("resolution", expected="2 or more", found=str(resolution), remedy="raise it")
    if not 0 <= margin < math.inf:
        raise OptionError("margin", expected="a number from 0", found=str(margin), remedy="try 0.2")
    if evaluation.batchnorm == "repair":
        raise OptionError(
            "batchnorm",
            expected="reestimate or keep: spreads of units cannot be extrapolated beyond the networks",
            found="repair",
            remedy="choose one",
        )
    left, right, low, high = plane.corners
    x, y = margin * (right - left), margin * (high - low)
    xs, ys = np.linspace(left - x, right + x, resolution), np.linspace(low - y, high + y, resolution)
    return PlaneGrid(
        plane.kind, tuple(xs.tolist()), tuple(ys.tolist()), (), (), plane.marks, 0, evaluation.batchnorm,
        plane.explained, complete=False,
    )  # fmt: skip


def _with_networks(plane: Plane, grid: PlaneGrid, evaluation: Evaluation) -> PlaneGrid:
    """The grid with the losses of the networks themselves."""
    ends = [[float(j == k) for j in range(len(plane.networks))] for k in range(len(plane.networks))]
    found = list(measure(plane.networks, ends, evaluation))
    marks = tuple(replace(m, loss=row.loss, error=row.error) for m, row in zip(grid.marks, found, strict=True))
    return replace(grid, marks=marks, count=found[0].count)


def _continued(grid: PlaneGrid, so_far: PlaneGrid) -> PlaneGrid:
    """The grid as far as it was measured before; refused where that was another one."""

    def frame(found: PlaneGrid) -> tuple[object, ...]:
        return found.kind, found.batchnorm, len(found.xs), [mark.name for mark in found.marks]

    def places(found: PlaneGrid) -> list[float]:
        return [*found.xs, *found.ys, *(x for mark in found.marks for x in (mark.x, mark.y))]

    # Distances are sums, whose last digits depend on the number of threads.
    if frame(grid) != frame(so_far) or not np.allclose(places(grid), places(so_far), rtol=FLAT):
        raise OptionError(
            "so_far", expected="a grid of the same plane and settings", found="another one", remedy="leave it out"
        )
    return so_far
