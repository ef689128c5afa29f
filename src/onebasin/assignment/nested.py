"""Assignment where things are nested in things: heads, and the units inside each head, solved exactly together.

Matching head i of `a` with head j of `b` is worth the best that their units can do inside that pair. The inner problem
of every pair is solved first; its optimum is added to the outer matrix. With a tree of nested groups this is exact: the
choices inside different pairs do not interact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onebasin.assignment.exact import solve


@dataclass(frozen=True, slots=True)
class Node:
    """A group of a tree of nested groups.

    Attributes:
        name: of the group.
        sizes: the sizes of the groups around it, outermost first, and its own.
        similarity: `[m, m]` float64 with m the product of `sizes`: member of `a` against member of `b`; None scores 0.
        children: the groups nested directly in it.
        fixed: its members stay where they are.
    """

    name: str
    sizes: tuple[int, ...]
    similarity: NDArray[np.float64] | None
    children: tuple["Node", ...] = ()
    fixed: bool = False


def solve_nested(root: Node) -> dict[str, NDArray[np.int64]]:
    """The best permutation of a tree of nested groups.

    Args:
        root: the outermost group; its similarity and those of its descendants are summed over what is matched.

    Returns:
        for every group `[*sizes of the groups around, n]` int64 in gather form, the leading dimensions counted in the
        coordinates of `a`.
    """
    found = {node.name: np.zeros(node.sizes, np.int64) for node in _walk(root)}
    _, choice = _best(root, (), ())
    _read(root, choice, (), found)
    return found


_Choice = tuple[NDArray[np.int64], dict[tuple[int, str], "_Choice"]]
"""The index of a group, and the choice of every child in each of its members."""


def _best(node: Node, i: tuple[int, ...], j: tuple[int, ...]) -> tuple[float, _Choice]:
    """The best value of `node` inside member `i` of `a` and member `j` of `b`, and how it is reached."""
    n = node.sizes[-1]
    value = np.zeros((n, n))
    if node.similarity is not None:
        rows, columns = (np.ravel_multi_index(k, node.sizes[:-1]) * n if k else 0 for k in (i, j))
        value += node.similarity[rows : rows + n, columns : columns + n]
    inner: dict[tuple[int, int, str], _Choice] = {}
    for child in node.children:
        for u in range(n):
            for v in (u,) if node.fixed else range(n):
                gain, inner[u, v, child.name] = _best(child, (*i, u), (*j, v))
                value[u, v] += gain
    index = np.arange(n) if node.fixed else solve(value)
    chosen = {(u, child.name): inner[u, int(index[u]), child.name] for u in range(n) for child in node.children}
    return float(value[np.arange(n), index].sum()), (index, chosen)


def _read(node: Node, choice: _Choice, i: tuple[int, ...], found: dict[str, NDArray[np.int64]]) -> None:
    index, chosen = choice
    found[node.name][i] = index
    for child in node.children:
        for u in range(node.sizes[-1]):
            _read(child, chosen[u, child.name], (*i, u), found)


def _walk(node: Node) -> Sequence[Node]:
    return [node, *(deeper for child in node.children for deeper in _walk(child))]
