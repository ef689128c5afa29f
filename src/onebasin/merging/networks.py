"""What methods see that look at data: whole networks, and what can be done with them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Trial(Protocol):
    """A model and its data; every task is one."""

    @property
    def name(self) -> str:
        """Short name for messages."""

    def build_model(self) -> "nn.Module":
        """Build the network; its weights do not matter."""

    def batches(self, split: str) -> Iterable[object]:
        """Give the batches of `"train"`, `"val"` or `"test"`."""

    def evaluate(self, model: "nn.Module", batch: object) -> "dict[str, Tensor]":
        """Give sums over a batch: at least `"loss"` (which can be differentiated) and `"count"`."""


@dataclass(frozen=True)
class Networks:
    """Networks in one system of coordinates, and what they were made for.

    Attributes:
        models: tensors by name.
        labels: what to call them in errors.
        trial: the model and its data.
        samples: to look at, at most, where the method looks at training data; no labels are used but through the loss.
    """

    models: "Sequence[Mapping[str, Tensor]]"
    labels: Sequence[str]
    trial: Trial
    samples: int = 1000
