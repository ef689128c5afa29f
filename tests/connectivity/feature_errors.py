"""Errors of features and ensembles, raised."""

import json
import tempfile
from pathlib import Path

import torch
from torch import nn

from onebasin import Evaluation
from onebasin.connectivity import (
    EnsembleTable,
    FeatureLinearity,
    cka,
    commutativity,
    cyclic,
    ensemble_table,
    feature_linearity,
    feature_similarity,
    principal_angles,
    score_ensemble,
    stitch,
)
from onebasin.errors import CheckpointError, MismatchError, OptionError

LINE = nn.Linear(1, 1)
REPEAT = nn.Sequential(nn.Identity())


def sums(model: nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    """The sum of outputs."""
    return {"loss": model(batch).sum(), "count": torch.tensor(len(batch))}


def predict(model: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs as logits of one class."""
    return model(batch), torch.zeros(len(batch), dtype=torch.long)


def evaluation(batches: object = (torch.ones(2, 1),), **given: object) -> Evaluation:
    """How a line is measured."""
    return Evaluation(sums, batches, **given)


def linear(networks: object = (LINE, LINE), batches: object = (torch.ones(2, 1),), **given: object) -> object:
    """Features of lines."""
    return feature_linearity(LINE, networks, evaluation(batches), **given)


def ensemble(networks: object = (LINE, LINE), **given: object) -> object:
    """A table of lines."""
    return ensemble_table(LINE, networks, evaluation(predict=predict), **given)


def cycle(batches: object = (torch.ones(2, 1),), evaluate: object = sums, **given: object) -> object:
    """Train a line."""
    return cyclic(LINE, LINE, batches, evaluate, **given)


def load(kind: type[FeatureLinearity] | type[EnsembleTable], content: object) -> object:
    """Read a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.json")
        path.write_text(json.dumps(content), encoding="utf-8")
        return kind.load(path)


def infinite(model: nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    """A loss that is no number."""
    return {name: value / 0 if name == "loss" else value for name, value in sums(model, batch).items()}


ROWS = [
    (lambda: linear([LINE]), OptionError, r"^networks: expected two or more, found 1; pass them in a list"),
    (
        lambda: linear(weights=[1.0]),
        OptionError,
        r"^weights: expected 2 numbers, one a network, found 1; leave them out for the mean",
    ),
    (lambda: linear(layers=["x"]), OptionError, r"^layer x: expected a module of the model, found none; see named_"),
    (lambda: linear(samples=0), OptionError, r"^samples: expected 1 or more, found 0; raise it or pass None"),
    (lambda: linear(batches=[]), OptionError, r"^batches: expected at least one batch, found none; pass data to run"),
    (
        lambda: feature_linearity(REPEAT, [REPEAT, REPEAT], evaluation()),
        OptionError,
        r"^layers: expected layers that give tensors, found none that ran; name other modules",
    ),
    (
        lambda: load(FeatureLinearity, {"format": "onebasin-features/1"}),
        CheckpointError,
        r"file\.json: expected layers with a number each in every column, .*; pass a file or folder that `save`",
    ),
    (
        lambda: commutativity(LINE, [LINE, LINE], evaluation(), layers=["x"]),
        OptionError,
        r"^layer x: expected a linear or convolutional layer, found another one or none; leave",
    ),
    (
        lambda: stitch(LINE, LINE, LINE, evaluation(), share=float("nan")),
        OptionError,
        r"^share: expected a finite number, found nan; try 1",
    ),
    (
        lambda: stitch(LINE, LINE, LINE, evaluation(), samples=0),
        OptionError,
        r"^samples: expected 1 or more, found 0; raise it or pass None",
    ),
    (
        lambda: stitch(LINE, LINE, LINE, evaluation([])),
        OptionError,
        r"^batches: expected at least one batch, found none; pass data to evaluate on",
    ),
    (
        lambda: feature_similarity(LINE, LINE, LINE, evaluation(), top=0),
        OptionError,
        r"^top: expected 1 or more, found 0; raise it",
    ),
    (
        lambda: feature_similarity(LINE, LINE, LINE, evaluation()),
        OptionError,
        r"^batches: expected 4 samples or more in one, found fewer; make batches larger",
    ),
    (
        lambda: cka(torch.ones(5, 1), torch.ones(4, 1)),
        MismatchError,
        r"^features: expected the same samples in both, 4 or more, found 5 and 4; run both networks on one batch",
    ),
    (
        lambda: principal_angles(torch.ones(5, 1), torch.ones(5, 1), 2),
        MismatchError,
        r"^features: expected as many numbers in both, and 2 or more of them and of samples, found shapes .*; run",
    ),
    (
        lambda: score_ensemble(LINE, [LINE], evaluation()),
        OptionError,
        r"^predict: expected a function that gives logits and labels, found none; pass it to Evaluation, or add",
    ),
    (
        lambda: score_ensemble(LINE, [LINE], evaluation([], predict=predict)),
        OptionError,
        r"^batches: expected at least one batch, found none; pass data to predict",
    ),
    (lambda: ensemble([LINE]), OptionError, r"^networks: expected two or more, found 1; pass them in a list"),
    (lambda: ensemble(budgets=[0]), OptionError, r"^budgets: expected numbers of forwards from 1, found \[0\]; try 1,"),
    (
        lambda: ensemble(contenders={"SWA": []}),
        OptionError,
        r"^contender SWA: expected at least one network, found none; leave it out or add some",
    ),
    (
        lambda: ensemble(contenders={"vertices": [LINE]}),
        OptionError,
        r"^contender vertices: expected a name of its own, found one of the table's; choose another",
    ),
    (
        lambda: load(EnsembleTable, {"format": "onebasin-ensembles/1"}),
        CheckpointError,
        r"file\.json: expected a table of ensembles, .*; pass a file or folder that `save` wrote",
    ),
    (lambda: cycle(cycles=0), OptionError, r"^cycles: expected 1 or more, found 0; raise it"),
    (
        lambda: cycle(rates=(0.1, 0.2)),
        OptionError,
        r"^rates: expected a higher and a lower positive number, found 0.1 and 0.2; try 0.05 and 0.01",
    ),
    (lambda: cycle([]), OptionError, r"^batches: expected at least one batch, found none; pass data to train on"),
    (lambda: cycle(evaluate=infinite), OptionError, r"^evaluate: expected a finite loss, found .*; lower the rates"),
]
