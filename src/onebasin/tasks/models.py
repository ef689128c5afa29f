"""The networks of the built-in tasks."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

_RESNET20_BLOCKS_PER_STAGE = 3
_RESNET20_CHANNELS = (16, 32, 64)


def mlp(widths: Sequence[int], *, bias: bool = True) -> nn.Sequential:
    """Build a perceptron with ReLU between its layers, which flattens its input first.

    Args:
        widths: features of the input, of each hidden layer and of the output; at least two numbers.
        bias: whether the layers have a bias.

    Returns:
        A module from `[batch, ...]` with `widths[0]` values per sample to `[batch, widths[-1]]`; its layers are named
        `fc1`, `fc2`, ...
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        layers[f"fc{number}"] = nn.Linear(inputs, outputs, bias=bias)
        layers[f"relu{number}"] = nn.ReLU()
    layers.popitem()  # logits come straight from the last layer
    return nn.Sequential(layers)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut without parameters (He et al. 2015, option A).

    Where the block halves the resolution, the shortcut keeps every second pixel and pads the new channels with zeros,
    the same number before and after the old ones.

    Args:
        inputs: channels coming in.
        outputs: channels going out.
        stride: of the first convolution, 1 or 2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.new_channels = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Map `[batch, inputs, h, w]` to `[batch, outputs, h / stride, w / stride]`."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """Bring the block's input to the shape of its output."""
        if self.stride == 1 and self.new_channels == 0:
            return x
        side = self.new_channels // 2
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, side, self.new_channels - side))


class ResNet20(nn.Module):
    """The ResNet of 20 layers for 32x32 images (He et al. 2015, section 4.2), with its widely used parameter names.

    Args:
        classes: number of logits.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        narrow, middle, wide = _RESNET20_CHANNELS
        self.conv1 = nn.Conv2d(3, narrow, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.layer1 = _stage(narrow, narrow, stride=1)
        self.layer2 = _stage(narrow, middle, stride=2)
        self.layer3 = _stage(middle, wide, stride=2)
        self.linear = nn.Linear(wide, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[batch, 3, 32, 32]` to logits `[batch, classes]`."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(torch.mean(x, dim=(2, 3)))
        return logits


def _stage(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    first = ResidualBlock(inputs, outputs, stride)
    rest = [ResidualBlock(outputs, outputs, 1) for _ in range(_RESNET20_BLOCKS_PER_STAGE - 1)]
    return nn.Sequential(first, *rest)
