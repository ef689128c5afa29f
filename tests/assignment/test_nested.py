"""Nested assignment against trying every element of the wreath product."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.typing import NDArray

from onebasin.assignment import Node, solve, solve_nested

Index = NDArray[np.int64]


def nodes(root: Node) -> Iterator[Node]:
    """A node and all below it, each after the one around it."""
    yield root
    for child in root.children:
        yield from nodes(child)


def value(root: Node, found: Mapping[str, Index]) -> float:
    """What the members of `a` score with the members of `b` they are matched to, over the whole tree."""

    def of(node: Node, around: tuple[str, ...]) -> float:
        total = 0.0
        for member in np.ndindex(*node.sizes):
            partner = [int(found[name][member[: k + 1]]) for k, name in enumerate((*around, node.name))]
            if node.similarity is not None:
                total += node.similarity[
                    np.ravel_multi_index(member, node.sizes), np.ravel_multi_index(partner, node.sizes)
                ]
        return total + sum(of(child, (*around, node.name)) for child in node.children)

    return of(root, ())


def everything(root: Node) -> Iterator[dict[str, Index]]:
    """Every element of the wreath product of a tree: one permutation of each group for every member around it."""
    choices = []
    for node in nodes(root):
        n = node.sizes[-1]
        rows = [tuple(range(n))] if node.fixed else list(itertools.permutations(range(n)))
        choices.append(itertools.product(rows, repeat=math.prod(node.sizes[:-1])))
    for choice in itertools.product(*choices):
        yield {n.name: np.array(rows).reshape(n.sizes) for n, rows in zip(nodes(root), choice, strict=True)}


def count(root: Node) -> int:
    """How many elements that are."""
    return math.prod(
        math.factorial(node.sizes[-1]) ** math.prod(node.sizes[:-1]) for node in nodes(root) if not node.fixed
    )


@st.composite
def trees(draw: DrawFn, name: str = "r", around: tuple[int, ...] = ()) -> Node:
    """Trees up to three deep, with fixed groups, groups that score nothing, and scores with many ties."""
    sizes = (*around, draw(st.integers(1, 3)))
    m = math.prod(sizes)
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    similarity = draw(
        st.sampled_from([generator.normal(size=(m, m)), generator.integers(-2, 2, (m, m)).astype(float), None])
    )
    deeper = range(draw(st.integers(0, 2 if len(sizes) < 3 else 0)))
    children = tuple(draw(trees(f"{name}{k}", sizes)) for k in deeper)
    return Node(name, sizes, similarity, children, draw(st.sampled_from([False, False, True])))


@given(trees())
def test_no_element_is_better(root: Node) -> None:
    """The answer is an element of the wreath product, fixed groups staying, and as good as the best of all."""
    assume(count(root) <= 300)
    nested = solve_nested(root)
    found = nested.index

    assert set(found) == {node.name for node in nodes(root)}
    for node in nodes(root):
        assert found[node.name].shape == node.sizes
        assert found[node.name].dtype == np.int64
        assert (np.sort(found[node.name]) == np.arange(node.sizes[-1])).all()
        assert not node.fixed or (found[node.name] == np.arange(node.sizes[-1])).all()
    best = max(value(root, element) for element in everything(root))
    assert value(root, found) == pytest.approx(best, abs=1e-9)
    assert nested.value == pytest.approx(best, abs=1e-9)
    assert nested.value <= nested.bound == pytest.approx(best, abs=1e-9)


@given(trees(), st.floats(0, 0.5), st.sampled_from([np.float32, np.float64]))
def test_a_similar_tree_is_a_start(root: Node, distance: float, dtype: type) -> None:
    """Started from the answer to a similar tree, in either precision, the answer is as good as without."""
    generator = np.random.default_rng(1)

    def near(node: Node) -> Node:
        similarity = node.similarity
        if similarity is not None:
            similarity = (similarity + distance * generator.normal(size=similarity.shape)).astype(dtype)
        return replace(node, similarity=similarity, children=tuple(near(child) for child in node.children))

    similar = near(root)
    cold, warm = solve_nested(similar), solve_nested(similar, solve_nested(root))

    assert warm.value == pytest.approx(cold.value, rel=1e-9, abs=1e-9)
    assert value(similar, warm.index) == pytest.approx(cold.value, rel=1e-5, abs=1e-5)


def test_an_equal_start_keeps_the_answer() -> None:
    """Among equally good matchings of the outermost group, the one to start from is kept."""
    root = Node("h", (3,), np.zeros((3, 3)), (Node("u", (3, 2), np.ones((6, 6), np.float32)),))
    nested = solve_nested(root)
    other = replace(nested, outer=replace(nested.outer, index=np.array([2, 0, 1])))

    assert nested.index["h"].tolist() == [0, 1, 2]
    assert solve_nested(root, other).index["h"].tolist() == [2, 0, 1]


def scores(m: int, seed: int) -> NDArray[np.float64]:
    """Random scores between the members of a group."""
    return np.random.default_rng(seed).normal(size=(m, m))


TREES = {
    "two heads of three": lambda s: Node("h", (2,), scores(2, s), (Node("u", (2, 3), scores(6, s + 50)),)),
    "three heads of two": lambda s: Node("h", (3,), None, (Node("u", (3, 2), scores(6, s)),)),
    "two children": lambda s: Node(
        "h", (2,), scores(2, s), (Node("u", (2, 2), scores(4, s + 50)), Node("v", (2, 3), scores(6, s + 99)))
    ),
    "three levels": lambda s: Node(
        "k", (2,), scores(2, s), (Node("q", (2, 2), scores(4, s + 50), (Node("u", (2, 2, 2), scores(8, s + 99)),)),)
    ),
    "fixed between": lambda s: Node(
        "k", (2,), scores(2, s), (Node("q", (2, 2), None, (Node("u", (2, 2, 2), scores(8, s + 99)),), fixed=True),)
    ),
    "fixed above": lambda s: Node("h", (3,), None, (Node("u", (3, 2), scores(6, s)),), fixed=True),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tree", TREES)
def test_trees_are_solved_exactly(tree: str, seed: int) -> None:
    """On every small tree the answer is the only best element of the whole wreath product."""
    root = TREES[tree](seed)
    found = solve_nested(root).index
    expected = max(everything(root), key=lambda element: value(root, element))

    assert {name: index.tolist() for name, index in found.items()} == {n: i.tolist() for n, i in expected.items()}


@given(st.integers(0, 6), st.integers(0, 1000))
def test_a_tree_of_one_is_the_flat_problem(n: int, seed: int) -> None:
    """A group without others inside is solved as by `solve`."""
    similarity = scores(n, seed)

    assert np.array_equal(solve_nested(Node("h", (n,), similarity)).index["h"], solve(similarity).index)


@pytest.mark.parametrize(("head", "moves"), [(0.9, True), (1.1, False)])
def test_units_count_as_much_as_their_heads(head: float, moves: bool) -> None:
    """Heads that would rather stay move where their units gain more by it, at any depth."""
    swap = np.eye(4)[[3, 2, 1, 0]] / 4
    root = Node("k", (2,), np.eye(2) * head / 2, (Node("q", (2, 1), None, (Node("u", (2, 1, 2), swap),)),))

    assert solve_nested(root).index["k"].tolist() == ([1, 0] if moves else [0, 1])


def test_units_decide_about_their_heads() -> None:
    """Heads that score nothing themselves are matched as their units want, and the units by head of `a`."""
    similarity = np.zeros((4, 4))
    similarity[0, 3] = similarity[1, 2] = similarity[2, 0] = similarity[3, 1] = 1  # head 0 of `a` is head 1 of `b`
    found = solve_nested(Node("h", (2,), None, (Node("u", (2, 2), similarity),))).index

    assert found["h"].tolist() == [1, 0]
    assert found["u"].tolist() == [[1, 0], [0, 1]]
