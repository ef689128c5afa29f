"""The solver on every path against SciPy's optimum: values, certificates, ties and warm starts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from assignment.problems import KINDS, Scores, gaussian, moved, problem
from onebasin.assignment import Assignment, solve, solve_each
from onebasin.assignment.exact import PATHS, solve_each_on, solve_on
from onebasin.errors import MismatchError

COMPILED = [path for path in PATHS if path != "scipy"]


def optimum(scores: Scores) -> float:
    """The largest value of all permutations, by SciPy."""
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return float(scores[rows, columns].astype(np.float64).sum())


def check(scores: Scores, found: Assignment) -> None:
    """A permutation of the optimal value, with a bound that meets it, both up to rounding."""
    best, n = optimum(scores), len(scores)
    scale = 1e-12 * n * float(np.abs(scores).max(initial=0))
    assert np.array_equal(np.sort(found.index), np.arange(n))
    assert found.index.dtype == np.int64
    assert found.value == pytest.approx(scores[np.arange(n), found.index].astype(np.float64).sum(), abs=scale)
    assert found.value == pytest.approx(best, rel=1e-12, abs=scale)
    assert found.value <= found.bound == pytest.approx(best, rel=1e-9, abs=scale)
    # The prices that are handed on prove the same bound: centring loses nothing.
    dual = (scores - found.prices).max(axis=1).sum() + found.prices.sum() if n else 0.0
    assert dual == pytest.approx(best, rel=1e-9, abs=scale)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("block", range(10))
def test_values_are_optimal_and_certified(path: str, block: int) -> None:
    """On every path, problems of all kinds get SciPy's value, a bound that meets it, and prices that prove it."""
    for seed in range(25 * block, 25 * (block + 1)):
        scores = problem(seed)
        check(scores, solve_on(path, scores))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [513, 700])
def test_long_rows(kind: object, n: int) -> None:
    """Problems large enough for long lists are solved exactly, too."""
    seed = KINDS.index(kind)  # type: ignore[arg-type]
    check(problem(seed, n), solve(problem(seed, n)))


@pytest.mark.skipif(len(COMPILED) < 2, reason="this machine has one compiled path or none")
def test_compiled_paths_agree_exactly() -> None:
    """All instruction sets give the same permutation, bound and prices, bit for bit, ties included."""
    for seed in range(200):
        scores = problem(seed)
        first, *others = (solve_on(path, scores) for path in COMPILED)
        for other in others:
            assert np.array_equal(first.index, other.index)
            assert np.array_equal(first.prices, other.prices)
            assert (first.value, first.bound) == (other.value, other.bound)


@pytest.mark.parametrize("path", PATHS)
def test_sequences_of_similar_problems(path: str) -> None:
    """Started from the last answer over and over, every answer is optimal."""
    for seed in range(50):
        scores, warm = problem(seed), None
        generator = np.random.default_rng(seed)
        for _ in range(4):
            warm = solve_on(path, scores, warm)
            check(scores, warm)
            scores = moved(scores, generator)


@pytest.mark.parametrize("path", PATHS)
def test_a_bad_start_does_no_harm(path: str) -> None:
    """Prices and matchings that have nothing to do with the problem still lead to the optimum."""
    for seed in range(60):
        scores = problem(seed)
        n, generator = len(scores), np.random.default_rng(seed)
        size = float(np.abs(scores).max()) * generator.choice([0.1, 1, 10, 1e3, 1e12])
        prices = size * generator.normal(size=n)
        if seed % 7 == 0:
            prices[generator.integers(n)] = generator.choice([np.nan, np.inf])
        warm = Assignment(generator.permutation(n), 0.0, 0.0, prices)
        check(scores, solve_on(path, scores, warm))


@pytest.mark.parametrize("path", PATHS)
def test_an_optimal_start_is_kept(path: str) -> None:
    """A matching that is still optimal comes back as it is, also where others score the same."""
    for seed in range(60):
        scores = problem(seed)
        n, generator = len(scores), np.random.default_rng(seed)
        order = generator.permutation(n)
        warm = solve_on(path, scores)
        # The same matching among equal ones, whatever the prices say.
        unknown = replace(warm, prices=generator.normal(size=n))
        assert np.array_equal(solve_on(path, scores, warm).index, warm.index)
        assert np.array_equal(solve_on(path, scores, unknown).index, warm.index)
        ties = np.full_like(scores, 3)
        assert np.array_equal(solve_on(path, ties, replace(warm, index=order)).index, order)


