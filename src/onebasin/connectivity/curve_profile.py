"""Loss and error along a curve, and its length."""

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from torch import nn

from onebasin.connectivity.curve import Curve, check_policy
from onebasin.connectivity.measure import Measured, measure
from onebasin.connectivity.path import FORMAT as PATH_FORMAT
from onebasin.connectivity.path import PathProfile, profile_of
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation
from onebasin.json_file import numbers, read_json, record, write_json
from onebasin.progress import Progress, Report, silent

FORMAT = "onebasin-curve-profile/1"


@dataclass(frozen=True)
class CurveProfile:
    """What was measured at points of a curve.

    Attributes:
        path: the figures over t, which takes the place of lam; with its barriers above the line between the ends'.
        arc: the length of the curve from its beginning to every point.
        chord: the distance between the ends of the curve.
    """

    path: PathProfile
    arc: tuple[float, ...]
    chord: float

    @property
    def t(self) -> tuple[float, ...]:
        """The points, ascending from 0 to 1."""
        return self.path.lams

    @property
    def loss(self) -> tuple[float, ...]:
        """The mean loss a sample at every point."""
        return self.path.loss

    @property
    def error(self) -> tuple[float, ...]:
        """The share of wrong answers, 0 to 1, at every point; empty where correct answers are not counted."""
        return self.path.error

    @property
    def complete(self) -> bool:
        """Whether all points were measured."""
        return self.path.complete

    @property
    def length(self) -> float:
        """The length of the curve, as far as it was measured."""
        return self.arc[-1] if self.arc else 0.0

    @property
    def straightness(self) -> float:
        """Length by distance of the ends: 1 is a straight line; infinity where the ends are the same."""
        return self.length / self.chord if self.chord else np.inf

    def summary(self, what: str = "loss") -> Mapping[str, float]:
        """What becomes of a figure along the curve.

        Args:
            what: `"loss"`, `"error"`, or another figure of `path`.

        Returns:
            `max`, `min`, `mean` over the points, and `integral`: over arc length, trapezoidal, divided by the length
            (Garipov et al. 2018); the mean where there is no length.

        Raises:
            OptionError: if there is no such figure.
        """
        rows = {"loss": self.loss, "error": self.error, **self.path.others}
        if not rows.get(what):
            expected = " or ".join(name for name, row in rows.items() if row)
            raise OptionError("summary", expected=expected or "measured points", found=what, remedy="choose one")
        values, arc = np.array(rows[what]), np.array(self.arc)
        mean = float(values.mean())
        area = float(np.sum((values[1:] + values[:-1]) / 2 * np.diff(arc)))
        integral = area / float(arc[-1]) if arc[-1] > 0 else mean
        return {"max": float(values.max()), "min": float(values.min()), "mean": mean, "integral": integral}

    def to_json(self) -> dict[str, object]:
        """The JSON form, with summaries and barriers for those who read it elsewhere."""
        data = self.path.to_json()
        named = ["loss", *(["error"] if self.error else []), *self.path.others] if self.loss else []
        return {
            "format": FORMAT,
            "length": self.length,
            "chord": self.chord,
            "straightness": self.straightness,
            "summary": {name: dict(self.summary(name)) for name in named},
            "t": data.pop("lams"),
            "arc": list(self.arc),
            **{name: value for name, value in data.items() if name != "format"},
        }

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read or is not the profile of a curve.
        """
        with record(read_json(path), path, "the profile of a curve", FORMAT) as data:
            figures = PathProfile.from_json(data | {"format": PATH_FORMAT, "lams": data["t"]}, str(path))
            arc = numbers(data["arc"], f"{path}: arc")
            if len(arc) != len(figures.lams):
                raise ValueError(f"arc: {len(figures.lams)} numbers are needed")
            return cls(figures, arc, float(data["chord"]))


def profile_curve(
    curve: Curve,
    model: nn.Module,
    evaluation: Evaluation,
    points: int | Sequence[float] = 61,
    *,
    seed: int = 0,
    progress: Report = silent,
) -> CurveProfile:
    """Measure loss and error along a curve.

    At t = 0 and 1 the networks are exactly the ends. BatchNorm's statistics are treated at every point as `evaluation`
    says, the ends included; those kept are the same sums of the control networks' as the weights.

    Args:
        curve: to measure.
        model: of its architecture; left as it is.
        evaluation: how to measure.
        points: the number of equally spaced t, ends included, or t themselves, ascending from 0 to 1.
        seed: of the bootstrap samples that intervals are made of.
        progress: called after every point.

    Returns:
        the profile; interrupted with Ctrl-C it holds the points measured by then.

    Raises:
        OptionError: if `points` or the evaluation cannot work; REPAIR is none for curves, as control networks are not
            on them and their units' spreads are no target.
        MismatchError: if a control network does not fit the model.
    """
    check_policy(evaluation)
    ts = _points(points)
    span = Span(model, curve.controls)
    rows: list[tuple[float, Measured]] = []
    with suppress(KeyboardInterrupt):
        for t, row in zip(ts, measure(span, [curve.weights(t) for t in ts], evaluation), strict=True):
            rows.append((t, row))
            progress(Progress("curve profile", len(rows), len(ts), f"t {t:.2f} loss {row.loss:.4g}"))
    figures = profile_of(rows, evaluation.batchnorm, 0.0, seed, complete=len(rows) == len(ts))
    arc = curve.arc(ts)
    return CurveProfile(figures, arc[: len(rows)], curve.chord)


def _points(points: int | Sequence[float]) -> list[float]:
    ts = [float(t) for t in (np.linspace(0, 1, max(0, points)) if isinstance(points, int) else points)]
    if ts[:1] != [0.0] or ts[-1:] != [1.0] or any(not low <= high for low, high in itertools.pairwise(ts)):
        raise OptionError(
            "points",
            expected="a number from 2, or points ascending from 0 to 1",
            found=str(points),
            remedy="include both ends",
        )
    return ts
