"""Every error that matching and similarities raise."""

from collections.abc import Callable

import torch
from torch import nn

from onebasin import AxisGroup, discover, learn_matching, learn_universe, match, match_many
from onebasin.errors import MismatchError, OneBasinError, OptionError
from onebasin.matching.activation import Activations, activation_similarity
from onebasin.similarity.moments import CrossMoments
from strategies import written

S = written([AxisGroup("h", 2), AxisGroup("u", 3, ("h",))], {"w": "h*u", "v": "4"})
W = {"w": torch.zeros(6), "v": torch.zeros(4)}
NAN = torch.full((2, 1), torch.nan)


def activations(passes: int = 1, **options: object) -> Activations:
    """Compare a network with itself, run so many times a batch."""
    model, x = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1)), torch.ones(2, 1)
    given = {"batches": [x], "args": (x,), "evaluate": lambda m, b: [m(b) for _ in range(passes)]} | options
    return activation_similarity(model, model, model, discover(model, (x,)), **given)


def learned(evaluate: object = None, **options: object) -> object:
    """Learn to match a network with itself."""
    model, x = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1)), torch.ones(2, 1)
    given = {"batches": [x], "evaluate": evaluate or (lambda m, b: {"loss": m(b).sum(), "count": 2})} | options
    symmetry = discover(model, (x,))
    return learn_matching(model, model, model, symmetry, given.pop("batches"), given.pop("evaluate"), **given)


def learned_universe(count: int = 2, **options: object) -> object:
    """Learn to match several networks of one weight."""
    model = nn.Linear(1, 1)
    return learn_universe(model, [model] * count, discover(model, (torch.ones(1, 1),)), [], lambda *_: {}, **options)


Row = tuple[Callable[[], object], type[OneBasinError], str]
MATCHING: list[Row] = [
    (lambda: match(W, W, S, "x"), OptionError, r"^method: expected best or weight or .*found 'x'; choose one of"),
    (
        lambda: match(W, W, S, alpha=2),
        OptionError,
        r"^alpha: expected a number from 0 to 1, found 2; choose one of these",
    ),
    (
        lambda: match(W, W, S, alpha=1),
        OptionError,
        r"^alpha: expected 0 without activations, found 1; pass activations",
    ),
    (
        lambda: match(W, W, S, activations={"u": torch.zeros(2, 2)}),
        MismatchError,
        r"^activations: u: expected finite numbers of shape \(6, 6\), found shape \(2, 2\); compute them with this",
    ),
    (lambda: match_many([W], S), OptionError, r"^models: expected two or more, found 1; pass more"),
    (lambda: match_many([W, W], S, "x"), OptionError, r"^method: expected cycle-.*found 'x'; choose one of them"),
    (lambda: match_many([W, W], S, seed=-1), OptionError, r"^seed: expected 0 or more, found -1; raise it"),
    (lambda: match(W, W, S, max_sweeps=0), OptionError, r"^max_sweeps: expected 1 or more, found 0; raise it"),
    (
        lambda: match(W, {name: tensor.half() for name, tensor in W.items()}, S),
        MismatchError,
        r"^b: w: expected torch.float32, as in a, found torch.float16; convert one of the two",
    ),
    (lambda: activations(kind="x"), OptionError, r"^kind: expected correlation or covariance, found 'x'; choose one"),
    (lambda: activations(samples=0), OptionError, r"^samples: expected 1 or more, found 0; raise it or pass None"),
    (lambda: activations(batches=[]), OptionError, r"^batches: expected at least one sample, found none; pass data"),
    (lambda: activations(batches=[NAN]), MismatchError, r"^group 0.weight: expected finite act.*, found NaN or inf.*;"),
    (lambda: activations(0), OptionError, r"^evaluate: expected forward passes of the model, .*, found none; call the"),
    # similarity
    (
        lambda: CrossMoments(2).update(NAN, NAN.T),
        MismatchError,
        r"^activations of b: expected \[2, samples\], the same",
    ),
    (lambda: CrossMoments(2).merge(CrossMoments(3)), MismatchError, r"^moments: expected 2 units, found 3; merge the"),
    # learning
    (lambda: learned(lam=(0.0, 1.0)), OptionError, r"^lam: expected a range between 0 and 1, found \(0\.0, 1\.0\); "),
    (lambda: learned(method="x"), OptionError, r"^method: expected .*learned.*, found 'x'; choose one of them"),
    (lambda: learned(epochs=0), OptionError, r"^epochs: expected 1 or more, found 0; raise it"),
    (lambda: learned(rate=0.0), OptionError, r"^rate: expected a positive number, found 0\.0; leave it out"),
    (
        lambda: learned(batches=[]),
        OptionError,
        r"^batches: expected at least one sample, found none; pass data to learn",
    ),
    (
        lambda: learned(batches=list, validation=[torch.ones(2, 1)]),
        OptionError,
        r"^batches: expected some in every epoch, found none; pass a list of batches",
    ),
    (lambda: learned(batches=3), OptionError, r"^batches: expected batches, found int; pass a list or a function"),
    (lambda: learned(lambda *_: {}), OptionError, r"^evaluate: expected sums over a batch with `loss`, found none; "),
    (
        lambda: learned(lambda m, b: {"loss": m(b).sum().detach(), "count": 2}),
        OptionError,
        r"^evaluate: expected a `loss` that can be differentiated, found one that cannot; ",
    ),
    (
        lambda: learned(lambda m, b: {"loss": m(b).sum() * torch.nan, "count": 2}),
        OptionError,
        r"^evaluate: expected a finite loss, found nan; look for NaN",
    ),
    (lambda: learned_universe(1), OptionError, r"^models: expected two or more, found 1; pass the networks to match"),
    (lambda: learned_universe(spread=2), OptionError, r"^spread: expected a number from 0 to 1, found 2; choose one"),
    (
        lambda: learned_universe(starts=[]),
        OptionError,
        r"^starts?: expected 1 matchings of this symmetry, found 0; pass",
    ),
]
