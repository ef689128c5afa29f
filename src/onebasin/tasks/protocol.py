"""What a task is, and what can be said of any task."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from onebasin.errors import TaskError
from onebasin.evaluation import Predict

SPLITS = ("train", "val", "test")
"""The splits every task with data offers."""


class Task(Protocol):
    """A model, how to run it, and data with a loss.

    Anything with these members is a task; `load_task` makes one from a name or from a user's file.

    Attributes:
        name: short name for tables and messages.
    """

    @property
    def name(self) -> str:
        """Short name for tables and messages."""

    def build_model(self) -> nn.Module:
        """Build the network with fresh weights, drawn from torch's global generator."""

    def example_inputs(self) -> tuple[object, ...]:
        """Give the positional inputs of one forward pass."""

    def batches(self, split: str) -> Iterable[object]:
        """Give the batches of `"train"`, `"val"` or `"test"`, the same ones in the same order each time.

        What is returned can be iterated more than once. Raises TaskError for another split.
        """

    def evaluate(self, model: nn.Module, batch: object) -> dict[str, Tensor]:
        """Give sums over a batch as scalars: at least `"loss"` and `"count"`; `"loss"` can be differentiated."""


def check_split(split: str, subject: str) -> None:
    """Refuse a split that no task has.

    Args:
        split: the name asked for.
        subject: the task or file asked, for the message.

    Raises:
        TaskError: `split` is not one of `SPLITS`.
    """
    if split not in SPLITS:
        raise TaskError(
            subject, expected=f"a split out of {', '.join(SPLITS)}", found=repr(split), remedy="ask for one of these"
        )


def predictor(task: Task) -> Predict | None:
    """A task's `predict`, where it has one: ensembles and calibration need logits, losses and errors do not.

    Args:
        task: built in, or a user's, whose `predict(model, batch)` returns logits `[n, classes]` and labels `[n]`.
    """
    found: Predict | None = getattr(task, "predict", None)
    return found


def classification_logits(model: nn.Module, batch: object) -> tuple[Tensor, Tensor]:
    """Run a classifier on a pair of inputs and labels; the `predict` of every built-in task.

    Inputs are moved to the device, and floating inputs to the dtype, of the model's first parameter, so that the same
    batches serve a model on an accelerator or in float64. The model stays in the mode (train or eval) it is in.

    Args:
        model: maps inputs to logits `[n, classes]`.
        batch: inputs `[n, ...]` and labels, int64 `[n]`.

    Returns:
        logits `[n, classes]`, and labels on their device.

    Raises:
        TaskError: the batch is not a pair of tensors of the same length.
    """
    match batch:
        case (Tensor() as inputs, Tensor() as labels) if labels.ndim == 1 and len(inputs) == len(labels):
            pass
        case _:
            raise TaskError(
                "batch",
                expected="a pair of tensors, inputs [n, ...] and labels [n]",
                found=_outline(batch),
                remedy="yield such pairs from batches",
            )
    parameter = next(model.parameters(), inputs)
    dtype = parameter.dtype if inputs.is_floating_point() else inputs.dtype  # tokens stay integers
    logits: Tensor = model(inputs.to(parameter.device, dtype))
    return logits, labels.to(parameter.device)


def classification_sums(model: nn.Module, batch: object) -> dict[str, Tensor]:
    """Evaluate a classifier on a pair of inputs and labels; the `evaluate` of every built-in task.

    Args:
        model: maps inputs to logits `[n, classes]`; see `classification_logits`.
        batch: inputs `[n, ...]` and labels, int64 `[n]`.

    Returns:
        Scalars: `"loss"`, the sum of cross-entropies in nats (float64, differentiable); `"correct"` and `"count"`
        (int64).

    Raises:
        TaskError: the batch is not a pair of tensors of the same length.
    """
    logits, labels = classification_logits(model, batch)
    # Float32 sums over a data set lose digits that a barrier of 1e-3 needs.
    loss = functional.cross_entropy(logits, labels, reduction="none").sum(dtype=torch.float64)
    return {
        "loss": loss,
        "correct": (logits.argmax(dim=1) == labels).sum(),
        "count": torch.tensor(len(labels), device=logits.device),
    }


def averages(task: Task, model: nn.Module, split: str = "test") -> dict[str, float]:
    """Evaluate a model on a whole split, in eval mode and without gradients.

    Args:
        task: gives batches and the evaluation.
        model: the network; its mode is put back afterwards.
        split: `"train"`, `"val"` or `"test"`.

    Returns:
        Every sum of the task divided by the count, such as `"loss"` per sample and `"correct"` (the accuracy, 0 to 1),
        and `"count"` itself.

    Raises:
        TaskError: the split is unknown or its count is zero.
    """
    totals: dict[str, float] = {}
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in task.batches(split):
                for key, value in task.evaluate(model, batch).items():
                    totals[key] = totals.get(key, 0.0) + float(value)
    finally:
        model.train(training)
    count = totals.pop("count", 0.0)
    if not count > 0:
        raise TaskError(
            f"{task.name}: split {split}", expected="samples to average over", found=f"{count:g}", remedy="add data"
        )
    return {key: total / count for key, total in totals.items()} | {"count": count}


def _outline(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {', '.join(map(_outline, value)) or 'nothing'}"
    return f"a value of type {type(value).__name__}"
