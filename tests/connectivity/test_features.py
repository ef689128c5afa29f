"""Features of weighted sums: against by-hand computations, identities and SciPy."""

import copy
import itertools
import json
import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from onebasin import Evaluation, Progress, discover, reestimate_batchnorm
from onebasin.connectivity import (
    FeatureLinearity,
    cka,
    commutativity,
    feature_linearity,
    feature_similarity,
    features,
    principal_angles,
    stitch,
    weak_additivity,
)
from onebasin.connectivity.conditions import weight_covariance
from onebasin.connectivity.features import distances_of_lengths, feature_layers

State = dict[str, Tensor]


def classify(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Sums over a batch of inputs and labels."""
    out = model(batch[0])
    loss = nn.functional.cross_entropy(out, batch[1], reduction="sum")
    return {"loss": loss, "count": torch.tensor(len(out)), "correct": (out.argmax(1) == batch[1]).sum()}


def perceptron() -> nn.Sequential:
    """A perceptron with layers that repeat what they take."""
    layers = OrderedDict(
        flat=nn.Flatten(), one=nn.Linear(4, 6), relu=nn.ReLU(), drop=nn.Dropout(0.5), two=nn.Linear(6, 3)
    )
    return nn.Sequential(layers).double()


def states(count: int, build: object = perceptron) -> list[State]:
    """So many networks."""
    return [build().state_dict() for _ in range(count)]  # type: ignore[operator]


def data() -> list[tuple[Tensor, Tensor]]:
    """Batches of unequal sizes."""
    return [(torch.randn(n, 2, 2, dtype=torch.float64), torch.randint(3, (n,))) for n in (7, 12, 5)]


def evaluation(**given: object) -> Evaluation:
    """How networks are measured here."""
    return Evaluation(**({"evaluate": classify, "batches": data()} | given))


def features_by_hand(state: State, x: Tensor) -> dict[str, Tensor]:
    """Features of `perceptron` in float64."""
    one = x.flatten(1) @ state["one.weight"].T + state["one.bias"]
    relu = one.clamp(min=0)
    return {"one": one, "relu": relu, "two": relu @ state["two.weight"].T + state["two.bias"]}


def mixed(parts: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """A weighted sum."""
    return sum(weight * part for weight, part in zip(weights, parts, strict=True))


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.5, 0.3), (-1.0, 1.0, 1.0)])
def test_figures_are_those_by_hand(weights: tuple[float, ...]) -> None:
    """For pairs and more, and any weights, every figure is that of all samples at once, computed without hooks."""
    networks, plan = states(len(weights)), evaluation()
    found = feature_linearity(perceptron(), networks, plan, weights=weights)

    x = torch.cat([inputs for inputs, _ in plan.data()])
    total = features_by_hand({name: mixed([net[name] for net in networks], weights) for name in networks[0]}, x)
    single = [features_by_hand(network, x) for network in networks]
    assert found.layers == ("one", "relu", "two")
    for k, layer in enumerate(found.layers):
        sums = mixed([one[layer] for one in single], weights)
        distances = 1 - torch.cosine_similarity(total[layer], sums)
        apart = torch.cat(
            [1 - torch.cosine_similarity(p[layer], q[layer]) for p, q in itertools.combinations(single, 2)]
        )
        expected = (
            distances.mean(),
            distances.std(correction=0),
            (total[layer] * sums).sum() / sums.square().sum(),
            (total[layer] - sums).norm() / sums.norm(),
            apart.mean(),
            apart.std(correction=0),
        )
        columns = (found.defect, found.spread, found.coefficient, found.relative, found.baseline, found.baseline_spread)
        assert [column[k] for column in columns] == pytest.approx([float(value) for value in expected], abs=1e-9)
    assert (found.weights, found.samples, found.complete) == (weights, 24, True)


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**16))
def test_covariance_identity(count: int, seed: int) -> None:
    """With weights that sum to 1, the sum over pairs is the difference it stands for, to 1e-12."""
    generator = np.random.default_rng(seed)
    weights = generator.dirichlet([1.0] * count).tolist()
    W, H = (torch.from_numpy(generator.standard_normal((count, 4, 4))) for _ in range(2))
    left = mixed([w @ h for w, h in zip(W, H, strict=True)], weights) - mixed([*W], weights) @ mixed([*H], weights)

    assert torch.allclose(weight_covariance(W, H, weights), left, rtol=0, atol=1e-12)


def cosine_distances(x: Tensor, y: Tensor) -> Tensor:
    """1 - cos of rows."""
    return distances_of_lengths(x.norm(dim=1), y.norm(dim=1), (x - y).norm(dim=1))


def test_cosine_knows_the_sign() -> None:
    """Opposite features are 2 apart, right angles 1, equal ones 0; zero agrees with zero and with nothing else."""
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[-2.0, 0.0], [0.0, 5.0], [6.0, 8.0], [0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)

    assert cosine_distances(x, y).tolist() == pytest.approx([2, 1, 0, 0, 1], abs=1e-15)


def test_small_angles_keep_their_digits() -> None:
    """An angle of 1e-7 is 5e-15 away, which 1 - cos by itself would round off."""
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[1.0, 1e-7]], dtype=torch.float64)

    assert float(cosine_distances(x, y)) == pytest.approx(5e-15, rel=1e-6)


def test_linear_networks_are_linear_where_they_must() -> None:
    """One linear layer has no defect for any weights; two have none where the first is shared, and one elsewhere."""

    def deep() -> nn.Sequential:
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Linear(6, 3)).double()

    networks = states(3, deep)
    shared = [network | {name: networks[0][name] for name in ("1.weight", "1.bias")} for network in networks]
    for weights in ((0.2, 0.3, 0.5), (0.6, 0.2, 0.2)):
        free = feature_linearity(deep(), networks, evaluation(), weights=weights)
        same = feature_linearity(deep(), shared, evaluation(), weights=weights)
        assert (free.defect[0], free.relative[0]) == pytest.approx((0, 0), abs=1e-12)
        assert free.coefficient[0] == pytest.approx(1)
        assert same.defect[1] == pytest.approx(0, abs=1e-12)
        assert free.defect[1] > 1e-3


def test_one_network_with_itself() -> None:
    """Networks that are the same have no defect, coefficient 1, and no distance from each other."""
    network = states(1)[0]
    found = feature_linearity(perceptron(), [network] * 3, evaluation())

    assert found.defect == pytest.approx([0] * 3, abs=1e-12)
    assert found.coefficient == pytest.approx([1] * 3)
    assert found.baseline == pytest.approx([0] * 3, abs=1e-12)


def test_matching_takes_the_defect_away() -> None:
    """Against a copy with its units reordered there is a defect, and after reordering them back there is none."""
    model = perceptron()
    symmetry = discover(model, (data()[0][0],))
    planted = symmetry.random(3)
    a = model.state_dict()
    b = planted.apply(a)
    naive = feature_linearity(model, [a, b], evaluation())
    aligned = feature_linearity(model, [a, planted.inverse().apply(b)], evaluation())

    assert naive.defect[-1] > 1e-3
    assert naive.baseline[0] > 1e-3
    assert aligned.defect == pytest.approx([0] * 3, abs=1e-12)


class Twice(nn.Module):
    """Runs one activation twice, in place, and one layer that gives several tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 5), nn.Linear(5, 3)
        self.relu = nn.ReLU(inplace=True)
        self.attention = nn.MultiheadAttention(5, 1, batch_first=True)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.relu(self.one(x.flatten(1)))
        x = self.attention(x[:, None], x[:, None], x[:, None])[0][:, 0]
        return self.relu(self.two(x))


