"""Trees of passes between minima, against SciPy and brute force."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.sparse.csgraph import minimum_spanning_tree

from onebasin import Progress
from onebasin.connectivity import Tree, explore, spanning_tree
from onebasin.connectivity.tree import Saddles, next_pair

NAMES = "abcdef"


def all_saddles(seed: int, names: str = NAMES) -> dict[tuple[str, str], float]:
    """A different saddle for every pair."""
    pairs = list(itertools.combinations(names, 2))
    heights = np.random.default_rng(seed).permutation(len(pairs)) + 1.0
    return dict(zip(pairs, heights.tolist(), strict=True))


def table(saddles: Saddles, names: str = NAMES) -> np.ndarray:
    """Saddles as a matrix."""
    found = np.zeros((len(names), len(names)))
    for (a, b), height in saddles.items():
        found[names.index(a), names.index(b)] = found[names.index(b), names.index(a)] = height
    return found


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_tree_is_scipys(seed: int, count: int) -> None:
    """The edges are those of SciPy's minimum spanning tree."""
    names = NAMES[:count]
    saddles = all_saddles(seed, names)
    expected = minimum_spanning_tree(table(saddles, names)).tocoo()

    pairs = {frozenset((names[i], names[j])) for i, j in zip(expected.row, expected.col, strict=True)}
    assert {frozenset(edge[:2]) for edge in spanning_tree(list(names), saddles).edges} == pairs


@given(st.integers(0, 2**32 - 1))
def test_saddles_of_the_tree_are_single_linkage(seed: int) -> None:
    """The saddle between two minima by way of others is the height at which single linkage joins them."""
    saddles = all_saddles(seed)
    tree = spanning_tree(list(NAMES), saddles)
    heights = cophenet(linkage(list(saddles.values()), "single"))

    assert [tree.saddle(a, b) for a, b in itertools.combinations(NAMES, 2)] == heights.tolist()
    assert tree.saddle("a", "a") == -math.inf


def test_forest_where_not_all_are_connected() -> None:
    """Between minima that no path connects the saddle is infinite."""
    tree = spanning_tree(["a", "b", "c"], {("c", "a"): 2.0})

    assert tree.edges == (("c", "a", 2.0),)
    assert tree.saddle("a", "b") == math.inf


def test_first_all_are_connected_with_the_best() -> None:
    """Minima that cannot be reached from the best one come first, in their order."""
    losses = {"a": 3.0, "b": 1.0, "c": 2.0}

    assert next_pair(list(losses), losses, {}) == ("b", "a")
    assert next_pair(list(losses), losses, {("a", "b"): 9.0}) == ("b", "c")


def test_then_the_highest_edge_is_replaced() -> None:
    """The untried pair across the highest edge comes next, then across the next highest; tried ones never again."""
    losses = {"a": 1.0, "b": 2.0, "c": 3.0}
    star = {("a", "b"): 5.0, ("a", "c"): 9.0}

    assert next_pair("abc", losses, star) == ("b", "c")
    assert next_pair("abc", losses, star | {("b", "c"): 9.5}) is None


@given(st.integers(0, 2**32 - 1))
def test_exploring_to_the_end_gives_the_tree(seed: int) -> None:
    """With a budget for all pairs the tree is that of all saddles; with less it spans and is no lower."""
    saddles = all_saddles(seed, "abcd")
    losses = dict.fromkeys("abcd", 0.0)

    def connect(a: str, b: str) -> float:
        return saddles.get((a, b)) or saddles[(b, a)]

    full, short = explore(losses, connect, 6), explore(losses, connect, 3)
    assert full.edges == spanning_tree(list("abcd"), saddles).edges
    assert len(short.edges) == 3
    assert all(low[2] <= high[2] for low, high in zip(full.edges, short.edges, strict=True))


def test_known_saddles_cost_nothing_and_unfinished_pairs_come_first() -> None:
    """Pairs known are not connected again, those broken off are the first to be."""
    asked = []

    def connect(a: str, b: str) -> float:
        asked.append((a, b))
        return 1.0

    seen: list[Progress] = []
    losses = dict.fromkeys("abcd", 0.0)
    explore(losses, connect, 2, known={("a", "b"): 1.0}, unfinished=[("c", "d")], progress=seen.append)

    assert asked == [("c", "d"), ("a", "c")]
    assert [step.done for step in seen] == [1, 2]


def test_interrupted_exploration_keeps_what_it_knows(tmp_path: Path) -> None:
    """Ctrl-C gives the tree of what was found; it is saved and loaded whole."""

    def connect(_: str, b: str) -> float:
        if b == "c":
            raise KeyboardInterrupt
        return 1.5

    tree = explore(dict.fromkeys("abc", 0.0), connect, 9)
    tree.save(tmp_path / "tree.json")

    assert (tree.edges, tree.complete) == ((("a", "b", 1.5),), False)
    assert Tree.load(tmp_path / "tree.json") == tree


def test_equal_saddles_are_taken_in_order() -> None:
    """Among equal saddles the first ones become edges, whatever the hash seed."""
    tree = spanning_tree(["a", "b", "c"], {("b", "c"): 1.0, ("a", "c"): 1.0, ("a", "b"): 1.0})

    assert tree.edges == (("b", "c", 1.0), ("a", "c", 1.0))


def test_unknown_names_are_refused() -> None:
    """A saddle is asked for between names that there are."""
    with pytest.raises(ValueError, match="expected a or b, found 'x'"):
        spanning_tree(["a", "b"], {}).saddle("a", "x")
