"""Refit: what must come out exactly, what it keeps, and what it reaches on real networks."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import onebasin as ob
from correction.layers import NETWORKS, evaluate, inputs, network
from onebasin.checkpoint import tied_names
from onebasin.correction import reestimate_batchnorm, refit
from onebasin.errors import OptionError
from onebasin.tasks import averages, load_task
from onebasin.tasks.builtin import ImageBatches
from shared_data import require_checkpoints, require_mnist

NAMES = sorted(NETWORKS)
Params = dict[str, Tensor]


def state(model: nn.Module) -> Params:
    """A copy of a model's tensors."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def disturbed(params: Params, sites: list[str]) -> Params:
    """The same with other weights in the linear layers, and other statistics."""
    generator = torch.Generator().manual_seed(3)
    found = dict(params)
    for name, tensor in params.items():
        if name in sites or name.endswith("running_mean"):
            found[name] = tensor + torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
    return found


def error(model: nn.Module, params: Params, reference: Params, name: str) -> float:
    """The largest difference between the outputs of two networks, relative to the largest output."""
    x = torch.cat(inputs(name, 50, seed=9))
    with torch.no_grad():
        model.load_state_dict(params)
        found = model(x)
        model.load_state_dict(reference)
        expected = model(x)
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"preactivated"}))
@pytest.mark.parametrize("turn", [False, True])
def test_a_spoilt_network_becomes_its_parent_again(name: str, turn: bool) -> None:
    """With the same parent twice, any weights in the linear layers are replaced by ones that do as it does."""
    model = network(name)
    parent = state(model)
    merged = disturbed(parent, NETWORKS[name][2])
    batches = inputs(name, 300, 200, 300)
    found = refit(
        model, merged, [parent, parent], batches, evaluate, ridge=1e-9, rectify=False, turn=turn, samples=None
    )

    assert error(model, merged, parent, name) > 0.1
    assert error(model, found.params, parent, name) < 1e-4
    assert all(after < 1e-6 < before for before, after in found.residuals.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_an_ordinary_checkpoint(name: str) -> None:
    """Names, shapes and dtypes stay, sources and model are not touched, and the same data gives the same bytes."""
    model = network(name).float().train()
    a, b = state(model), state(network(name, seed=1).float())
    kept = [copy.deepcopy(params) for params in (a, b)]
    merged = ob.merge([a, b])
    batches = [batch.float() for batch in inputs(name, 30, 11)]
    found, again = (refit(model, merged, [a, b], batches, evaluate, samples=None, seed=4) for _ in range(2))

    assert model.training
    assert list(found.params) == list(a)
    assert all((t.shape, t.dtype) == (a[n].shape, a[n].dtype) for n, t in found.params.items())
    assert all(torch.isfinite(tensor).all() for tensor in found.params.values())
    assert all(torch.equal(tensor, again.params[n]) for n, tensor in found.params.items())
    for before, after in ((a, state(model)), (a, kept[0]), (b, kept[1]), (merged, ob.merge([a, b]))):
        assert all(torch.equal(before[n], after[n]) for n in a)


def test_the_outputs_come_closer_to_the_average() -> None:
    """Refitted networks are closer to the average of their parents' outputs than the average of their weights."""
    for name in ("mlp", "convolutions", "block", "encoder", "einsum"):
        model = network(name)
        a, b = state(model), state(network(name, seed=1))
        x = torch.cat(inputs(name, 200, seed=9))
        batches = inputs(name, 400, 400)
        found = refit(model, ob.merge([a, b]), [a, b], batches, evaluate, samples=None)
        distances = []
        with torch.no_grad():
            outputs = []
            for params in (a, b, ob.merge([a, b]), found.params):
                model.load_state_dict(params)
                outputs.append(model(x))
            aim = (outputs[0] + outputs[1]) / 2
            distances = [float((output - aim).square().mean()) for output in outputs[2:]]
        assert distances[1] < 0.8 * distances[0], name


@pytest.mark.parametrize("norm", [False, True])
def test_few_rows_give_what_they_give_repeated(norm: bool) -> None:
    """Rows seen three times ask for the same weights: fewer rows than inputs are solved as more of them are."""

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        middle = [nn.BatchNorm1d(30)] if norm else []
        return nn.Sequential(nn.Linear(40, 30), *middle, nn.ReLU(), nn.Linear(30, 4)).double().eval()

    model, a, b = build(0), state(build(1)), state(build(2))
    x = torch.randn(20, 40, dtype=torch.float64)
    few, many = (
        refit(model, ob.merge([a, b]), [a, b], [x] * times, evaluate, ridge=1e-2, turn=False, samples=None)
        for times in (1, 3)
    )

    for name, tensor in few.params.items():
        torch.testing.assert_close(tensor, many.params[name])


def test_norms_without_a_layer_get_the_statistics_of_what_reaches_them() -> None:
    """A BatchNorm before its convolution holds mean and variance of its own input in the corrected network."""
    model = network("preactivated")
    a, b = state(model), state(network("preactivated", seed=1))
    batches = inputs("preactivated", 64)
    found = refit(model, ob.merge([a, b]), [a, b], batches, evaluate, samples=None)
    model.load_state_dict(found.params)
    with torch.no_grad():
        y = model[2](model[1](model[0](batches[0])))

    torch.testing.assert_close(found.params["0.running_mean"], batches[0].mean((0, 2, 3)))
    torch.testing.assert_close(found.params["3.running_mean"], y.mean((0, 2, 3)))
    torch.testing.assert_close(found.params["3.running_var"], y.var((0, 2, 3), correction=0))


def test_statistics_behind_layers_are_those_of_the_data() -> None:
    """Re-estimating BatchNorm after a refit changes nothing but rounding."""
    model = network("convolutions")
    a, b = state(model), state(network("convolutions", seed=1))
    batches = inputs("convolutions", 500)
    found = refit(model, ob.merge([a, b]), [a, b], batches, evaluate, samples=None, rows=10**6)
    model.load_state_dict(found.params)
    reestimate_batchnorm(model, batches, evaluate)

    for name in ("1.running_mean", "1.running_var", "6.running_mean", "6.running_var"):
        torch.testing.assert_close(model.state_dict()[name], found.params[name], rtol=1e-3, atol=1e-4)


class TwoHeads(nn.Module):
    """An embedding tied to the output layer, with a hidden layer in between."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc, self.out = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        """Map int64 `[n]` to `[n, 9]`."""
        return self.out(self.fc(self.embed(x)).relu())


def test_tied_weights_stay_tied_and_are_noted() -> None:
    """A tied weight is left as it was under both names, one tensor in the result, and the notes say so."""
    model = TwoHeads()
    a = state(model)
    batches = [torch.arange(9)]
    found = refit(model, model, [a, {n: t + 1 for n, t in a.items()}], batches, evaluate)

    assert torch.equal(found.params["out.weight"], a["out.weight"])
    assert ("embed.weight", "out.weight") in tied_names(found.params)
    assert any(note.startswith("embed.weight was left as it was") for note in found.notes)


def test_turning_is_tried_and_said() -> None:
    """Left open, turning is decided by the error of the outputs on a part of the data, and the notes tell both."""
    model = network("mlp")
    a = state(model)
    rotation = torch.linalg.qr(torch.randn(6, 6).double()).Q
    b = a | {"0.weight": rotation @ a["0.weight"], "0.bias": rotation @ a["0.bias"]}
    found = refit(model, ob.merge([a, b]), [a, b], inputs("mlp", 200, 200, 200, 200), evaluate, samples=None)

    assert any("parents' outputs were " in note and "on 200 samples" in note for note in found.notes)


def test_probabilities_are_averaged_where_asked() -> None:
    """With one linear layer, the refitted network gives the logarithm of the average probability, up to a constant."""
    torch.manual_seed(0)
    model = nn.Linear(6, 3, bias=False).double()
    x = torch.eye(6, dtype=torch.float64)
    batch = (x, torch.tensor([0, 1, 2, 0, 1, 2]))
    a, b = ({"weight": 3 * torch.randn(3, 6).double()} for _ in range(2))
    found = {
        outputs: refit(model, ob.merge([a, b]), [a, b], [batch], evaluate, outputs=outputs, ridge=1e-9, weights=[3, 1])
        for outputs in ("logits", "probabilities")
    }
    logits = {name: (x @ result.params["weight"].T) for name, result in found.items()}
    mixture = 0.75 * (x @ a["weight"].T).softmax(1) + 0.25 * (x @ b["weight"].T).softmax(1)

    torch.testing.assert_close(logits["probabilities"].softmax(1), mixture, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits["logits"], x @ (0.75 * a["weight"] + 0.25 * b["weight"]).T, atol=1e-5, rtol=1e-5)


def test_an_interrupted_refit_leaves_the_model_as_it_was() -> None:
    """Tensors and mode are put back when the work is interrupted in the middle."""
    model = network("block").train()
    before = state(model)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refit(model, before, [state(network("block", seed=1))], inputs("block", 8), evaluate, progress=interrupt)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in state(model).items())


def test_no_more_data_is_read_than_asked_for() -> None:
    """Batches are taken until there are enough samples."""
    asked = []

    def batches() -> Iterator[Tensor]:
        for number, batch in enumerate(inputs("mlp", 5, 5, 5)):
            asked.append(number)
            yield batch

    model = network("mlp")
    refit(model, model, [state(model)], batches(), evaluate, samples=6)
    assert asked == [0, 1]


def test_a_model_that_does_other_things_on_other_batches_is_refused() -> None:
    """Where the operations change from batch to batch, the error says so."""

    class Fickle(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.sin().cos() if len(x) > 3 else x)

    model = Fickle(2, 2)
    with pytest.raises(OptionError, match=r"^model: expected the same operations for every batch"):
        refit(model, model, [state(model)], [torch.ones(2, 2), torch.ones(9, 2)], evaluate)


def test_the_published_pair_reaches_its_bar() -> None:
    """The OTFusion pair, matched and refitted with 500 unlabeled images, is above 97.4 %, the average below 76."""
    paths = require_checkpoints("mnist_mlp_otfusion")
    task = load_task("mnist", data_root=require_mnist())
    model = nn.Sequential(nn.Flatten())
    for sizes in ((784, 400), (400, 200), (200, 100), (100, 10)):
        model.extend([nn.Linear(*sizes, bias=False), nn.ReLU()])
    model = model[:-1]
    keys = list(model.state_dict())
    a, b = (dict(zip(keys, dict(ob.open_checkpoint(path)).values(), strict=True)) for path in paths)
    symmetry = ob.discover(model, task.example_inputs())
    moved = ob.match(a, b, symmetry).apply(b)
    data = task.batches("train")
    assert isinstance(data, ImageBatches)
    images, labels = next(iter(data))
    figures = []
    for merged in (ob.merge([a, b]), ob.merge([a, moved])):
        model.load_state_dict(merged)
        figures.append(averages(task, model)["correct"])
    found = refit(model, ob.merge([a, moved]), [a, moved], [(images[:500], labels[:500])], task.evaluate)
    model.load_state_dict(found.params)
    figures.append(averages(task, model)["correct"])

    assert figures[0] < 0.76
    assert figures[2] > max(0.974, figures[1])
