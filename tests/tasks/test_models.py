"""Networks of the built-in tasks: names, shapes and the published checkpoints they must take."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from onebasin.tasks import ImageTask
from onebasin.tasks.models import ResidualBlock, ResNet20, mlp
from shared_data import require_checkpoints, require_cifar10


def test_mlp_names_its_layers() -> None:
    """Layers are called fc1, fc2, ... and there is no ReLU after the last."""
    model = mlp([6, 5, 4, 3], bias=False)

    assert {name: list(value.shape) for name, value in model.state_dict().items()} == {
        "fc1.weight": [5, 6],
        "fc2.weight": [4, 5],
        "fc3.weight": [3, 4],
    }
    assert [name for name, _ in model.named_children()] == ["flatten", "fc1", "relu1", "fc2", "relu2", "fc3"]


def test_shortcut_pads_both_sides() -> None:
    """The shortcut of a halving block keeps every second pixel between equal numbers of zero channels."""
    x = torch.arange(4 * 16.0).reshape(1, 4, 4, 4)
    y = ResidualBlock(4, 8, stride=2).shortcut(x)

    assert y.shape == (1, 8, 2, 2)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert y[:, :2].count_nonzero() + y[:, 6:].count_nonzero() == 0


def test_resnet20_has_the_published_size() -> None:
    """ResNet-20 has 20 layers of weights and the 0.27 million parameters of the paper's table."""
    model = ResNet20()
    weights = [value for value in model.parameters() if value.ndim > 1]

    assert len(weights) == 20
    assert sum(value.numel() for value in model.parameters()) == 269_722


def test_resnet20_takes_published_checkpoints() -> None:
    """Checkpoints of three different people load strictly."""
    for path in require_checkpoints("cifar10_resnet20"):
        ResNet20().load_state_dict(load_file(path), strict=True)


def test_resnet20_reaches_published_accuracies(tmp_path: Path) -> None:
    """On the first 500 test images every published checkpoint is within three points of its recorded accuracy."""
    paths = require_checkpoints("cifar10_resnet20")
    task = ImageTask("cifar10", require_cifar10(tmp_path))
    images, labels = next(iter(task.batches("test")))
    for path in paths:
        model = ResNet20().eval()
        model.load_state_dict(load_file(path))
        with torch.inference_mode():
            correct = task.evaluate(model, (images[:500], labels[:500]))["correct"].item()
        with safe_open(path, "pt") as file:
            measured = float(file.metadata()["measured"])
        assert correct / 5 == pytest.approx(measured, abs=3.0), path.name
