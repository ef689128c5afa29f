"""Every architecture of the catalogue is discovered, proved, and as symmetric as it ever was."""

import functools
import math

import pytest
from torch import Tensor, nn

import onebasin as ob
from architectures import golden
from architectures.catalogue import CATALOGUE, build
from architectures.golden import Found

RELATIVE = 1e-6
"""How far log_order may be from the golden table: it is a sum of logarithms in floating point."""

REGENERATE = "python tests/architectures/regenerate.py"

Built = tuple[nn.Module, tuple[Tensor, ...], dict[str, Tensor], ob.Symmetry]


@functools.cache
def _discovered(name: str) -> Built:
    model, args, kwargs = build(name)
    return model, args, kwargs, ob.discover(model, args, kwargs)


def discovered(name: str) -> Built:
    """An architecture's model, inputs and symmetry; skips the test where its package cannot be imported."""
    try:
        return _discovered(name)
    except ImportError as error:
        pytest.skip(str(error))


def complaint(name: str, known: Found | None, found: Found) -> str:
    """What to say where an architecture differs from the golden table; empty where it does not."""
    if known is None:
        return f"{name} is not in the golden table; it has {found}. Look at it, then run: {REGENERATE} {name}"
    if math.isclose(known.log_order, found.log_order, rel_tol=RELATIVE) and known.groups == found.groups:
        return ""
    if found.log_order < known.log_order * (1 - RELATIVE):
        return f"{name} lost symmetry: it had {known}, now {found}"
    return f"{name} changed from {known} to {found}. Look at what was gained, then run: {REGENERATE} {name}"


@pytest.mark.parametrize("name", CATALOGUE)
def test_is_proved(name: str) -> None:
    """Random members of the discovered symmetry leave the outputs as they are, in eval and in train mode."""
    model, args, kwargs, symmetry = discovered(name)

    check = ob.verify(model, symmetry, args, kwargs, trials=3)

    assert check.ok, check
    assert check.max_relative_error < 1e-9
    assert ("eval", "train") == check.modes, check.notes


@pytest.mark.parametrize("name", CATALOGUE)
def test_is_as_symmetric_as_it_was(name: str) -> None:
    """The number of groups and of reorderings are those of the golden table: less is a loss, more needs a look."""
    *_, symmetry = discovered(name)

    assert complaint(name, golden.read().get(name), Found.of(symmetry)) == ""


def test_golden_table_is_complete() -> None:
    """Every architecture has a row, every row an architecture, in the order of the catalogue."""
    assert list(CATALOGUE) == list(golden.read())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Found(9, 1000.0), ""),
        (Found(9, 1000.0001), ""),
        (Found(9, 999.9), "lost symmetry"),
        (Found(8, 999.9), "lost symmetry"),
        (Found(9, 1000.1), "Look at what was gained, then run: python tests"),
        (Found(10, 1000.0), "changed from 9 groups"),
    ],
)
def test_differences_from_the_table_are_told(found: Found, expected: str) -> None:
    """A fall is a loss, a rise asks for a look and says how to write the table anew."""
    said = complaint("some/model", Found(9, 1000.0), found)

    assert expected in said
    assert bool(expected) == bool(said)
