"""Linear layers are found in the operations of any model, and read and written as what they compute."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from correction.layers import NETWORKS, Einsum, evaluate, inputs, network
from onebasin.correction.fold import folded, scaled, unfolded
from onebasin.correction.hosting import read_batches, write
from onebasin.correction.reading import Reading, read_sites, turn, waves
from onebasin.correction.site import Plan, Site
from onebasin.correction.sites import find_sites
from onebasin.correction.trace import record

NAMES = sorted(NETWORKS)


def plan_of(model: nn.Module, x: Tensor) -> Plan:
    """The sites of a model."""
    return find_sites(record(model, lambda network: network(x)))


def readings(model: nn.Module, name: str, plan: Plan, rows: int = 1000) -> dict[int, list[Reading]]:
    """What every site reads and gives on two batches of unequal size."""
    found: dict[int, list[Reading]] = {position: [] for position in range(len(plan.sites))}
    data = read_batches(model, inputs(name, 4, 3), evaluate, None)
    for position, site in enumerate(plan.sites):
        parts = ("inputs", "own", "end")
        read_sites(model, data, {position: site}, {position: rows}, 5, parts, lambda p, r: found[p].append(r))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_sites_are_found(name: str) -> None:
    """Every linear layer of the table is found once, in an order in which it can be corrected."""
    model = network(name)

    assert [site.name for site in plan_of(model, inputs(name, 4)[0]).sites] == NETWORKS[name][2]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1000, 6])
def test_rows_are_what_the_layer_computes(name: str, rows: int) -> None:
    """Rows of the inputs, times the folded weights plus the folded bias, are the rows of the layer's own output."""
    model = network(name)
    plan = plan_of(model, inputs(name, 4)[0])
    for position, row in readings(model, name, plan, rows).items():
        W, b = folded(plan.sites[position], model.state_dict())
        for reading in row:
            assert reading.inputs.shape[1] <= rows
            torch.testing.assert_close(reading.inputs @ W + b[:, None], reading.own)


def relu_or_same(site: Site, rows: Tensor) -> Tensor:
    """What follows the end of a site, as far as it is known."""
    return rows.relu() if site.relu else rows


def test_streams_and_activations_are_seen() -> None:
    """Residual sums are found behind norms and moves, and only what a ReLU alone reads counts as followed by one."""
    seen = {}
    for name in NAMES:
        for site in plan_of(network(name), inputs(name, 4)[0]).sites:
            seen[name, site.name] = (site.stream is not None, site.relu, site.norm is not None, site.depth)

    assert seen["block", "conv1.weight"] == (False, True, True, 1)
    assert seen["block", "conv2.weight"] == (True, True, True, 2)
    assert seen["shortcut", "down.0.weight"] == (False, False, True, 1)
    assert seen["shortcut", "branch.0.weight"] == (True, True, True, 1)
    assert seen["turned", "fc.weight"] == (True, True, True, 1)
    assert seen["einsum", "O"] == (True, False, False, 2)
    assert seen["encoder", "linear1.weight"] == (False, True, False, 3)
    assert seen["encoder", "linear2.weight"] == (True, False, False, 4)
    assert seen["mlp", "4.weight"] == (False, False, False, 3)


@pytest.mark.parametrize("name", ["block", "turned", "shortcut", "einsum"])
def test_sums_are_read_in_the_rows_of_the_layer(name: str) -> None:
    """What the stream adds does not depend on the layer's own weights."""
    model = network(name)
    plan = plan_of(model, inputs(name, 4)[0])
    position = next(p for p, site in enumerate(plan.sites) if site.stream)
    before = readings(model, name, plan)[position]
    site = plan.sites[position]
    W, b = folded(site, model.state_dict())
    write(model, unfolded(site, model.state_dict(), W * 2, b + 1, partial(moments, before, W * 2)))
    after = readings(model, name, plan)[position]

    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new.added(), old.added())
        torch.testing.assert_close(new.end, old.end + old.inputs @ W + 1 * bool(site.norm or site.bias))


