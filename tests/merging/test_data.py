"""Methods that look at data: the greedy soup, Fisher weights and RegMean."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onebasin import merge
from onebasin.errors import MismatchError, OptionError
from onebasin.merging import NETWORK_METHODS, estimate_fisher, fisher_merge, gram_matrices, greedy, regmean_merge
from onebasin.merging.loading import at_most, singles
from onebasin.merging.networks import Networks
from onebasin.tasks import classification_sums

Batch = tuple[Tensor, Tensor]


class Points:
    """Points of the plane in two classes, and a network for them."""

    name = "points"

    def build_model(self) -> nn.Module:
        """Two linear layers."""
        return nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2))

    def batches(self, split: str) -> Iterable[Batch]:
        """Two batches, other points for every split."""
        generator = torch.Generator().manual_seed(len(split))
        x = torch.randn(60, 2, generator=generator)
        y = (x[:, 0] > 0).long()
        return [(x[:40], y[:40]), (x[40:], y[40:])]

    def evaluate(self, model: nn.Module, batch: object) -> dict[str, Tensor]:
        """Cross-entropy and correct answers."""
        return classification_sums(model, batch)


def state(seed: int) -> dict[str, Tensor]:
    """The tensors of a network with random weights."""
    torch.manual_seed(seed)
    return dict(Points().build_model().state_dict())


def test_greedy_soup_by_hand() -> None:
    """Networks are tried from the best, and one that makes the mean worse is left out."""
    values = [3.0, 0.5, -1.0, 1.5]  # how far each is from the best network, at 0
    models = [{"w": torch.tensor([value], dtype=torch.float64)} for value in values]
    soup = greedy(models, lambda params: -abs(float(params["w"])))

    # From the best: 0.5. With -1.0 the mean is -0.25: taken. With 1.5 it is 1/3: left out. With 3 it is 5/6: left out.
    assert soup.chosen == (1, 2)
    assert soup.scores == (-3.0, -0.5, -1.0, -1.5)
    assert float(soup.params["w"]) == -0.25
    assert soup.score == -0.25


def test_greedy_soup_of_ties_is_the_uniform_soup() -> None:
    """Where all networks are equally good alone and together, all are taken, in their order."""
    models = [state(k) for k in range(3)]
    soup = greedy(models, lambda _: 1.0)

    assert soup.chosen == (0, 1, 2)
    assert all(torch.equal(soup.params[name], tensor) for name, tensor in merge(models).items())


def test_fisher_merge_is_the_weighted_mean_of_the_paper() -> None:
    """Every entry is the sum of w F theta over the sum of w F, and the mean where nothing is known."""
    models = [{"w": torch.randn(7), "b": torch.randn(2)} for _ in range(3)]
    fishers = [{"w": torch.rand(7) * 1e-9} for _ in range(3)]
    for fisher in fishers:
        fisher["w"][3] = 0
    shares = np.array([1.0, 2.0, 1.0])
    merged = fisher_merge(models, fishers, shares.tolist())

    theta, information = (np.stack([row["w"].double().numpy() for row in rows]) for rows in (models, fishers))
    weight = shares[:, None] * information
    expected = np.divide((weight * theta).sum(0), weight.sum(0), where=weight.sum(0) > 0, out=np.zeros(7))
    expected[3] = np.average(theta[:, 3], weights=shares)
    np.testing.assert_allclose(merged["w"], expected, rtol=1e-6)
    assert torch.equal(merged["b"], merge(models, weights=shares.tolist())["b"])


def test_fisher_of_equal_networks_is_that_network() -> None:
    """Equal networks give themselves bit by bit, whatever their information."""
    a = state(0)
    merged = fisher_merge([a, a], [{n: torch.rand_like(t) for n, t in a.items()} for _ in range(2)])

    assert all(torch.equal(merged[name], tensor) for name, tensor in a.items())


def test_estimated_fisher_is_the_mean_square_of_gradients() -> None:
    """For one linear layer and half the squared error it is the mean of (error times input) squared."""
    model = nn.Linear(3, 1, bias=False)
    x, y = torch.randn(9, 3), torch.randn(9)

    def evaluate(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        inputs, labels = batch
        return {"loss": (network(inputs)[:, 0] - labels).square().sum() / 2, "count": torch.tensor(len(labels))}

    found = estimate_fisher(model, [(x[:4], y[:4]), (x[4:], y[4:])], evaluate, 6)["weight"]

    slope = ((model(x)[:, 0] - y)[:, None] * x)[:6].detach().double()
    torch.testing.assert_close(found[0], slope.square().mean(0), rtol=1e-5, atol=1e-9)
    assert model.weight.grad is None


def test_regmean_solves_the_least_squares_problem() -> None:
    """With whole Gram matrices the merged layer is the minimiser that NumPy finds on the stacked inputs."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(50, 4, generator=generator, dtype=torch.float64) for _ in range(2)]
    models = [{"w": torch.randn(3, 4, dtype=torch.float64), "b": torch.randn(3, dtype=torch.float64)} for _ in range(2)]
    merged = regmean_merge(models, [{"w": x.T @ x / 50} for x in inputs], alpha=1.0)

    answers = torch.cat([x @ model["w"].T for x, model in zip(inputs, models, strict=True)])
    solved = np.linalg.lstsq(torch.cat(inputs).numpy(), answers.numpy(), rcond=None)[0].T
    np.testing.assert_allclose(merged["w"], solved, rtol=1e-9, atol=1e-12)
    assert torch.equal(merged["b"], merge(models)["b"])


