"""Every error that corrections raise: rows of the table in `test_error_messages.py`."""

import math
from collections.abc import Callable

import torch
from torch import nn

from onebasin import discover
from onebasin.correction import class_accuracies, correct, expand, reestimate_batchnorm, refit, repair, rescale
from onebasin.errors import MismatchError, OneBasinError, OptionError
from onebasin.tasks import classification_logits

LINE = nn.Linear(1, 1)
SAMPLE = (torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
SYMMETRY = discover(nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)), (torch.zeros(1, 1),))


def run_line(model: nn.Module, _: object) -> dict[str, object]:
    """Run a model of one weight on one sample."""
    return {"loss": model(torch.ones(1, 1)), "count": 1}


def run_nothing(model: nn.Module, batch: object) -> dict[str, object]:
    """Run a model on the first batch only."""
    return run_line(model, batch) if batch == 0 else {"loss": 0.0, "count": 1}


def run_otherwise(model: nn.Module, batch: object) -> dict[str, object]:
    """Do something else than before with every second batch."""
    x = torch.ones(1, 1)
    return (
        {"loss": model(x).exp(), "count": 1} if batch == 0 else {"loss": model.weight.t().sin() @ x.sin(), "count": 1}
    )


def run_value(model: nn.Module, batch: float) -> dict[str, object]:
    """Run a model of one input on a number, twice."""
    return {"loss": model(torch.full((2, 1), batch)), "count": 2}


def correction(function: Callable[..., object], **options: object) -> object:
    """Correct a model of one weight."""
    own = {"weight": torch.ones(1, 1), "bias": torch.ones(1)}
    given = {"merged": own, "parents": [own, own], "batches": [0], "evaluate": run_line} | options
    return function(
        LINE, given.pop("merged"), given.pop("parents"), given.pop("batches"), given.pop("evaluate"), **given
    )


Row = tuple[Callable[[], object], type[OneBasinError], str]
ROWS: list[Row] = [
    (
        lambda: correction(refit, ridge=0.0),
        OptionError,
        r"^ridge: expected a positive number or None, found 0\.0; corr",
    ),
    (lambda: correction(refit, parents=[]), OptionError, r"^parents: expected at least one network, found none; pass"),
    (
        lambda: correction(refit, weights=[1.0]),
        OptionError,
        r"^weights: expected 2 numbers with a positive sum, found \[1\.0\]; pass one weight a parent",
    ),
    (
        lambda: correction(refit, merged={"weight": torch.zeros(1, 1)}),
        MismatchError,
        r"^merged: bias: expected shape \(1,\), as in the model, found no such tensor; pass a checkpoint of the m",
    ),
    (
        lambda: correction(refit, samples=0),
        OptionError,
        r"^samples: expected 1 or more, found 0; raise it or pass None",
    ),
    (
        lambda: correction(refit, batches=[]),
        OptionError,
        r"^batches: expected at least one sample, counted by evaluate, found none; pass data, and return `count`",
    ),
    (
        lambda: correction(refit, evaluate=run_nothing, batches=[0, 1]),
        OptionError,
        r"^model: expected the same operations for every batch, found other ones on some batch: 0 operations;",
    ),
    (
        lambda: correction(refit, evaluate=run_otherwise, batches=[0, 1]),
        OptionError,
        r"^model: expected the same operations for every batch, found other ones on some batch: aten\.sin\.de",
    ),
    *(
        (
            lambda function=function: correction(function, evaluate=run_value, batches=[0.5, math.nan]),
            OptionError,
            r"^batches: expected finite values in every layer, found NaN or infinity at weight, in batch 2; look for",
        )
        for function in (refit, repair, rescale)
    ),
    (
        lambda: correction(refit, evaluate=run_value, batches=[1e30, -1e30]),
        OptionError,
        r"^batches: expected activations whose squares fit the model's dtype, found larger ones at weight; look",
    ),
    (
        lambda: reestimate_batchnorm(nn.BatchNorm1d(1), [0.5, math.nan], run_value),
        OptionError,
        r"^batches: expected finite values in every layer, found NaN or infinity at running_mean; look for them in the",
    ),
    (lambda: correction(repair, form="x"), OptionError, r"^form: expected forward or closed, found 'x'; choose one of"),
    (
        lambda: correction(correct, method="x"),
        OptionError,
        r"^method: expected auto or rescale_from_.*, found 'x'; choose",
    ),
    (
        lambda: correction(correct, batches=None, method="refit"),
        OptionError,
        r"^batches: expected batches and evaluate, which refit needs, found none; pass both, or choose a method that",
    ),
    (
        lambda: class_accuracies({}, [0], classification_logits),
        OptionError,
        r"^networks: expected at least one, found none; pass what to measure",
    ),
    (
        lambda: class_accuracies({"a": LINE}, [SAMPLE], classification_logits).lost("a"),
        OptionError,
        r"^label: expected one of a, and another network, found 'a'; pass the label of a network that was measured",
    ),
    (
        lambda: expand(LINE, [LINE], SYMMETRY, 1.5),
        OptionError,
        r"^extra and groups: expected a share from 0 to 1, and groups out of 0.weight, found 1\.5 and 0",
    ),
]
