"""The picture of a symmetry shows every group and every meeting of two."""

import torch

import onebasin as ob
import zoo
from onebasin.report.graph import group_chart


def _rows(symmetry: ob.Symmetry) -> list[dict[str, object]]:
    spec = group_chart(symmetry).to_dict()
    return [row for rows in spec["datasets"].values() for row in rows]


def test_groups_and_meetings_are_those_of_the_layouts() -> None:
    """There is a dot for every group, in order, and an arc for two groups if and only if they share a tensor."""
    symmetry = ob.discover(zoo.Decoder(), (torch.zeros(1, 6, dtype=torch.long),))
    rows = _rows(symmetry)

    dots = {row["group"]: row["y"] for row in rows if "group" in row}
    arcs = {row["arc"] for row in rows if "arc" in row}
    assert list(dots) == list(symmetry.groups)
    assert list(dots.values()) == list(range(len(dots)))
    for one in symmetry.groups:
        for other in symmetry.groups:
            meet = any(
                one in a.groups and other in b.groups
                for layouts in symmetry.layouts.values()
                for a in layouts
                for b in layouts
                if a is not b
            )
            if dots[one] < dots[other]:
                assert (f"{one} and {other}" in arcs) == meet


def test_nested_groups_tell_their_copies() -> None:
    """The label of a nested group says how often it is there."""
    symmetry = ob.discover(zoo.Decoder(), (torch.zeros(1, 6, dtype=torch.long),))

    labels = [str(row["label"]) for row in _rows(symmetry) if "label" in row]

    assert any(label.strip().endswith("2 x 6") for label in labels)
