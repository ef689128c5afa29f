"""What a correction returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Correction:
    """A corrected network.

    Attributes:
        params: its tensors: names, shapes and dtypes are those of the merged network; tied tensors stay tied.
        method: what was done, a name of `METHODS`.
        notes: what was chosen and why, and what was left as it was.
        seconds: time it took.
        residuals: for every corrected layer the error of its output against its target, before and after: squared,
            relative to the variance of the target, behind a ReLU where one follows. Empty where none is measured.
    """

    params: dict[str, Tensor]
    method: str
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    residuals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
