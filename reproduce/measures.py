"""How claims measure networks on tensors: losses, accuracies, ensembles, and means with deviations."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import onebasin as ob

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
    given = {} if calibration is None else {"calibration": batches(calibration)}
    return ob.Evaluation(evaluate, batches(data), predict, **given, **options)


def measured(model: nn.Module, params: Mapping[str, Tensor], data: Data) -> dict[str, float]:
    """Loss, and accuracy in %, of a network."""
    model.load_state_dict(params)
    total = {"loss": 0.0, "correct": 0.0, "count": 0.0}
    with torch.no_grad():
        for batch in batches(data):
            for name, value in evaluate(model.eval(), batch).items():
                total[name] += float(value)
    return {"loss": total["loss"] / total["count"], "accuracy": 100 * total["correct"] / total["count"]}


def ensemble(model: nn.Module, networks: Sequence[Mapping[str, Tensor]], data: Data) -> dict[str, float]:
    """Loss and accuracy in % of the mean of softmax outputs."""
    rows = []
    with torch.no_grad():
        for params in networks:
            model.load_state_dict(params)
            rows.append(torch.cat([model.eval()(x) for x, _ in batches(data)]).double().softmax(-1))
    mean = torch.stack(rows).mean(0)
    loss = nn.functional.nll_loss(mean.log(), data[1])
    return {"loss": float(loss), "accuracy": 100 * float((mean.argmax(1) == data[1]).double().mean())}


def mean_std(values: Sequence[float], digits: int = 2) -> str:
    """A mean and its standard deviation."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"
