"""The linear assignment problem against trying every permutation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.typing import NDArray

from onebasin.assignment import solve
from onebasin.errors import MismatchError

Matrix = NDArray[np.float64]


@st.composite
def squares(draw: DrawFn, most: int = 5) -> Matrix:
    """Square matrices of few different numbers, so that ties are common, or of any numbers."""
    n = draw(st.integers(0, most))
    entry = draw(st.sampled_from([st.integers(-1, 1), st.floats(-1e6, 1e6), st.sampled_from([-0.0, 1e-300, -1e300])]))
    rows = draw(st.lists(st.lists(entry, min_size=n, max_size=n), min_size=n, max_size=n))
    return np.array(rows, np.float64).reshape(n, n)


def value(similarity: Matrix, index: NDArray[np.int64] | tuple[int, ...]) -> float:
    """The sum of what a permutation picks."""
    return float(sum(similarity[i, j] for i, j in enumerate(index)))


def best(similarity: Matrix) -> float:
    """The largest sum that any permutation reaches."""
    return max(value(similarity, index) for index in itertools.permutations(range(len(similarity))))


@given(squares())
def test_no_permutation_is_better(similarity: Matrix) -> None:
    """The answer is a permutation in int64, as good as the best of all, and the matrix is not modified."""
    before = similarity.copy()
    index = solve(similarity).index

    assert index.dtype == np.int64
    assert sorted(index.tolist()) == list(range(len(similarity)))
    assert value(similarity, index) == pytest.approx(best(similarity), rel=1e-9, abs=1e-9)
    assert np.array_equal(similarity, before)


@pytest.mark.parametrize("seed", range(3))
def test_six_by_six(seed: int) -> None:
    """Neither is any permutation of six, where entries repeat, are negative or zero."""
    generator = np.random.default_rng(seed)
    similarity = generator.integers(-3, 3, (6, 6)) * generator.choice([1.0, 1e-8], (6, 6))

    assert value(similarity, solve(similarity).index) == pytest.approx(best(similarity), rel=1e-12)


def test_gather_form() -> None:
    """Entry i of the answer is the column chosen for row i, not the row chosen for column i."""
    similarity = np.zeros((3, 3))
    similarity[0, 1] = similarity[1, 2] = similarity[2, 0] = 1

    assert solve(similarity).index.tolist() == [1, 2, 0]


@pytest.mark.parametrize("n", [0, 1])
def test_smallest_problems(n: int) -> None:
    """Nothing to match and one pair to match are problems, too, even where the one pair scores badly."""
    assert solve(np.full((n, n), -5.0)).index.tolist() == list(range(n))


def test_a_planted_permutation_is_found() -> None:
    """Three hundred units whose partners score highest are matched with their partners."""
    generator = np.random.default_rng(0)
    index = generator.permutation(300)
    similarity = generator.random((300, 300))
    similarity[np.arange(300), index] += 1

    assert np.array_equal(solve(similarity).index, index)


@pytest.mark.parametrize("order", ["C", "F", "view"])
def test_memory_layout_makes_no_difference(order: str) -> None:
    """Transposed, strided and read-only matrices give the same answer."""
    similarity = np.random.default_rng(1).random((6, 6))
    laid = np.repeat(similarity, 2, axis=0)[::2] if order == "view" else np.array(similarity, order=order)
    laid.setflags(write=False)

    assert np.array_equal(solve(laid).index, solve(similarity).index)


@pytest.mark.parametrize("shape", [(2, 3), (4,), (2, 2, 2), ()])
def test_only_square_matrices(shape: tuple[int, ...]) -> None:
    """Anything but a square matrix is refused with its shape."""
    with pytest.raises(MismatchError, match="similarity: expected a square matrix, found shape"):
        solve(np.zeros(shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_only_finite_scores(bad: float) -> None:
    """The first entry that is no finite number is named by row and column."""
    similarity = np.zeros((3, 3))
    similarity[1, 2] = similarity[2, 0] = bad

    with pytest.raises(MismatchError, match=rf"similarity\[1, 2\]: expected a finite number, found {bad}"):
        solve(similarity)
