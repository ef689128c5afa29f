"""Loss and error on the straight line between two networks, and the barriers read off it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from onebasin.checkpoint import Checkpoint, Source, load_params
from onebasin.correction import reestimate_batchnorm
from onebasin.correction.batchnorm import Evaluate, batchnorm_layers
from onebasin.errors import CheckpointError, MismatchError, OptionError
from onebasin.json_file import read_json, write_json
from onebasin.merging.average import lerp
from onebasin.merging.stack import round_once
from onebasin.modes import in_mode
from onebasin.progress import Progress, Report, silent

FORMAT = "onebasin-path/1"
BASELINES = ("linear", "mean", "worst")
BATCHNORM = ("reestimate", "keep")

Batches = Iterable[object] | Callable[[], Iterable[object]]
"""Batches that can be gone through more than once, or a function that gives them afresh."""


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
        seconds: time spent evaluating and re-estimating; not saved.
    """

    lams: tuple[float, ...]
    loss: tuple[float, ...]
    error: tuple[float, ...]
    count: int
    batchnorm: str
    complete: bool = True
    seconds: Mapping[str, float] = field(default_factory=dict)

    def loss_barrier(self, baseline: str = "linear") -> float:
        """How far the loss rises above its ends; see `barrier`."""
        return self._barrier("loss", baseline)

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
        return self._barrier("error", baseline)

    def _barrier(self, what: str, baseline: str) -> float:
        """The largest value along the path above a baseline between the ends.

        With L(lam) the value at lam:

        * `linear`: max over lam of L(lam) - ((1-lam) L(0) + lam L(1))  (Entezari et al. 2022; the default);
        * `mean`: max over lam of L(lam) - (L(0) + L(1)) / 2  (Frankle et al. 2020);
        * `worst`: max over lam of L(lam) - max(L(0), L(1)).
        """
        if baseline not in BASELINES:
            raise OptionError("baseline", expected=" or ".join(BASELINES), found=repr(baseline), remedy="choose one")
        if not self.complete:
            raise OptionError(
                f"{what}_barrier", expected="a complete path", found="an interrupted one", remedy="measure it again"
            )
        lams = np.array(self.lams)
        values = np.array(self.loss if what == "loss" else self.error)
        ends = {
            "linear": values[0] + lams * (values[-1] - values[0]),
            "mean": np.full_like(lams, (values[0] + values[-1]) / 2),
            "worst": np.full_like(lams, max(values[0], values[-1])),
        }
        return float(np.max(values - ends[baseline]))

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, object]:
        """The JSON form, barriers included for those who read it elsewhere."""
        barriers: dict[str, object] = {}
        if self.complete:
            barriers["loss"] = {baseline: self.loss_barrier(baseline) for baseline in BASELINES}
            if self.error:
                barriers["error"] = {baseline: self.error_barrier(baseline) for baseline in BASELINES}
        return {
            "format": FORMAT,
            "batchnorm": self.batchnorm,
            "count": self.count,
            "complete": self.complete,
            "barriers": barriers,
            "lams": list(self.lams),
            "loss": list(self.loss),
            "error": list(self.error),
        }

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read or is not a path profile.
        """
        data = read_json(path)
        fields = ("lams", "loss", "error", "count", "batchnorm", "complete")
        if not isinstance(data, dict) or data.get("format") != FORMAT or not all(name in data for name in fields):
            raise CheckpointError(
                str(path),
                expected=f"a path profile, format {FORMAT}",
                found="something else",
                remedy="pass a file that PathProfile.save wrote",
            )
        lams, loss, error = (_numbers(data[name], f"{path}: {name}") for name in ("lams", "loss", "error"))
        for name, row in (("loss", loss), ("error", error or lams)):
            if len(row) != len(lams):
                raise CheckpointError(
                    f"{path}: {name}", expected=f"{len(lams)} numbers", found=str(len(row)), remedy="correct the file"
                )
        for name, kind in (("count", int), ("batchnorm", str), ("complete", bool)):
            if type(data[name]) is not kind:
                raise CheckpointError(
                    f"{path}: {name}", expected=kind.__name__, found=repr(data[name]), remedy="correct the file"
                )
        return cls(lams, loss, error, data["count"], data["batchnorm"], complete=data["complete"])


def _numbers(values: object, where: str) -> tuple[float, ...]:
    """A list of numbers; null stands for one that is not finite."""
    if not isinstance(values, list) or not all(v is None or type(v) in (int, float) for v in values):
        raise CheckpointError(where, expected="a list of numbers", found=repr(values)[:60], remedy="correct the file")
    return tuple(math.nan if value is None else float(value) for value in values)


def profile_path(
    model: nn.Module,
    a: Source,
    b: Source,
    *,
    evaluate: Evaluate,
    batches: Batches,
    lams: int | Sequence[float] = 25,
    batchnorm: str = "reestimate",
    calibration: Batches | None = None,
    calibration_samples: int | None = None,
    progress: Report = silent,
) -> PathProfile:
    """Measure loss and error on the straight line from `a` to `b`.

    One model instance serves every point: its tensors are written in place and restored afterwards.

    Args:
        model: of the architecture of `a` and `b`.
        a: the network at lam = 0.
        b: the network at lam = 1, in `a`'s coordinates (apply a matching first) for an aligned path.
        evaluate: `evaluate(model, batch)` returns sums over the batch: `loss`, `count` and, for errors, `correct`.
        batches: the data to evaluate on.
        lams: the number of equally spaced points, ends included, or the points themselves, ascending from 0 to 1.
        batchnorm: `"reestimate"` BatchNorm's running statistics at every point, or `"keep"` those on the line. Models
            without BatchNorm are not affected.
        calibration: batches to re-estimate from; None uses `batches`.
        calibration_samples: how many of their samples, at least; None uses all.
        progress: called after every point.

    Returns:
        the profile; interrupted with Ctrl-C it holds the points measured by then.

    Raises:
        OptionError: if `lams`, `batchnorm` or `batches` cannot work.
        MismatchError: if `a` or `b` does not fit the model.
    """
    points = _points(lams)
    if batchnorm not in BATCHNORM:
        raise OptionError("batchnorm", expected=" or ".join(BATCHNORM), found=repr(batchnorm), remedy="choose one")
    start, end = _fitting(model, a, "a"), _fitting(model, b, "b")
    data = _repeatable(batches, "batches")
    calibrated = data if calibration is None else _repeatable(calibration, "calibration")
    repair = batchnorm == "reestimate" and bool(batchnorm_layers(model))
    rows: list[dict[str, float]] = []
    seconds = {"evaluate": 0.0, "reestimate": 0.0}
    with restored_weights(model), in_mode(model, train=False), suppress(KeyboardInterrupt):
        for number, lam in enumerate(points, start=1):
            write_point(model, start, end, lam)
            begun = time.perf_counter()
            if repair:
                reestimate_batchnorm(model, calibrated(), evaluate, calibration_samples)
            repaired = time.perf_counter()
            rows.append(total(model, evaluate, data()))
            seconds["reestimate"] += repaired - begun
            seconds["evaluate"] += time.perf_counter() - repaired
            progress(Progress("path", number, len(points), f"lam {lam:.2f} loss {rows[-1]['loss']:.4g}"))
    return _profile(points, rows, batchnorm, seconds)


def _profile(
    points: Sequence[float], rows: Sequence[Mapping[str, float]], batchnorm: str, seconds: Mapping[str, float]
) -> PathProfile:
    with_error = bool(rows) and all("correct" in row for row in rows)
    return PathProfile(
        tuple(points[: len(rows)]),
        tuple(row["loss"] for row in rows),
        tuple(1 - row["correct"] for row in rows) if with_error else (),
        int(rows[0]["count"]) if rows else 0,
        batchnorm,
        len(rows) == len(points),
        seconds,
    )


def total(model: nn.Module, evaluate: Evaluate, batches: Iterable[object]) -> dict[str, float]:
    """Every sum of an evaluation divided by the count, and `count` itself, without gradients.

    Raises:
        OptionError: if there is no sample, or the evaluation lacks `loss` or `count`.
    """
    sums: dict[str, float] = {}
    with torch.no_grad():
        for batch in batches:
            for name, value in evaluate(model, batch).items():
                sums[name] = sums.get(name, 0.0) + float(value)
    for name in ("loss", "count"):
        if name not in sums:
            raise OptionError(
                "evaluate" if sums else "batches",
                expected=f"sums over a batch with `{name}`" if sums else "at least one batch",
                found=", ".join(sums) or "none",
                remedy=f"return `{name}`" if sums else "pass data to evaluate on",
            )
    count = sums.pop("count")
    if not count > 0:
        raise OptionError(
            "evaluate", expected="a positive `count`", found=f"{count:g}", remedy="return the number of samples"
        )
    return {name: value / count for name, value in sums.items()} | {"count": count}


@contextmanager
def restored_weights(model: nn.Module) -> Iterator[None]:
    """Put a model's tensors back after a block that writes to them."""
    saved = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                tensor.copy_(saved[name])


