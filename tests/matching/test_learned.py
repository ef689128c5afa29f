"""Matching with the task's loss: close to the best of all permutations, never worse than its start, honest about it."""

import copy
import itertools
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

import zoo
from onebasin import Matching, Permutation, Progress, Status, Symmetry, discover, match, merge
from onebasin.matching.latents import LATENTS, LatentScores, LatentWeights
from onebasin.matching.learned import learn_matching, learn_universe
from onebasin.matching.problem import scored_parts
from onebasin.matching.task_loss import TaskLoss
from strategies import SEEDS, normal, same, symmetries

State = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]

each_method = pytest.mark.parametrize("method", LATENTS)


class Heads(nn.Module):
    """Attention with units inside its heads over four tokens of three numbers each, and a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(3, 12) for _ in range(3))
        self.out, self.up, self.down = nn.Linear(12, 6), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = x.unflatten(-1, (4, 3))
        q, k, v = (layer(x).unflatten(-1, (3, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.down(functional.gelu(self.up(x)).mean(1))


def normalised() -> nn.Module:
    """A perceptron with BatchNorm and dropout."""
    return nn.Sequential(
        nn.Linear(12, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Dropout(), nn.Linear(10, 9), nn.ReLU(), nn.Linear(9, 3)
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: zoo.mlp(12, 10, 9, 3),
    "batchnorm": normalised,
    "heads": Heads,
}
each_network = pytest.mark.parametrize("network", NETWORKS)


def batches(count: int = 4, seed: int = 0) -> list[Batch]:
    """Points, and which of three regions each lies in."""
    x = torch.randn(50 * count, 12, generator=torch.Generator().manual_seed(seed))
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2].abs() > x[:, 3].abs()).long()
    return list(zip(x.split(50), y.split(50), strict=True))


def evaluate(model: nn.Module, batch: object) -> dict[str, Tensor]:
    """Cross-entropy."""
    x, y = batch
    return {"loss": functional.cross_entropy(model(x), y, reduction="sum"), "count": torch.tensor(len(y))}


def trained(model: nn.Module, data: Sequence[Batch], seed: int, epochs: int = 30) -> State:
    """The model's tensors after it was trained from a seed."""
    torch.manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.BatchNorm1d):
            layer.reset_parameters()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for x, y in itertools.chain.from_iterable([data] * epochs):
        optimizer.zero_grad()
        functional.cross_entropy(model.train()(x), y).backward()
        optimizer.step()
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@lru_cache
def pair(network: str) -> tuple[State, State, Symmetry]:
    """Two trained networks and their symmetry; nobody writes to them."""
    model = NETWORKS[network]()
    symmetry = discover(model.eval(), (batches()[0][0][:2],))
    return trained(model, batches(), 1), trained(model, batches(), 2), symmetry


def mean_loss(model: nn.Module, states: Sequence[State], data: Sequence[Batch], weights: Sequence[float]) -> float:
    """The loss of an average, BatchNorm on the statistics of each batch, by way of a copy of the model."""
    model = copy.deepcopy(model).eval()
    model.load_state_dict(merge(states, weights=weights))
    for layer in model.modules():
        layer.train(isinstance(layer, nn.BatchNorm1d))
    with torch.no_grad():
        rows = [evaluate(model, batch) for batch in data]
    return sum(float(row["loss"]) for row in rows) / sum(int(row["count"]) for row in rows)


@lru_cache
def tiny(seed: int) -> tuple[nn.Module, State, State, Symmetry, list[Batch], dict[tuple[int, ...], float]]:
    """Two networks of five hidden units, and the loss of the midpoint for every permutation of them."""
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2].abs() > x[:, 3].abs() + 0.3).long()
    data = list(zip(x.split(100), y.split(100), strict=True))
    model = zoo.mlp(4, 5, 3)
    a, b = (trained(model, data, 2 * seed + k, 50) for k in (0, 1))
    symmetry = discover(model, (x[:2],))
    (group,) = symmetry.groups
    losses = {}
    for index in itertools.permutations(range(5)):
        moved = Matching(symmetry, {group: Permutation(index)}).apply(b)
        losses[index] = mean_loss(model, [a, moved], data, [1, 1])
    return model, a, b, symmetry, data, losses


