"""Activation similarity: planted reorderings are found again on every kind of network, and nothing is left changed."""

import copy
import functools
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import onebasin as ob
import zoo
from architectures.catalogue import build
from cases import NETWORKS, Net
from equivariance import poisoned, sources
from onebasin.assignment import Node, solve_nested
from onebasin.matching.activation import Activations, activation_similarity
from onebasin.similarity import moments

SAMPLES = 96
"""Enough for strangers among the units not to look alike by chance."""


def _more(x: Tensor, samples: int = SAMPLES) -> Tensor:
    """Inputs like `x`, as many as wanted."""
    generator = torch.Generator().manual_seed(7)
    shape = (samples, *x.shape[1:])
    if x.is_floating_point():
        return torch.randn(shape, generator=generator)
    return torch.randint(int(x.max()) + 1, shape, generator=generator)


def _solved(found: Activations, symmetry: ob.Symmetry) -> dict[str, np.ndarray]:
    """The best matching by activations: trees of nested groups as a whole, groups inside fixed ones place by place."""
    groups = symmetry.groups

    def scores(name: str) -> np.ndarray | None:
        return found.similarity[name].numpy() if name in found.similarity else None

    def node(group: ob.AxisGroup, around: tuple[int, ...] = ()) -> Node:
        chain, sizes = (*group.inside, group.name), (*around, group.size)
        children = tuple(node(inner, sizes) for inner in groups.values() if inner.inside == chain)
        return Node(group.name, sizes, scores(group.name), children, fixed=group.fixed)

    index: dict[str, np.ndarray] = {}
    for group in groups.values():
        if not group.inside:
            index |= solve_nested(node(group)).index
    for group in groups.values():
        if group.name not in index:  # Inside several fixed groups.
            blocks = found.similarity[group.name].reshape(
                -1, group.size, len(scores(group.name)) // group.size, group.size
            )
            rows = [
                solve_nested(Node("", (group.size,), block[:, c].numpy())).index[""] for c, block in enumerate(blocks)
            ]
            index[group.name] = np.array(rows).reshape(*symmetry.context_sizes(group), group.size)
    return index


def _check_recovery(found: Activations, symmetry: ob.Symmetry, planted: ob.Matching) -> tuple[int, int]:
    """Every unit that is not dead is matched to what it was, or to an exact double; returns exact and all."""
    permutations = {name: ob.Permutation(index) for name, index in _solved(found, symmetry).items()}
    solved, truth = ob.Matching(symmetry, permutations), planted.inverse()
    exact = total = 0
    for name, similarity in found.similarity.items():
        rows = torch.arange(len(similarity))
        mine, right = sources(solved, name), sources(truth, name)
        alive = found.moments[name].std_a > 0
        assert (similarity[rows, mine] > 1 - 1e-4)[alive].all(), name
        assert (similarity[rows, right] > 1 - 1e-4)[alive].all(), name
        exact += int((mine == right)[alive].sum())
        total += int(alive.sum())
    return exact, total


def _planted(
    model: nn.Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Tensor] | None = None, **options: object
) -> tuple[int, int]:
    model = poisoned(model, torch.float32)
    symmetry = ob.discover(model, args, kwargs)
    planted = symmetry.random(5)
    data = [tuple(_more(x) for x in args)] if args else [{name: _more(x) for name, x in (kwargs or {}).items()}]
    found = activation_similarity(
        model, model, planted.apply(model), symmetry, data, args=args, kwargs=kwargs, **options
    )
    return _check_recovery(found, symmetry, planted)


# What takes four rows only, or keeps one number of them; what branches on a value, which other data decide otherwise.
UNFIT = {"rows let through by a mask", "gathered across", "branch on one entry", "branch on a sum"}
WITH_GROUPS = [name for name, case in NETWORKS.items() if case.groups and name not in UNFIT]

# One number at each position: all units that are positive for the same numbers respond alike.
DOUBLES = {"units of their own at every position"}


