"""What is maximised besides the products of weights: given similarities, mixtures, tensors of unit variance."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from matching.networks import NETWORKS
from onebasin import Matching, Symmetry, match
from onebasin.errors import MismatchError, OptionError
from strategies import normal, same


def random_similarities(s: Symmetry, seed: int) -> dict[str, Tensor]:
    """A random matrix for every group."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {name: int(np.prod([*s.context_sizes(group), group.size])) for name, group in s.groups.items()}
    return {name: torch.randn(m, m, generator=generator, dtype=torch.float64) for name, m in sizes.items()}


def planted_similarities(s: Symmetry, element: Matching) -> dict[str, Tensor]:
    """One where the element takes each member from, zero elsewhere."""
    return {name: torch.eye(len(element.members(name)))[element.members(name)] for name in s.groups}


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_given_similarities_alone_are_one_assignment_a_group(network: str) -> None:
    """Without weights every group is assigned by itself, as SciPy does it, and the result is known to be optimal."""
    s = NETWORKS[network]
    given = random_similarities(s, 0)
    found = match(normal(s, 0), normal(s, 1), s, activations=given)

    for name, values in given.items():
        np.testing.assert_array_equal(found.permutations[name].index, linear_sum_assignment(values, maximize=True)[1])
    assert found.objective == pytest.approx(1)
    assert found.share == pytest.approx(1)


@pytest.mark.parametrize("network", NETWORKS)
def test_planted_similarities_are_followed(network: str) -> None:
    """Similarities that name one element lead to it, units inside heads and heads together."""
    s = NETWORKS[network]
    element = s.random(5)
    found = match(normal(s, 0), normal(s, 1), s, activations=planted_similarities(s, element))

    assert found.permutations == element.permutations


@pytest.mark.parametrize("network", NETWORKS)
def test_mixtures_lie_between(network: str) -> None:
    """Almost no share of the similarities leaves weight matching as it is, almost all of it gives theirs."""
    s = NETWORKS[network]
    a = normal(s, 0)
    planted, other = s.random(1), s.random(2)
    b = planted.apply(a)
    given = planted_similarities(s, other)

    assert same(match(a, b, s, activations=given, alpha=0.001).apply(b), a)
    assert match(a, b, s, activations=given, alpha=0.999).permutations == other.permutations
    assert match(a, b, s, activations=given, alpha=0) == match(a, b, s)


def test_scale_of_single_tensors_does_not_count_when_normalised() -> None:
    """Multiplying a tensor of both networks changes the matching, but not the normalised one."""
    s = NETWORKS["conv"]
    a, b = normal(s, 0), normal(s, 1)
    louder = [{name: t * (300.0 if name == "fc" else 1.0) for name, t in state.items()} for state in (a, b)]

    assert match(*louder, s).permutations != match(a, b, s).permutations
    assert match(*louder, s, normalised=True).permutations == match(a, b, s, normalised=True).permutations


def test_bad_similarities_are_refused() -> None:
    """A wrong shape, an unknown group, NaN, and a share without similarities or out of range are named."""
    s = NETWORKS["mlp"]
    a, b = normal(s, 0), normal(s, 1)
    broken = torch.full((24, 24), torch.nan)
    for given, text in (
        (
            {"h1": torch.zeros(2, 2)},
            r"activations: h1: expected finite numbers of shape \(24, 24\), found shape \(2, 2\)",
        ),
        ({"x": torch.zeros(2, 2)}, "activations: x: expected a group of the symmetry that moves"),
        ({"h1": broken}, "activations: h1: .*not all finite"),
    ):
        with pytest.raises(MismatchError, match=text):
            match(a, b, s, activations=given)
    with pytest.raises(OptionError, match=r"alpha: expected 0 without activations, found 0\.5"):
        match(a, b, s, alpha=0.5)
    with pytest.raises(OptionError, match="alpha: expected a number from 0 to 1, found 2"):
        match(a, b, s, activations={}, alpha=2)
