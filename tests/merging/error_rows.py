"""The errors of merging, for the table of all errors."""

import torch
from torch import nn

from onebasin import merge
from onebasin.errors import MismatchError, OptionError
from onebasin.merging import fisher_merge, gram_matrices, greedy, regmean_merge
from onebasin.merging.soup import validation_score

W = {"w": torch.zeros(6), "v": torch.zeros(4)}


class Trial:
    """A model of one weight and some data."""

    name = "line"

    def __init__(self, data: list[object]) -> None:
        self.data = data

    def build_model(self) -> nn.Module:
        """Build the model."""
        return nn.Linear(1, 1)

    def batches(self, _: str) -> list[object]:
        """Give the data."""
        return self.data

    def evaluate(self, _: nn.Module, __: object) -> dict[str, torch.Tensor]:
        """Count nothing."""
        return {}


MERGING = [
    (
        lambda: merge([W], "x"),
        OptionError,
        r"^method: expected mean or lerp or slerp or .*, found 'x'; choose one of them",
    ),
    (lambda: merge([]), OptionError, r"^models: expected at least one model, found none; pass the models to merge"),
    (
        lambda: merge([W], "lerp"),
        OptionError,
        r"^models: expected 2 for lerp, found 1; use mean for other counts",
    ),
    (
        lambda: merge([W, W], "lerp", lam=float("nan")),
        OptionError,
        r"^lam: expected a finite number, \{layers: \[numbers\]\}, or a list of \{filter, value\}, found nan; correct",
    ),
    (
        lambda: merge([W, W], "lerp", lam={"layers": 3}),
        OptionError,
        r"^lam: expected a finite number, .*found \{'layers': 3\}; correct it",
    ),
    (
        lambda: merge([W, W], "lerp", lam=[0.5]),
        OptionError,
        r"^lam: expected a finite number, .*found 0.5; correct it",
    ),
    (
        lambda: merge([W, W], "lerp", lam=[{"filter": "w", "value": 1}]),
        OptionError,
        r"^lam: expected a value for every tensor, found filters only; end the list with a value without a filter",
    ),
    (
        lambda: merge([W, W], "lerp", ham=1),
        OptionError,
        r"^ham: expected a parameter of lerp: lam, found 'ham', which is unknown; write 'lam' if you mean that",
    ),
    (
        lambda: merge([W, W], weights=[1, 2, 3]),
        OptionError,
        r"^weights: expected 2 numbers, found \[1, 2, 3\]; pass one number a model",
    ),
    (
        lambda: merge([W, W], weights=[1, -1]),
        OptionError,
        r"^weights: expected 2 numbers with a positive sum, found \[1.0, -1.0\]; pass one weight a model",
    ),
    (
        lambda: merge([W, W], normalize="no"),
        OptionError,
        r"^normalize: expected true or false, found 'no'; correct it",
    ),
    (
        lambda: merge([W, W], "ties", base=W, density=[2]),
        OptionError,
        r"^density: expected a number from 0 to 1, found 2; correct it",
    ),
    (
        lambda: merge([W, W], "ties"),
        OptionError,
        r"^base: expected the common ancestor of the models for ties, found none; pass the base",
    ),
    (
        lambda: gram_matrices(nn.Linear(1, 1), [], lambda *_: {}),
        OptionError,
        r"^batches: expected at least one batch, found none; pass data to estimate from",
    ),
    (
        lambda: gram_matrices(nn.Linear(1, 1), [0], lambda *_: {}, 0),
        OptionError,
        r"^samples: expected 1 or more, found 0; raise it",
    ),
    (
        lambda: greedy([], lambda _: 0.0),
        OptionError,
        r"^models: expected at least one model, found none; pass the models to merge",
    ),
    (
        lambda: validation_score(Trial([]))(nn.Linear(1, 1).state_dict()),
        OptionError,
        r"^val: expected samples to choose by, found none; add a validation split",
    ),
    (
        lambda: validation_score(Trial([]))({}),
        MismatchError,
        r"^soup: weight: expected shape \(1, 1\), as in the model, found no such tensor; pass",
    ),
    (
        lambda: fisher_merge([W, W], [{"w": torch.zeros(5)}] * 2),
        MismatchError,
        r"^fisher 1: w: expected the shape of the model's tensor, \(6,\), found shape \(5,\); estimate it on the same",
    ),
    (
        lambda: regmean_merge([W, W], [{"w": torch.zeros(5, 5)}] * 2),
        MismatchError,
        r"^gram 1: w: expected a matrix of shape \(None, None\) for every model, found shape \(5, 5\) for 2 of 2; coll",
    ),
    (
        lambda: merge([W, {"w": W["w"]}]),
        MismatchError,
        r"^model 2: v: expected a tensor of this name, found none; merge one architecture",
    ),
    (
        lambda: merge([W, W | {"w": torch.zeros(5)}]),
        MismatchError,
        r"^model 2: w: expected shape \(6,\), as in model 1, found shape \(5,\); merge checkpoints of one",
    ),
]
"""Rows of the table in `test_error_messages.py`."""