@pytest.mark.parametrize("name", WITH_GROUPS)
def test_planted_reorderings_are_found_again(name: str) -> None:
    """Of a network and the same one reordered, the best matching by correlation is the reordering."""
    case = NETWORKS[name]

    exact, total = _planted(case.model(), case.inputs())

    assert (exact == total) == (name not in DOUBLES)
    assert (total > 0) == (name != "two ways to open an axis")


@pytest.mark.parametrize(
    "name", ["twin/densenet", "twin/swin", "torch/lstm_both_ways", "torch/transformer", "transformers/llama"]
)
def test_planted_reorderings_of_architectures_are_found_again(name: str) -> None:
    """The same where features are concatenated, windows are shifted, and queries share keys."""
    try:
        model, args, kwargs = build(name)
    except ImportError as error:
        pytest.skip(str(error))

    exact, total = _planted(model, args, kwargs)

    assert exact > 0.98 * total


def test_vgg() -> None:
    """Convolutions, flattened channels and a hidden dense layer."""
    exact, total = _planted(zoo.vgg16(4, (16,)), (torch.randn(2, 3, 32, 32),))

    assert exact == total


@pytest.mark.parametrize("kind", ["correlation", "covariance"])
def test_similarity_is_what_numpy_computes_from_the_activations(kind: str) -> None:
    """On two strangers of which every activation is known, entry [i, j] is unit i of a against unit j of b."""
    a, b, x = zoo.mlp(6, 8, 5, 3), zoo.mlp(6, 8, 5, 3), torch.randn(50, 6)
    symmetry = ob.discover(a, (x,))
    hidden = [torch.relu(model[0](x)).detach().T.double().numpy() for model in (a, b)]

    found = activation_similarity(a, a, b, symmetry, x.split(20), args=(x[:2],), kind=kind)

    reference = np.corrcoef if kind == "correlation" else np.cov
    np.testing.assert_allclose(found.similarity["0.weight"].numpy(), reference(*hidden)[:8, 8:], atol=1e-6)
    assert found.similarity["0.weight"].dtype is torch.float64
    assert (found.kind, found.samples, found.missing) == (kind, 50, ())
    assert {name: moment.count for name, moment in found.moments.items()} == {"0.weight": 50, "2.weight": 50}
    np.testing.assert_allclose(found.moments["0.weight"].std_b.numpy(), hidden[1].std(1, ddof=1), rtol=1e-6)


def test_nested_members_are_counted_row_by_row() -> None:
    """Unit u of head h stands in row h * n + u, and heads that are seen only with their units are missing."""
    case = NETWORKS["softmax inside heads"]
    model, x = case.model(), _more(*case.inputs())
    symmetry = ob.discover(model, (x,))
    units = functional.softmax(model.a(x).view(-1, 2, 4), -1).flatten(1).T.detach().numpy()

    found = activation_similarity(model, model, model, symmetry, [x], args=(x,))

    np.testing.assert_allclose(found.similarity["a.units"].numpy(), np.corrcoef(units), atol=1e-5)
    assert found.missing == ("a",)


def test_how_the_data_is_cut_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch, many of different sizes, a last one of a single sample, and tiny chunks give the same similarity."""
    a, b, x = zoo.ResNet20(4), zoo.ResNet20(4), torch.randn(23, 3, 16, 16)
    symmetry = ob.discover(a, (x,))
    whole = activation_similarity(a, a, b, symmetry, [x], args=(x[:2],))
    parts = activation_similarity(a, a, b, symmetry, x.split([10, 3, 9, 1]), args=(x[:2],))
    monkeypatch.setattr(moments, "LEAST", 50)
    monkeypatch.setattr(moments, "CHUNK", 1)
    chunks = activation_similarity(a, a, b, symmetry, [x], args=(x[:2],))

    for name, expected in whole.similarity.items():
        torch.testing.assert_close(parts.similarity[name], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(chunks.similarity[name], expected, rtol=0, atol=1e-5)


def test_shards_of_the_data_are_added_up() -> None:
    """The moments of two runs on two halves of the data, merged, are those of one run on all."""
    a, b, x = zoo.mlp(6, 8, 3), zoo.mlp(6, 8, 3), torch.randn(40, 6)
    run = functools.partial(activation_similarity, a, a, b, ob.discover(a, (x,)), args=(x,))
    halves = [run([half]).moments["0.weight"] for half in x.split(25)]

    merged = halves[0].merge(halves[1])

    torch.testing.assert_close(merged.correlation(), run([x]).similarity["0.weight"], rtol=0, atol=1e-6)


class Noisy(nn.Module):
    """Adds noise to its hidden units, counts its calls in a buffer, and keeps a cache that its state does not list."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.drop, self.b = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("cache", torch.zeros(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        self.calls += 1
        self.cache = torch.ones(len(x))
        return self.b(self.drop(torch.relu(self.norm(self.a(x)) + torch.randn(len(x), 1))))


