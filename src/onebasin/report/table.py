"""A table of text that any output can draw: a terminal, a page."""

from collections.abc import Sequence
from dataclasses import dataclass

from onebasin.errors import OptionError


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under named columns.

    Attributes:
        title: what the table shows.
        columns: the heads.
        rows: one text a column each.
        numeric: the heads of the columns that hold numbers and are aligned at the right.

    Raises:
        OptionError: a row has another number of texts than there are columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Check that the rows fit the columns."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise OptionError(
                    f"table {self.title}",
                    expected=f"{len(self.columns)} texts in a row",
                    found=str(len(row)),
                    remedy="give one a column",
                )


def listed(items: Sequence[str], most: int = 4) -> str:
    """Items joined by commas; beyond `most` of them their number instead."""
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def percent(share: float) -> str:
    """A share, 0 to 1, in percent with two digits."""
    return f"{100 * share:.2f} %"


def points(share: float) -> str:
    """A difference of shares in percentage points with two digits; what rounds to zero has no sign."""
    return f"{_unsigned(round(100 * share, 2)):.2f}"


def loss_text(value: float) -> str:
    """A loss with four digits after the point, or in powers of ten where these would not tell much."""
    small, large = 1e-3, 1e4
    rounded = _unsigned(round(value, 4))
    return f"{rounded:.4f}" if value == 0 or small <= abs(value) < large else f"{value:.2e}"


def _unsigned(value: float) -> float:
    return value or 0.0
