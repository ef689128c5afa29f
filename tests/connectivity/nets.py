"""Small networks, trained, and the data they know."""

import itertools
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

import zoo
from onebasin import Symmetry, discover

State = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]


def data(count: int = 200, seed: int = 0) -> list[Batch]:
    """Points of four numbers in three classes, in two batches of unequal sizes."""
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2].abs() > x[:, 3].abs()).long()
    cut = count // 3
    return [(x[:cut], y[:cut]), (x[cut:], y[cut:])]


def evaluate(model: nn.Module, batch: object) -> State:
    """Cross-entropy and correct answers."""
    x, y = batch
    out = model(x)
    loss = functional.cross_entropy(out, y, reduction="none").sum(dtype=torch.float64)
    return {"loss": loss, "count": torch.tensor(len(y)), "correct": (out.argmax(1) == y).sum()}


def perceptron() -> nn.Module:
    """Two hidden layers of 12."""
    return zoo.mlp(4, 12, 12, 3)


def normalised() -> nn.Module:
    """A perceptron with BatchNorm."""
    return nn.Sequential(
        nn.Linear(4, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)
    )


def tiny() -> nn.Module:
    """One hidden layer of five units, whose 120 orders can all be tried."""
    return zoo.mlp(4, 5, 3)


KINDS = {"perceptron": perceptron, "normalised": normalised, "tiny": tiny}


@lru_cache
def trained(seed: int, kind: str = "perceptron", epochs: int = 60) -> State:
    """A network trained from a seed; nobody writes to it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = KINDS[kind]().train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for x, y in itertools.chain.from_iterable([data()] * epochs):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@lru_cache
def symmetry(kind: str = "perceptron") -> Symmetry:
    """Which units can be reordered."""
    model = KINDS[kind]().eval()
    return discover(model, (torch.zeros(2, 4),))