def moments(rows: list[Reading], W: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of what a map gives, before its bias."""
    y = torch.cat([reading.inputs for reading in rows], 1).double() @ W
    return y.mean(1), y.var(1, correction=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_new_map_is_written_into_the_same_parameters(name: str) -> None:
    """After unfolding, every layer computes the map it was given, under the same names, shapes and dtypes."""
    model = network(name)
    plan = plan_of(model, inputs(name, 4)[0])
    for position, row in readings(model, name, plan).items():
        site, params = plan.sites[position], model.state_dict()
        W, b = torch.randn(site.entries.shape).double(), torch.randn(site.sizes[0], site.sizes[2]).double()
        b = b if site.bias or site.norm else torch.zeros_like(b)
        changed = unfolded(site, params, W, b, partial(moments, row, W))
        found = folded(site, params | changed)

        assert all((t.shape, t.dtype) == (params[n].shape, params[n].dtype) for n, t in changed.items())
        torch.testing.assert_close(found[0], W)
        torch.testing.assert_close(found[1], b)


def test_statistics_behind_a_new_map_are_those_of_the_data() -> None:
    """Running mean and variance written by unfolding are those of what reaches the norm, and rows keep their length."""
    model = network("block")
    plan = plan_of(model, inputs("block", 4)[0])
    row = readings(model, "block", plan)[0]
    before = model.conv1.weight.flatten(1).norm(dim=1)
    W, b = torch.randn(plan.sites[0].entries.shape).double(), torch.randn(1, 3).double()
    write(model, unfolded(plan.sites[0], model.state_dict(), W, b, partial(moments, row, W)))
    y = model.conv1(torch.cat(inputs("block", 4, 3)))

    torch.testing.assert_close(model.conv1.weight.flatten(1).norm(dim=1), before)
    torch.testing.assert_close(model.bn1.running_mean, y.mean((0, 2, 3)))
    torch.testing.assert_close(model.bn1.running_var, y.var((0, 2, 3), correction=0))


@pytest.mark.parametrize("name", NAMES)
def test_scaling_scales(name: str) -> None:
    """A gain and a shift for every unit act on the layer's own output; without bias and norm the shift is left out."""
    model = network(name)
    plan = plan_of(model, inputs(name, 4)[0])
    for site in plan.sites:
        gain, shift = torch.rand(site.sizes[0], site.sizes[2]).double() + 0.5, torch.randn(site.sizes[0], site.sizes[2])
        W, b = folded(site, model.state_dict())
        found = folded(site, model.state_dict() | scaled(site, model.state_dict(), gain, shift.double()))
        torch.testing.assert_close(found[0], W * gain[:, None])
        torch.testing.assert_close(found[1], gain * b + shift if site.bias or site.norm else b)


class Tied(nn.Module):
    """An embedding that is the output layer as well, a layer that runs twice, and two layers with one bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.twice = nn.Linear(4, 4)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.bias = self.first.bias
        self.up = nn.ConvTranspose1d(4, 4, 1)
        self.scaled = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map int64 `[n, 3]` to `[n, 3, 6]`."""
        h = self.twice(self.twice(self.embed(x)).tanh())
        h = self.second(self.first(h).tanh()).tanh()
        h = self.up(h.transpose(1, 2)).transpose(1, 2)
        return nn.functional.linear(h, self.scaled.weight * 2).tanh() @ self.embed.weight.T


def test_what_cannot_be_corrected_is_named() -> None:
    """Weights with several uses, shared biases, transposed convolutions and computed weights are left out."""
    plan = plan_of(Tied(), torch.zeros(2, 3, dtype=torch.int64))

    assert plan.sites == ()
    assert {name: why.split(" (")[0] for name, why in plan.skipped.items()} == {
        "embed.weight": "it is also used by aten::embedding",
        "twice.weight": "it is used several times",
        "first.weight": "its bias first.bias is used several times",
        "second.weight": "its bias first.bias is used several times",
        "up.weight": "transposed convolutions are not supported",
    }


def test_norms_without_a_layer_are_listed() -> None:
    """A BatchNorm that follows no linear layer immediately is listed with its statistics, in order."""
    plan = plan_of(network("preactivated"), inputs("preactivated", 4)[0])

    assert [names for _, *names in plan.norms] == [
        ["0.running_mean", "0.running_var"],
        ["3.running_mean", "3.running_var"],
    ]


def test_independent_sites_share_a_pass() -> None:
    """Sites that do not depend on each other are one wave; what a site depends on is known."""
    plan = plan_of(network("shortcut"), inputs("shortcut", 4)[0])
    attention = plan_of(Einsum().double(), inputs("einsum", 4)[0])

    assert list(waves(plan, [0, 1])) == [[0], [1]]
    assert plan.needs == (0, 1)
    assert list(waves(attention, [0, 1])) == [[0], [1]]


def test_turning_undoes_a_rotation() -> None:
    """Rows that are rotated and moved copies of others are turned back onto them."""
    rows = [torch.randn(2, n, 5).double() for n in (9, 4)]
    rotation = torch.linalg.qr(torch.randn(2, 5, 5).double()).Q
    turned = turn([part @ rotation + 3 for part in rows], rows)

    for found, part in zip(turned, rows, strict=True):
        torch.testing.assert_close(found, part)
