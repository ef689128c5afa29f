"""Several networks that are matched together, and what their objective is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from onebasin.apply import permute_stream
from onebasin.matching.problem import Problem, scored_parts, tied
from onebasin.matching.relaxed import Doubly, Relaxed
from onebasin.progress import Report
from onebasin.similarity import dot
from onebasin.symmetry import Matching, Symmetry

State = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Networks:
    """What counts of several networks.

    Attributes:
        states: of each, the tensors that something can reorder, tied ones once.
        symmetry: of all.
        seed: of every random choice.
        max_sweeps: the largest number of passes over all networks.
        progress: called after every pass.
    """

    states: tuple[State, ...]
    symmetry: Symmetry
    seed: int
    max_sweeps: int
    progress: Report

    @classmethod
    def of(
        cls, states: Sequence[State], symmetry: Symmetry, seed: int, max_sweeps: int, progress: Report
    ) -> "Networks":
        """Networks that have been checked."""
        names = scored_parts(symmetry, states[0])
        kept = [{n: (s[n] if n in s else tied(symmetry, s, n)).detach() for n in names} for s in states]
        return cls(tuple(kept), symmetry, seed, max_sweeps, progress)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.states)

    def problem(self, p: int, moved: Sequence[State]) -> Problem:
        """To match network `p` to the sum of all others, given where all are now."""
        others = total([state for q, state in enumerate(moved) if q != p])
        own = {name: tensor.to(others[name].dtype) for name, tensor in self.states[p].items()}
        return Problem.of(others, own, self.symmetry)

    def moved(self, p: int, matching: Matching) -> State:
        """Network `p` moved, wide enough to be summed."""
        s = self.symmetry
        rows = permute_stream(self.states[p], s.layouts, s.groups, matching.permutations)
        return {name: tensor.to(_wide(tensor)) for name, tensor in rows}

    def softened(self, p: int, relaxed: Relaxed, X: Doubly) -> State:
        """Network `p` multiplied by doubly stochastic matrices; what takes no part in the relaxation stays."""
        found = {name: tensor.to(_wide(tensor), copy=True) for name, tensor in self.states[p].items()}
        for term, modes in relaxed.places:
            term.part.view(found[term.part.tensor]).copy_(relaxed.transformed(term, modes, X))
        return found

    def measure(self, matchings: Sequence[Matching]) -> float:
        """The objective of one element a network."""
        return objective([self.moved(p, matching) for p, matching in enumerate(matchings)])


def total(states: Sequence[State]) -> dict[str, Tensor]:
    """The sum of several networks."""
    return {name: reduce(torch.add, [state[name] for state in states]) for name in states[0]}


def objective(states: Sequence[State]) -> float:
    """The sum of inner products over all pairs: half of the square of the sum, less the sum of the squares."""
    squares = [sum(dot(tensor, tensor) for tensor in state.values()) for state in (total(states), *states)]
    return float(0.5 * (squares[0] - sum(squares[1:])))


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
