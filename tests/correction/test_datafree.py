"""Corrections without data, by hand."""

import torch
from torch import Tensor, nn

import onebasin as ob
import zoo
from correction.layers import network
from onebasin.correction import calibrate_biases, rescale_from_weights

Params = dict[str, Tensor]


def state(model: nn.Module) -> Params:
    """A copy of a model's tensors."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_gain_of_a_pair_is_that_of_the_cosine() -> None:
    """Rows of one length at an angle get the gain sqrt(2 / (1 + cosine)), and biases stay."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    a, b = (nn.functional.normalize(torch.randn(3, 4).double(), dim=1) * 2 for _ in range(2))
    bias = torch.randn(3).double()
    parents = [{"weight": a, "bias": bias}, {"weight": b, "bias": -bias / 3}]
    merged = ob.merge(parents)
    found = rescale_from_weights(model, merged, parents, (torch.zeros(1, 4).double(),))
    gain = (2 / (1 + nn.functional.cosine_similarity(a, b))).sqrt()

    torch.testing.assert_close(found.params["weight"], gain[:, None] * merged["weight"])
    torch.testing.assert_close(found.params["bias"], merged["bias"])


def test_lengths_are_those_behind_the_norm() -> None:
    """With BatchNorm, folded rows get back the average length of the parents' folded rows, and shifts stay."""
    model = network("block")
    parents = [state(model), state(network("block", seed=1))]
    found = rescale_from_weights(model, parents[0], parents, (torch.zeros(1, 3, 6, 6).double(),), weights=[1, 3])

    def rows(params: Params) -> Tensor:
        scale = params["bn1.weight"] / (params["bn1.running_var"] + 1e-5).sqrt()
        return params["conv1.weight"].flatten(1) * scale[:, None]

    a, b = (rows(params) for params in parents)
    gain = (a.norm(dim=1) + 3 * b.norm(dim=1)) / (a + 3 * b).norm(dim=1)
    torch.testing.assert_close(rows(found.params), gain[:, None] * a)
    torch.testing.assert_close(found.params["bn1.bias"], parents[0]["bn1.bias"])


def test_biases_fade_with_depth() -> None:
    """At depth l the bias is the sum of share^l times the parents' biases; weights stay."""
    torch.manual_seed(0)
    model = zoo.mlp(3, 4, 5, 2).double()
    parents = [state(model), {name: torch.randn_like(tensor) for name, tensor in state(model).items()}]
    merged = ob.merge(parents, weights=[1, 3])
    found = calibrate_biases(model, merged, parents, (torch.zeros(1, 3).double(),), weights=[1, 3])

    for depth, layer in enumerate((0, 2, 4), start=1):
        a, b = (params[f"{layer}.bias"] for params in parents)
        torch.testing.assert_close(found.params[f"{layer}.bias"], 0.25**depth * a + 0.75**depth * b)
        assert torch.equal(found.params[f"{layer}.weight"], merged[f"{layer}.weight"])


def test_biases_before_a_norm_stay() -> None:
    """Layers behind which a BatchNorm stands are left alone, and so are the sources."""
    model = network("convolutions")
    parents = [state(model), state(network("convolutions", seed=1))]
    merged = ob.merge(parents)
    found = calibrate_biases(model, merged, parents, (torch.zeros(1, 4, 9, 9).double(),))

    changed = [name for name, tensor in merged.items() if not torch.equal(tensor, found.params[name])]
    assert changed == ["9.bias"]
