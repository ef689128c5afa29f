"""Networks and data for the tests of curves, bands, stars and spawning."""

import math

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]


def data(seed: int = 0) -> list[Batch]:
    """Points of the plane in three rings, in batches of unequal sizes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(75, 2, generator=generator)
    return list(zip(x.split(30), x.norm(dim=1).long().clamp(max=2).split(30), strict=True))


def classify(model: nn.Module, batch: object) -> State:
    """Sums over a batch of inputs and labels."""
    x, y = batch
    out = model(x)
    loss = nn.functional.cross_entropy(out, y, reduction="sum")
    return {"loss": loss, "count": torch.tensor(len(y)), "correct": (out.argmax(1) == y).sum()}


def network() -> nn.Module:
    """A small classifier with BatchNorm and an integer buffer."""
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    model.register_buffer("steps", torch.tensor(int(torch.randint(1000, ()))))
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    return model


def trained(seed: int, epochs: int = 60) -> State:
    """The tensors of a network trained on the data."""
    torch.manual_seed(seed)
    model = network()
    train(model, range(epochs), seed)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def train(model: nn.Module, epochs: range, seed: int) -> None:
    """Train in place; the order of an epoch comes from the seed and its number."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = (torch.cat(parts) for parts in zip(*data(), strict=True))
    for epoch in epochs:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        for chosen in order.split(25):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
    model.eval()


class Plane(nn.Module):
    """A model of two weights, whose loss is given, and a counter and statistics that are not weights."""

    def __init__(self, x: float, y: float, counter: int = 0) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor([x, y], dtype=torch.float64))
        self.register_buffer("counter", torch.tensor(counter))
        self.register_buffer("statistics", torch.tensor([1e6 * counter]))


MULLER_BROWN = (
    (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
    (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
    (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
    (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
)
"""A, a, b, c, x0, y0 of each of the four terms of Muller and Brown (1979)."""


def muller_brown(model: nn.Module, _: object) -> State:
    """The potential of Muller and Brown at the weights of a plane."""
    x, y = model.at
    terms = (
        height * torch.exp(a * (x - x0) ** 2 + b * (x - x0) * (y - y0) + c * (y - y0) ** 2)
        for height, a, b, c, x0, y0 in MULLER_BROWN
    )
    return {"loss": torch.stack(list(terms)).sum(), "count": torch.tensor(1)}


def circle(model: nn.Module, _: object) -> State:
    """A loss that is least, 0, on the unit circle."""
    return {"loss": (model.at.norm() - 1) ** 2, "count": torch.tensor(1)}


QUARTER = math.pi / 2
"""The length of a quarter of the unit circle."""
