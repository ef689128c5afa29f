"""What a merge method makes of one tensor: shares of whole tensors, or a function of a stretch of entries.

Nothing here or in the methods loads torch: the command line reads their signatures to list its options.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of the entries of one tensor in every model, in the dtype that is calculated in.

    Attributes:
        start: the position of the first entry in the flat tensor.
        rows: `[n]` a model; copies, which a method may write to.
        base: `[n]`, of the base; None where there is none.
    """

    start: int
    rows: "list[Tensor]"
    base: "Tensor | None" = None

    @property
    def origin(self) -> "Tensor":
        """The base, for methods that need one: these are never carried out without."""
        return cast("Tensor", self.base)


@dataclass(frozen=True, slots=True)
class Shares:
    """A rule that is the same for every entry: the sum of the models, each times its share.

    Attributes:
        models: one number a model; a model whose share is 0 does not reach the result.
        base: the share of the base.
    """

    models: tuple[float, ...]
    base: float = 0.0


Rule = Shares | Callable[[Chunk], "Tensor"]
"""Shares, or a function that gives the merged entries of a chunk in its dtype; entries on which all models and the base
agree, and are finite, it leaves as they are."""