@each_method
def test_learned_matchings_are_among_the_best_of_all(method: str) -> None:
    """Of all 120 permutations, sorted by the loss of the midpoint, most of those learned are the first, all near it."""
    ranks, starts = [], []
    for seed in range(6):
        model, a, b, symmetry, data, losses = tiny(seed)
        found = learn_matching(model, a, b, symmetry, data, evaluate, method=method, epochs=20)
        (permutation,) = found.permutations.values()
        reached = losses[tuple(permutation.index.tolist())]
        ranks.append(sum(loss < reached - 1e-6 for loss in losses.values()))
        starts.append(sum(loss < found.history[0] - 1e-5 for loss in losses.values()))

        assert found.objective == pytest.approx(reached, abs=1e-5)

    assert max(ranks) <= 24
    assert ranks.count(0) >= 3
    assert sum(ranks) < sum(starts) / 2


@pytest.mark.parametrize("worst", [True, False])
@each_method
def test_the_result_is_never_worse_than_the_start(method: str, worst: bool) -> None:
    """From the worst permutation learning leads down; where it only leads astray, the start is what is returned."""
    model, a, b, symmetry, data, losses = tiny(0)
    (group,) = symmetry.groups
    index = (max if worst else min)(losses, key=lambda index: losses[index])
    start = Matching(symmetry, {group: Permutation(index)})
    found = learn_matching(model, a, b, symmetry, data, evaluate, method=method, start=start, epochs=8, rate=0.5)

    assert found.history[0] == pytest.approx(losses[index], abs=1e-5)
    assert found.objective == min(found.history)
    assert (found.objective < found.history[0]) == worst
    assert (found.permutations == start.permutations) == (not worst)


@each_method
@each_network
def test_what_is_reported_is_true(network: str, method: str) -> None:
    """A matching keeps the function, its loss is that of the merged network, the model and its modes stay untouched."""
    a, b, symmetry = pair(network)
    model = NETWORKS[network]()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start = symmetry.random(5)
    found = learn_matching(model, a, b, symmetry, batches(), evaluate, start=start, method=method, epochs=3, rate=0.5)
    moved = found.apply(b)

    assert (found.status, found.method, len(found.history)) == (Status.EPOCHS, method, 4)
    assert [trial.objective for trial in found.tried] == [found.history[0], min(found.history[1:])]
    assert found.history[0] == pytest.approx(mean_loss(model, [a, start.apply(b)], batches(), [1, 1]), rel=1e-4)
    assert found.objective == pytest.approx(mean_loss(model, [a, moved], batches(), [1, 1]), rel=1e-4)
    assert found.objective < found.history[0]
    assert same(dict(model.state_dict()), before)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    x, _ = batches()[0]
    as_given, as_moved = (
        functional_call(copy.deepcopy(model).double().eval(), {n: t.double() for n, t in state.items()}, x.double())
        for state in (b, moved)
    )
    assert torch.allclose(as_given, as_moved, rtol=1e-9, atol=1e-9)


@each_method
@each_network
def test_planted_networks_stay_exact(network: str, method: str) -> None:
    """A reordered copy, which the search without data brings back, is not moved away by learning."""
    a, _, symmetry = pair(network)
    model = NETWORKS[network]()
    b = symmetry.random(3).apply(a)
    found = learn_matching(model, a, b, symmetry, batches(), evaluate, method=method, epochs=2)

    assert same(found.apply(b), a)
    assert found.objective == found.history[0] == pytest.approx(mean_loss(model, [a], batches(), [1]), rel=1e-4)