def test_layers_are_found_in_any_model() -> None:
    """Runs are told apart, outputs of several tensors count, in-place changes do not reach features before them."""
    model = Twice().double()
    networks = states(2, lambda: Twice().double())
    assert feature_layers(model) == ("one", "two", "relu", "attention", "attention.out_proj", "unused")
    plan = evaluation()
    found, additive = (measure(model, networks, plan) for measure in (feature_linearity, weak_additivity))

    assert found.layers == ("one", "relu", "attention", "two", "relu#2")
    assert found.defect[0] == pytest.approx(0, abs=1e-12)
    assert found.relative[1] > 1e-3
    assert additive.layers == ("relu", "relu#2")
    assert additive.figures["relative"][0] == pytest.approx(found.relative[1])


def test_memory_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one layer at a time the figures are the same."""
    networks, plan = states(3), evaluation()
    whole = feature_linearity(perceptron(), networks, plan)
    monkeypatch.setattr(features, "MEMORY", 1)

    assert feature_linearity(perceptron(), networks, plan) == whole


def test_samples_bound_the_data() -> None:
    """As many batches are run as are needed for the samples asked for."""
    assert feature_linearity(perceptron(), states(2), evaluation(), samples=8).samples == 19
    assert feature_similarity(perceptron(), *states(2), evaluation(), samples=7).samples == 7
    assert stitch(perceptron(), *states(2), evaluation(), samples=8).count == 19


def normalised() -> nn.Sequential:
    """A network with BatchNorm whose statistics are not those of the data."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)).double()
    model[2].running_mean.normal_()
    model[2].running_var.uniform_(0.5, 2)
    return model


