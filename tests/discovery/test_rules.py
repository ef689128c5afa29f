"""Every rule, one operation at a time."""

import pytest

import onebasin as ob
from cases import NETWORKS
from onebasin.discovery.rules import RULES
from onebasin.discovery.solve import knows
from onebasin.discovery.tape import record
from operations import ELSEWHERE, OPERATIONS, network


@pytest.mark.parametrize(("kind", "name"), OPERATIONS, ids=str)
def test_rule_keeps_the_promise(kind: str, name: str) -> None:
    """The operation is really performed, and what its rule claims about the hidden units is proved."""
    model, x = network(kind, name)
    performed = {op.name.removeprefix("aten::") for op in record(model.eval(), (x,), {}, knows).ops}

    check = ob.verify(model, ob.discover(model, (x,)), (x,), trials=2)

    assert performed & {name, f"{name}_"}
    assert check.ok, check


def test_every_rule_has_a_row() -> None:
    """A rule that no row reaches fails here; one that only other machines reach says why."""
    rows = {f"aten::{name}" for _, name in OPERATIONS}

    assert {f"aten::{name}" for name in ELSEWHERE} == set(RULES) - rows
    assert rows <= set(RULES)
    assert NETWORKS
