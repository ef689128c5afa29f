"""The one way in which long work reports how far it is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of long work.

    Attributes:
        stage: what is being done, such as `"matching"`.
        done: steps finished so far.
        total: steps in all, or None where that is not known beforehand.
        detail: a short figure or name worth showing, such as `"objective 166.59"`.
        unit: what is counted: `""` for steps, or `"bytes"`.
    """

    stage: str
    done: int
    total: int | None = None
    detail: str = ""
    unit: str = ""


Report = Callable[[Progress], None]
"""Called after every step; the work goes on when it returns."""


def silent(_: Progress) -> None:
    """The default report: says nothing."""
