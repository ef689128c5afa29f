"""The one trainer of all claims: SGD or Adam on tensors that fit in memory, on a CPU or a GPU, from a seed."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        seed: of initial weights.
        epochs: passes over the data.
        rate: the highest learning rate, reached after a tenth of the steps, then falling to 0 like a cosine.
        optimizer: `adam` or `sgd` (momentum 0.9).
        weight_decay: decoupled for Adam.
        batch: samples a step.
        order: the seed of the order of samples; None takes `seed`.
        start: weights to begin with in place of drawn ones.
        first: the epoch to begin at, where a training goes on.
        augment: images flipped and shifted by up to four pixels.
    """

    seed: int
    epochs: int
    rate: float = 1e-3
    optimizer: str = "adam"
    weight_decay: float = 0.0
    batch: int = 128
    order: int | None = None
    start: dict[str, Tensor] | None = None
    first: int = 0
    augment: bool = False


def train(build: Callable[[], nn.Module], data: tuple[Tensor, Tensor], recipe: Recipe, device: str) -> nn.Module:
    """A trained network, in eval mode; same recipe, same network on one machine with one number of threads."""
    torch.manual_seed(recipe.seed)
    model = build().to(device)
    if recipe.start is not None:
        model.load_state_dict(recipe.start)
    generator = torch.Generator().manual_seed(recipe.seed if recipe.order is None else recipe.order)
    inputs, labels = data
    each = math.ceil(len(labels) / recipe.batch)
    kinds: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "adam": lambda: torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.weight_decay),
        "sgd": lambda: torch.optim.SGD(
            model.parameters(), recipe.rate, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
        ),
    }
    optimizer = kinds[recipe.optimizer]()
    model.train()
    for epoch in range(recipe.first, recipe.epochs):
        for number, chosen in enumerate(torch.randperm(len(labels), generator=generator).split(recipe.batch)):
            done = (epoch + number / each) / recipe.epochs
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * min(
                    10 * (done + 1 / (each * recipe.epochs)), 0.5 + 0.5 * math.cos(math.pi * done)
                )
            batch = inputs[chosen.to(device)]
            logits = model(augmented(batch, generator) if recipe.augment else batch)
            loss = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels[chosen.to(device)].reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images flipped with probability one half and shifted by up to four pixels, each on its own."""
    count, _, height, width = images.shape
    flips = torch.rand(count, generator=generator) < 0.5
    rows, columns = (torch.randint(9, (count,), generator=generator) for _ in range(2))
    images = torch.where(flips.to(images.device)[:, None, None, None], images.flip(3), images)
    padded = functional.pad(images, (4, 4, 4, 4))
    y = (rows[:, None] + torch.arange(height)).to(images.device)
    x = (columns[:, None] + torch.arange(width)).to(images.device)
    each = torch.arange(count, device=images.device)[:, None, None]
    return padded.movedim(1, -1)[each, y[:, :, None], x[:, None, :]].movedim(-1, 1).contiguous()
