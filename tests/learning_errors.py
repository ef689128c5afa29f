"""Rows of the table of error messages for matching with the task's loss."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from onebasin import AxisGroup
from onebasin.errors import MismatchError, OneBasinError, OptionError
from onebasin.matching.learned import learn_matching, learn_universe
from strategies import written

MODEL = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
STATE = {name: tensor.detach().clone() for name, tensor in MODEL.state_dict().items()}
SYMMETRY = written([AxisGroup("h", 3)], {"0.weight": "h,2", "0.bias": "h", "1.weight": "1,h", "1.bias": "1"})
OTHER = written([AxisGroup("h", 4)], {"w": "h"})


def mean(model: nn.Module, batch: object) -> dict[str, Tensor]:
    """The sum of the outputs."""
    return {"loss": model(batch).sum(), "count": torch.tensor(len(batch))}


def learn(data: object = (torch.ones(2, 2),), evaluate: object = mean, **options: object) -> object:
    """Learn to match a network with itself."""
    return learn_matching(MODEL, STATE, STATE, SYMMETRY, data, evaluate, **{"epochs": 1} | options)


def many(count: int, **options: object) -> object:
    """The same for `count` networks."""
    return learn_universe(MODEL, [STATE] * count, SYMMETRY, [torch.ones(2, 2)], mean, **options)


ROWS: list[tuple[Callable[[], object], type[OneBasinError], str]] = [
    (lambda: learn(method="x"), OptionError, r"^method: expected learned or straight-through, found 'x'; choose one"),
    (lambda: learn(epochs=0), OptionError, r"^epochs: expected 1 or more, found 0; raise it"),
    (lambda: learn(rate=0.0), OptionError, r"^rate: expected a positive number, found 0\.0; leave it out"),
    (lambda: learn(lam=(0.0, 1.0)), OptionError, r"^lam: expected a range between 0 and 1, found \(0\.0, 1\.0\); cho"),
    (lambda: many(1), OptionError, r"^models: expected two or more, found 1; pass the networks"),
    (lambda: many(2, spread=2), OptionError, r"^spread: expected a number from 0 to 1, found 2; choose"),
    (
        lambda: many(3, starts=[SYMMETRY.identity()]),
        OptionError,
        r"^starts: expected 2 matchings of this symmetry, found 1; pass one for every network",
    ),
    (
        lambda: learn(start=OTHER.identity()),
        OptionError,
        r"^start: expected 1 matchings of this symmetry, found one of another symmetry; pass one",
    ),
    (lambda: learn(3), OptionError, r"^batches: expected batches, found int; pass a list or a function"),
    (lambda: learn([]), OptionError, r"^batches: expected at least one sample, found none; pass data to learn from"),
    (
        lambda: learn([], validation=[torch.ones(2, 2)]),
        OptionError,
        r"^batches: expected some in every epoch, found none; pass a list",
    ),
    (
        lambda: learn(evaluate=lambda *_: {"count": torch.tensor(1)}),
        OptionError,
        r"^evaluate: expected sums over a batch with `loss`, found count; return `loss`",
    ),
    (
        lambda: learn([torch.full((2, 2), torch.nan)]),
        OptionError,
        r"^evaluate: expected a finite loss, found nan; look for",
    ),
    (
        lambda: learn(evaluate=lambda *_: {"loss": torch.ones(()), "count": torch.tensor(1)}),
        OptionError,
        r"^evaluate: expected a `loss` that can be differentiated, found one that cannot; return it without",
    ),
    (
        lambda: learn_universe(MODEL, [STATE, {}], SYMMETRY, [], mean),
        MismatchError,
        r"^model 2: 0\.weight: expected a tensor of this name, as in the symmetry, found none;",
    ),
]