@pytest.mark.parametrize("policy", ["keep", "reestimate"])
def test_statistics_of_the_sum(policy: str) -> None:
    """The sum's BatchNorm statistics are those between the networks, or estimated anew, as the networks' are."""
    networks, plan = states(2, normalised), evaluation(batchnorm=policy)
    found = feature_linearity(normalised(), networks, plan)

    x = torch.cat([inputs for inputs, _ in plan.data()])
    outputs = []
    for state in ({n: (networks[0][n] + networks[1][n]) / 2 for n in networks[0]}, *networks):
        model = normalised()
        model.load_state_dict({n: t.to(model.state_dict()[n].dtype) for n, t in state.items()})
        if policy == "reestimate":
            reestimate_batchnorm(model, plan.data(), classify)
        outputs.append(model.eval()(x).detach())
    distances = 1 - torch.cosine_similarity(outputs[0], (outputs[1] + outputs[2]) / 2)
    assert found.defect[-1] == pytest.approx(float(distances.mean()), rel=1e-5)
    assert found.batchnorm == policy


def test_the_model_is_left_alone() -> None:
    """Tensors, modes and hooks of the user's model are what they were."""
    model = normalised()
    model[2].eval()
    before = copy.deepcopy(model)
    networks = states(2, normalised)
    feature_linearity(model, networks, evaluation())
    commutativity(model, networks, evaluation())
    weak_additivity(model, networks, evaluation())
    stitch(model, *networks, evaluation())

    assert all(torch.equal(t, before.state_dict()[n]) for n, t in model.state_dict().items())
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_interrupted_work_keeps_its_batches() -> None:
    """Ctrl-C leaves the figures of the batches run by then, marked incomplete."""
    networks, plan = states(2), evaluation()

    def stop(step: Progress) -> None:
        if step.done > 7:
            raise KeyboardInterrupt

    found = feature_linearity(perceptron(), networks, plan, progress=stop)
    assert not found.complete
    assert found.layers == ("one", "relu", "two")
    assert found.defect[1:] == feature_linearity(perceptron(), networks, plan, samples=7).defect[1:]


def test_json_form(tmp_path: Path) -> None:
    """A table is read back as it was saved, and its form has a list a column."""
    found = feature_linearity(perceptron(), states(2), evaluation())
    found.save(tmp_path / "features.json")

    assert FeatureLinearity.load(tmp_path / "features.json") == found
    written = json.loads((tmp_path / "features.json").read_text(encoding="utf-8"))
    assert written["layers"] == ["one", "relu", "two"]
    assert {len(written[name]) for name in ("defect", "baseline", "coefficient")} == {3}


