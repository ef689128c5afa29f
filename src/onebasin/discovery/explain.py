"""Follow the links that the rules made: from an axis to what pins it, or to another axis that moves with it.

A link says that two atoms became one, or that one became part of another. What holds of an atom holds of its parts,
and of what it was tied to; a chain may therefore go from a whole down to a part and from a part up to another whole,
but not up and down again: two parts of one whole have nothing to do with each other.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from onebasin.discovery.axes import Atom, Link, Pin
from onebasin.discovery.solve import Solution
from onebasin.errors import OptionError
from onebasin.explanation import Explanation, Step

Wanted = Callable[[Atom], bool]

_Chain = list[tuple[Atom, str]]
"""The atoms of a path, each with the operation that leads to it."""


@dataclass(slots=True)
class Trace:
    """The memory of one discovery.

    Attributes:
        starts: the atoms that every axis of every parameter began with.
        places: the axis that an atom was made for.
        pinned: the atoms that were pinned by themselves, and why.
        links: what leads from an atom to others: the neighbour, whether one goes up or down, and the operation.
        tensors: all names of the state dict, with the number of axes.
        pins: for axes that are not in `starts`, such as those of unused parameters, the reason.
    """

    starts: dict[tuple[str, int], Atom] = field(default_factory=dict)
    places: dict[Atom, tuple[str, int]] = field(default_factory=dict)
    pinned: dict[Atom, Pin] = field(default_factory=dict)
    links: dict[Atom, list[tuple[Atom, int, str]]] = field(default_factory=dict)
    tensors: dict[str, int] = field(default_factory=dict)
    pins: dict[tuple[str, int], str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        solution: Solution,
        tensors: dict[str, int],
        pins: dict[tuple[str, int], str],
        tied: Sequence[Sequence[str]],
    ) -> "Trace":
        """The links of a solution, by atom."""
        names = {row[0]: row for row in tied}
        trace = cls(
            {(alias, axis): atom for atom, (n, axis) in solution.places.items() for alias in names.get(n, (n,))},
            dict(solution.places),
            dict(solution.axes.pinned),
            {},
            tensors,
            pins,
        )
        for link in solution.axes.links:
            trace._add(link)
        return trace

    def _add(self, link: Link) -> None:
        words = str(link.op) if link.op is not None else "the same tensor"
        self.links.setdefault(link.a, []).append((link.b, -1 if link.is_part else 0, words))
        self.links.setdefault(link.b, []).append((link.a, 1 if link.is_part else 0, words))

    def explain(self, tensor: str, axis: int, to: str | None) -> Explanation:
        """The shortest chain from an axis to the cause of its pin, or to another tensor that moves with it.

        Args:
            tensor: a name of the state dict.
            axis: counted from 0.
            to: another tensor, to ask why the two move together; None asks about the axis alone.

        Raises:
            OptionError: if there is no such tensor or axis.
        """
        for name, position in ((tensor, axis), *([(to, 0)] if to is not None else [])):
            if name not in self.tensors or not 0 <= position < self.tensors[name]:
                raise OptionError(
                    f"{name}:{position}",
                    expected="a tensor of the model and one of its axes",
                    found="neither" if name not in self.tensors else f"{self.tensors[name]} axes",
                    remedy="see `onebasin inspect` for the names",
                )
        label = f"{tensor}:{axis}"
        start = self.starts.get((tensor, axis))
        if start is None:
            return Explanation(label, self.pins.get((tensor, axis), "has a single index: there is nothing to move"))
        if to is not None:
            return self._tie(label, start, to)
        chain = self._search(start, lambda atom: atom in self.pinned)
        if chain is not None:
            return Explanation(label, f"cannot move: {self.pinned[chain[-1][0]]}", self._steps(chain))
        ties = sorted({name for name, _ in self._reachable(start)} - {tensor})
        return Explanation(label, "can move, together with " + (", ".join(ties) or "nothing else"))

    def _tie(self, label: str, start: Atom, to: str) -> Explanation:
        chain = self._search(start, lambda atom: self.places.get(atom, ("", 0))[0] == to)
        if chain is None:
            return Explanation(label, f"does not move together with any axis of {to}")
        name, axis = self.places[chain[-1][0]]
        return Explanation(label, f"moves together with {name}:{axis}, wholly or in part", self._steps(chain))

    def _steps(self, chain: _Chain) -> tuple[Step, ...]:
        steps: list[Step] = []
        for atom, operation in chain[1:]:
            name, axis = self.places.get(atom, ("", 0))
            step = Step(operation, f"{name}:{axis}" if name else "")
            if steps and steps[-1].operation == operation and not steps[-1].reaches:
                steps[-1] = step
            else:
                steps.append(step)
        return tuple(steps)

    def _search(self, start: Atom, wanted: Wanted) -> _Chain | None:
        before: dict[tuple[Atom, bool], tuple[tuple[Atom, bool], str] | None] = {(start, False): None}
        queue = deque(before)
        while queue:
            state = queue.popleft()
            if wanted(state[0]) and (state[0] is not start or start in self.pinned):
                chain: _Chain = []
                step: tuple[tuple[Atom, bool], str] | None = (state, "")
                while step is not None:
                    (atom, _), _ = step
                    origin = before[step[0]]
                    chain.append((atom, origin[1] if origin is not None else ""))
                    step = origin
                return chain[::-1]
            for following, words in self._next(state):
                if following not in before:
                    before[following] = (state, words)
                    queue.append(following)
        return None

    def _next(self, state: tuple[Atom, bool]) -> Iterator[tuple[tuple[Atom, bool], str]]:
        atom, went_up = state
        for other, direction, words in self.links.get(atom, []):
            if direction >= 0 or not went_up:
                yield (other, went_up or direction > 0), words

    def _reachable(self, start: Atom) -> Iterator[tuple[str, int]]:
        seen = {(start, False)}
        queue = deque(seen)
        while queue:
            state = queue.popleft()
            if state[0] in self.places:
                yield self.places[state[0]]
            for following, _ in self._next(state):
                if following not in seen:
                    seen.add(following)
                    queue.append(following)