def test_the_model_is_left_as_it_was_found() -> None:
    """Weights, buffers, modes, gradients and the state of the random numbers are as before, also after an error."""
    model, x = Noisy().train(), torch.randn(12, 6)
    model.drop.eval()
    model.a.weight.grad = torch.ones(8, 6)
    symmetry = ob.discover(model, (x,))
    b = symmetry.random(1).apply(poisoned(model, torch.float32))
    given = {name: tensor.clone() for name, tensor in b.items()}
    before, cache = copy.deepcopy(model), model.cache
    tensors = list(model.parameters())
    state = torch.random.get_rng_state()

    def failing(model: nn.Module, batch: Tensor) -> None:
        model(batch)
        raise ZeroDivisionError

    activation_similarity(model, model, b, symmetry, [x, x[:5]], args=(x,))
    with pytest.raises(ZeroDivisionError):
        activation_similarity(model, b, model, symmetry, [x], failing, args=(x,))

    assert torch.equal(torch.random.get_rng_state(), state)
    assert [module.training for module in model.modules()] == [module.training for module in before.modules()]
    assert all(map(torch.equal, model.state_dict().values(), before.state_dict().values()))
    assert all(mine is now for mine, now in zip(tensors, model.parameters(), strict=True))
    assert model.cache is cache
    assert cache.item() == 0
    assert torch.equal(model.a.weight.grad, torch.ones(8, 6))
    assert all(torch.equal(tensor, given[name]) for name, tensor in b.items())


def test_both_networks_see_the_same_random_numbers() -> None:
    """Noise that is added inside the model is no difference between the two."""
    model, x = Noisy(), torch.randn(200, 6)
    found = activation_similarity(model, model, model, ob.discover(model, (x,)), [x[:90], x[90:]], args=(x,))

    torch.testing.assert_close(found.similarity["a"].diagonal(), torch.ones(8, dtype=torch.float64), rtol=0, atol=1e-5)


def test_networks_from_anywhere(tmp_path: Path) -> None:
    """A file, a state dict and a module are the same network; of tied tensors one name is enough."""
    model = zoo.Decoder()
    tokens = torch.randint(17, (9, 6))
    symmetry = ob.discover(model, (tokens,))
    state = symmetry.random(1).apply(poisoned(model, torch.float32))
    short = {name: tensor for name, tensor in state.items() if name != "head.weight"}
    symmetry.save(tmp_path / "symmetry.json")
    ob.save_checkpoint(short, tmp_path / "b.safetensors")
    run = functools.partial(activation_similarity, model, model, batches=[tokens], args=(tokens[:2],))

    expected = run(state, symmetry)
    found = run(tmp_path / "b.safetensors", ob.Symmetry.load(tmp_path / "symmetry.json"))

    assert expected.similarity.keys() == found.similarity.keys()
    assert all(torch.equal(expected.similarity[name], found.similarity[name]) for name in found.similarity)


