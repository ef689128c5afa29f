"""Small networks that hold every kind of linear layer, and how to run them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

import zoo

Sums = dict[str, Tensor]


def evaluate(model: nn.Module, batch: object) -> Sums:
    """Run a model on inputs, or on inputs and labels."""
    inputs, labels = batch if isinstance(batch, tuple) else (batch, None)
    outputs = model(inputs)
    sums = {"loss": outputs.double().square().sum(), "count": torch.tensor(len(inputs))}
    if labels is not None:
        sums["loss"] = functional.cross_entropy(outputs, labels, reduction="sum")
        sums["correct"] = (outputs.argmax(1) == labels).sum()
    return sums


class Einsum(nn.Module):
    """Attention's projections written as an einsum over bare parameters, with a bias for every head."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(2, 5, 3))
        self.b = nn.Parameter(torch.randn(2, 3))
        self.O = nn.Parameter(torch.randn(2, 3, 5))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, 4, 5]` to the same shape, and add it."""
        heads = torch.einsum("npm,hmd->nphd", x, self.W) + self.b
        return x + torch.einsum("nphd,hdm->npm", heads.tanh(), self.O)


class Experts(nn.Module):
    """A batched product with a matrix of its own for every member of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(3, 4, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, 4]` to `[n, 3, 2]`."""
        return torch.bmm(x.expand(3, *x.shape), self.W).transpose(0, 1)


class Flipped(nn.Module):
    """The parameter as the left factor."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(3, 4))
        self.b = nn.Parameter(torch.randn(3, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, 4]` to `[n, 3]`."""
        return (torch.mm(self.W, x.T) + self.b).T.relu()


class Sliced(nn.Module):
    """One parameter for several layers, cut into parts: an input projection and a transposed output projection."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(7, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, 4]` to `[n, 4]`."""
        return functional.linear(functional.linear(x, self.W[:3]).relu(), self.W[3:6].t())


class Turned(nn.Module):
    """A linear layer whose output is transposed, rolled and only then added to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, 5, 4]` to `[n, 6, 5]`."""
        moved = self.norm(self.fc(x).transpose(1, 2)).roll(2, 2)
        return torch.relu(moved + x.sum(2)[:, None].tanh().expand(-1, 6, -1))


class Shortcut(nn.Module):
    """A block whose 1x1 shortcut is computed after the branch, in place, as torchvision does."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4))
        self.down = nn.Sequential(nn.Conv2d(3, 4, 1, 2, bias=False), nn.BatchNorm2d(4, affine=False))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, 3, 6, 6]` to `[n, 4, 3, 3]`."""
        out = self.branch(x)
        out += self.down(x)
        return self.relu(out)


def convolutions() -> nn.Module:
    """Groups, strides, dilation, padding, one and two dimensions."""
    return nn.Sequential(
        nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), groups=2), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding="same", groups=6, bias=False), nn.Flatten(2),
        nn.Conv1d(6, 5, 4, stride=3), nn.BatchNorm1d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 11, 2),
    )  # fmt: skip


def preactivated() -> nn.Module:
    """BatchNorm before its convolution, so that it belongs to no linear layer."""
    layers = [nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 3))


def encoder() -> nn.Module:
    """A layer of PyTorch's own transformer, with packed projections."""
    return nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=True)


Build = Callable[[], nn.Module]
# Every network with the shape of one sample and the parameters that are sites.
NETWORKS: dict[str, tuple[Build, tuple[int, ...], list[str]]] = {
    "mlp": (lambda: zoo.mlp(5, 6, 4, 3), (5,), ["0.weight", "2.weight", "4.weight"]),
    "tokens": (lambda: nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3, bias=False)), (7, 4), [
        "0.weight", "2.weight"]),
    "convolutions": (convolutions, (4, 9, 9), ["0.weight", "3.weight", "5.weight", "9.weight"]),
    "einsum": (Einsum, (4, 5), ["W", "O"]),
    "experts": (Experts, (4,), ["W"]),
    "flipped": (Flipped, (4,), ["W"]),
    "sliced": (Sliced, (4,), ["W", "W"]),
    "turned": (Turned, (5, 4), ["fc.weight"]),
    "shortcut": (Shortcut, (3, 6, 6), ["down.0.weight", "branch.0.weight"]),
    "preactivated": (preactivated, (3, 6, 6), ["1.weight", "5.weight", "7.weight"]),
    "encoder": (encoder, (5, 8), ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight",
        "linear2.weight"]),
    "block": (lambda: zoo.BasicBlock(3, 3, 1), (3, 6, 6), ["conv1.weight", "conv2.weight"]),
}  # fmt: skip


def network(name: str, seed: int = 0) -> nn.Module:
    """A network of the table in float64 and eval mode, with biases and running statistics that hide nothing."""
    torch.manual_seed(seed)
    model = NETWORKS[name][0]().double().eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.ndim == 1 and tensor.is_floating_point():
                positive = key.endswith(("var", "weight"))
                tensor.copy_(torch.rand_like(tensor) + 0.5 if positive else torch.randn_like(tensor) / 2)
    return model


def inputs(name: str, *counts: int, seed: int = 0) -> list[Tensor]:
    """Batches of so many samples for a network of the table, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, *NETWORKS[name][1], generator=generator, dtype=torch.float64) for n in counts]
