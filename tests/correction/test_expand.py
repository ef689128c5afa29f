"""Wider networks between the average and the ensemble."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import onebasin as ob
import zoo
from onebasin.correction import expand
from onebasin.correction.expand import Expansion

Build = Callable[[int], nn.Module]
CASES: list[tuple[Build, tuple[int, ...]]] = [
    (lambda times: zoo.mlp(5, 6 * times, 4 * times, 3), (5,)),
    (lambda times: zoo.ResNet20(4 * times), (3, 8, 8)),
    (lambda times: zoo.vgg16(2 * times, (6 * times,)), (3, 32, 32)),
]


def trained(build: Build, times: int, seed: int) -> nn.Module:
    """A network in float64 and eval mode with statistics and biases of its own."""
    torch.manual_seed(seed)
    model = build(times).double().eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim == 1 and tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor))
    return model


def widened(build: Build, x: Tensor, extra: float, **options: object) -> tuple[Expansion, list[nn.Module]]:
    """The expansion of three networks, and these."""
    parents = [trained(build, 1, seed) for seed in range(3)]
    symmetry = ob.discover(parents[0], (x,))
    return expand(parents[0], parents, symmetry, extra, (x,), **options), parents


@pytest.mark.parametrize(("build", "shape"), CASES)
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 5.0]])
def test_all_units_apart_are_the_ensemble(build: Build, shape: tuple[int, ...], weights: list[float] | None) -> None:
    """With every unit apart the wider network computes the weighted average of its parents' outputs."""
    x = torch.randn(4, *shape).double()
    found, parents = widened(build, x, 1.0, weights=weights)
    wide = build(3).double().eval()
    wide.load_state_dict(found.params)
    shares = torch.tensor(weights or [1.0, 1.0, 1.0]).double()
    with torch.no_grad():
        expected = sum(share * parent(x) for share, parent in zip(shares / shares.sum(), parents, strict=True))
        torch.testing.assert_close(wide(x), expected)


@pytest.mark.parametrize(("build", "shape"), CASES)
def test_no_unit_apart_is_the_average(build: Build, shape: tuple[int, ...]) -> None:
    """With no unit apart the tensors are the average of the parents' tensors."""
    found, parents = widened(build, torch.randn(4, *shape).double(), 0.0)
    average = ob.merge(parents)

    assert all(torch.allclose(found.params[name], tensor) for name, tensor in average.items())
    assert set(found.apart.values()) == {()}


def test_the_worst_matched_units_are_kept_apart() -> None:
    """The unit in which two networks differ is kept apart, and the result is exact, since all others agree."""
    a = trained(CASES[0][0], 1, 0)
    params = {name: tensor.clone() for name, tensor in a.state_dict().items()}
    params["2.weight"][1] *= -1
    params["2.bias"][1] += 1
    x = torch.randn(9, 5).double()
    found = expand(a, [a, params], ob.discover(a, (x,)), 0.25, (x,))
    wide = zoo.mlp(5, *found.sizes.values(), 3).double()
    wide.load_state_dict(found.params)
    other = trained(CASES[0][0], 1, 0)
    other.load_state_dict(params)

    assert found.apart["2.weight"] == (1,)
    assert list(found.sizes.values()) == [8, 5]
    with torch.no_grad():
        torch.testing.assert_close(wide(x), (a(x) + other(x)) / 2)


def test_only_the_groups_asked_for_grow() -> None:
    """Groups that are not named keep their size."""
    found, _ = widened(CASES[0][0], torch.randn(4, 5).double(), 0.5, groups=["2.weight"])

    assert found.sizes == {"0.weight": 6, "2.weight": 4 + 2 * 2}
    assert {name: tuple(tensor.shape) for name, tensor in found.params.items() if "weight" in name} == {
        "0.weight": (6, 5),
        "2.weight": (8, 6),
        "4.weight": (3, 8),
    }
