"""Small networks with the structure of published ones, for machines on which their packages cannot be installed."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from architectures.entry import Entry, image


def conv(fan_in: int, fan_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the size of its input up to the stride, and its BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(fan_out)
    )


class Classifier(nn.Sequential):
    """Blocks that work on images, the mean over positions, and a linear layer."""

    def __init__(self, *blocks: nn.Module, width: int) -> None:
        super().__init__(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))


class DenseBlock(nn.Module):
    """DenseNet: every layer reads all maps so far and adds a few of its own."""

    def __init__(self, width: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width + i * growth), nn.ReLU(), nn.Conv2d(width + i * growth, 2 * growth, 1),
                nn.BatchNorm2d(2 * growth), nn.ReLU(), nn.Conv2d(2 * growth, growth, 3, padding=1),
            )
            for i in range(layers)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """All maps, those of the input first."""
        maps = [x]
        for layer in self.layers:
            maps.append(layer(torch.cat(maps, 1)))
        return torch.cat(maps, 1)


class ShuffleUnit(nn.Module):
    """ShuffleNet v2: two branches, or one beside the untouched half of the channels, joined and shuffled."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.doubles = fan_in != fan_out
        half = fan_out // 2
        if self.doubles:
            self.side = nn.Sequential(conv(fan_in, fan_in, 3, 2, groups=fan_in), conv(fan_in, half), nn.ReLU())
        self.branch = nn.Sequential(
            conv(fan_in if self.doubles else half, half), nn.ReLU(),
            conv(half, half, 3, 2 if self.doubles else 1, groups=half), conv(half, half), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Channels of both branches, one from each in turn."""
        kept, worked = (self.side(x), x) if self.doubles else x.chunk(2, 1)
        joined = torch.cat([kept, self.branch(worked)], 1)
        batch, channels, *space = joined.shape
        return joined.view(batch, 2, channels // 2, *space).transpose(1, 2).flatten(1, 2)


class InvertedResidual(nn.Module):
    """MobileNet v3, EfficientNet: widen, convolve every channel by itself, squeeze and excite, narrow."""

    def __init__(self, width: int, hidden: int, squeezed: int) -> None:
        super().__init__()
        self.widen, self.depthwise = conv(width, hidden), conv(hidden, hidden, 3, groups=hidden)
        self.squeeze, self.excite = nn.Conv2d(hidden, squeezed, 1), nn.Conv2d(squeezed, hidden, 1)
        self.narrow = conv(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """The stream plus the gated branch."""
        h = functional.hardswish(self.depthwise(functional.hardswish(self.widen(x))))
        gate = functional.hardsigmoid(self.excite(functional.relu(self.squeeze(h.mean((2, 3), keepdim=True)))))
        return x + self.narrow(h * gate)


class SwinBlock(nn.Module):
    """Attention inside windows that are shifted by rolling, with a table of biases by relative position, and an MLP."""

    index: Tensor

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
        places = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        offset = places[:, None] - places[None] + window - 1
        self.register_buffer("index", offset[..., 0] * (2 * window - 1) + offset[..., 1])

    def windows(self, x: Tensor) -> Tensor:
        """From [batch, height, width, ...] to [batch * windows, positions, ...]."""
        batch, height, width, *rest = x.shape
        w = self.window
        x = x.view(batch, height // w, w, width // w, w, *rest).transpose(2, 3)
        return x.reshape(-1, w * w, *rest)

    def mask(self, height: int, width: int) -> Tensor:
        """Positions that meet only because the image was rolled do not see each other: [windows, 1, n, n]."""
        region = torch.zeros(1, height, width)
        for number, rows in enumerate((slice(0, -self.shift), slice(-self.shift, None))):
            region[:, rows] += 2 * number
            region[:, :, rows] += number
        flat = self.windows(region)
        return (flat[:, None] != flat[:, :, None]).unsqueeze(1) * -100.0

    def attend(self, x: Tensor) -> Tensor:
        """Shift, cut into windows, attend, put together, shift back."""
        batch, height, width, channels = x.shape
        w, n = self.window, self.window**2
        x = self.windows(torch.roll(x, (-self.shift, -self.shift), (1, 2)))
        q, k, v = self.qkv(x).view(-1, n, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) + self.table[self.index.flatten()].view(n, n, -1).permute(2, 0, 1)
        if self.shift:
            mask = self.mask(height, width)
            scores = (scores.view(batch, -1, self.heads, n, n) + mask).flatten(0, 1)
        x = self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        x = x.view(batch, height // w, width // w, w, w, channels).transpose(2, 3)
        return torch.roll(x.reshape(batch, height, width, channels), (self.shift, self.shift), (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, height, width, channels], as the input."""
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Swin(nn.Module):
    """Patches, a plain and a shifted block, four neighbours merged into one, a block, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 2, 2)
        self.blocks = nn.Sequential(SwinBlock(8, 2, 4, 0), SwinBlock(8, 2, 4, 2))
        self.norm, self.merge = nn.LayerNorm(32), nn.Linear(32, 12, bias=False)
        self.last, self.head = SwinBlock(12, 3, 4, 0), nn.Linear(12, 3)

    def forward(self, image: Tensor) -> Tensor:
        """Logits."""
        x = self.blocks(self.patches(image).permute(0, 2, 3, 1))
        x = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
        return self.head(self.last(self.merge(self.norm(x))).mean((1, 2)))


class MixerBlock(nn.Module):
    """An MLP over positions and an MLP over channels."""

    def __init__(self, length: int, width: int, mixing: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(length, mixing), nn.GELU(), nn.Linear(mixing, length))
        self.channels = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, width], as the input."""
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class SpatialGate(nn.Module):
    """gMLP: one half of the hidden units gates the other after mixing positions."""

    def __init__(self, length: int, width: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.gate = nn.LayerNorm(width), nn.LayerNorm(hidden)
        self.up, self.down = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)
        self.mix = nn.Linear(length, length)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, width], as the input."""
        value, gate = functional.gelu(self.up(self.norm(x))).chunk(2, -1)
        return x + self.down(value * self.mix(self.gate(gate).transpose(1, 2)).transpose(1, 2))


class CrossCovariance(nn.Module):
    """XCiT: attention between channels; a query unit is an output unit, a key unit is a value unit."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, width], as the input."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 4, 1).unbind(0)
        scores = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-1, -2) * self.temperature
        mixed = (scores.softmax(-1) @ v).permute(0, 3, 1, 2).reshape(batch, length, width)
        return x + self.out(mixed)


