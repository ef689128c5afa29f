"""The lowest passes between many minima: their minimum spanning tree, and which pair to connect next."""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from onebasin.errors import OptionError
from onebasin.json_file import read_json, record, typed, write_json
from onebasin.progress import Progress, Report, silent

FORMAT = "onebasin-tree/1"
Pair = tuple[str, str]
Saddles = Mapping[Pair, float]
"""The highest loss on a path between two minima; the order of the two does not matter."""
Edge = tuple[str, str, float]


@dataclass(frozen=True)
class Tree:
    """A minimum spanning tree of minima, or a forest where not all are connected.

    Attributes:
        names: of the minima.
        edges: pairs and the saddle between them, the lowest first.
        saddles: all that were known, also those that are no edges.
        complete: False where exploring was interrupted.
    """

    names: tuple[str, ...]
    edges: tuple[Edge, ...]
    saddles: Saddles = field(default_factory=dict)
    complete: bool = True

    def saddle(self, a: str, b: str) -> float:
        """The highest loss on the best path between two minima by way of others, infinity where there is none.

        It is the height at which single-linkage clustering joins the two: no path through the saddles known is lower.

        Raises:
            OptionError: if a name is unknown.
        """
        for name in (a, b):
            if name not in self.names:
                raise OptionError("name", expected=" or ".join(self.names), found=repr(name), remedy="choose one")
        if a == b:
            return -math.inf
        for count, (_, _, height) in enumerate(self.edges, start=1):
            if b in component(a, self.edges[:count]):
                return height
        return math.inf

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "format": FORMAT,
            "complete": self.complete,
            "names": list(self.names),
            "edges": [list(edge) for edge in self.edges],
            "saddles": [[a, b, saddle] for (a, b), saddle in self.saddles.items()],
        }

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read or is no tree.
        """
        data = read_json(path)
        with record(data, path, "a tree", FORMAT) as held:
            edges = tuple((str(a), str(b), float(height)) for a, b, height in typed(held, "edges", list))
            saddles = {(str(a), str(b)): float(height) for a, b, height in typed(held, "saddles", list)}
            return cls(tuple(typed(held, "names", list)), edges, saddles, typed(held, "complete", bool))


def component(name: str, edges: Iterable[Edge]) -> set[str]:
    """The names that edges connect with one, itself included."""
    found, rest = {name}, [(a, b) for a, b, _ in edges]
    while joined := [pair for pair in rest if not found.isdisjoint(pair)]:
        found.update(itertools.chain.from_iterable(joined))
        rest = [pair for pair in rest if pair not in joined]
    return found


def spanning_tree(names: Sequence[str], saddles: Saddles) -> Tree:
    """The minimum spanning tree of minima: among all trees, that with the lowest saddles (Kruskal 1956).

    Args:
        names: of the minima.
        saddles: between pairs of them, not necessarily all; equal ones are taken in their order.

    Raises:
        OptionError: if a pair has an unknown name or a saddle is NaN.
    """
    for pair, saddle in saddles.items():
        if math.isnan(saddle) or not set(pair) <= set(names) or pair[0] == pair[1]:
            raise OptionError(
                f"saddles: {', '.join(pair)}",
                expected="a number for two of the names",
                found=str(saddle),
                remedy="correct it",
            )
    edges: list[Edge] = []
    for (a, b), saddle in sorted(saddles.items(), key=lambda row: row[1]):
        if b not in component(a, edges):
            edges.append((a, b, saddle))
    return Tree(tuple(names), tuple(edges), dict(saddles))


def next_pair(names: Sequence[str], losses: Mapping[str, float], saddles: Saddles) -> Pair | None:
    """The pair to connect next (Draxler et al. 2018): first every minimum with the best, then around the highest edge.

    Args:
        names: of the minima.
        losses: of these.
        saddles: known so far; their pairs are not tried again.

    Returns:
        the best minimum and one that no path leads to from it; where all are connected, the two lowest minima on either
        side of the tree's highest edge that are untried, else of the next highest; None where there is none left.
    """
    tree = spanning_tree(names, saddles)
    order = sorted(names, key=lambda name: losses[name])
    reached = component(order[0], tree.edges)
    for name in names:
        if name not in reached:
            return order[0], name
    tried = {frozenset(pair) for pair in saddles}
    for highest in reversed(tree.edges):
        one = component(highest[0], [edge for edge in tree.edges if edge != highest])
        across = [
            pair
            for pair in itertools.combinations(order, 2)
            if len(one & set(pair)) == 1 and frozenset(pair) not in tried
        ]
        if across:
            return min(across, key=lambda pair: max(losses[name] for name in pair))
    return None


def explore(
    losses: Mapping[str, float],
    connect: Callable[[str, str], float],
    budget: int,
    *,
    known: Saddles | None = None,
    unfinished: Collection[Pair] = (),
    progress: Report = silent,
) -> Tree:
    """Connect minima pair by pair, each time where it may lower the tree most, until a budget is spent.

    Args:
        losses: of the minima, by name.
        connect: finds a path between two of them and returns the highest loss on it, such as the saddle of `auto_neb`.
        budget: pairs to connect, at most.
        known: saddles found before; they cost nothing.
        unfinished: pairs whose search was broken off; they come first.
        progress: called after every pair.

    Returns:
        the tree; interrupted with Ctrl-C, what was known by then.

    Raises:
        OptionError: if `budget` is negative, there are no minima, or a pair or saddle cannot be used.
    """
    if budget < 0 or not losses:
        raise OptionError("budget", expected="minima, and 0 or more", found=str(budget), remedy="raise it")
    names, saddles = list(losses), dict(known or {})
    queue = list(unfinished)
    complete = True
    try:
        for done in range(1, budget + 1):
            pair = queue.pop(0) if queue else next_pair(names, losses, saddles)
            if pair is None:
                break
            saddles[pair] = connect(*pair)
            progress(Progress("tree", done, budget, f"{pair[0]} to {pair[1]}: saddle {saddles[pair]:.4g}"))
    except KeyboardInterrupt:
        complete = False
    tree = spanning_tree(names, saddles)
    return Tree(tree.names, tree.edges, tree.saddles, complete)
