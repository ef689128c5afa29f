"""What probabilities of a classifier are worth: error, negative log-likelihood, calibration error and Brier score."""

from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15
"""Bins of the calibration error, as in Guo et al. (2017)."""
_STEPS = 50


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of predictions on n samples; lower is better.

    Attributes:
        error: the share of wrong answers, 0 to 1.
        nll: the mean negative log-likelihood of the right answer, nats.
        ece: the expected calibration error (Guo et al. 2017): 15 equally wide bins of the confidence, the gaps between
            mean confidence and accuracy weighted by the samples in each; 0 to 1.
        brier: the mean squared distance of the probabilities from the right answer, summed over classes; 0 to 2.
    """

    error: float
    nll: float
    ece: float
    brier: float


def scores(log_probabilities: Tensor, labels: Tensor) -> Scores:
    """Score predictions.

    Args:
        log_probabilities: `[n, classes]`; what log_softmax gives, or the log of an ensemble's mean.
        labels: int64 `[n]`.
    """
    logs = log_probabilities.to(torch.float64)
    probabilities = logs.exp()
    confidence, answer = probabilities.max(dim=1)
    right = (answer == labels).to(torch.float64)
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gaps = torch.zeros(BINS, dtype=torch.float64, device=logs.device).index_add_(0, bins, confidence - right)
    picked = probabilities.gather(1, labels[:, None])[:, 0]
    brier = probabilities.square().sum(1) - 2 * picked + 1
    return Scores(
        float(1 - right.mean()),
        float(-logs.gather(1, labels[:, None]).mean()),
        float(gaps.abs().sum() / len(labels)),
        float(brier.mean()),
    )


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T that gives softmax(logits / T) the least negative log-likelihood.

    The likelihood is concave in 1 / T: the root of its derivative, mean(sum_k p_k z_k - z_label), is found by bisection
    of log(1 / T) between -10 and 10.

    Args:
        logits: `[n, classes]`.
        labels: int64 `[n]`.
    """
    z = logits.to(torch.float64)
    wanted = z.gather(1, labels[:, None]).mean()
    low, high = -10.0, 10.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        beta = torch.tensor(middle, dtype=torch.float64).exp()
        if float(((beta * z).softmax(1) * z).sum(1).mean()) > float(wanted):
            high = middle
        else:
            low = middle
    return float(torch.tensor(-(low + high) / 2).exp())
