"""The golden table: what discovery finds on every architecture of the catalogue, kept in `golden.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import onebasin as ob

PATH = Path(__file__).with_name("golden.json")


@dataclass(frozen=True)
class Found:
    """How much symmetry was found.

    Attributes:
        groups: groups that move.
        log_order: ln of the number of reorderings.
    """

    groups: int
    log_order: float

    @classmethod
    def of(cls, symmetry: ob.Symmetry) -> "Found":
        """What a symmetry holds; the logarithm to nine digits, so that the file does not change with the machine."""
        moving = sum(not group.fixed for group in symmetry.groups.values())
        return cls(moving, float(f"{symmetry.log_order:.9g}"))

    def __str__(self) -> str:
        """Both numbers, for people."""
        return f"{self.groups} groups, log_order {self.log_order:.9g}"


def read() -> dict[str, Found]:
    """The table, by the names of the catalogue."""
    return {name: Found(**row) for name, row in json.loads(PATH.read_text(encoding="utf-8")).items()}


def write(table: Mapping[str, Found]) -> None:
    """Write the table, one line an architecture."""
    rows = [f"  {json.dumps(name)}: {json.dumps(asdict(found))}" for name, found in table.items()]
    PATH.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