@pytest.mark.parametrize("path", PATHS)
def test_units_that_need_not_move_stay(path: str) -> None:
    """Cold, dead and equal units stay where they are, in a network matched to itself or beside others that move."""
    generator = np.random.default_rng(0)
    features = generator.integers(-3, 4, (40, 12)).astype(np.float64)
    features[5:12] = features[4]
    features[20:27] = 0
    itself = features @ features.T
    assert np.array_equal(solve_on(path, itself).index, np.arange(40))

    order = np.arange(40)
    order[30:] = generator.permutation(order[30:])
    found = solve_on(path, features @ features[order].T).index
    assert np.array_equal(found[:30], np.arange(30))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("k", "n"), [(0, 3), (4, 0), (1, 5), (30, 2), (20, 7), (3, 30), (2, 150)])
def test_many_at_once(path: str, dtype: type, k: int, n: int) -> None:
    """Independent problems in one call get what each gets alone."""
    scores = np.random.default_rng(k).integers(-4, 5, (k, n, n)).astype(dtype)
    index, value = solve_each_on(path, scores)

    assert (index.shape, value.shape) == ((k, n), (k,))
    for b in range(k):
        alone = solve_on(path, scores[b])
        assert np.array_equal(index[b], alone.index)
        assert value[b] == alone.value


@given(st.integers(0, 10**6), st.sampled_from(PATHS))
def test_any_problem(seed: int, path: str) -> None:
    """Whatever is drawn, the answer is optimal and certified."""
    check(problem(seed), solve_on(path, problem(seed)))


@pytest.mark.parametrize("path", PATHS)
def test_inputs_are_left_alone(path: str) -> None:
    """Neither scores nor the start are modified, and strided or transposed scores are read as they are."""
    scores = gaussian(np.random.default_rng(3), 60)
    warm = solve_on(path, scores.T)
    before = scores.copy(), warm.index.copy(), warm.prices.copy()
    for array in (scores, warm.index, warm.prices):
        array.setflags(write=False)
    check(scores.T[::2, ::2], solve_on(path, scores.T[::2, ::2]))
    check(scores, solve_on(path, scores, warm))

    assert all(np.array_equal(old, new) for old, new in zip(before, (scores, warm.index, warm.prices), strict=True))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_first_bad_entry_is_named(path: str, bad: float, dtype: type) -> None:
    """A number that is not finite is found anywhere, and named by its place."""
    scores = np.random.default_rng(0).random((3, 70, 70)).astype(dtype)
    scores[1, 66, 69] = scores[2, 0, 0] = bad

    with pytest.raises(MismatchError, match=r"similarity\[1, 66, 69\]: expected a finite number"):
        solve_each_on(path, scores)
    with pytest.raises(MismatchError, match=r"similarity\[66, 69\]: expected a finite number"):
        solve_on(path, scores[1], solve(scores[0]))


@pytest.mark.parametrize("path", PATHS)
def test_numbers_too_large_to_add_up(path: str) -> None:
    """Numbers of which sums would overflow are refused by name."""
    with pytest.raises(MismatchError, match=r"similarity\[0, 0\]: expected a number of at most 1e\+300, found 1e\+305"):
        solve_on(path, np.full((2, 2), 1e305))


@pytest.mark.parametrize("index", [[0, 0], [0, 2], [-1, 0], [0], [0.5, 1]])
def test_a_start_is_a_permutation(index: list[float]) -> None:
    """What is no permutation of the units is refused before anything reads from it."""
    with pytest.raises(MismatchError, match="warm: expected a permutation of 2 units and as many prices"):
        solve(np.eye(2), replace(solve(np.eye(2)), index=np.array(index)))
    with pytest.raises(MismatchError, match="found 2 units and 3 prices"):
        solve(np.eye(2), replace(solve(np.eye(2)), prices=np.zeros(3)))


def test_other_types_are_solved_in_double() -> None:
    """Whole numbers and halves are problems like others."""
    whole = np.random.default_rng(0).integers(-9, 9, (20, 20))

    assert solve(whole).value == solve(whole.astype(np.float16)).value == optimum(whole.astype(float))
    assert solve_each(whole[None])[1][0] == optimum(whole.astype(float))
