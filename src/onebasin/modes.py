"""Switch a model between train and eval mode and back."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_mode(model: nn.Module, *, train: bool) -> Iterator[None]:
    """Run a block with the model in train or eval mode; every module's own mode is restored afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.train(train)
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