@each_method
def test_same_seed_same_bytes(method: str, tmp_path: Path) -> None:
    """What is saved depends on nothing but the seed, which decides the shares that are drawn."""
    a, b, symmetry = pair("heads")

    def saved(seed: int) -> dict[str, object]:
        found = learn_matching(Heads(), a, b, symmetry, batches(), evaluate, method=method, epochs=3, seed=seed)
        found.save(tmp_path / "matching.json")
        assert Matching.load(tmp_path / "matching.json").history == found.history
        return json.loads((tmp_path / "matching.json").read_text())

    assert saved(0) == saved(0)
    assert saved(0)["history"] != saved(1)["history"]


def test_interrupted_learning_keeps_the_best() -> None:
    """Interrupted after an epoch, while it measures or looks for a start, a valid matching comes back."""
    a, b, symmetry = pair("mlp")
    whole = learn_matching(zoo.mlp(12, 10, 9, 3), a, b, symmetry, batches(), evaluate, epochs=4)

    def at(stage: str, done: int) -> Callable[[Progress], None]:
        def report(progress: Progress) -> None:
            if (progress.stage, progress.done) == (stage, done):
                raise KeyboardInterrupt

        return report

    def never(*_: object) -> dict[str, Tensor]:
        raise KeyboardInterrupt

    model = zoo.mlp(12, 10, 9, 3)
    after = learn_matching(model, a, b, symmetry, batches(), evaluate, epochs=4, progress=at("learning", 2))
    first = learn_matching(model, a, b, symmetry, batches(), never)
    early = learn_matching(model, a, b, symmetry, batches(), evaluate, progress=at("matching from the identity", 1))

    assert {found.status for found in (after, first, early)} == {Status.INTERRUPTED}
    assert after.history == whole.history[:3]
    assert after.objective == min(whole.history[:3])
    assert first.history == early.history == ()
    assert first.permutations == match(a, b, symmetry).permutations
    assert early.objective is None


def test_epochs_are_reported_with_their_loss() -> None:
    """One report an epoch says the loss of that epoch and the lowest so far."""
    a, b, symmetry = pair("mlp")
    reports: list[Progress] = []
    found = learn_matching(
        zoo.mlp(12, 10, 9, 3), a, b, symmetry, batches(), evaluate, epochs=3, progress=reports.append
    )
    learned = [report for report in reports if report.stage == "learning"]

    assert [(report.done, report.total) for report in learned] == [(1, 3), (2, 3), (3, 3)]
    assert learned[-1].detail == f"loss {found.history[-1]:.4g}, lowest {min(found.history):.4g}"


def test_validation_decides_and_batches_may_come_from_anywhere() -> None:
    """Losses are those of the validation data; a function or an iterator of batches serves as well as a list."""
    a, b, symmetry = pair("mlp")
    model, other = zoo.mlp(12, 10, 9, 3), batches(seed=1)
    rows = [
        learn_matching(model, a, b, symmetry, given, evaluate, epochs=3, validation=held_out)
        for given, held_out in ((batches(), other), (batches, iter(other)), (iter(batches()), lambda: iter(other)))
    ]

    assert rows[0].objective == pytest.approx(mean_loss(model, [a, rows[0].apply(b)], other, [1, 1]), rel=1e-4)
    assert rows[0].history == rows[1].history == rows[2].history


@each_method
def test_shares_are_drawn_from_the_range(method: str) -> None:
    """The average that is measured lies in the middle of the range; a range of one number leaves nothing to draw."""
    a, b, symmetry = pair("mlp")
    model, histories = zoo.mlp(12, 10, 9, 3), []
    for seed in (0, 1):
        start = symmetry.identity()
        found = learn_matching(
            model, a, b, symmetry, batches(), evaluate, start=start, method=method, epochs=2, lam=(0.3, 0.3), seed=seed
        )
        histories.append(found.history)

    assert histories[0] == histories[1]
    assert histories[0][0] == pytest.approx(mean_loss(model, [a, b], batches(), [0.7, 0.3]), rel=1e-4)