def convolutional() -> nn.Sequential:
    """Two strided convolutions with and without bias."""
    layers = (nn.Conv2d(1, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 2, bias=False), nn.AvgPool2d(2), nn.Flatten())
    return nn.Sequential(nn.Unflatten(1, (1, 2)), *layers, nn.Linear(2, 3)).double()


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.3, 0.7)])
def test_commutators_by_hand(weights: tuple[float, float]) -> None:
    """For linear and convolutional layers: the product of differences, and the covariance, without biases."""
    networks, plan = states(2, convolutional), evaluation()
    found = commutativity(convolutional(), networks, plan, weights=weights)

    x = torch.cat([inputs for inputs, _ in plan.data()])[:, None]
    H = [nn.functional.conv2d(x, s["1.weight"], s["1.bias"], padding=1).clamp(min=0) for s in networks]
    W = [s["3.weight"] for s in networks]
    commutator = nn.functional.conv2d(H[0] - H[1], W[0] - W[1])
    outputs = [nn.functional.conv2d(h, w) for h, w in zip(H, W, strict=True)]
    assert found.layers == ("1", "3", "6")
    assert found.figures["commutator"][0] == pytest.approx(0, abs=1e-12)  # its inputs are the data
    assert found.figures["commutator"][1] == pytest.approx(float(commutator.norm() / (outputs[0] + outputs[1]).norm()))
    covariance = weights[0] * weights[1] * commutator.norm() / mixed(outputs, weights).norm()
    assert found.figures["defect"][1] == pytest.approx(float(covariance))


def test_weak_additivity_by_hand() -> None:
    """An activation of the sum of its inputs against the sum of what it gives, at any weights; pooling is linear."""
    networks, plan = states(3), evaluation()
    weights = (0.2, 0.3, 0.5)
    found = weak_additivity(perceptron(), networks, plan, weights=weights)

    x = torch.cat([inputs for inputs, _ in plan.data()])
    given = [features_by_hand(network, x) for network in networks]
    left = mixed([one["one"] for one in given], weights).clamp(min=0)
    right = mixed([one["relu"] for one in given], weights)
    assert found.layers == ("relu",)
    assert found.figures["relative"][0] == pytest.approx(float((left - right).norm() / right.norm()))
    assert found.figures["defect"][0] == pytest.approx(float((1 - torch.cosine_similarity(left, right)).mean()))
    pooled = weak_additivity(convolutional(), states(2, convolutional), plan)
    assert pooled.figures["relative"][pooled.layers.index("4")] == pytest.approx(0, abs=1e-12)


def test_stitching_a_network_into_itself() -> None:
    """Nothing changes, at any layer."""
    network = states(1)[0]
    found = stitch(perceptron(), network, network, evaluation())

    assert found.loss == pytest.approx([found.tail[0]] * 3, abs=1e-12)
    assert found.error == pytest.approx([found.tail[1]] * 3)


def test_stitching_by_hand() -> None:
    """At the hidden layer a's features go through b's last one; at the last layer the result is a; share 0 is b."""
    a, b = states(2)
    plan = evaluation()
    found = stitch(perceptron(), a, b, plan)
    nothing = stitch(perceptron(), a, b, plan, share=0)
    half = stitch(perceptron(), a, b, plan, share=0.5, layers=["two"])

    x, y = (torch.cat(parts) for parts in zip(*plan.data(), strict=True))
    of_a, of_b = (features_by_hand(network, x) for network in (a, b))
    hidden = of_a["relu"] @ b["two.weight"].T + b["two.bias"]
    loss = nn.functional.cross_entropy
    assert found.layers == ("one", "relu", "two")
    assert found.loss[0] == pytest.approx(float(loss(hidden, y)))
    assert found.loss[1:] == pytest.approx([float(loss(hidden, y)), float(loss(of_a["two"], y))])
    assert found.error[1] == pytest.approx(float((hidden.argmax(1) != y).double().mean()))
    assert found.tail[0] == pytest.approx(float(loss(of_b["two"], y)))
    assert nothing.loss == pytest.approx([found.tail[0]] * 3)
    assert half.loss == pytest.approx([float(loss((of_a["two"] + of_b["two"]) / 2, y))])


