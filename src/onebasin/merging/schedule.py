"""Numbers that differ from tensor to tensor: by a part of its name, and along the depth of the network.

A schedule is written as a number, as `{layers: [0, 0.5, 1]}` (the first for the first layer, the last for the last,
straight lines between), or as a list of `{filter: TEXT, value: ...}`, of which the first counts whose text is in the
tensor's name; one without a filter counts for all.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onebasin.errors import OptionError

LAYER = re.compile(r"(?:^|\.)([0-9]+)(?:\.|$)")
"""The number of a layer in a tensor's name; the first number counts, as in `model.layers.7.mlp.experts.3.weight`."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A number for every tensor.

    Attributes:
        rules: pairs of a text and numbers along the depth; the first pair counts whose text is in the tensor's name.
    """

    rules: tuple[tuple[str, tuple[float, ...]], ...]

    @classmethod
    def parse(cls, value: object, where: str) -> "Schedule":
        """Read the written form.

        Args:
            value: see the module's text.
            where: the option, for errors.

        Raises:
            OptionError: if it is of another form, or a number is not finite.
        """
        written = value if isinstance(value, list) else [{"value": value}]
        rules = []
        for row in written:
            if not isinstance(row, Mapping) or not {"value"} <= row.keys() <= {"filter", "value"}:
                raise _wrong(where, row)
            points = row["value"]
            if isinstance(points, Mapping) and points.keys() == {"layers"} and isinstance(points["layers"], list):
                points = points["layers"]
            else:
                points = [points]
            for point in points or [None]:
                if isinstance(point, bool) or not isinstance(point, int | float) or not math.isfinite(point):
                    raise _wrong(where, point)
            text = row.get("filter") or ""
            rules.append(("" if text == "*" else str(text), tuple(map(float, points))))
        if not rules or rules[-1][0]:
            raise OptionError(
                where,
                expected="a value for every tensor",
                found="filters only",
                remedy="end the list with a value without a filter",
            )
        return cls(tuple(rules))

    @property
    def values(self) -> tuple[float, ...]:
        """Every number it holds."""
        return tuple(point for _, points in self.rules for point in points)

    def at(self, name: str, depth: float) -> float:
        """The number for a tensor.

        Args:
            name: of the tensor.
            depth: from 0, the first layer, to 1, the last.
        """
        points = next(points for text, points in self.rules if text in name)
        place = depth * (len(points) - 1)
        low = min(int(place), len(points) - 1)
        high = min(low + 1, len(points) - 1)
        return points[low] + (place - low) * (points[high] - points[low])

    def to_data(self) -> object:
        """The written form."""
        rows = [
            ({"filter": text} if text else {}) | {"value": points[0] if len(points) == 1 else {"layers": list(points)}}
            for text, points in self.rules
        ]
        return rows[0]["value"] if len(rows) == 1 else rows


def depths(names: Iterable[str]) -> dict[str, float]:
    """How deep in the network each tensor lies: 0 in the first layer, 1 in the last.

    The layer is the first number in the name. Tensors without one (embeddings, final norms, heads) count as if they
    lay in the first layer, as mergekit 0.1.5 has it.
    """
    layers = {name: LAYER.search(name) for name in names}
    last = max((int(found[1]) for found in layers.values() if found), default=0)
    return {name: int(found[1]) / last if found and last else 0.0 for name, found in layers.items()}


def _wrong(where: str, found: object) -> OptionError:
    return OptionError(
        where,
        expected="a finite number, {layers: [numbers]}, or a list of {filter, value}",
        found=repr(found)[:60],
        remedy="correct it",
    )
