"""Ensembles: the mean of several classifiers' probabilities, and what it is worth."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from onebasin.checkpoint import Source
from onebasin.connectivity.measure import State
from onebasin.connectivity.scores import Scores, best_temperature, scores
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation
from onebasin.modes import in_mode

Values = NDArray[np.float64]


class Ensemble(nn.Module):
    """The mean of several classifiers' softmax outputs.

    Args:
        members: from the same input to logits `[n, classes]`.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Map an input to log-probabilities `[n, classes]`, which cross-entropy takes for logits."""
        return mean_log_probabilities([member(x).log_softmax(dim=-1) for member in self.members])


def mean_log_probabilities(rows: Sequence[Tensor]) -> Tensor:
    """The log of the mean of probabilities.

    Args:
        rows: log-probabilities of every member, `[n, classes]` each.

    Returns:
        `[n, classes]`.
    """
    return torch.stack(list(rows)).logsumexp(dim=0) - math.log(len(rows))


@dataclass(frozen=True)
class EnsembleScore:
    """What an ensemble is worth on data.

    Attributes:
        forwards: networks that are run on every sample.
        scores: of the mean of their probabilities.
        disagreement: the mean over pairs of networks of the share of samples that they answer differently, 0 to 1; 0
            for one network.
        temperature: by which the log of the mean probabilities is divided, so that it is the likeliest on calibration
            data (Ashukha et al. 2020); None where none was fitted.
        calibrated: scores with it.
        selection: negative log-likelihood on the calibration data, by which an ensemble may be chosen; where there are
            none, that on the data.
        samples: what every sample contributes, `[n]` each: `error`, `nll` and, with a temperature, `calibrated nll`.
    """

    forwards: int
    scores: Scores
    disagreement: float
    temperature: float | None
    calibrated: Scores | None
    selection: float
    samples: dict[str, Values] = field(repr=False)


@dataclass(frozen=True)
class Predictions:
    """Log-probabilities of networks.

    Attributes:
        rows: of each on the data, float64 `[n, classes]`.
        labels: int64 `[n]`.
        calibration: of each on the calibration data; none without a temperature.
        calibration_labels: int64; empty without.
    """

    rows: list[Tensor]
    labels: Tensor
    calibration: list[Tensor]
    calibration_labels: Tensor

    def score(self, members: Sequence[int]) -> EnsembleScore:
        """Score the ensemble of some of the networks, each by its position."""
        logs = mean_log_probabilities([self.rows[k] for k in members])
        found = {"error": _wrong(logs, self.labels), "nll": _nll(logs, self.labels)}
        temperature = calibrated = None
        plain = scores(logs, self.labels)
        selection = plain.nll
        if self.calibration:
            held_out = mean_log_probabilities([self.calibration[k] for k in members])
            temperature = best_temperature(held_out, self.calibration_labels)
            selection = scores(held_out, self.calibration_labels).nll
            cooled = (logs / temperature).log_softmax(1)
            calibrated = scores(cooled, self.labels)
            found["calibrated nll"] = _nll(cooled, self.labels)
        answers = [self.rows[k].argmax(1) for k in members]
        pairs = [float((x != y).double().mean()) for x, y in combinations(answers, 2)]
        disagreement = sum(pairs) / max(1, len(pairs))
        return EnsembleScore(len(members), plain, disagreement, temperature, calibrated, selection, found)


def _wrong(logs: Tensor, labels: Tensor) -> Values:
    found: Values = (logs.argmax(1) != labels).double().cpu().numpy()
    return found


def _nll(logs: Tensor, labels: Tensor) -> Values:
    found: Values = functional.nll_loss(logs, labels, reduction="none").cpu().numpy()
    return found


def predictions(span: Span, states: Sequence[State], evaluation: Evaluation) -> Predictions:
    """Run networks of one architecture on the data and, where a temperature is wanted, on the calibration data.

    They share every pass over the data.

    Raises:
        OptionError: if the evaluation does not predict, or there are no data.
    """
    rows, labels = _predict(span, states, evaluation, evaluation.data(), None)
    if not evaluation.temperature:
        return Predictions(rows, labels, [], labels[:0])
    held_out = evaluation.calibrating()
    return Predictions(rows, labels, *_predict(span, states, evaluation, held_out, evaluation.calibration_samples))


def _predict(
    span: Span, states: Sequence[State], evaluation: Evaluation, batches: Iterable[object], most: int | None
) -> tuple[list[Tensor], Tensor]:
    if evaluation.predict is None:
        raise OptionError(
            "predict",
            expected="a function that gives logits and labels",
            found="none",
            remedy="pass it to Evaluation, or add `predict(model, batch)` to the task",
        )
    parts: list[list[Tensor]] = [[] for _ in states]
    labels: list[Tensor] = []
    with in_mode(span.model, train=False), torch.no_grad():
        for batch in batches:
            found = [span.runner.call(evaluation.predict, state, batch) for state in states]
            for part, (logits, _) in zip(parts, found, strict=True):
                part.append(logits.to(torch.float64).log_softmax(1))
            labels.append(found[0][1])
            if most is not None and sum(map(len, labels)) >= most:
                break
    if not labels:
        raise OptionError("batches", expected="at least one batch", found="none", remedy="pass data to predict")
    return [torch.cat(part) for part in parts], torch.cat(labels)


def score_ensemble(model: nn.Module, members: Sequence[Source], evaluation: Evaluation) -> EnsembleScore:
    """Score the mean of the probabilities of networks, each as it is: the order of their units does not matter.

    Args:
        model: of their architecture; left as it is.
        members: the networks.
        evaluation: its `predict`, the data and, with `temperature`, the calibration data; BatchNorm's statistics are
            the networks' own.

    Raises:
        OptionError: if there is no network, the evaluation does not predict, or there are no data.
        MismatchError: if a network does not fit the model.
    """
    span = Span(model, members)
    states = [span.params([float(j == k) for j in range(len(span))]) for k in range(len(span))]
    return predictions(span, states, evaluation).score(range(len(span)))