def _sums(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    x, y = batch
    return {"loss": functional.cross_entropy(model(x), y, reduction="sum"), "count": torch.tensor(len(x))}


def test_a_task_may_evaluate_and_samples_may_be_limited() -> None:
    """The task's own evaluation runs the model, its count says when there are enough samples, and progress is told."""
    a, b, x = zoo.mlp(6, 8, 3), zoo.mlp(6, 8, 3), torch.randn(40, 6)
    symmetry = ob.discover(a, (x,))
    told: list[ob.Progress] = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for part in x.split(10):
            yield part, torch.zeros(len(part), dtype=torch.long)

    found = activation_similarity(a, a, b, symmetry, batches, _sums, args=(x,), samples=15, progress=told.append)
    plain = activation_similarity(a, a, b, symmetry, [x[:20]], args=(x,))

    assert found.samples == 20
    assert [(step.done, step.total) for step in told] == [(10, 15), (20, 15)]
    torch.testing.assert_close(found.similarity, plain.similarity, rtol=0, atol=1e-6)


def test_batches_by_name_and_several_passes_a_batch() -> None:
    """Named inputs are passed by name, and every forward pass that an evaluation makes counts."""
    model, x = Net(lambda s, x: s.b(torch.relu(s.a(x))), a=nn.Linear(6, 8), b=nn.Linear(8, 3)), torch.randn(20, 6)

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *, features: Tensor) -> Tensor:
            return self.inner(features)

    named = Named()
    symmetry = ob.discover(named, kwargs={"features": x})
    run = functools.partial(activation_similarity, named, named, poisoned(named, torch.float32), symmetry)
    once = run([{"features": x}], kwargs={"features": x})
    twice = run(
        [x], lambda m, batch: [m(features=part) for part in batch.split(13)], kwargs={"features": x}
    )  # fmt: skip

    assert once.samples == twice.samples == 20
    torch.testing.assert_close(once.similarity, twice.similarity, rtol=0, atol=1e-6)


def test_a_branch_that_the_data_decides_is_an_error() -> None:
    """Where other data lead the model down another path, the group whose tensor is not there is named."""
    case = NETWORKS["branch on one entry"]
    model, (x,) = case.model(), case.inputs()
    symmetry = ob.discover(model, (x,))
    index = random.Random(0).choices(range(len(x)), k=len(x))

    with pytest.raises(ob.OneBasinError, match=r"group a: expected neg 1 times in the model, .* found 0 times"):
        activation_similarity(model, model, model, symmetry, [_flipped(model, x[index])], args=(x,))


def _flipped(model: nn.Module, x: Tensor) -> Tensor:
    """Inputs whose first hidden unit has the other sign."""
    weight, bias = model.a.weight[0].detach(), model.a.bias[0].detach()
    return x - 2 * (x @ weight + bias)[:, None] * weight / weight.square().sum()


def _batches_of(model: nn.Module, x: Tensor) -> Callable[..., Activations]:
    return functools.partial(activation_similarity, model, model, model, ob.discover(model, (x,)), args=(x,))


def test_both_networks_must_see_the_same_samples() -> None:
    """An evaluation that runs the model more often, or on other samples, for one of the two is caught."""
    model, x = zoo.mlp(6, 8, 3), torch.randn(10, 6)
    run = _batches_of(model, x)
    calls: list[int] = []

    def uneven(passes: Callable[[int], list[Tensor]]) -> Callable[[nn.Module, Tensor], None]:
        calls.clear()

        def evaluate(model: nn.Module, _: Tensor) -> None:
            calls.append(len(calls))
            for part in passes(calls[-1]):
                model(part)

        return evaluate

    with pytest.raises(ob.OneBasinError, match=r"evaluate: expected forward passes .* found more for one network"):
        run([x], uneven(lambda call: [x] * (1 + call)))
    with pytest.raises(ob.OneBasinError, match=r"evaluate: expected forward passes .* found fewer for one network"):
        run([x], uneven(lambda call: [x] * (2 - call)))
    with pytest.raises(ob.OneBasinError, match=r"group 0\.weight: activations of b: expected \[8, samples\], the same"):
        run([x], uneven(lambda call: [x[call:]]))
