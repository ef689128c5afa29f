"""Errors of spans, evaluations, training and lines, raised."""

import torch
from torch import nn

from onebasin import Evaluation, PathProfile, profile_path
from onebasin.connectivity.measure import measure
from onebasin.connectivity.span import Span
from onebasin.connectivity.training import Schedule, fit_vertices
from onebasin.errors import MismatchError, OptionError
from onebasin.evaluation import repeatable

LINE = nn.Linear(1, 1)
NORM = nn.BatchNorm1d(1)


def sums(model: nn.Module, batch: object) -> dict[str, torch.Tensor]:
    """The sum of outputs."""
    return {"loss": model(batch).sum(), "count": torch.tensor(len(batch))}


def fit(evaluate: object = sums, batches: object = (torch.ones(1, 1),), **schedule: float) -> object:
    """Train one end of a line."""
    span = Span(LINE, [LINE, LINE])
    return fit_vertices(span, [1], lambda _: (0.5, 0.5), batches, evaluate, Schedule(**schedule))


def estimated(**given: object) -> object:
    """Measure a network with statistics."""
    return list(measure(Span(NORM, [NORM]), [[1.0]], Evaluation(sums, [torch.ones(2, 1)], **given)))


def line(**given: object) -> PathProfile:
    """Measure a line."""
    return profile_path(LINE, LINE, LINE, Evaluation(sums, [torch.ones(1, 1)]), **given)


ROWS = [
    (lambda: Span(LINE, []), OptionError, r"^models: expected at least one network, found none; pass some"),
    (lambda: Span(LINE, [LINE]).params([1, 2]), OptionError, r"^weights: expected 1 numbers, found 2; one a network"),
    (
        lambda: Span(LINE, [{}]),
        MismatchError,
        r"^model 1: weight: expected shape \(1, 1\), as in the model, found no such tensor; pass",
    ),
    (lambda: repeatable(3, "x"), OptionError, r"^x: expected batches, found int; pass a list or a function"),
    (
        lambda: Evaluation(sums, [], temperature=True),
        OptionError,
        r"^temperature: expected a `predict` that gives logits, found none; pass it, or leave it out",
    ),
    (lambda: line(refine=-1), OptionError, r"^refine: expected 0 or more, found -1; raise it"),
    (lambda: line(lams=2).barrier("ece"), OptionError, r"^barrier: expected loss, found ece; choose one"),
    (lambda: estimated(calibration_samples=0), OptionError, r"^samples: expected 1 or more, found 0; raise it or pass"),
    (
        lambda: estimated(calibration=[]),
        OptionError,
        r"^batches: expected at least one batch, found none; pass data to",
    ),
    (lambda: fit(epochs=0), OptionError, r"^epochs: expected 1 or more, found 0; raise it"),
    (lambda: fit(rate=0), OptionError, r"^rate: expected a positive number, found 0; try 0.05"),
    (lambda: fit(momentum=1), OptionError, r"^momentum: expected a number from 0 to 1, found 1; try 0"),
    (lambda: fit(batches=[]), OptionError, r"^batches: expected some in every epoch, found none; pass a list"),
    (
        lambda: fit(lambda *_: {"loss": torch.zeros(()), "count": torch.ones(())}),
        OptionError,
        r"^evaluate: expected a `loss` that can be differentiated, found one that cannot; return it without",
    ),
    (
        lambda: fit(lambda model, batch: {"loss": model(batch).sum() / 0, "count": torch.ones(())}),
        OptionError,
        r"^evaluate: expected a finite loss, found -?(inf|nan); lower the learning rate",
    ),
]