@each_method
@each_network
def test_many_networks_are_learned_at_once(network: str, method: str) -> None:
    """Three networks in the coordinates of the first: the loss is that of their average, lower than at the start."""
    a, b, symmetry = pair(network)
    model = NETWORKS[network]()
    states = [a, b, trained(NETWORKS[network](), batches(), 3)]
    starts = [symmetry.random(1), symmetry.random(2)]
    found = learn_universe(
        model, states, symmetry, batches(), evaluate, starts=starts, method=method, epochs=3, rate=0.5, spread=0.5
    )
    moved = [a, *(matching.apply(state) for matching, state in zip(found, states[1:], strict=True))]

    assert [matching.history for matching in found] == [found[0].history] * 2
    assert found[0].objective == pytest.approx(mean_loss(model, moved, batches(), [1, 1, 1]), rel=1e-4)
    assert found[0].objective < found[0].history[0]


def test_interrupted_starts_of_many_networks() -> None:
    """Interrupted while the first start is searched for, networks not yet looked at stay as they are."""
    a, b, symmetry = pair("mlp")

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    found = learn_universe(zoo.mlp(12, 10, 9, 3), [a, b, b], symmetry, batches(), evaluate, progress=interrupt)

    assert [matching.status for matching in found] == [Status.INTERRUPTED] * 2
    assert found[1].is_identity


