"""How claims measure networks on tensors: losses, accuracies, ensembles, and means with deviations."""

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import onebasin as ob
from onebasin.connectivity import score_ensemble

Params = dict[str, Tensor]
Data = tuple[Tensor, Tensor]


def batches(data: Data, size: int = 500) -> list[Data]:
    """Data in batches."""
    return list(zip(data[0].split(size), data[1].split(size), strict=True))


def evaluate(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """Cross-entropy and correct answers of a classifier of images, or of every position of a text."""
    logits, labels = predict(model, batch)
    loss = nn.functional.cross_entropy(logits.float(), labels, reduction="none").sum(dtype=torch.float64)
    return {"loss": loss, "correct": (logits.argmax(1) == labels).sum(), "count": torch.tensor(len(labels))}


def predict(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """Logits and labels."""
    inputs, labels = batch
    logits = model(inputs)
    return logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)


def on(data: Data, calibration: Data | None = None, **options: Any) -> ob.Evaluation:
    """How networks are measured on data."""
    held_out = None if calibration is None else batches(calibration)
    return ob.Evaluation(evaluate, batches(data), predict, calibration=held_out, **options)


def measured(model: nn.Module, params: Params, data: Data) -> dict[str, float]:
    """Loss, accuracy in % and calibration error in % of a network."""
    return ensemble(model, [params], data)


def ensemble(model: nn.Module, networks: Sequence[Params], data: Data) -> dict[str, float]:
    """Loss, accuracy in % and calibration error in % of the mean of softmax outputs."""
    scores = score_ensemble(model, networks, on(data)).scores
    return {"loss": scores.nll, "accuracy": 100 * (1 - scores.error), "ece": 100 * scores.ece}


def averages(model: nn.Module, ends: Sequence[Params], unlabeled: Data, test: Data) -> dict[str, float]:
    """Accuracies in % of the average of networks: as it is, and after REPAIR with unlabeled images."""
    average = ob.merge(ends)
    samples = len(unlabeled[1])
    repaired = ob.correct(model, average, ends, batches(unlabeled, 250), evaluate, method="repair", samples=samples)
    return {
        "average": measured(model, average, test)["accuracy"],
        "repaired": measured(model, repaired.params, test)["accuracy"],
    }


def mean_std(values: Sequence[float], digits: int = 2) -> str:
    """A mean and its standard deviation."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"
