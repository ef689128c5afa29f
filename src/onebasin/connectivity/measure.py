"""Measure points between networks: every batch is read once for several points."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from onebasin.connectivity.scores import best_temperature, scores
from onebasin.connectivity.span import Span
from onebasin.correction.batchnorm import batchnorm_layers, cumulative
from onebasin.correction.repair import repair
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation, positive
from onebasin.modes import in_mode

TOGETHER = 5
"""Points that share a pass over the data."""
MEMORY = 1 << 30
"""Bytes that the points of a pass may take together; there is always at least one."""

Values = NDArray[np.float64]
State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured at one point.

    Attributes:
        count: samples.
        loss: the mean loss a sample.
        error: the share of wrong answers, 0 to 1; None where correct answers are not counted.
        others: further figures, such as `ece`, `brier`, `temperature`, `calibrated_loss`.
        losses: sums of the loss over the units that a sample of data is made of: samples where the evaluation predicts,
            else batches; float64 `[units]`.
        errors: sums of wrong answers over the same units; empty where correct answers are not counted.
        counts: samples in every unit.
    """

    count: int
    loss: float
    error: float | None
    others: dict[str, float]
    losses: Values
    errors: Values
    counts: Values


@dataclass(slots=True)
class _Collected:
    """Parts of what is measured at one point, batch by batch."""

    losses: list[Values] = field(default_factory=list)
    errors: list[Values] = field(default_factory=list)
    counts: list[Values] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)


def measure(span: Span, points: Sequence[Sequence[float]], evaluation: Evaluation) -> Iterator[Measured]:
    """Measure sums of networks.

    Args:
        span: the networks.
        points: for each, one weight a network.
        evaluation: how to measure.

    Yields:
        one result a point, in their order; five points at a time share every pass over the data, fewer where they would
        take more than 1 GiB.

    Raises:
        OptionError: if the data or the evaluation cannot work.
        MismatchError: if a network holds NaN.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in span.runner.own.values())
    together = max(1, min(TOGETHER, MEMORY // max(1, size)))
    for start in range(0, len(points), together):
        chosen = points[start : start + together]
        with torch.no_grad():
            states = [state_at(span, weights, evaluation) for weights in chosen]
            if evaluation.batchnorm == "reestimate":
                reestimate(span, states, evaluation)
            with in_mode(span.model, train=False):
                temperatures = _temperatures(span, states, evaluation)
                collected = _collect(span, states, evaluation)
        for parts, temperature in zip(collected, temperatures, strict=True):
            yield _measured(parts, temperature)


def state_at(span: Span, weights: Sequence[float], evaluation: Evaluation) -> State:
    """The tensors of a point; with every unit repaired where the evaluation says so, but at the networks themselves."""
    state = span.params(weights)
    if evaluation.batchnorm != "repair" or max(weights) >= 1:
        return state
    found = repair(
        span.model,
        state,
        [dict(vertex) for vertex in span.vertices],
        evaluation.calibrating(),
        evaluation.evaluate,
        weights,
        evaluation.calibration_samples,
    )
    return {name: found.params[name] for name in state}


def states_of(span: Span, points: Sequence[Sequence[float]], evaluation: Evaluation) -> list[State]:
    """The tensors of points, ready to run: BatchNorm's statistics and repairs as the evaluation says."""
    with torch.no_grad():
        states = [state_at(span, weights, evaluation) for weights in points]
        if evaluation.batchnorm == "reestimate":
            reestimate(span, states, evaluation)
    return states


