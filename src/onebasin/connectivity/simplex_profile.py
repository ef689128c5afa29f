"""What was measured on a simplex, and what follows from it about its worst point and its bad volume."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from onebasin.connectivity.path import Values
from onebasin.errors import OptionError
from onebasin.json_file import numbers, read_json, record, typed, write_json

FORMAT = "onebasin-simplex/1"
KINDS = ("vertex", "edge", "face", "sample", "ascent")
_BISECTIONS = 100


@dataclass(frozen=True)
class SimplexProfile:
    """Loss and error at points of a simplex of n networks.

    With the excess `L(lambda) - sum of lambda_i L_i` of a point over the linear interpolation of the vertices' losses,
    the **simplex barrier** is its maximum. What points were measured bound it from below.

    Attributes:
        labels: of the vertices.
        weights: the points, float64 `[points, n]`; the first n are the vertices, in order.
        kinds: why each point was measured: `vertex`, `edge`, `face` (the centre of a face of three vertices or more),
            `sample` (drawn uniformly from the simplex) or `ascent` (reached from a bad point by climbing).
        loss: the mean loss a sample at every point.
        error: the share of wrong answers (0 to 1) at every point; empty where the task counts no correct answers.
        count: samples of data at every point.
        batchnorm: how statistics were treated; see `Evaluation`.
        tau: the excess, in units of the loss, above which a point is bad.
        complete: False where the measurement was interrupted; only the points measured by then are listed.
        others: further figures at every point; see `PathProfile`.
        seconds: spent measuring; not saved.
    """

    labels: tuple[str, ...]
    weights: Values
    kinds: tuple[str, ...]
    loss: tuple[float, ...]
    error: tuple[float, ...]
    count: int
    batchnorm: str
    tau: float
    complete: bool = True
    others: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    seconds: float = 0.0

    @cached_property
    def excess(self) -> Values:
        """How far the loss of every point is above the interpolation of the vertices' losses, `[points]`.

        Raises:
            OptionError: if the measurement was interrupted before the vertices were done.
        """
        return self._excess(self.loss)

    def _excess(self, values: Sequence[float]) -> Values:
        n = len(self.labels)
        if len(values) < n:
            raise OptionError(
                "excess", expected="all vertices measured", found="an interrupted simplex", remedy="measure it again"
            )
        found: Values = np.array(values) - self.weights @ np.array(values[:n])
        found[np.isnan(found)] = np.inf  # a network that gives no number is as bad as can be
        found[:n] = 0.0  # exactly, whatever the sum of products was rounded to
        return found

    @property
    def barrier(self) -> float:
        """The largest excess found: a lower bound on the simplex barrier. The vertices have 0, so it is no less."""
        return float(self.excess.max())

    @property
    def error_barrier(self) -> float | None:
        """The same of the error (0 to 1); None where the task counts no correct answers."""
        return float(self._excess(self.error).max()) if self.error else None

    @property
    def worst(self) -> Values:
        """The weights of the point with the largest excess, `[n]`."""
        found: Values = self.weights[int(np.argmax(self.excess))]
        return found

    @property
    def mean(self) -> float:
        """The mean excess over the simplex, by the points drawn from it; NaN without any."""
        rows = self._of("sample")
        return float(rows.mean()) if len(rows) else math.nan

    @property
    def barycentre(self) -> float:
        """The excess of the equal average."""
        n = len(self.labels)
        (centre,) = np.nonzero(np.abs(self.weights - 1 / n).max(1) < 1e-9)  # noqa: PLR2004 - rounding of 1 / n
        return float(self.excess[centre[0]]) if len(centre) else math.nan

    @property
    def edge_barrier(self) -> float:
        """The largest excess of a point on an edge: a lower bound on the worst barrier between two vertices."""
        return float(self.excess[(self.weights > 0).sum(1) <= 2].max())  # noqa: PLR2004 - an edge has two ends

    @property
    def edge_ratio(self) -> float:
        """The barrier in parts of the edge barrier; NaN where no edge has one.

        Where features are linear in the weights but for defects of pairs, it is at most `2 (n - 1) / n`: each layer's
        defect at lambda is a sum over pairs of 4 lambda_i lambda_j times that in the middle of their edge.
        """
        return self.barrier / self.edge_barrier if self.edge_barrier > 0 else math.nan

    @property
    def bad_share(self) -> float:
        """The share of the points drawn whose excess is above `tau`; NaN without any."""
        rows = self._of("sample")
        return float((rows > self.tau).mean()) if len(rows) else math.nan

    @property
    def bad_volume(self) -> float:
        """A bound on the share of the volume whose excess is above `tau`, exact at 95 %; see `binomial_bound`."""
        rows = self._of("sample")
        return binomial_bound(int((rows > self.tau).sum()), len(rows))

    def _of(self, kind: str) -> Values:
        return self.excess[[name == kind for name in self.kinds]]

    def face_barrier(self, face: Sequence[int]) -> float:
        """The largest excess of a point all of whose weight is on some vertices; a face's is never below its faces'."""
        outside = [k for k in range(len(self.labels)) if k not in set(face)]
        inside = (self.weights[:, outside] == 0).all(1)
        return float(self.excess[inside].max())

    def faces(self, tau: float | None = None) -> tuple[tuple[int, ...], ...]:
        """The largest faces without a point found whose excess is above `tau`: those in no other such face.

        Args:
            tau: None takes that of the profile.
        """
        limit, n = self.tau if tau is None else tau, len(self.labels)
        found: list[tuple[int, ...]] = []
        for size in range(n, 0, -1):
            for face in itertools.combinations(range(n), size):
                if not any(set(face) <= set(larger) for larger in found) and self.face_barrier(face) <= limit:
                    found.append(face)
        return tuple(found)

    def to_json(self) -> dict[str, object]:
        """The JSON form, barriers included for those who read it elsewhere."""
        barriers: dict[str, object] = {}
        if self.complete:
            barriers = {
                "loss": self.barrier,
                "error": self.error_barrier,
                "mean": self.mean,
                "barycentre": self.barycentre,
                "edge": self.edge_barrier,
                "edge_ratio": self.edge_ratio,
                "bad_share": self.bad_share,
                "bad_volume": self.bad_volume,
            }
        return {
            "format": FORMAT,
            "vertices": list(self.labels),
            "batchnorm": self.batchnorm,
            "count": self.count,
            "tau": self.tau,
            "complete": self.complete,
            "barriers": barriers,
            "worst": self.worst.tolist() if self.complete else [],
            "weights": self.weights.tolist(),
            "kinds": list(self.kinds),
            "loss": list(self.loss),
            "error": list(self.error),
            "others": {name: list(row) for name, row in self.others.items()},
        }

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read or is not a simplex profile.
        """
        return cls.from_json(read_json(path), str(path))

    @classmethod
    def from_json(cls, data: object, where: str) -> Self:
        """Read what `to_json` made.

        Args:
            data: parsed JSON.
            where: what to call it in errors.

        Raises:
            CheckpointError: if it is not a simplex profile.
        """
        with record(data, where, "a simplex profile", FORMAT) as held:
            labels = tuple(str(label) for label in typed(held, "vertices", list))
            rows = [numbers(row, f"{where}: weights") for row in held["weights"]]
            loss, error = (numbers(held[name], f"{where}: {name}") for name in ("loss", "error"))
            lengths = {len(rows), len(loss), len(held["kinds"]), *([len(error)] if error else [])}
            if len(lengths) > 1 or any(len(row) != len(labels) for row in rows):
                raise ValueError("one row of weights, kind, loss and error a point is needed")
            return cls(
                labels,
                np.array(rows, dtype=np.float64).reshape(len(rows), len(labels)),
                tuple(map(str, held["kinds"])),
                loss,
                error,
                typed(held, "count", int),
                typed(held, "batchnorm", str),
                float(typed(held, "tau", int, float)),
                typed(held, "complete", bool),
                {name: numbers(row, f"{where}: others: {name}") for name, row in held["others"].items()},
            )


def binomial_bound(bad: int, total: int, level: float = 0.95) -> float:
    """The largest share of bad points that having found so few is not too unlikely under (Clopper and Pearson 1934).

    The share p with P(at most `bad` of `total`; p) = 1 - level: with a probability of `level` at least it is above the
    true share, whatever that is. For none of N it is 1 - 0.05^(1/N), at most ln 20 / N.

    Args:
        bad: bad points found.
        total: points drawn independently.
        level: of confidence, below 1.
    """
    if bad >= total:
        return 1.0
    low, high = bad / total, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(bad, total, middle) > 1 - level else (low, middle)
    return high


def _at_most(bad: int, total: int, p: float) -> float:
    """P(at most `bad` of `total`), 0 < p < 1, by logarithms."""
    if not 0 < p < 1:
        return float(p <= 0)
    k = np.arange(bad + 1)
    ways = [math.lgamma(total + 1) - math.lgamma(j + 1) - math.lgamma(total - j + 1) for j in k]
    return float(np.exp(np.array(ways) + k * math.log(p) + (total - k) * math.log1p(-p)).sum())
