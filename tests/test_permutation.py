"""Permutations: checked, immutable, in gather form."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from onebasin import Permutation
from onebasin.errors import SymmetryError
from strategies import SEEDS

SHAPES = st.tuples(st.lists(st.integers(1, 3), max_size=2).map(tuple), st.integers(0, 5))


def rows(index: NDArray[np.int64]) -> list[list[int]]:
    """The permutations of every member of the context."""
    return [row.tolist() for row in index.reshape(int(np.prod(index.shape[:-1])), index.shape[-1])]


@given(SHAPES, SEEDS)
def test_inverse_undoes_row_by_row(shape: tuple[tuple[int, ...], int], seed: int) -> None:
    """Taking from where the inverse takes from brings every thing home, and the inverse of the inverse is the same."""
    context, n = shape
    permutation = Permutation.random(n, np.random.default_rng(seed), context)
    inverse = permutation.inverse()

    for row, back in zip(rows(permutation.index), rows(inverse.index), strict=True):
        assert [row[i] for i in back] == list(range(n))
        assert [back[i] for i in row] == list(range(n))
    assert inverse.inverse() == permutation


@given(SHAPES, SEEDS)
def test_random_rows_are_permutations(shape: tuple[tuple[int, ...], int], seed: int) -> None:
    """Every row drawn at random is a permutation, the same one for the same generator."""
    context, n = shape
    permutation = Permutation.random(n, np.random.default_rng(seed), context)

    assert permutation.index.shape == (*context, n)
    assert permutation.index.dtype == np.int64
    assert permutation.size == n
    assert all(sorted(row) == list(range(n)) for row in rows(permutation.index))
    assert permutation == Permutation.random(n, np.random.default_rng(seed), context)


def test_random_rows_are_independent_and_uniform() -> None:
    """All 6 x 6 pairs of permutations of three things in two members come up, about equally often."""
    generator = np.random.default_rng(0)
    drawn = [Permutation.random(3, generator, (2,)).index.tobytes() for _ in range(3600)]
    counts = np.unique(drawn, return_counts=True)[1]

    assert len(counts) == 36
    assert float(((counts - 100) ** 2 / 100).sum()) < 71.0  # chi-squared, 35 degrees of freedom, p < 0.0003


@pytest.mark.parametrize("context", [(), (3,), (2, 1)])
def test_identity_moves_nothing(context: tuple[int, ...]) -> None:
    """The identity has the shape asked for and is its own inverse, and one swap in one row is no identity."""
    identity = Permutation.identity(4, context)
    index = identity.index.copy()
    index[(*(0 for _ in context), slice(None))] = [1, 0, 2, 3]

    assert identity.index.shape == (*context, 4)
    assert identity.is_identity
    assert identity.inverse() == identity
    assert not Permutation(index).is_identity


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, np.int64])
def test_any_integers_are_taken(dtype: type[np.integer]) -> None:
    """An index of any integer type is kept as int64."""
    permutation = Permutation(np.array([2, 0, 1], dtype))

    assert permutation == Permutation((2, 0, 1)) == Permutation([2, 0, 1])
    assert permutation.index.dtype == np.int64


def test_index_is_a_copy_that_cannot_be_written() -> None:
    """Changing the array a permutation was made from does not reach it, and its own index is read-only."""
    given_index = np.array([1, 0])
    permutation = Permutation(given_index)
    given_index[:] = [0, 1]

    assert permutation.index.tolist() == [1, 0]
    with pytest.raises(ValueError, match="read-only"):
        permutation.index[0] = 0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_cannot_be_written(copied: type[Permutation]) -> None:
    """A permutation that went through a copy or to another process is equal and as immutable."""
    permutation = copied(Permutation([1, 0]))

    assert permutation == Permutation([1, 0])
    assert not permutation.index.flags.writeable


def test_equality_is_that_of_the_index() -> None:
    """Permutations are equal where shape and entries are; equal ones have one hash."""
    nested = Permutation([[1, 0, 2]])

    assert Permutation([1, 0, 2]) == Permutation([1, 0, 2])
    assert hash(Permutation([1, 0, 2])) == hash(Permutation([1, 0, 2]))
    assert Permutation([1, 0, 2]) != Permutation([0, 1, 2])
    assert Permutation([1, 0, 2]) != nested
    assert Permutation([1, 0, 2]) != [1, 0, 2]


@pytest.mark.parametrize("n", [2, 2000])
def test_repr_is_short(n: int) -> None:
    """The representation shows the entries, few of many."""
    shown = repr(Permutation(np.arange(n)))

    assert shown.startswith("Permutation([")
    assert len(shown) < 60


@pytest.mark.parametrize(
    "index",
    [
        [0, 0],
        [1, 2],
        [-1, 0],
        [0.0, 1.0],
        [0.5, 1.2],
        [False, True],
        [[0, 1], [1, 1]],
        5,
        [2**40, 0],
    ],
)
def test_what_is_no_permutation_is_refused(index: object) -> None:
    """Repeated, missing, negative and fractional entries are refused, and the message shows what was found."""
    with pytest.raises(SymmetryError, match=r"^permutation: expected every number from 0 to \d+ once, found"):
        Permutation(index)


def test_messages_tell_the_right_range() -> None:
    """Three numbers that are not whole are told to be 0 to 2."""
    with pytest.raises(SymmetryError, match="from 0 to 2 once"):
        Permutation([0.0, 1.0, 2.0])


@pytest.mark.parametrize("index", [[[0, 1], [0]], ["a"], [None], [2**70, 0], [{}], [1j], [float("nan")]])
def test_what_is_no_array_is_refused(index: object) -> None:
    """Rows of different lengths, text and numbers out of range are refused like any other wrong index."""
    with pytest.raises(SymmetryError):
        Permutation(index)