def test_regmean_without_inputs_is_the_mean() -> None:
    """Directions that no input has stay at the mean, and with diagonal matrices every column is weighed by itself."""
    models = [{"w": torch.tensor([[1.0, 10.0, 3.0]])}, {"w": torch.tensor([[3.0, 20.0, 5.0]])}]
    grams = [{"w": torch.diag(torch.tensor(row, dtype=torch.float64))} for row in ([3.0, 0.0, 1.0], [1.0, 0.0, 0.0])]

    torch.testing.assert_close(regmean_merge(models, grams)["w"], torch.tensor([[1.5, 15.0, 3.0]]))


def test_regmean_of_equal_networks_is_that_network() -> None:
    """Equal networks give themselves, whatever their inputs."""
    a = state(0)
    grams = [gram_matrices(model_of(a), Points().batches(s), Points().evaluate) for s in ("train", "val")]
    merged = regmean_merge([a, a], grams)

    assert all(torch.equal(merged[name], tensor) for name, tensor in a.items())


def model_of(params: dict[str, Tensor]) -> nn.Module:
    """The network with given tensors."""
    model = Points().build_model()
    model.load_state_dict(params)
    return model


def test_gram_matrices_are_those_of_the_inputs() -> None:
    """For the first layer it is the mean outer product of the data, over as many batches as are needed."""
    trial, model = Points(), Points().build_model()
    found = gram_matrices(model, trial.batches("train"), trial.evaluate, 41)
    few = gram_matrices(model, trial.batches("train"), trial.evaluate, 40)
    x = torch.cat([batch[0] for batch in trial.batches("train")]).double()

    assert list(found) == ["0.weight", "2.weight"]
    torch.testing.assert_close(found["0.weight"], x.T @ x / 60)
    torch.testing.assert_close(few["0.weight"], x[:40].T @ x[:40] / 40)


@pytest.mark.parametrize("name", list(NETWORK_METHODS))
def test_methods_that_look_at_data_run_on_a_task(name: str) -> None:
    """Every such method gives a network of the same names, shapes and dtypes, and its parent for equal parents."""
    a, b = state(0), state(1)
    method = NETWORK_METHODS[name]
    merged = method.run(Networks([a, b], ["a", "b"], Points(), 20))
    again = method.run(Networks([a, a], ["a", "a"], Points(), 20))

    assert [(n, t.shape, t.dtype) for n, t in merged.items()] == [(n, t.shape, t.dtype) for n, t in a.items()]
    assert all(torch.equal(again[n], t) for n, t in a.items())


def test_batches_are_taken_apart() -> None:
    """Tensors of one length are split into samples in every container, and all else is one sample."""
    x, y = torch.arange(3), torch.arange(3) + 5

    assert [(int(a), int(b)) for a, b in singles((x, y))] == [(0, 5), (1, 6), (2, 7)]
    assert [int(sample["y"]) for sample in singles({"x": x, "y": y})] == [5, 6, 7]
    assert len(list(singles(x))) == 3
    assert list(singles("text")) == ["text"]
    assert len(list(singles((x, y[:2])))) == 1
    assert len(list(at_most([x, y, x], 4))) == 2


def test_data_that_does_not_fit_is_named() -> None:
    """Missing data and matrices of other shapes are errors that name them."""
    a = state(0)
    with pytest.raises(OptionError, match="batches: expected at least one batch, found none"):
        gram_matrices(model_of(a), [], Points().evaluate)
    with pytest.raises(OptionError, match="samples: expected 1 or more, found 0"):
        estimate_fisher(model_of(a), Points().batches("train"), Points().evaluate, 0)
    with pytest.raises(MismatchError, match=r"fisher 1: 0\.weight: expected the shape .* found shape \(2,\)"):
        fisher_merge([a, a], [{"0.weight": torch.ones(2)}] * 2)
    with pytest.raises(MismatchError, match=r"gram 1: 0\.weight: expected a matrix of shape \(2, 2\) for every model"):
        regmean_merge([a, a], [{"0.weight": torch.eye(2)}, {}])
