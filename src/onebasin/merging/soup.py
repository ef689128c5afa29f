"""The greedy soup (Wortsman et al., 2022, recipe 1)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onebasin.errors import OptionError
from onebasin.merging.loading import load_into
from onebasin.merging.network import merge
from onebasin.merging.networks import Trial

Score = Callable[[Mapping[str, Tensor]], float]
"""How good a network is, given its tensors; higher is better."""


@dataclass(frozen=True)
class Soup:
    """What the greedy choice gave.

    Attributes:
        params: the mean of the chosen networks.
        chosen: their numbers, from 0, in the order in which they were taken.
        score: of `params`.
        scores: of every network by itself.
    """

    params: dict[str, Tensor]
    chosen: tuple[int, ...]
    score: float
    scores: tuple[float, ...]


def greedy(models: Sequence[Mapping[str, Tensor]], score: Score) -> Soup:
    """Go through networks from the best to the worst, keeping each whose mean with those kept is no worse.

    Args:
        models: tensors by name; networks in the same coordinates.
        score: looked at once for every network and once for every mean.

    Returns:
        The soup; never worse by `score` than the best network.

    Raises:
        OptionError: if there is no network.
        MismatchError: if a tensor is missing, has another shape or dtype, or holds NaN.
    """
    if not models:
        raise OptionError("models", expected="at least one model", found="none", remedy="pass the models to merge")
    scores = tuple(score(model) for model in models)
    order = sorted(range(len(models)), key=lambda k: -scores[k])  # sorting is stable: of equal ones the first
    chosen, best = order[:1], scores[order[0]]
    params = merge([models[order[0]]])
    for candidate in order[1:]:
        mixed = merge([models[k] for k in (*chosen, candidate)])
        found = score(mixed)
        if found >= best:
            chosen, best, params = [*chosen, candidate], found, mixed
    return Soup(params, tuple(chosen), best, scores)


def validation_score(trial: Trial) -> Score:
    """The share of correct answers on the validation split, or minus the loss per sample where none are counted."""

    def score(params: Mapping[str, Tensor]) -> float:
        model = load_into(trial, params, "soup")
        sums: dict[str, float] = {}
        with torch.no_grad():
            for batch in trial.batches("val"):
                for key, value in trial.evaluate(model, batch).items():
                    sums[key] = sums.get(key, 0.0) + float(value)
        if not sums.get("count"):
            raise OptionError("val", expected="samples to choose by", found="none", remedy="add a validation split")
        return sums["correct"] / sums["count"] if "correct" in sums else -sums["loss"] / sums["count"]

    return score