class Tokens(nn.Module):
    """An image cut into patches, blocks that work on tokens, the mean over them, a linear layer."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.patches, self.blocks, self.head = nn.Conv2d(3, 8, 4, 4), nn.Sequential(*blocks), nn.Linear(8, 3)

    def forward(self, image: Tensor) -> Tensor:
        """Logits."""
        return self.head(self.blocks(self.patches(image).flatten(2).transpose(1, 2)).mean(1))


class Fusion(nn.Module):
    """HRNet: branches of several resolutions, each of which ends as the sum of all of them, resized."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv(w, w, 3) for w in widths)
        self.up = nn.ModuleList(conv(b, a) for a, b in pairwise(widths))
        self.down = nn.ModuleList(conv(a, b, 3, 2) for a, b in pairwise(widths))

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        """As many streams as there were, of the same sizes."""
        x = [s + functional.relu(branch(s)) for s, branch in zip(streams, self.branches, strict=True)]
        fused = list(x)
        for i, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            fused[i] = fused[i] + functional.interpolate(up(x[i + 1]), size=x[i].shape[2:], mode="bilinear")
            fused[i + 1] = fused[i + 1] + down(x[i])
        return [functional.relu(f) for f in fused]


class HighResolution(nn.Module):
    """Two streams, two exchanges, both streams classified together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.lower = conv(3, 6, 3), conv(6, 10, 3, 2)
        self.fusions = nn.Sequential(Fusion((6, 10)), Fusion((6, 10)))
        self.head = nn.Linear(16, 3)

    def forward(self, image: Tensor) -> Tensor:
        """Logits."""
        x = functional.relu(self.stem(image))
        high, low = self.fusions([x, functional.relu(self.lower(x))])
        return self.head(torch.cat([high.mean((2, 3)), low.mean((2, 3))], 1))


class Inception(nn.Module):
    """Four branches side by side, one of them behind a pooling."""

    def __init__(self, fan_in: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv(fan_in, 4),
                nn.Sequential(conv(fan_in, 3), nn.ReLU(), conv(3, 5, 3)),
                nn.Sequential(conv(fan_in, 2), nn.ReLU(), conv(2, 6, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(fan_in, 7)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """The maps of all branches."""
        return functional.relu(torch.cat([branch(x) for branch in self.branches], 1))


class UNet(nn.Module):
    """Down by pooling, up by transposed convolutions, each level joined with the one it came from."""

    def __init__(self, widths: Sequence[int] = (4, 6, 8)) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.stem, self.head = conv(3, widths[0], 3), nn.Conv2d(widths[0], 2, 1)
        self.down = nn.ModuleList(conv(a, b, 3) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in reversed(pairs))
        self.joined = nn.ModuleList(conv(2 * a, a, 3) for a, _ in reversed(pairs))

    def forward(self, image: Tensor) -> Tensor:
        """A map of logits."""
        levels = [functional.relu(self.stem(image))]
        for down in self.down:
            levels.append(functional.relu(down(functional.max_pool2d(levels[-1], 2))))
        x = levels.pop()
        for up, joined in zip(self.up, self.joined, strict=True):
            x = functional.relu(joined(torch.cat([levels.pop(), up(x)], 1)))
        return self.head(x)


_IMAGE = image(16)

TABLE = {
    "densenet": Entry(
        lambda _: Classifier(
            nn.Conv2d(3, 6, 3), DenseBlock(6, 3, 3), nn.Conv2d(15, 7, 1), DenseBlock(7, 3, 2), width=13
        ),
        _IMAGE,
    ),
    "shufflenet": Entry(
        lambda _: Classifier(conv(3, 6, 3), ShuffleUnit(6, 8), ShuffleUnit(8, 8), conv(8, 5), width=5), _IMAGE
    ),
    "inverted_residual": Entry(
        lambda _: Classifier(conv(3, 6, 3), InvertedResidual(6, 12, 4), InvertedResidual(6, 10, 3), width=6), _IMAGE
    ),
    "swin": Entry(lambda _: Swin(), _IMAGE),
    "mixer": Entry(lambda _: Tokens(MixerBlock(16, 8, 5, 12), MixerBlock(16, 8, 6, 10)), _IMAGE),
    "gmlp": Entry(lambda _: Tokens(SpatialGate(16, 8, 6), SpatialGate(16, 8, 5)), _IMAGE),
    "xcit": Entry(lambda _: Tokens(CrossCovariance(8, 2), CrossCovariance(8, 4)), _IMAGE),
    "hrnet": Entry(lambda _: HighResolution(), _IMAGE),
    "inception": Entry(lambda _: Classifier(conv(3, 6, 3), Inception(6), Inception(22), width=22), _IMAGE),
    "unet": Entry(lambda _: UNet(), _IMAGE),
}
