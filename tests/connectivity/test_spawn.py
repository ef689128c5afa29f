"""Spawning: children that part late end up connected."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from connectivity.curve_networks import State, classify, data, network, train
from onebasin import Evaluation, Progress
from onebasin.connectivity import spawn, spawning_onset

EPOCHS = 40


def same(a: State, b: State) -> bool:
    """Whether two networks are equal to the bit."""
    return all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_children_share_their_parent() -> None:
    """Parted at the end, or with one seed, the children are the same network; parted earlier with two they differ."""
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    assert same(*spawn(model, train, 5, 5))
    assert same(*spawn(model, train, 2, 5, (7, 7)))
    assert not same(*spawn(model, train, 2, 5))
    assert same(before, model.state_dict())


def test_onset_is_the_first_connected_epoch(tmp_path: Path) -> None:
    """Children parted at the end have no barrier, those that share only the start have one; the onset lies between."""
    seen: list[Progress] = []
    found = spawning_onset(
        network(), train, Evaluation(classify, data(), batchnorm="keep"), (0, 10, EPOCHS), EPOCHS, progress=seen.append
    )
    found.save(tmp_path / "spawning.json")

    barriers = found.barriers()
    assert list(barriers) == [0, 10, EPOCHS]
    assert barriers[EPOCHS] == pytest.approx(0, abs=1e-12)
    assert found.barriers("loss")[0] > found.barriers("loss")[EPOCHS]
    assert found.onset == next(after for after in barriers if barriers[after] < 0.02)
    assert json.loads((tmp_path / "spawning.json").read_text(encoding="utf-8"))["onset"] == found.onset
    assert [step.done for step in seen] == [1, 2, 3]


def test_parent_is_trained_once() -> None:
    """The parent goes on from one parting to the next: every one of its epochs is trained once."""
    trained: list[tuple[int, list[int]]] = []

    def record(_: nn.Module, epochs: range, seed: int) -> None:
        trained.append((seed, list(epochs)))

    spawning_onset(network(), record, Evaluation(classify, data()), (1, 3), 4, points=3)

    assert [epochs for seed, epochs in trained if seed == 0] == [[0], [1, 2]]
    assert [epochs for seed, epochs in trained if seed == 2] == [[1, 2, 3], [3]]


def test_parts_of_a_parent_are_the_parent() -> None:
    """Children after two partings are those of a parent trained in one go."""
    evaluation = Evaluation(classify, data())
    one = spawning_onset(network_of(1), train, evaluation, (4,), 6, points=3).profiles[4]
    two = spawning_onset(network_of(1), train, evaluation, (2, 4), 6, points=3).profiles[4]

    assert one.loss == two.loss


def network_of(seed: int) -> nn.Module:
    """A network of a seed."""
    torch.manual_seed(seed)
    return network()


def test_interrupted_spawning_keeps_what_it_measured() -> None:
    """Ctrl-C while training gives the pairs measured by then, and no onset among connected ones is invented."""

    def broken(model: nn.Module, epochs: range, seed: int) -> None:
        if len(epochs) and epochs[0] == 3:
            raise KeyboardInterrupt
        train(model, epochs, seed)

    found = spawning_onset(network(), broken, Evaluation(classify, data()), (0, 3), 20, points=3)

    assert list(found.profiles) == [0]
