"""Accuracy class by class: what each parent knew, and what of it the merged network lost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebasin.errors import OptionError
from onebasin.evaluation import Predict
from onebasin.modes import in_mode


@dataclass(frozen=True)
class ClassAccuracies:
    """Accuracies of several networks, class by class.

    Attributes:
        counts: samples of every class.
        accuracies: for every network by its label, the share (0 to 1) of each class's samples answered right; NaN for a
            class without samples.
    """

    counts: tuple[int, ...]
    accuracies: Mapping[str, tuple[float, ...]]

    def joined(self, other: "ClassAccuracies") -> "ClassAccuracies":
        """These networks and others, measured on the same samples."""
        return ClassAccuracies(self.counts, {**self.accuracies, **other.accuracies})

    def to_json(self) -> dict[str, object]:
        """The JSON form; null stands for a class without samples."""
        return {"counts": list(self.counts), "accuracies": {name: list(row) for name, row in self.accuracies.items()}}

    def lost(self, label: str, others: Sequence[str] | None = None) -> tuple[float, ...]:
        """How far a network is below the best of others in every class, 0 to 1; negative where it is above.

        Args:
            label: of the network.
            others: labels of those it is compared with; None: all others.

        Raises:
            OptionError: if there is no network of this label, or no other one.
        """
        names = [name for name in self.accuracies if name != label] if others is None else others
        rows = [self.accuracies[name] for name in names if name in self.accuracies]
        if label not in self.accuracies or not rows:
            raise OptionError(
                "label", expected=f"one of {', '.join(self.accuracies)}, and another network", found=repr(label),
                remedy="pass the label of a network that was measured",
            )  # fmt: skip
        best = [max(column) for column in zip(*rows, strict=True)]
        return tuple(top - own for top, own in zip(best, self.accuracies[label], strict=True))


def class_accuracies(networks: Mapping[str, nn.Module], batches: Iterable[object], predict: Predict) -> ClassAccuracies:
    """Measure classifiers class by class.

    Args:
        networks: by label, such as `"a"`, `"b"` and `"merged"`; they run in eval mode, and are left as they were.
        batches: as `predict` takes them, the same ones for every network.
        predict: runs a network on a batch and returns logits `[n, classes]` and labels, int64 `[n]`.

    Raises:
        OptionError: if there is no network or no sample.
    """
    data = list(batches)
    if not networks or not data:
        raise OptionError(
            "networks" if data else "batches", expected="at least one", found="none", remedy="pass what to measure"
        )
    shares: dict[str, tuple[float, ...]] = {}
    counts = torch.zeros(0, dtype=torch.int64)
    for label, model in networks.items():
        with in_mode(model, train=False), torch.no_grad():
            hits, counts = _hits(predict(model, batch) for batch in data)
        shares[label] = tuple((hits / counts).tolist())
    return ClassAccuracies(tuple(counts.tolist()), shares)


def _hits(predictions: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Right answers and samples of every class, int64 `[classes]`."""
    rows = [(logits.shape[1], logits.argmax(1).cpu(), labels.cpu()) for logits, labels in predictions]
    classes = max(width for width, _, _ in rows)
    answers, labels = torch.cat([row[1] for row in rows]), torch.cat([row[2] for row in rows])
    hits = torch.bincount(labels[answers == labels], minlength=classes)
    return hits, torch.bincount(labels, minlength=classes)
