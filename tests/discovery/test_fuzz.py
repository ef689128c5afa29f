"""Random networks: nothing is ever invented, and nothing ever fails."""

import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import onebasin as ob
from programs import STEPS, Program


def _inputs(flat: bool, seed: int) -> torch.Tensor:
    return torch.randn((2, 8) if flat else (2, 6, 8), generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(choices=st.lists(st.integers(0, 10_000), min_size=6, max_size=60), flat=st.booleans())
def test_random_programs_are_proved(choices: list[int], flat: bool) -> None:
    """Whatever the program, its discovered symmetry leaves its outputs as they are."""
    x = _inputs(flat, 0)
    model = Program(choices, x)

    check = ob.verify(model, ob.discover(model, (x,)), (x,), trials=2)

    assert check.ok, check


@pytest.mark.parametrize("name", STEPS)
def test_every_step_between_hidden_layers(name: str) -> None:
    """Each step alone, in many variants between two hidden layers, keeps the promise; most leave symmetry to find."""
    draw = random.Random(name)
    steps = list(STEPS)
    for _ in range(6):
        choices = [steps.index("linear"), 0, draw.randrange(4), draw.randrange(2)]
        choices += [steps.index(name), 0, *(draw.randrange(100) for _ in range(4))]
        choices += [steps.index("linear"), 0, 1, 1, *(draw.randrange(100) for _ in range(8))]
        x = _inputs(False, 1)
        model = Program(choices, x)

        assert ob.verify(model, ob.discover(model, (x,)), (x,), trials=2).ok


def test_programs_have_symmetry_to_find() -> None:
    """The programs are not so odd that nothing could be invented on them: most have free groups, many nested ones."""
    free, nested, total = 0, 0, 60
    for seed in range(total):
        draw = random.Random(seed)
        model = Program([draw.randrange(10_000) for _ in range(24)], _inputs(False, seed))
        symmetry = ob.discover(model, (_inputs(False, seed),))
        free += symmetry.log_order > 0
        nested += any(group.inside for group in symmetry.groups.values())

    assert free > total / 2
    assert nested > total / 10
