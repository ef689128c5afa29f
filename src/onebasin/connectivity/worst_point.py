"""The simplex barrier: the worst average of n networks, looked for by sampling and by climbing."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress

import numpy as np
import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.connectivity.measure import TOGETHER, Measured, Values, measure
from onebasin.connectivity.simplex import Weights, barycentres, check_vertices, dirichlet, edge_points
from onebasin.connectivity.simplex_profile import SimplexProfile
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation, batch_statistics
from onebasin.modes import in_mode
from onebasin.progress import Progress, Report, silent
from onebasin.similarity import dot

ALL_FACES = 8
"""The centres of all faces are measured for so many vertices; there are 2^n - 1 of them."""
LARGEST = 3
"""For more vertices, the number of vertices of the largest faces whose centres are measured."""
_INSIDE = 0.02
"""How far a climb begins from the face its point lies on: a weight of 0 would stay one."""
_STEP = 2.0
"""The first step of a climb: the weight with the largest slope grows by e^2 against that with the least."""


def simplex_barrier(
    model: nn.Module,
    vertices: Sequence[Source],
    evaluation: Evaluation,
    *,
    samples: int = 512,
    ascents: int = 16,
    steps: int = 4,
    edge: int = 5,
    faces: int | None = None,
    tau: float = 0.05,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    progress: Report = silent,
) -> SimplexProfile:
    """Look for the worst average of n networks, and measure how much of their simplex is bad.

    Measured are the vertices, points on all edges, the centres of faces, points drawn uniformly, and then points found
    by climbing from the worst of these: exponentiated gradient on the weights (Kivinen and Warmuth 1997),
    `lambda_k <- lambda_k exp(eta g_k) / Z` with `g_k = <grad L(theta(lambda)), theta_k> - L_k`, one backward pass over
    the data a step, eta a quarter of what it was where a step does not climb.

    Args:
        model: of the architecture of the networks; left as it is.
        vertices: the networks, in the same coordinates: apply matchings first.
        evaluation: how to measure. Statistics are treated alike at every point. Slopes are taken with BatchNorm on
            each batch's statistics unless it is to keep them, and before REPAIR; what counts is what is measured at the
            points that they lead to.
        samples: points drawn from Dirichlet(1, ..., 1); the bound on the bad volume rests on these alone.
        ascents: how many of the worst points to climb from.
        steps: of every climb.
        edge: points inside every edge, an odd number, so that the middle is one of them.
        faces: vertices of the largest faces whose centres are measured, that of all vertices apart; None: 8, or 3 where
            there are more vertices.
        tau: the excess above which a point is bad.
        labels: what to call the vertices.
        seed: of the points drawn.
        progress: called after every point.

    Returns:
        all points measured; interrupted with Ctrl-C, those by then. The same seed gives the same points.

    Raises:
        OptionError: if an option is out of range or the evaluation cannot work.
        MismatchError: if a network does not fit the model or holds NaN.
    """
    n = len(vertices)
    check_vertices(n)
    _check({"samples": samples, "ascents": ascents, "steps": steps}, edge)
    names = tuple(labels) if labels else tuple(f"model {k + 1}" for k in range(n))
    search = Search(Span(model, vertices, names), evaluation, progress)
    points = _points(n, samples, edge, _sizes(n, faces), seed)
    search.wanted = len(points) + ascents * steps
    started, complete = time.perf_counter(), False
    with suppress(KeyboardInterrupt):
        for kind, chosen in _by_kind(points):
            search.look(chosen, kind)
        search.climb(ascents, steps)
        complete = True
    return search.profile(names, tau, time.perf_counter() - started, complete=complete)


def _check(counts: Mapping[str, int], edge: int) -> None:
    for name, value in counts.items():
        if value < 0:
            raise OptionError(name, expected="0 or more", found=str(value), remedy="raise it")
    if edge < 1 or edge % 2 == 0:
        raise OptionError("edge", expected="an odd number of points", found=str(edge), remedy="choose one such as 5")


def _sizes(n: int, faces: int | None) -> list[int]:
    largest = (n if n <= ALL_FACES else LARGEST) if faces is None else min(faces, n)
    return sorted({*range(3, largest + 1), n} - {2})


def _points(n: int, samples: int, edge: int, sizes: Sequence[int], seed: int) -> list[tuple[str, Values]]:
    rows = {
        "vertex": np.eye(n),
        "edge": edge_points(n, edge),
        "face": barycentres(n, sizes),
        "sample": dirichlet(n, samples, np.random.default_rng(seed)),
    }
    return [(kind, point) for kind, chosen in rows.items() for point in chosen]


def _by_kind(points: Sequence[tuple[str, Values]]) -> list[tuple[str, Weights]]:
    kinds = dict.fromkeys(kind for kind, _ in points)
    return [(kind, np.array([point for other, point in points if other == kind])) for kind in kinds]


class Search:
    """A search for the worst point of a simplex while it goes on.

    Args:
        span: the vertices.
        evaluation: how to measure.
        progress: called after every point.

    Attributes:
        points: weights and kinds of all points measured.
        rows: what was measured there.
        wanted: how many points there will be.
    """

    def __init__(self, span: Span, evaluation: Evaluation, progress: Report) -> None:
        self.span, self.evaluation, self.progress = span, evaluation, progress
        self.points: list[tuple[str, Values]] = []
        self.rows: list[Measured] = []
        self.wanted: int | None = None

    def look(self, chosen: Weights, kind: str) -> Values:
        """Measure some points; their excess."""
        found = []
        for point, row in zip(chosen, measure(self.span, chosen.tolist(), self.evaluation), strict=True):
            self.points.append((kind, point))
            self.rows.append(row)
            found.append(row.loss - float(point @ self.ends()) if kind != "vertex" else 0.0)
            self.progress(Progress("simplex", len(self.rows), self.wanted, f"loss {row.loss:.4g}"))
        return np.array(found)

    def ends(self) -> Values:
        """The losses of the vertices, which are measured first."""
        return np.array([row.loss for row in self.rows[: len(self.span)]])

    def climb(self, ascents: int, steps: int) -> None:
        """Climb from the worst points, all at the same time."""
        n, ends = len(self.span), self.ends()
        values = np.array([row.loss - float(p @ ends) for (_, p), row in zip(self.points, self.rows, strict=True)])
        chosen = n + np.argsort(-values[n:], kind="stable")[:ascents]
        if not len(chosen):
            return
        here = np.stack([self.points[k][1] for k in chosen])
        heights, eta = values[chosen], np.full(len(chosen), _STEP)
        slopes = self.slopes(inside(here)) if steps else here
        for step in range(steps):
            there = ascent(here, slopes, eta)
            reached = self.look(there, "ascent")
            higher = reached > heights
            here, heights = np.where(higher[:, None], there, here), np.where(higher, reached, heights)
            eta = np.where(higher, eta, eta / 4)
            if step + 1 < steps and higher.any():
                slopes[higher] = self.slopes(inside(here[higher]))

    def slopes(self, points: Weights) -> Values:
        """`<grad L(theta(lambda)), theta_k> - L_k` at every point, `[points, n]`."""
        found = []
        for start in range(0, len(points), TOGETHER):
            found += self._slopes(points[start : start + TOGETHER])
        return np.array(found) - self.ends()

    def _slopes(self, points: Weights) -> list[list[float]]:
        with torch.no_grad():
            states = [self.span.params(point.tolist()) for point in points]
        leaves = [[state[name].requires_grad_() for name in self.span.parameters] for state in states]
        totals: list[list[Tensor]] = [[torch.zeros_like(leaf) for leaf in row] for row in leaves]
        counts: list[float] = []
        with torch.enable_grad(), self._statistics():
            for batch in self.evaluation.data():
                counts.append(0.0)
                for state, row, total in zip(states, leaves, totals, strict=True):
                    sums = self.span.runner.sums(self.evaluation.evaluate, state, batch)
                    found = torch.autograd.grad(
                        differentiable(sums["loss"]), row, allow_unused=True, materialize_grads=True
                    )
                    for part, grad in zip(total, found, strict=True):
                        part.add_(grad)
                    counts[-1] = float(sums["count"])
        return [
            [
                sum(dot(grad, vertex[name]) for grad, name in zip(total, self.span.parameters, strict=True))
                / sum(counts)
                for vertex in self.span.vertices
            ]
            for total in totals
        ]

    def _statistics(self) -> AbstractContextManager[None]:
        if self.evaluation.batchnorm == "keep":
            return in_mode(self.span.model, train=False)
        return batch_statistics(self.span.model)

    def profile(self, labels: tuple[str, ...], tau: float, seconds: float, *, complete: bool) -> SimplexProfile:
        """Everything measured so far."""
        n, rows = len(labels), self.rows
        errors = [row.error for row in rows if row.error is not None]
        return SimplexProfile(
            labels,
            np.array([point for _, point in self.points]).reshape(len(rows), n),
            tuple(kind for kind, _ in self.points),
            tuple(row.loss for row in rows),
            tuple(errors),
            rows[0].count if rows else 0,
            self.evaluation.batchnorm,
            tau,
            complete,
            {name: tuple(row.others[name] for row in rows) for name in (rows[0].others if rows else ())},
            seconds,
        )


def inside(points: Weights) -> Weights:
    """Points a little off the faces they lie on, which exponentiated gradient cannot leave."""
    found: Weights = (1 - _INSIDE) * points + _INSIDE / points.shape[1]
    return found


def ascent(points: Weights, slopes: Values, eta: Values) -> Weights:
    """One step of exponentiated gradient from a little inside the simplex, which its steps cannot leave.

    Args:
        points: weights, `[points, n]`.
        slopes: of the excess at `inside(points)`, `[points, n]`; their differences count, brought to a spread of 1.
        eta: the length of every point's step, `[points]`.
    """
    spread = slopes.max(1) - slopes.min(1)
    lean = (slopes - slopes.max(1, keepdims=True)) / np.where(spread > 0, spread, 1)[:, None]
    found = inside(points) * np.exp(eta[:, None] * lean)
    total: Weights = found / found.sum(1, keepdims=True)
    return total


def differentiable(loss: Tensor) -> Tensor:
    """A loss that can be followed.

    Raises:
        OptionError: if it cannot be differentiated.
    """
    if not loss.requires_grad:
        raise OptionError(
            "evaluate",
            expected="a `loss` that can be differentiated",
            found="one that cannot",
            remedy="return it without detach, item or no_grad, or set ascents to 0",
        )
    return loss
