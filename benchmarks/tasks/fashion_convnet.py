"""FashionMNIST, ten thousand training images of it, with a small convolutional network with BatchNorm."""

from functools import cache
from itertools import islice
from pathlib import Path

from torch import Tensor, nn

from onebasin.tasks import ImageTask, classification_logits, classification_sums

CHANNELS = (16, 32, 32)
TRAINING, OTHERS = 10, 5
"""Batches of 1,000 images of the training split, and of the others."""


def build_model() -> nn.Module:
    """Three convolutions, the first two with stride 2, the mean over what is left of the image, and a linear layer."""
    layers: list[nn.Module] = []
    before = 1
    for number, channels in enumerate(CHANNELS):
        stride = 2 if number < len(CHANNELS) - 1 else 1
        layers += [nn.Conv2d(before, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def example_inputs() -> tuple[Tensor]:
    """Two images."""
    return ImageTask("fashion-mnist").example_inputs()


@cache
def images(split: str, data_root: Path) -> tuple[tuple[Tensor, Tensor], ...]:
    """The first images of a split of the built-in task, kept in memory."""
    wanted = TRAINING if split == "train" else OTHERS
    return tuple(islice(ImageTask("fashion-mnist", data_root).batches(split), wanted))


def batches(split: str, data_root: Path) -> tuple[tuple[Tensor, Tensor], ...]:
    """Images float32 `[1000, 1, 28, 28]` and labels int64 `[1000]`."""
    return images(split, data_root)


evaluate = classification_sums
predict = classification_logits
