"""Symmetries from elsewhere are recognised on the model, and refused where they move too much."""

import pytest
import torch
from torch import Tensor, nn

import onebasin as ob
import zoo
from cases import NETWORKS
from equivariance import check_law
from onebasin.discovery import find_probes
from onebasin.layout import AxisGroup
from strategies import written

TOLERANCE = 1e-10


def _mlp() -> tuple[nn.Module, Tensor]:
    return zoo.mlp(6, 8, 8, 3), torch.randn(4, 6)


def test_a_symmetry_with_other_names() -> None:
    """A symmetry written by hand is recognised by its layouts, and its names are used."""
    model, x = _mlp()
    symmetry = written(
        [AxisGroup("second", 8), AxisGroup("first", 8)],
        {"0.weight": "first,6", "0.bias": "first", "2.weight": "second,first", "2.bias": "second",
         "4.weight": "3,second", "4.bias": "3"},
    )  # fmt: skip
    found = check_law(model, (x,), symmetry=symmetry)

    assert list(found.probes) == ["second", "first"]
    assert found.probes["first"].place.module == "1"
    assert found.error < TOLERANCE


def test_a_symmetry_that_moves_less() -> None:
    """Groups may be left in place, and two tied to each other."""
    model, x = _mlp()
    still = written(
        [AxisGroup("h", 8)],
        {"0.weight": "8,6", "0.bias": "8", "2.weight": "h,8", "2.bias": "h", "4.weight": "3,h", "4.bias": "3"},
    )
    tied = written(
        [AxisGroup("h", 8)],
        {"0.weight": "h,6", "0.bias": "h", "2.weight": "h,h", "2.bias": "h", "4.weight": "3,h", "4.bias": "3"},
    )

    for symmetry in (still, tied):
        found = check_law(model, (x,), symmetry=symmetry)
        assert found.error < TOLERANCE
        assert found.probes["h"].place.module == "3"


def _heads(units: AxisGroup, heads: str = "h") -> ob.Symmetry:
    return written(
        [*([AxisGroup("h", 2)] if heads == "h" else []), units],
        {"a.weight": f"{heads}*u,6", "a.bias": f"{heads}*u", "b.weight": f"3,{heads}*u", "b.bias": "3"},
    )


def test_units_that_move_alike_in_all_heads() -> None:
    """Where the heads stay and their units share one permutation, the heads' positions are samples."""
    case = NETWORKS["softmax inside heads"]
    symmetry = _heads(AxisGroup("u", 4), heads="2")

    found = check_law(case.model(), case.inputs(), symmetry=symmetry)

    assert found.error < TOLERANCE
    assert found.probes["u"].members == 4
    assert found.probes["u"].samples == 2 * 4


def test_a_symmetry_that_moves_too_much() -> None:
    """What the model pins or ties must not move freely in the symmetry that is given."""
    case = NETWORKS["softmax inside heads"]
    model, inputs = case.model(), case.inputs()
    free = written(
        [AxisGroup("u", 8)], {"a.weight": "u,6", "a.bias": "u", "b.weight": "3,u", "b.bias": "3"}
    )  # fmt: skip
    with pytest.raises(ob.OneBasinError, match=r"a\.weight:0: expected a\*a\.units, as found on the model, or less"):
        find_probes(model, free, inputs)

    case = NETWORKS["positions mixed"]
    positions = AxisGroup("p", 6, (), fixed=True)
    alike = written([positions, AxisGroup("h", 8)], {"u": "p,h", "w": "p,h"})
    assert check_law(case.model(), case.inputs(), symmetry=alike).error < TOLERANCE
    apart = written([positions, AxisGroup("h", 8, ("p",))], {"u": "p,h", "w": "p,h"})
    with pytest.raises(
        ob.OneBasinError,
        match=r"Net: group h: expected a moving group inside \(\), .*found a moving group inside \(p\);",
    ):
        find_probes(case.model(), apart, case.inputs())


def test_a_symmetry_of_another_architecture() -> None:
    """Tensors of other shapes are named before anything is run."""
    model, x = _mlp()
    symmetry = ob.discover(zoo.mlp(6, 7, 8, 3), (x,))

    with pytest.raises(ob.OneBasinError, match=r"Sequential: 0\.weight: expected shape \(7, 6\)"):
        find_probes(model, symmetry, (x,))
