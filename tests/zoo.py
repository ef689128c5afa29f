"""Networks whose symmetries are known from elsewhere, small or in their published size."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU in between."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm; a 1x1 convolution as shortcut where the shape changes."""

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(fan_out)
        same = stride == 1 and fan_in == fan_out
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(fan_in, fan_out, 1, stride, bias=False), nn.BatchNorm2d(fan_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Branch plus shortcut."""
        branch = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(branch + self.shortcut(x))


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution with BatchNorm, fourfold wider at the end."""

    def __init__(self, fan_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = (
            nn.Identity()
            if stride == 1 and fan_in == 4 * width
            else nn.Sequential(nn.Conv2d(fan_in, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Branch plus shortcut."""
        branch = functional.relu(self.bn1(self.conv1(x)))
        branch = functional.relu(self.bn2(self.conv2(branch)))
        return functional.relu(self.bn3(self.conv3(branch)) + self.downsample(x))


class ResNet20(nn.Module):
    """The CIFAR ResNet-20 with convolutional shortcuts; `width` channels in the first stage, as git-re-basin's."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        blocks, fan_in = [], width
        for stage, fan_out in enumerate((width, 2 * width, 4 * width)):
            for block in range(3):
                blocks.append(BasicBlock(fan_in, fan_out, 2 if stage and not block else 1))
                fan_in = fan_out
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(fan_in, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.fc(self.blocks(functional.relu(self.bn1(self.conv1(x)))).mean((2, 3)))


class ResNet50(nn.Module):
    """ResNet-50 in torchvision's shape and names of layers."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        fan_in = width
        for stage, depth in enumerate((3, 4, 6, 3)):
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(fan_in, width << stage, 2 if stage and not block else 1))
                fan_in = 4 * (width << stage)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(fan_in, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


def vgg16(width: int = 64, hidden: tuple[int, ...] = (512,)) -> nn.Sequential:
    """VGG-16 for 32 x 32 images with BatchNorm and hidden dense layers; git-re-basin's has two of 512."""
    layers: list[nn.Module] = []
    fan_in = 3
    for step in (1, 1, 0, 2, 2, 0, 4, 4, 4, 0, 8, 8, 8, 0, 8, 8, 8, 0):
        if not step:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(fan_in, step * width, 3, 1, 1), nn.BatchNorm2d(step * width), nn.ReLU()]
        fan_in = step * width
    return nn.Sequential(*layers, nn.Flatten(), *mlp(fan_in, *hidden, 10))


class Attention(nn.Module):
    """Causal self-attention with grouped queries, fused or written out, and rotary-free positions."""

    def __init__(self, width: int, heads: int, groups: int, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.groups, self.each, self.fused = heads, groups, width // heads, fused
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, groups * self.each)
        self.v = nn.Linear(width, groups * self.each)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mixed values."""
        batch, length, width = x.shape
        q = self.q(x).view(batch, length, self.heads, self.each).transpose(1, 2)
        k = self.k(x).view(batch, length, self.groups, self.each).transpose(1, 2)
        v = self.v(x).view(batch, length, self.groups, self.each).transpose(1, 2)
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            times = self.heads // self.groups
            k, v = (t[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2) for t in (k, v))
            scores = q @ k.transpose(-1, -2) / self.each**0.5
            mask = torch.full((length, length), float("-inf")).triu(1)
            mixed = (scores + mask).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Decoder(nn.Module):
    """A language model with tied embeddings: one residual stream, grouped-query attention, a gated MLP."""

    def __init__(
        self, *, fused: bool = True, width: int = 24, heads: int = 4, groups: int = 2, layers: int = 2
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(17, width)
        self.positions = nn.Parameter(torch.randn(6, width))
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2 * layers))
        self.attention = nn.ModuleList(Attention(width, heads, groups, fused=fused) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(width, 2 * 20, bias=False) for _ in range(layers))
        self.down = nn.ModuleList(nn.Linear(20, width, bias=False) for _ in range(layers))
        self.head = nn.Linear(width, 17, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        x = self.embed(tokens) + self.positions
        for layer, attention in enumerate(self.attention):
            x = x + attention(self.norms[2 * layer](x))
            gate, value = self.up[layer](self.norms[2 * layer + 1](x)).chunk(2, -1)
            x = x + self.down[layer](functional.silu(gate) * value)
        return self.head(x)
