"""Loss and error on the straight line between two networks, and the barriers read off it."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from onebasin.checkpoint import Source
from onebasin.connectivity.measure import Measured, measure
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation
from onebasin.json_file import numbers, read_json, record, typed, write_json
from onebasin.progress import Progress, Report, silent

Values = NDArray[np.float64]
FORMAT = "onebasin-path/1"
BASELINES = ("linear", "mean", "worst")
FIELDS = ("lams", "loss", "error", "count", "batchnorm", "complete", "others", "intervals")
RESAMPLES = 1000
_AT_ONCE = 100
_SIDE = 2.5
"""Percent of resamples that lie beyond either end of an interval."""


@dataclass(frozen=True)
class PathProfile:
    """Loss and error at points `(1 - lam) a + lam b` of a line.

    Attributes:
        lams: the points, ascending from 0 (a) to 1 (b).
        loss: the mean loss a sample at every point.
        error: the share of wrong answers (0 to 1) at every point; empty where the task counts no correct answers.
        count: samples evaluated at every point.
        batchnorm: how BatchNorm's running statistics were treated at every point, ends included: `reestimate` or `keep`
            (those on the line between the ends' own).
        complete: False where the measurement was interrupted; only the points measured by then are listed.
        others: further figures at every point, by name: `ece`, `brier`, and with temperatures `temperature`,
            `calibrated_loss` and `calibrated_ece`; empty where the evaluation does not predict.
        intervals: 95 % intervals of the barriers as `"loss linear"` and so on, by what the sample of the data leaves
            open: percentiles of 1,000 bootstrap samples of the data, the same ones at every point; samples are drawn
            where the evaluation predicts, else whole batches.
        seconds: time spent measuring; not saved.
    """

    lams: tuple[float, ...]
    loss: tuple[float, ...]
    error: tuple[float, ...]
    count: int
    batchnorm: str
    complete: bool = True
    others: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def loss_barrier(self, baseline: str = "linear") -> float:
        """How far the loss rises above its ends; see `barrier`."""
        return self.barrier("loss", baseline)

    def error_barrier(self, baseline: str = "linear") -> float:
        """How far the error (0 to 1) rises above its ends; see `barrier`.

        Raises:
            OptionError: also if the task counts no correct answers.
        """
        if not self.error:
            raise OptionError(
                "error_barrier",
                expected="an evaluation that returns `correct`",
                found="none",
                remedy="add it to evaluate, or use loss_barrier",
            )
        return self.barrier("error", baseline)

    def barrier(self, what: str = "loss", baseline: str = "linear") -> float:
        """The largest value along the path above a baseline between the ends.

        With L(lam) the value at lam:

        * `linear`: max over lam of L(lam) - ((1-lam) L(0) + lam L(1))  (Entezari et al. 2022; the default);
        * `mean`: max over lam of L(lam) - (L(0) + L(1)) / 2  (Frankle et al. 2020);
        * `worst`: max over lam of L(lam) - max(L(0), L(1)).

        Args:
            what: `"loss"`, `"error"`, or one of `others`, such as `"calibrated_loss"`.
            baseline: `"linear"`, `"mean"` or `"worst"`.

        Raises:
            OptionError: if there is no such figure or baseline, or the path was interrupted.
        """
        if baseline not in BASELINES:
            raise OptionError("baseline", expected=" or ".join(BASELINES), found=repr(baseline), remedy="choose one")
        if not self.complete:
            raise OptionError(
                f"{what}_barrier", expected="a complete path", found="an interrupted one", remedy="measure it again"
            )
        rows = {"loss": self.loss, "error": self.error, **self.others}
        if not rows.get(what):
            raise OptionError(
                "barrier", expected=" or ".join(n for n, row in rows.items() if row), found=what, remedy="choose one"
            )
        return float(_rises(np.array(self.lams), np.array(rows[what])[:, None], baseline)[0])

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, object]:
        """The JSON form, barriers included for those who read it elsewhere."""
        barriers: dict[str, object] = {}
        if self.complete:
            for what in ("loss", *(["error"] if self.error else []), *self.others):
                barriers[what] = {baseline: self.barrier(what, baseline) for baseline in BASELINES}
        return {
            "format": FORMAT,
            "batchnorm": self.batchnorm,
            "count": self.count,
            "complete": self.complete,
            "barriers": barriers,
            "lams": list(self.lams),
            "loss": list(self.loss),
            "error": list(self.error),
            "others": {name: list(row) for name, row in self.others.items()},
            "intervals": {name: list(row) for name, row in self.intervals.items()},
        }

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read or is not a path profile.
        """
        return cls.from_json(read_json(path), str(path))

    @classmethod
    def from_json(cls, data: object, path: str) -> Self:
        """Read the JSON form.

        Args:
            data: what `to_json` gave.
            path: what to call it in errors.

        Raises:
            CheckpointError: if it is not a path profile.
        """
        with record(data, path, "a path profile", FORMAT) as held:
            lams, loss, error = (numbers(held[name], f"{path}: {name}") for name in ("lams", "loss", "error"))
            if len(loss) != len(lams) or (error and len(error) != len(lams)):
                raise ValueError(f"loss and error: {len(lams)} numbers are needed")
            others, intervals = (
                {key: numbers(row, f"{path}: {name}: {key}") for key, row in typed(held, name, dict).items()}
                for name in ("others", "intervals")
            )
            pairs = {name: (low, high) for name, (low, high) in intervals.items()}
            count, statistics = typed(held, "count", int), typed(held, "batchnorm", str)
            return cls(lams, loss, error, count, statistics, typed(held, "complete", bool), others, pairs)


def profile_path(
    model: nn.Module,
    a: Source,
    b: Source,
    evaluation: Evaluation,
    *,
    lams: int | Sequence[float] = 25,
    refine: int = 0,
    seed: int = 0,
    progress: Report = silent,
) -> PathProfile:
    """Measure loss and error on the straight line from `a` to `b`.

    Args:
        model: of the architecture of `a` and `b`; left as it is.
        a: the network at lam = 0.
        b: the network at lam = 1, in `a`'s coordinates (apply a matching first) for an aligned path.
        evaluation: how to measure: the loss and the data, and what becomes of BatchNorm's statistics.
        lams: the number of equally spaced points, ends included, or the points themselves, ascending from 0 to 1.
        refine: so many more points, two at a time: halfway between the point that is highest above the line between
            the ends' losses and its neighbours.
        seed: of the bootstrap samples that intervals are made of.
        progress: called after every point.

    Returns:
        the profile; interrupted with Ctrl-C it holds the points measured by then.

    Raises:
        OptionError: if `lams`, `refine` or the evaluation cannot work.
        MismatchError: if `a` or `b` does not fit the model.
    """
    points = _points(lams)
    if refine < 0:
        raise OptionError("refine", expected="0 or more", found=str(refine), remedy="raise it")
    span = Span(model, [a, b])
    rows: list[tuple[float, Measured]] = []
    started, wanted = time.perf_counter(), len(points) + refine
    complete = False
    with suppress(KeyboardInterrupt):
        for chosen in _rounds(points, rows, wanted):
            measured = measure(span, [(1 - lam, lam) for lam in chosen], evaluation)
            for lam, row in zip(chosen, measured, strict=True):
                rows.append((lam, row))
                progress(Progress("path", len(rows), wanted, f"lam {lam:.2f} loss {row.loss:.4g}"))
        complete = True
    rows.sort(key=lambda pair: pair[0])
    return profile_of(rows, evaluation.batchnorm, time.perf_counter() - started, seed, complete=complete)


def _rounds(points: list[float], rows: list[tuple[float, Measured]], wanted: int) -> Iterator[list[float]]:
    """The points, then those around the highest so far until there are enough; `rows` fills up in between."""
    yield points
    while len(rows) < wanted:
        ordered = sorted(rows, key=lambda pair: pair[0])
        lams, losses = np.array([lam for lam, _ in ordered]), np.array([row.loss for _, row in ordered])
        peak = int(np.argmax(losses - (losses[0] + lams * (losses[-1] - losses[0]))))
        pairs = [(k, k + 1) for k in (peak - 1, peak) if 0 <= k < len(lams) - 1]
        halves = [float(lams[low] + lams[high]) / 2 for low, high in pairs]
        yield halves[: wanted - len(rows)]


def profile_of(
    rows: Sequence[tuple[float, Measured]], batchnorm: str, seconds: float, seed: int, *, complete: bool
) -> PathProfile:
    """A profile out of what was measured at its points, ascending.

    Args:
        rows: points and what was measured there.
        batchnorm: how statistics were treated.
        seconds: spent.
        seed: of the bootstrap samples.
        complete: whether these are all points.
    """
    measured = [row for _, row in rows]
    lams = tuple(lam for lam, _ in rows)
    errors = [row.error for row in measured if row.error is not None]
    return PathProfile(
        lams,
        tuple(row.loss for row in measured),
        tuple(errors),
        measured[0].count if measured else 0,
        batchnorm,
        complete,
        {name: tuple(row.others[name] for row in measured) for name in (measured[0].others if measured else ())},
        _intervals(np.array(lams), measured, seed) if complete else {},
        {"total": seconds},
    )


def _rises(lams: Values, values: Values, baseline: str) -> Values:
    """How far columns of values `[points, n]` rise above a baseline between their ends: `[n]`."""
    first, last = values[0], values[-1]
    below = {
        "linear": first + lams[:, None] * (last - first),
        "mean": (first + last) / 2,
        "worst": np.maximum(first, last),
    }
    found: Values = np.max(values - below[baseline], axis=0)
    return found


def _intervals(lams: Values, measured: Sequence[Measured], seed: int) -> dict[str, tuple[float, float]]:
    """95 % intervals of all barriers; none where the data are a single unit."""
    units = len(measured[0].counts)
    if units == 1:
        return {}
    generator = np.random.default_rng(seed)
    counts = measured[0].counts
    tables = {"loss": np.stack([row.losses for row in measured])}
    if all(len(row.errors) for row in measured):
        tables["error"] = np.stack([row.errors for row in measured])
    found: dict[str, list[Values]] = {f"{what} {baseline}": [] for what in tables for baseline in BASELINES}
    drawn = np.empty((_AT_ONCE, units))  # how often each unit is in each sample
    for _ in range(RESAMPLES // _AT_ONCE):
        for row in drawn:  # several times as fast as drawing the counts from their multinomial distribution
            row[:] = np.bincount(generator.integers(units, size=units), minlength=units)
        samples = drawn @ counts
        for what, table in tables.items():
            means = (table @ drawn.T) / samples
            for baseline in BASELINES:
                found[f"{what} {baseline}"].append(_rises(lams, means, baseline))
    rows = {name: np.percentile(np.concatenate(parts), (_SIDE, 100 - _SIDE)) for name, parts in found.items()}
    return {name: (float(low), float(high)) for name, (low, high) in rows.items()}


def _points(lams: int | Sequence[float]) -> list[float]:
    given = np.linspace(0, 1, max(0, lams)) if isinstance(lams, int) else lams
    points = [float(point) for point in given] if hasattr(given, "__iter__") else []
    if (
        any(math.isnan(point) for point in points)
        or points[:1] != [0.0]
        or points[-1:] != [1.0]
        or sorted(points) != points
    ):
        raise OptionError(
            "lams",
            expected="a number of points from 2, or points ascending from 0 to 1",
            found=str(lams),
            remedy="include both ends, against which barriers are measured",
        )
    return points
