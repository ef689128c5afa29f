"""Accuracy class by class: what each parent knew, and what of it the merged network lost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source, load_params
from onebasin.correction.hosting import hosting, write
from onebasin.errors import OptionError
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

    def lost(self, label: str) -> tuple[float, ...]:
        """How far a network is below the best of the others in every class, 0 to 1; negative where it is above.

        Raises:
            OptionError: if there is no network of this label, or no other one.
        """
        others = [row for name, row in self.accuracies.items() if name != label]
        if label not in self.accuracies or not others:
            raise OptionError(
                "label", expected=f"one of {', '.join(self.accuracies)}, and another network", found=repr(label),
                remedy="pass the label of a network that was measured",
            )  # fmt: skip
        best = [max(column) for column in zip(*others, strict=True)]
        return tuple(top - own for top, own in zip(best, self.accuracies[label], strict=True))


def class_accuracies(
    model: nn.Module, networks: Mapping[str, Source], batches: Iterable[tuple[Tensor, Tensor]]
) -> ClassAccuracies:
    """Measure classifiers class by class.

    Args:
        model: from inputs to logits `[n, classes]`; runs every network in eval mode, and is left as it was.
        networks: by label, such as `"a"`, `"b"` and `"merged"`.
        batches: inputs and labels, int64 `[n]`.

    Raises:
        OptionError: if there is no network or no sample.
    """
    rows = {label: load_params(source) for label, source in networks.items()}
    rows = {label: {name: tensor.detach().clone() for name, tensor in row.items()} for label, row in rows.items()}
    right: dict[str, Tensor] = {}
    counts = torch.zeros(0, dtype=torch.int64)
    data = list(batches)
    if not rows or not data:
        raise OptionError(
            "networks" if data else "batches", expected="at least one", found="none", remedy="pass what to measure"
        )
    with hosting(model), in_mode(model, train=False), torch.no_grad():
        for label, params in rows.items():
            write(model, params)
            hits, counts = _hits(model, data)
            right[label] = hits
    shares = {label: tuple((hits / counts).tolist()) for label, hits in right.items()}
    return ClassAccuracies(tuple(counts.tolist()), shares)


def _hits(model: nn.Module, data: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Right answers and samples of every class, int64 `[classes]`."""
    hits = counts = torch.zeros(0, dtype=torch.int64)
    parameter = next(model.parameters(), None)
    for inputs, labels in data:
        given = inputs if parameter is None else inputs.to(parameter.device)
        if parameter is not None and given.is_floating_point():
            given = given.to(parameter.dtype)
        logits = model(given).cpu()
        classes = max(logits.shape[1], len(counts))
        answers = labels.cpu()[logits.argmax(1) == labels.cpu()]
        hits = torch.bincount(answers, minlength=classes) + torch.nn.functional.pad(hits, (0, classes - len(hits)))
        counts = torch.bincount(labels.cpu(), minlength=classes) + torch.nn.functional.pad(
            counts, (0, classes - len(counts))
        )
    return hits, counts
