"""A wrong symmetry is always caught."""

import dataclasses
import itertools
import random

import pytest
import torch
from torch import nn

import onebasin as ob
import zoo
from cases import NETWORKS, Net
from onebasin.layout import AxisGroup, AxisLayout

WITH_GROUPS = [name for name, case in NETWORKS.items() if case.groups]


def _fixed(layout: AxisLayout, symmetry: ob.Symmetry) -> AxisLayout:
    return AxisLayout.of((layout.size(symmetry.sizes),))


def _single_axes(symmetry: ob.Symmetry) -> list[tuple[str, int, set[str]]]:
    """Every axis that can move, and whose groups occur on another axis, too: on their own they would be free to."""
    moving = {
        (tensor, axis): {g for g in layout.groups if not symmetry.groups[g].fixed and symmetry.groups[g].size > 1}
        for tensor, layouts in symmetry.layouts.items()
        for axis, layout in enumerate(layouts)
    }
    tied = {name for row in symmetry.tied for name in row}
    everywhere = [group for groups in moving.values() for group in groups]
    return [
        (tensor, axis, groups)
        for (tensor, axis), groups in moving.items()
        # A bias of the keys adds the same to every score of a query: the function does not depend on it at all.
        if groups and tensor not in tied and not tensor.endswith(".k.bias")
        if any(everywhere.count(group) > 1 for group in groups)
    ]


@pytest.mark.parametrize("name", WITH_GROUPS)
def test_a_forgotten_axis_is_caught(name: str) -> None:
    """Whichever single axis of whichever tensor is declared fixed, some group no longer keeps the function."""
    case = NETWORKS[name]
    model = case.model()
    symmetry = ob.discover(model, case.inputs())
    axes = _single_axes(symmetry)

    for tensor, axis, moving in random.Random(name).sample(axes, min(5, len(axes))):
        layouts = symmetry.layouts[tensor]
        wrong = {**symmetry.layouts, tensor: (*layouts[:axis], _fixed(layouts[axis], symmetry), *layouts[axis + 1 :])}
        try:
            corrupted = dataclasses.replace(symmetry, layouts=wrong)
        except ob.OneBasinError:
            continue  # A nested group without the one around it is refused before it is tried.
        check = ob.verify(model, corrupted, case.inputs())

        assert not check.ok, (tensor, axis)
        assert set(check.culprits) & moving


CORRUPTIONS = {
    "flattened convolution taken for free features": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5)),
        (2, 3, 5, 5),
        {"3.weight": ["5", "9*c"], "0.weight": ["c", "3", "3", "3"], "0.bias": ["c"], "3.bias": ["5"]},
        {"c": 4},
    ),
    "inputs permuted": (
        lambda: zoo.mlp(6, 8, 3),
        (2, 6),
        {"0.weight": ["h", "i"], "0.bias": ["h"], "2.weight": ["3", "h"], "2.bias": ["3"]},
        {"h": 8, "i": 6},
    ),
    "two layers tied that are not": (
        lambda: zoo.mlp(6, 8, 8, 3),
        (2, 6),
        {
            "0.weight": ["h", "6"],
            "0.bias": ["h"],
            "2.weight": ["h", "h"],
            "2.bias": ["h"],
            "4.weight": ["3", "g"],
            "4.bias": ["3"],
        },
        {"h": 8, "g": 8},
    ),
    "units of a softmax over heads": (
        NETWORKS["softmax inside heads"].model,
        (2, 6),
        {"a.weight": ["h", "6"], "a.bias": ["h"], "b.weight": ["3", "h"], "b.bias": ["3"]},
        {"h": 8},
    ),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_known_mistakes_are_caught(name: str) -> None:
    """Mistakes that published tools make change the outputs visibly."""
    build, shape, tensors, sizes = CORRUPTIONS[name]
    groups = {group: AxisGroup(group, size) for group, size in sizes.items()}
    layouts = {tensor: tuple(AxisLayout.parse(text) for text in axes) for tensor, axes in tensors.items()}

    check = ob.verify(build(), ob.Symmetry(groups, layouts), (torch.randn(shape),))

    assert not check.ok
    assert check.max_relative_error > 1e-4


def test_forgotten_running_statistics_are_caught() -> None:
    """A specification that leaves BatchNorm's statistics behind fails in eval mode, although train mode hides it."""
    model = nn.Sequential(nn.Conv1d(2, 8, 1), nn.BatchNorm1d(8), nn.Conv1d(8, 2, 1))
    symmetry = ob.discover(model, (torch.randn(3, 2, 4),))
    wrong = {**symmetry.layouts, "1.running_var": (AxisLayout.of((8,)),)}

    check = ob.verify(model, dataclasses.replace(symmetry, layouts=wrong), (torch.randn(3, 2, 4),))

    assert not check.ok


def test_one_wrong_group_is_named() -> None:
    """Of two groups only the wrong one is reported."""
    model = zoo.mlp(6, 8, 5, 3)
    symmetry = ob.discover(model, (torch.zeros(2, 6),))
    right, wrong = symmetry.groups
    layouts = {**symmetry.layouts, "2.bias": (AxisLayout.of((5,)),)}

    check = ob.verify(model, dataclasses.replace(symmetry, layouts=layouts), (torch.randn(2, 6),))

    assert check.culprits == (wrong,)
    assert right not in check.culprits


def test_train_mode_that_cannot_run_is_noted() -> None:
    """A batch of one sample cannot feed BatchNorm in train mode; the eval proof stands and the note says why."""
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    x = torch.randn(1, 4)

    check = ob.verify(model, ob.discover(model, (x,)), (x,))

    assert check.ok
    assert check.modes == ("eval",)
    assert "more than 1 value per channel" in check.notes[0]


def test_dropout_inside_attention_does_not_disturb() -> None:
    """Dropout that is not a module of its own is off as well."""
    model = nn.TransformerEncoderLayer(16, 2, 20, dropout=0.5, batch_first=True)
    x = torch.randn(2, 4, 16)

    assert ob.verify(model, ob.discover(model, (x,)), (x,)).ok


def test_infinite_outputs_are_an_error() -> None:
    """A proof on NaN would prove nothing."""
    model = zoo.mlp(6, 8, 3)
    symmetry = ob.discover(model, (torch.zeros(2, 6),))

    with pytest.raises(ob.OneBasinError, match="finite outputs"):
        ob.verify(model, symmetry, (torch.full((2, 6), float("inf")),))


def test_float32_inside_a_model_is_lifted() -> None:
    """A norm that always computes in float32 is compared in float64 all the same."""
    model = Net(
        lambda s, x: s.b((s.a(x).to(torch.float32) ** 2).mean(-1, keepdim=True).to(x.dtype) * s.a(x)),
        a=nn.Linear(6, 64),
        b=nn.Linear(64, 3),
    )
    x = torch.randn(3, 6)

    assert ob.verify(model, ob.discover(model, (x,)), (x,)).max_relative_error < 1e-13


def test_a_model_that_is_never_the_same_is_not_proved() -> None:
    """Outputs that change from run to run prove nothing; the note says so and the result is not ok."""
    numbers = itertools.count()
    model = Net(lambda s, x: s.b(s.a(x)) * next(numbers), a=nn.Linear(6, 8), b=nn.Linear(8, 3))
    x = torch.randn(3, 6)

    check = ob.verify(model, ob.discover(model, (x,)), (x,))

    assert not check.ok
    assert "other outputs each time" in check.notes[0]
