"""What a row of the table of architectures is, and how the package it comes from is imported."""

import functools
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

Inputs = tuple[Tensor, ...] | Mapping[str, Tensor]


@dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes:
        build: makes a small model with random weights, given its package.
        inputs: makes the inputs of one forward pass: a tuple of positional ones, or named ones.
    """

    build: Callable[[ModuleType], nn.Module]
    inputs: Callable[[], Inputs]


def normal(*shape: int) -> Callable[[], Inputs]:
    """One positional input of random numbers."""
    return lambda: (torch.randn(shape, generator=torch.Generator().manual_seed(1)),)


def image(size: int) -> Callable[[], Inputs]:
    """A batch of two square images."""
    return normal(2, 3, size, size)


def named(**shapes: tuple[int, ...]) -> Callable[[], Inputs]:
    """Named inputs: random numbers for images, spectra and waves, tokens for all others."""

    def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        if name in ("pixel_values", "input_features", "input_values"):
            return torch.randn(shape, generator=generator)
        return torch.randint(3, 50, shape, generator=generator)

    return lambda: {name: tensor(name, shape) for name, shape in shapes.items()}


class Picked(nn.Module):
    """A model of whose outputs only one counts: the hidden states beside it would pin the streams."""

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, **inputs: Tensor) -> Tensor:
        """The output of that name."""
        return self.model(**inputs)[self.output]


@functools.cache
def load(package: str) -> ModuleType:
    """Import a package.

    Raises:
        ImportError: if it is not installed or cannot be imported, with the reason.
    """
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{package} is not installed")
    try:
        with warnings.catch_warnings(), _without_missing_kernels():
            warnings.simplefilter("ignore")  # Those of other people's modules.
            # The others import it where it is installed, some only later, when the way is no longer paved.
            if importlib.util.find_spec("torchvision") is not None:
                importlib.import_module("torchvision")
            module = importlib.import_module(package)
    except (AttributeError, OSError, RuntimeError) as error:
        raise ImportError(f"{package} cannot be imported: {error}") from error
    if package == "transformers":
        module.logging.set_verbosity_error()
    return module


@contextmanager
def _without_missing_kernels() -> Iterator[None]:
    """Let a torchvision that was built for CUDA be imported beside a CPU-only torch.

    It describes the shapes of operations of its compiled library, which does not load then; no model here needs them.
    """
    register = torch.library.register_fake

    def tolerant(op: object, *args: object, **kwargs: object) -> object:
        library, _, short = str(op).partition("::")
        if library == "torchvision" and not hasattr(torch.ops.torchvision, short):
            return lambda function: function
        return register(op, *args, **kwargs)

    torch.library.register_fake = tolerant
    try:
        yield
    finally:
        torch.library.register_fake = register
