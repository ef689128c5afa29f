"""MNIST with the MLP 784-400-200-100-10 without biases of the OTFusion paper (Singh and Jaggi 2020)."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from onebasin.tasks import ImageBatches, ImageTask, classification_sums


class OTFusionMLP(nn.Module):
    """Four linear layers without biases, with ReLU in between."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 400, bias=False)
        self.fc2 = nn.Linear(400, 200, bias=False)
        self.fc3 = nn.Linear(200, 100, bias=False)
        self.fc4 = nn.Linear(100, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[n, 1, 28, 28]` to logits `[n, 10]`."""
        x = torch.relu(self.fc1(x.flatten(1)))
        x = torch.relu(self.fc2(x))
        x = torch.relu(self.fc3(x))
        logits: Tensor = self.fc4(x)
        return logits


@cache
def mnist(data_root: Path) -> ImageTask:
    """The built-in task, kept so that its files are decoded once."""
    return ImageTask("mnist", data_root)


def build_model() -> nn.Module:
    """The published architecture."""
    return OTFusionMLP()


def example_inputs() -> tuple[Tensor]:
    """Two images."""
    return ImageTask("mnist").example_inputs()


def batches(split: str, data_root: Path) -> ImageBatches:
    """Images and labels of the built-in task."""
    return mnist(data_root).batches(split)


evaluate = classification_sums
