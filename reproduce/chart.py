"""The charts of claims."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KINDS = ("bar", "line")
CROWDED = 150
"""Values above which lines have no dots."""


@dataclass(frozen=True)
class Chart:
    """A picture of a claim: the mean of each place as a bar or on a line, every value as a dot, where they are not too many.

    Attributes:
        rows: one a value: of a pair, say.
        x: the key drawn from left to right. No key holds a dot or a bracket.
        y: the key drawn upwards.
        series: the key that colours tell apart; None for one colour.
        kind: one of `KINDS`.
    """

    rows: Sequence[dict[str, object]]
    x: str
    y: str
    series: str | None = None
    kind: str = "bar"

    def save(self, path: Path, title: str) -> None:
        """Write it; the suffix says in which format."""
        # Slow to import, and only needed here.
        import altair as alt  # noqa: PLC0415

        number = all(isinstance(row[self.x], int | float) for row in self.rows)
        kind = "Q" if number and self.kind == "line" else "N"
        axis = alt.Axis(labelAngle=0 if kind == "Q" else -25, labelLimit=240)
        # Vega takes only plain values; the order of the rows is that of the picture.
        base = alt.Chart({"values": [dict(row) for row in self.rows]}).encode(
            x=alt.X(f"{self.x}:{kind}", sort=None, axis=axis)
        )
        if self.series is not None:
            base = base.encode(color=alt.Color(f"{self.series}:N", sort=None))
            if self.kind == "bar":
                base = base.encode(xOffset=alt.XOffset(f"{self.series}:N", sort=None))
        mark = base.mark_bar(opacity=0.75) if self.kind == "bar" else base.mark_line()
        scale = alt.Scale(zero=self.kind == "bar")
        drawn = mark.encode(y=alt.Y(f"mean({self.y}):Q", title=self.y, scale=scale))
        dots = base.mark_point(size=12, filled=True, opacity=1 if self.kind == "line" else 0.9).encode(
            y=alt.Y(f"{self.y}:Q", scale=scale)
        )
        if self.kind == "bar":
            dots = dots.encode(color=alt.value("black"))
        layers = [drawn] if self.kind == "line" and len(self.rows) > CROWDED else [drawn, dots]
        alt.layer(*layers).properties(width=620, height=300, title=title).save(path, scale_factor=2)
