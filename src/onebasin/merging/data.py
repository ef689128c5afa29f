"""Methods that look at data: the greedy soup, Fisher weights and regression on the inputs of linear layers."""

from typing import TYPE_CHECKING, Annotated

from onebasin.merging.method import Between, NetworkMethod, PerModel, network_method

if TYPE_CHECKING:
    from torch import Tensor

    from onebasin.merging.networks import Networks


@network_method
def greedy_soup(networks: "Networks") -> "dict[str, Tensor]":
    """Take networks in the order of their validation score, each only if the mean does not get worse by it.

    The score is the share of correct answers on the validation split, or without such a count minus the loss (Wortsman
    et al., 2022, recipe 1).

    Args:
        networks: the networks and their task.
    """
    from onebasin.merging.soup import greedy, validation_score

    return greedy(networks.models, validation_score(networks.trial)).params


@network_method
def fisher(networks: "Networks", *, weights: PerModel = (1.0,)) -> "dict[str, Tensor]":
    """Weigh every parameter by how much the network's loss depends on it (Matena and Raffel, 2022).

    The diagonal of the Fisher information is estimated on training samples, label included.

    Args:
        networks: the networks and their task.
        weights: a number a model.
    """
    from onebasin.merging.fisher import estimate_fisher, fisher_merge
    from onebasin.merging.loading import load_into

    trial = networks.trial
    found = [
        estimate_fisher(load_into(trial, params, label), trial.batches("train"), trial.evaluate, networks.samples)
        for params, label in zip(networks.models, networks.labels, strict=True)
    ]
    return fisher_merge(networks.models, found, weights)


@network_method
def regmean(
    networks: "Networks", *, weights: PerModel = (1.0,), alpha: Annotated[float, Between(0, 1)] = 0.9
) -> "dict[str, Tensor]":
    """Make every linear layer answer its inputs as the parents' layers answer theirs (RegMean, Jin et al., 2023).

    Inputs are those of training samples; no labels are used.

    Args:
        networks: the networks and their task.
        weights: a number a model.
        alpha: what inner products of different inputs are multiplied by; below 1 for few samples.
    """
    from onebasin.merging.loading import load_into
    from onebasin.merging.regression import gram_matrices, regmean_merge

    trial = networks.trial
    grams = [
        gram_matrices(load_into(trial, params, label), trial.batches("train"), trial.evaluate, networks.samples)
        for params, label in zip(networks.models, networks.labels, strict=True)
    ]
    return regmean_merge(networks.models, grams, weights, alpha=alpha)


NETWORK_METHODS: dict[str, NetworkMethod[...]] = {chosen.name: chosen for chosen in (greedy_soup, fisher, regmean)}
"""The methods by name."""