def test_tied_and_nested_tensors_are_learned() -> None:
    """A decoder with tied embeddings and grouped queries: the ties last while it learns, and its function stays."""
    tokens = torch.randint(17, (16, 6), generator=torch.Generator().manual_seed(0))

    def next_token(model: nn.Module, batch: object) -> dict[str, Tensor]:
        logits = model(batch)[:, :-1]
        assert model.head.weight is model.embed.weight
        return {
            "loss": functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"),
            "count": torch.tensor(batch[:, 1:].numel()),
        }

    a, b = zoo.Decoder(), zoo.Decoder()
    model = zoo.Decoder()
    symmetry = discover(model, (tokens[:2],))
    for method in LATENTS:
        start = symmetry.random(1)
        found = learn_matching(
            model, a, b, symmetry, [tokens], next_token, start=start, method=method, epochs=4, rate=0.2
        )
        model.load_state_dict(found.apply(b))

        assert found.objective == min(found.history)
        assert torch.allclose(model(tokens), b(tokens), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("network", ["mlp", "heads"])
def test_scores_follow_the_gradient_of_the_permutation_matrices(network: str) -> None:
    """A step changes the scores by the centred gradient that autograd finds for permutation matrices."""
    a, b, symmetry = pair(network)
    model, (batch, *_) = NETWORKS[network](), batches()
    element = symmetry.random(7)
    loss = TaskLoss(model, evaluate, [a, b], symmetry)
    moved, shares = loss.moved([element]), (0.6, 0.4)
    rate = 0.1
    latent = LatentScores({name: moved[0][name] for name in loss.names}, b, element, rate)
    before = {name: score.clone() for name, score in latent.scores.items()}
    latent.follow(loss.gradients(moved, shares, batch), moved[1], shares[1])

    # The matrices multiply the axes of the flat tensors, heads and units inside them counted through.
    matrices = {name: torch.eye(len(index))[index].requires_grad_() for name, index in members(element).items()}
    average = {
        name: 0.6 * a[name] + 0.4 * reordered(b[name], axes, matrices)
        for name, axes in ((name, [str(axis) for axis in symmetry.layouts[name]]) for name in a)
    }
    sums = functional_call(Runner(model), {f"model.{name}": tensor for name, tensor in average.items()}, (batch,))
    slopes = torch.autograd.grad(sums["loss"] / sums["count"], list(matrices.values()))
    for name, slope in zip(matrices, slopes, strict=True):
        centred = slope - slope.mean(0) - slope.mean(1, keepdim=True) + slope.mean()
        expected = -rate * centred / centred.square().mean().sqrt()

        assert torch.allclose(latent.scores[name] - before[name], expected, atol=1e-4)


class Runner(nn.Module):
    """A model and its loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The sums of a batch."""
        return evaluate(self.model, batch)


def members(element: Matching) -> dict[str, np.ndarray]:
    """Where the members of each group come from, for groups in which no other is nested."""
    around = {name for group in element.symmetry.groups.values() for name in group.inside}
    return {name: element.members(name) for name in element.symmetry.groups if name not in around}


def reordered(tensor: Tensor, axes: Sequence[str], matrices: dict[str, Tensor]) -> Tensor:
    """A tensor with every axis multiplied by the matrix of its innermost group."""
    for axis, layout in enumerate(axes):
        group = layout.split("*")[-1]
        if group in matrices:
            tensor = torch.tensordot(matrices[group], tensor, ([1], [axis])).movedim(0, axis)
    return tensor


@given(symmetries(), SEEDS)
def test_scores_hold_the_start_until_something_speaks_against_it(symmetry: Symmetry, seed: int) -> None:
    """Without a gradient any start stays; with one, the latents of any symmetry lead to one of its elements."""
    a, b, start = normal(symmetry, seed), normal(symmetry, seed + 1), symmetry.random(seed)
    carriers = {name: a[name] for name in scored_parts(symmetry, a)}
    still = LatentScores(carriers, b, start, 0.5)
    still.follow({name: torch.zeros_like(tensor) for name, tensor in carriers.items()}, start.apply(b), 0.5)

    assert still.matching.permutations == start.permutations

    gradients = normal(symmetry, seed + 2)
    for latent in [kind(carriers, b, start, 1.0) for kind in LATENTS.values()] if carriers else []:
        for _ in range(2):
            latent.follow({name: gradients[name] for name in carriers}, latent.matching.apply(b), 0.5)
        back = latent.matching.inverse().apply(latent.matching.apply(b))

        assert same(back, b)


def test_the_latent_network_follows_its_first_gradient() -> None:
    """The first step of the straight-through estimator is Adam's: against the sign of the gradient, by the rate."""
    a, b, symmetry = pair("mlp")
    start = match(a, b, symmetry)
    latent = LatentWeights(a, b, start, 0.1)
    before = {name: tensor.clone() for name, tensor in latent.weights.items()}
    gradients = {name: torch.randn(tensor.shape) for name, tensor in a.items()}
    latent.follow(gradients, start.apply(b), 0.5)

    for name, tensor in latent.weights.items():
        step = 0.1 * torch.cat([a[name].flatten(), b[name].flatten()]).square().mean().sqrt()
        assert torch.allclose(before[name] - tensor, step * gradients[name].sign(), rtol=1e-2, atol=1e-5)


def test_half_precision_and_fixed_groups() -> None:
    """Networks in bfloat16 are learned in bfloat16; where nothing can move there is nothing to learn."""
    a, b, symmetry = pair("mlp")
    model = zoo.mlp(12, 10, 9, 3).bfloat16()
    data = [(x.bfloat16(), y) for x, y in batches()]
    half = [{name: tensor.bfloat16() for name, tensor in state.items()} for state in (a, b)]
    found = learn_matching(model, *half, symmetry, data, evaluate, start=symmetry.random(1), epochs=3, rate=0.5)

    assert found.objective < found.history[0]

    line = nn.Linear(12, 3)
    alone = discover(line, (batches()[0][0],))
    for method in LATENTS:
        nothing = learn_matching(line, line, line, alone, batches(), evaluate, method=method, epochs=1)

        assert nothing.is_identity
        assert nothing.status is Status.OPTIMAL
        assert nothing.history == (pytest.approx(mean_loss(line, [line.state_dict()], batches(), [1]), rel=1e-4),)