def test_stitching_keeps_other_outputs() -> None:
    """A layer that gives several tensors has the first replaced; a layer that runs twice is stitched run by run."""
    a, b = states(2, lambda: Twice().double())
    found = stitch(Twice().double(), a, b, evaluation())
    same = stitch(Twice().double(), b, b, evaluation())

    assert found.layers == ("one", "relu", "attention", "two", "relu#2")
    assert found.loss[0] == pytest.approx(found.loss[1])
    assert same.loss == pytest.approx([same.tail[0]] * 5)


def unbiased_hsic(K: Tensor, L: Tensor) -> float:
    """Equation 5 of Song et al. (2012), as written there, but for the factor 1 / (n (n - 3))."""
    n = len(K)
    K, L = K - torch.diag(K.diag()), L - torch.diag(L.diag())
    ones = torch.ones(n, dtype=K.dtype)
    sums = (ones @ K @ ones) * (ones @ L @ ones) / ((n - 1) * (n - 2))
    return float(torch.trace(K @ L) + sums - 2 / (n - 2) * (ones @ K @ L @ ones))


def test_cka_does_not_see_rotations() -> None:
    """Rotated, scaled and shifted features are the same ones; others are as the published estimate has it."""
    x, y = torch.randn(30, 5, dtype=torch.float64), torch.randn(30, 8, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    y[:, :3] += x[:, :3]

    assert cka(x, 3 * x @ rotation + 7) == pytest.approx(1, abs=1e-12)
    K, L = x @ x.T, y @ y.T
    expected = unbiased_hsic(K, L) / math.sqrt(unbiased_hsic(K, K) * unbiased_hsic(L, L))
    assert cka(x, y) == pytest.approx(expected)


def test_cka_of_unrelated_features_is_about_zero() -> None:
    """The estimate is unbiased: even with few samples, unrelated features have about nothing in common."""
    values = [cka(torch.randn(10, 50), torch.randn(10, 50)) for _ in range(200)]

    assert abs(float(np.mean(values))) < 4 * float(np.std(values)) / math.sqrt(200)


def test_similarity_of_networks() -> None:
    """CKA adds batches up before the ratio, angles are those of the first batch; a network is its own equal."""
    (a, b), plan = states(2), evaluation()
    found = feature_similarity(perceptron(), a, b, plan, top=2)
    same = feature_similarity(perceptron(), a, a, plan, top=2)

    rows = [[features_by_hand(network, x)["relu"] for network in (a, b)] for x, _ in plan.data()]
    grams = [[one @ one.T for one in pair] for pair in rows]
    both, first, second = (sum(unbiased_hsic(pair[i], pair[j]) for pair in grams) for i, j in ((0, 1), (0, 0), (1, 1)))
    assert found.figures["cka"][1] == pytest.approx(both / math.sqrt(first * second))
    assert found.figures["angle"][1] == pytest.approx(float(principal_angles(*rows[0], 2).mean()))
    assert same.figures["cka"] == pytest.approx([1] * 3)
    assert same.figures["angle"] == pytest.approx([0] * 3, abs=1e-7)


def test_angles_are_those_of_scipy() -> None:
    """Angles between the leading subspaces are SciPy's, in ascending order, and tiny ones keep their digits."""
    x, y = torch.randn(2, 20, 6, dtype=torch.float64)
    spaces = [scipy.linalg.svd(rows.numpy())[2][:3].T for rows in (x, y)]
    expected = np.sort(scipy.linalg.subspace_angles(*spaces))
    np.testing.assert_allclose(principal_angles(x, y, 3).numpy(), expected, atol=1e-9)

    flat = torch.zeros(4, 3, dtype=torch.float64)
    flat[0, 0] = 1
    turned = flat.clone()
    turned[0, 1] = 1e-9
    assert float(principal_angles(flat, turned, 1)) == pytest.approx(1e-9, rel=1e-6)