def write_point(model: nn.Module, a: Mapping[str, Tensor], b: Mapping[str, Tensor], lam: float) -> None:
    """Write `(1 - lam) a + lam b` into a model's tensors, exactly `a` at 0 and `b` at 1; integers come from `a`."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() or tensor.is_complex():
                wide = torch.complex128 if tensor.is_complex() else torch.float64
                ends = [params[name].to(tensor.device, wide) for params in (a, b)]
                tensor.copy_(round_once(lerp(ends, lam=lam), tensor.dtype))
            elif name in a:
                tensor.copy_(a[name])


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


def _fitting(model: nn.Module, source: Source, label: str) -> Mapping[str, Tensor]:
    params = load_params(source)
    state = model.state_dict()
    for name in params:
        if name not in state:
            raise MismatchError(
                f"{label}: {name}",
                expected="only tensors that the model has",
                found="another one",
                remedy="pass a checkpoint of the model's architecture",
            )
    for name, tensor in state.items():
        found = tuple(params[name].shape) if name in params else None
        if found != tuple(tensor.shape):
            if found is None and name.endswith("num_batches_tracked"):
                continue
            raise MismatchError(
                f"{label}: {name}",
                expected=f"shape {tuple(tensor.shape)}, as in the model",
                found="no such tensor" if found is None else f"shape {found}",
                remedy="pass a checkpoint of the model's architecture",
            )
    # The model's own tensors are written to while the path is measured.
    own = {tensor.untyped_storage().data_ptr() for tensor in state.values() if tensor.numel()}
    if isinstance(params, Checkpoint):
        return params
    return {n: t.clone() if t.numel() and t.untyped_storage().data_ptr() in own else t for n, t in params.items()}


def _repeatable(batches: Batches, label: str) -> Callable[[], Iterable[object]]:
    if callable(batches):
        return batches
    if isinstance(batches, Iterator):
        kept = list(batches)
        return lambda: kept
    if not isinstance(batches, Iterable):
        raise OptionError(label, expected="batches", found=type(batches).__name__, remedy="pass a list or a function")
    return lambda: batches
