"""MNIST with the MLP 784-256-10 whose published checkpoints were trained on shards that do not share a distribution."""

from functools import cache
from pathlib import Path

from torch import Tensor, nn

from onebasin.tasks import ImageBatches, ImageTask, classification_sums


class TwoLevelMLP(nn.Module):
    """Two levels, each of which prepares its input and then applies a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.level1 = nn.Sequential(nn.Flatten(), nn.Linear(784, 256))
        self.level2 = nn.Sequential(nn.ReLU(), nn.Linear(256, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[n, 1, 28, 28]` to logits `[n, 10]`."""
        logits: Tensor = self.level2(self.level1(x))
        return logits


@cache
def mnist(data_root: Path) -> ImageTask:
    """The built-in task, kept so that its files are decoded once."""
    return ImageTask("mnist", data_root)


def build_model() -> nn.Module:
    """The published architecture."""
    return TwoLevelMLP()


def example_inputs() -> tuple[Tensor]:
    """Two images."""
    return ImageTask("mnist").example_inputs()


def batches(split: str, data_root: Path) -> ImageBatches:
    """Images and labels of the built-in task."""
    return mnist(data_root).batches(split)


evaluate = classification_sums
