"""Re-estimated BatchNorm statistics: by hand in float64, with everything else left as it was."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from onebasin import Progress, reestimate_batchnorm
from onebasin.errors import OptionError

Sums = dict[str, Tensor]


def evaluate(model: nn.Module, batch: object) -> Sums:
    """Run a model on a batch of inputs."""
    assert isinstance(batch, Tensor)
    return {"loss": model(batch).sum(), "count": torch.tensor(len(batch))}


def network() -> nn.Sequential:
    """Two BatchNorm layers with momenta of their own behind dropout, the first in eval mode and some frozen."""
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, momentum=0.3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(12, 5),
        nn.BatchNorm1d(5), nn.BatchNorm1d(5, track_running_stats=False),
    )  # fmt: skip
    model[1].eval()
    for layer in (model[1], model[6]):
        layer.running_mean.fill_(50.0)
        layer.running_var.fill_(9.0)
        layer.num_batches_tracked.fill_(77)
    return model


def data(*counts: int) -> list[Tensor]:
    """Batches of so many inputs, each with a mean and a scale of its own."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 2, 4, 4, generator=generator) * (1 + k) + k for k, n in enumerate(counts)]


def normalised(layer: nn.Module, x: Tensor) -> Tensor:
    """What a BatchNorm layer makes of a batch in train mode, in float64."""
    dims = [d for d in range(x.ndim) if d != 1]
    y = (x - x.mean(dims, keepdim=True)) / (x.var(dims, keepdim=True, correction=0) + layer.eps).sqrt()
    shape = [1, -1, *[1] * (x.ndim - 2)]
    return y * layer.weight.double().view(shape) + layer.bias.double().view(shape)


def by_hand(model: nn.Sequential, batches: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Mean and unbiased variance of what reaches each layer, averaged over the batches, each batch counting once."""
    rows: list[list[tuple[Tensor, Tensor]]] = [[], []]
    for batch in batches:
        x = nn.functional.conv2d(batch.double(), model[0].weight.double(), model[0].bias.double())
        rows[0].append((x.mean((0, 2, 3)), x.var((0, 2, 3))))
        x = nn.functional.linear(
            normalised(model[1], x).relu().flatten(1), model[5].weight.double(), model[5].bias.double()
        )
        rows[1].append((x.mean(0), x.var(0)))
    return [tuple(sum(pair[k] for pair in row) / len(row) for k in (0, 1)) for row in rows]


@pytest.mark.parametrize("counts", [(32,), (16, 16), (5, 40, 2)])
def test_statistics_are_those_of_the_data(counts: tuple[int, ...]) -> None:
    """Means and variances are the averages over the batches, computed by hand, with dropout off and nothing of old."""
    model, batches = network(), data(*counts)
    expected = by_hand(model, batches)
    used = reestimate_batchnorm(model, batches, evaluate)

    assert used == sum(counts)
    for layer, (mean, variance) in zip((model[1], model[6]), expected, strict=True):
        torch.testing.assert_close(layer.running_mean.double(), mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(layer.running_var.double(), variance, rtol=1e-4, atol=1e-4)
        assert int(layer.num_batches_tracked) == len(counts)


def test_one_batch_gives_the_statistics_of_the_data() -> None:
    """With all data in one batch, a single layer holds mean and unbiased variance of the data itself."""
    layer, (batch,) = nn.BatchNorm2d(2), data(64)
    reestimate_batchnorm(layer, [batch], evaluate)

    torch.testing.assert_close(layer.running_mean, batch.double().mean((0, 2, 3)).float())
    torch.testing.assert_close(layer.running_var, batch.double().var((0, 2, 3)).float())


def snapshot(model: nn.Sequential) -> tuple[list[bool], list[object], dict[str, Tensor]]:
    """Modes, momenta, and everything that is not a running statistic."""
    return (
        [module.training for module in model.modules()],
        [getattr(module, "momentum", None) for module in model.modules()],
        {
            name: t.clone()
            for name, t in model.state_dict().items()
            if not name.startswith(("1.", "6.")) or "weight" in name
        },
    )


def failing(error: type[BaseException]) -> Callable[[nn.Module, object], Sums]:
    """An evaluation that fails at the second batch."""
    calls: list[object] = []

    def evaluate_or_fail(model: nn.Module, batch: object) -> Sums:
        calls.append(batch)
        if len(calls) == 2:
            raise error
        return evaluate(model, batch)

    return evaluate_or_fail


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_modes_and_momenta_are_restored(error: type[BaseException] | None) -> None:
    """Modes, momenta and weights are as before afterwards, also where the evaluation raises or is interrupted."""
    model = network().train()
    model[6].eval()
    before = snapshot(model)
    if error is None:
        reestimate_batchnorm(model, data(4, 4), evaluate)
    else:
        with pytest.raises(error):
            reestimate_batchnorm(model, data(4, 4), failing(error))
    after = snapshot(model)

    assert after[:2] == before[:2]
    assert all(torch.equal(after[2][name], tensor) for name, tensor in before[2].items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_gradients_are_recorded() -> None:
    """The evaluation runs without autograd, and the next training step updates running statistics as before."""
    model = network().train()
    seen: list[bool] = []

    def watching(module: nn.Module, batch: object) -> Sums:
        sums = evaluate(module, batch)
        seen.append(sums["loss"].requires_grad)
        return sums

    reestimate_batchnorm(model, data(8), watching)
    assert seen == [False]
    old = model[1].running_mean.clone()
    x = model[0](data(4)[0])
    model[1](x)
    torch.testing.assert_close(model[1].running_mean, 0.7 * old + 0.3 * x.mean((0, 2, 3)))


def test_batches_may_be_anything() -> None:
    """A batch may be of any kind, nothing included, where the evaluation has data of its own."""
    layer, data_of_its_own = nn.BatchNorm2d(2), data(8)[0]

    assert reestimate_batchnorm(layer, [None], lambda model, _: evaluate(model, data_of_its_own)) == 8


@pytest.mark.parametrize(("samples", "used"), [(1, 4), (4, 4), (5, 8), (None, 12), (100, 12)])
def test_enough_samples_are_enough(samples: int | None, used: int) -> None:
    """Batches are taken until at least so many samples were seen, no further one being asked for."""
    asked: list[int] = []
    reports: list[Progress] = []

    def batches() -> Iterator[Tensor]:
        for number, batch in enumerate(data(4, 4, 4)):
            asked.append(number)
            yield batch

    assert reestimate_batchnorm(network(), batches(), evaluate, samples, progress=reports.append) == used
    assert len(asked) == used // 4
    assert [(report.done, report.total) for report in reports] == [(4 * (k + 1), samples) for k in range(used // 4)]


def test_a_model_without_statistics_is_left_alone() -> None:
    """Without layers that keep statistics nothing runs, and no data is needed."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))

    assert reestimate_batchnorm(model, [], failing(RuntimeError)) == 0
    assert model.training


@pytest.mark.parametrize(("samples", "message"), [(0, "^samples: expected 1 or more"), (None, "^batches: expected at")])
def test_nothing_to_estimate_from_is_an_error(samples: int | None, message: str) -> None:
    """No samples and no batches are refused."""
    with pytest.raises(OptionError, match=message):
        reestimate_batchnorm(network(), [], evaluate, samples)


def test_refused_work_changes_nothing() -> None:
    """Where there is no data, the statistics are still those from before."""
    model = network()
    with pytest.raises(OptionError):
        reestimate_batchnorm(model, [], evaluate)

    assert float(model[1].running_mean[0]) == 50.0
