"""The architectures of the claims."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

Build = Callable[[], nn.Module]


def mlp(*widths: int) -> nn.Sequential:
    """A perceptron with ReLU that flattens its input; He's initialisation, so that deep ones train."""
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Norm(nn.Module):
    """LayerNorm over the channels of every pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[n, c, h, w]`."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


NORMS: dict[str, Callable[[int], nn.Module]] = {"bn": nn.BatchNorm2d, "ln": Norm}


class Block(nn.Module):
    """Two convolutions and a shortcut, a convolution where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = norm(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, inputs, h, w]` to `[n, outputs, h / stride, w / stride]`."""
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(y + self.shortcut(x))


class ResNet20(nn.Module):
    """The ResNet of 20 layers, `width` times 16 channels; with `blocks` fewer than 3, a smaller one."""

    def __init__(
        self, width: float = 1, norm: str = "bn", blocks: int = 3, channels: int = 3, classes: int = 10
    ) -> None:
        super().__init__()
        sizes = [round(width * c) for c in (16, 32, 64)]
        self.stem = nn.Sequential(nn.Conv2d(channels, sizes[0], 3, 1, 1, bias=False), NORMS[norm](sizes[0]), nn.ReLU())
        rows, inputs = [], sizes[0]
        for stage, outputs in enumerate(sizes):
            for block in range(blocks):
                rows.append(Block(inputs, outputs, 2 if stage and not block else 1, NORMS[norm]))
                inputs = outputs
        self.body = nn.Sequential(*rows)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return self.head(self.body(self.stem(x)).mean((2, 3)))


VGG11 = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")
VGG16 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool")


def vgg(plan: tuple[object, ...], width: float = 1, channels: int = 3, *, norm: bool = False) -> nn.Sequential:
    """A VGG: convolutions with ReLU, pooling, one linear layer on the mean of what is left."""
    layers: list[nn.Module] = []
    for item in plan:
        if isinstance(item, int):
            outputs = round(item * width)
            conv = nn.Conv2d(channels, outputs, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            layers += [conv, *([nn.BatchNorm2d(outputs)] if norm else []), nn.ReLU()]
            channels = outputs
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


class Attention(nn.Module):
    """Heads of attention; `causal` for texts."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, length, width]` to the same shape."""
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A layer of a transformer, norms first."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads, causal=causal)
        self.norm2 = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, length, width]` to the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    """A small vision transformer with mean pooling."""

    def __init__(
        self, size: int, patch: int, channels: int = 3, width: int = 128, heads: int = 4, depth: int = 4
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2, width))
        self.layers = nn.Sequential(*(Layer(width, heads, causal=False) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.layers(x)).mean(1))


class GPT(nn.Module):
    """A small language model of characters."""

    def __init__(self, vocabulary: int, length: int, width: int = 128, heads: int = 4, depth: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, length, width))
        self.layers = nn.Sequential(*(Layer(width, heads, causal=True) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `[n, length]` to logits `[n, length, vocabulary]`."""
        x = self.tokens(x) + self.position[:, : x.shape[1]]
        return self.head(self.norm(self.layers(x)))


def small_start(*widths: int) -> nn.Sequential:
    """The same perceptron with PyTorch's own initialisation, which is smaller, and leaves networks easier to match."""
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
