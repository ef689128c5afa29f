"""FashionMNIST in 14 x 14 pixels, with a small ResNet with BatchNorm."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from onebasin.tasks import ImageTask, classification_logits, classification_sums

CHANNELS = (16, 32, 64)


class Block(nn.Module):
    """Two convolutions, and a shortcut by a convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, inputs, h, w]` to `[n, outputs, h / stride, w / stride]`."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.shortcut(x))


def build_model() -> nn.Module:
    """A stem, two blocks that halve the image and double the channels, the mean, and a linear layer."""
    narrow, middle, wide = CHANNELS
    return nn.Sequential(
        nn.Conv2d(1, narrow, 3, 1, 1, bias=False),
        nn.BatchNorm2d(narrow),
        nn.ReLU(),
        Block(narrow, middle, 2),
        Block(middle, wide, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(wide, 10),
    )


def example_inputs() -> tuple[Tensor]:
    """Two images."""
    (images,) = ImageTask("fashion-mnist").example_inputs()
    return (functional.avg_pool2d(images, 2),)


def batches(split: str, data_root: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Images float32 `[1000, 1, 14, 14]` and labels int64 `[1000]`."""
    for images, labels in ImageTask("fashion-mnist", data_root).batches(split):
        yield functional.avg_pool2d(images, 2), labels


evaluate = classification_sums
predict = classification_logits
