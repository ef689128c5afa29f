"""REPAIR and RESCALE: spreads after the correction against those of the parents, measured by hooks."""

import pytest
import torch
from torch import Tensor, nn

import onebasin as ob
import zoo
from correction.layers import evaluate, inputs, network
from onebasin.correction import Correction, refit, repair, rescale

Params = dict[str, Tensor]


def state(model: nn.Module) -> Params:
    """A copy of a model's tensors."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def spread(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of `[units, rows]`."""
    return rows.mean(1), rows.std(1, correction=0)


def spreads(model: nn.Module, params: Params, layers: list[str], x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mean and standard deviation of the outputs of some modules, unit by unit."""
    found: list[tuple[Tensor, Tensor]] = []
    model.load_state_dict(params)
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _, __, y: found.append(
                (y.transpose(0, 1).flatten(1).mean(1), y.transpose(0, 1).flatten(1).std(1, correction=0))
            )
        )
        for name in layers
    ]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    return found


CASES = [("mlp", ["0", "2", "4"]), ("block", ["bn1", "bn2"]), ("convolutions", ["1", "6", "9"])]


@pytest.mark.parametrize(("name", "layers"), CASES)
@pytest.mark.parametrize("weights", [None, [3.0, 1.0]])
def test_means_and_spreads_become_those_of_the_parents(
    name: str, layers: list[str], weights: list[float] | None
) -> None:
    """After the forward form every unit has the weighted average of its parents' means and standard deviations."""
    model = network(name)
    a, b = state(model), state(network(name, seed=1))
    batches = inputs(name, 90, 31)
    found = repair(model, ob.merge([a, b], weights=weights), [a, b], batches, evaluate, weights, None)
    rows = [spreads(model, params, layers, torch.cat(batches)) for params in (a, b, found.params)]
    shares = [0.5, 0.5] if weights is None else [0.75, 0.25]

    for first, second, corrected in zip(*rows, strict=True):
        for k in (0, 1):
            torch.testing.assert_close(corrected[k], shares[0] * first[k] + shares[1] * second[k])


def test_rescaling_corrects_spreads_only() -> None:
    """RESCALE brings spreads to the parents' average and multiplies outputs, so that means move with them."""
    model = network("mlp")
    a, b = state(model), state(network("mlp", seed=1))
    batches = inputs("mlp", 90, 31)
    x, merged = torch.cat(batches), ob.merge([a, b])
    found = rescale(model, merged, [a, b], batches, evaluate, samples=None)
    rows = [spreads(model, params, ["0", "2", "4"], x) for params in (a, b, found.params)]
    first = spreads(model, merged, ["0"], x)[0]

    assert found.method == "rescale"
    for one, two, corrected in zip(*rows, strict=True):
        torch.testing.assert_close(corrected[1], (one[1] + two[1]) / 2)
    torch.testing.assert_close(rows[2][0][0], first[0] * rows[2][0][1] / first[1])


def test_the_closed_form_is_the_formula_of_the_paper() -> None:
    """The gain of the closed form is s* / sqrt((1-l)^2 s_a^2 + l^2 s_b^2 + 2 l (1-l) r s_a s_b), and means stay."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    a, b = state(model), state(nn.Linear(4, 3).double())
    x = torch.randn(200, 4).double()
    found = repair(model, ob.merge([a, b], weights=[0.7, 0.3]), [a, b], [x], evaluate, [0.7, 0.3], None, form="closed")
    y = [x @ params["weight"].T + params["bias"] for params in (a, b)]
    s = [part.std(0, correction=0) for part in y]
    r = torch.stack([torch.corrcoef(torch.stack([y[0][:, k], y[1][:, k]]))[0, 1] for k in range(3)])
    gain = (0.7 * s[0] + 0.3 * s[1]) / (0.49 * s[0] ** 2 + 0.09 * s[1] ** 2 + 0.42 * r * s[0] * s[1]).sqrt()
    after = x @ found.params["weight"].T + found.params["bias"]

    torch.testing.assert_close(found.params["weight"], gain[:, None] * (0.7 * a["weight"] + 0.3 * b["weight"]))
    torch.testing.assert_close(after.mean(0), 0.7 * y[0].mean(0) + 0.3 * y[1].mean(0))
    assert found.method == "repair_closed"


def test_layers_without_a_bias_are_scaled_only_and_noted() -> None:
    """Where nothing can be added, spreads are corrected all the same, and the notes say that means were not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 2)).double()
    a, b = state(model), {name: tensor + torch.randn_like(tensor) for name, tensor in state(model).items()}
    x = torch.randn(100, 4).double()
    found = repair(model, ob.merge([a, b]), [a, b], [x], evaluate, samples=None)
    rows = [spreads(model, params, ["0"], x)[0] for params in (a, b, found.params)]

    torch.testing.assert_close(rows[2][1], (rows[0][1] + rows[1][1]) / 2)
    assert found.notes == ("0.weight was scaled only: it has no bias",)


def test_dead_units_stay_dead() -> None:
    """A unit that never changes has no spread to correct, and gives no NaN."""
    model = zoo.mlp(3, 4, 2).double()
    with torch.no_grad():
        model[0].weight[0] = 0
    a = state(model)
    for correct in (repair, rescale, refit):
        found: Correction = correct(model, a, [a, a], [torch.randn(50, 3).double()], evaluate, samples=None)
        assert all(torch.isfinite(tensor).all() for tensor in found.params.values())