def reestimate(span: Span, states: Sequence[State], evaluation: Evaluation) -> None:
    """Replace BatchNorm's statistics in several networks by those of the calibration data, in one pass.

    Args:
        span: gives the model.
        states: tensors by name; statistics are written to.
        evaluation: gives the data.

    Raises:
        OptionError: if there are statistics and no data, or `calibration_samples` is below 1.
    """
    layers = {id(layer) for layer in batchnorm_layers(span.model)}
    wanted = evaluation.calibration_samples
    if not layers:
        return
    if wanted is not None and wanted < 1:
        raise OptionError("samples", expected="1 or more", found=str(wanted), remedy="raise it or pass None")
    for prefix, module in span.model.named_modules():
        if id(module) in layers:
            stem = f"{prefix}." if prefix else ""
            for state in states:
                state[f"{stem}running_mean"].zero_()
                state[f"{stem}running_var"].fill_(1)
                if f"{stem}num_batches_tracked" in state:
                    state[f"{stem}num_batches_tracked"].zero_()
    used = 0
    with cumulative(span.model), torch.no_grad():
        for batch in evaluation.calibrating():
            counts = [int(span.runner.call(evaluation.evaluate, state, batch)["count"]) for state in states]
            used += counts[0]
            if wanted is not None and used >= wanted:
                break
    if not used:
        raise OptionError("batches", expected="at least one batch", found="none", remedy="pass data to estimate from")


def _collect(span: Span, states: Sequence[State], evaluation: Evaluation) -> list[_Collected]:
    collected = [_Collected() for _ in states]
    for batch in evaluation.data():
        for state, parts in zip(states, collected, strict=True):
            if evaluation.predict is not None:
                _take_predictions(parts, *span.runner.call(evaluation.predict, state, batch))
                continue
            sums = {name: float(value) for name, value in span.runner.sums(evaluation.evaluate, state, batch).items()}
            parts.losses.append(np.array([sums["loss"]]))
            parts.counts.append(np.array([sums["count"]]))
            if "correct" in sums:
                parts.errors.append(np.array([sums["count"] - sums["correct"]]))
    if not collected[0].counts:
        raise OptionError("batches", expected="at least one batch", found="none", remedy="pass data to evaluate on")
    return collected


def _take_predictions(parts: _Collected, logits: Tensor, labels: Tensor) -> None:
    parts.logits.append(logits.detach())
    parts.labels.append(labels)
    losses = functional.cross_entropy(logits.double(), labels, reduction="none")
    wrong = logits.argmax(dim=1) != labels
    parts.losses.append(losses.cpu().numpy())
    parts.errors.append(wrong.double().cpu().numpy())
    parts.counts.append(np.ones(len(labels)))


def _temperatures(span: Span, states: Sequence[State], evaluation: Evaluation) -> list[float | None]:
    """The best temperature of every network on the calibration data, where one is wanted."""
    if evaluation.predict is None or not evaluation.temperature:
        return [None] * len(states)
    parts = [_Collected() for _ in states]
    seen, most = 0, evaluation.calibration_samples
    for batch in evaluation.calibrating():
        for state, part in zip(states, parts, strict=True):
            logits, labels = span.runner.call(evaluation.predict, state, batch)
            part.logits.append(logits)
            part.labels.append(labels)
        seen += len(parts[0].labels[-1])
        if most is not None and seen >= most:
            break
    return [best_temperature(torch.cat(part.logits), torch.cat(part.labels)) for part in parts]


def _measured(parts: _Collected, temperature: float | None) -> Measured:
    losses, counts = np.concatenate(parts.losses), np.concatenate(parts.counts)
    errors = np.concatenate(parts.errors) if parts.errors else np.zeros(0)
    count = positive(float(counts.sum()))
    others = {}
    if parts.logits:
        logits, labels = torch.cat(parts.logits).double(), torch.cat(parts.labels)
        found = scores(logits.log_softmax(1), labels)
        others = {"ece": found.ece, "brier": found.brier}
        if temperature is not None:
            calibrated = scores((logits / temperature).log_softmax(1), labels)
            others |= {
                "temperature": temperature,
                "calibrated_loss": calibrated.nll,
                "calibrated_ece": calibrated.ece,
            }
    error = float(errors.sum() / count) if len(errors) else None
    return Measured(int(count), float(losses.sum() / count), error, others, losses, errors, counts)
