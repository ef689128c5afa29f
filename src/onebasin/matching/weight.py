"""Weight matching: coordinate ascent on a sum of bilinear assignment problems (Ainsworth et al. 2023, section 3.2).

With A's weights W_l and B's weights V_l the objective is

    sum over l of <W_l, P_l V_l P_{l-1}^T>,

which is, up to a constant, minus half the squared distance of the two networks. It is linear in one P_l while the
others are fixed: every step is one linear assignment problem, solved exactly, so that the objective never falls. Norm
gains and biases take part as matrices of one column. Groups nested in others (units inside heads) are solved together
with them.

Steps are taken in aligned coordinates: B is kept permuted by what was found so far, so that a step looks for a
*relative* reordering, and only the tensors which a step moves are permuted again.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from onebasin.apply import permute_part
from onebasin.assignment import Node, solve_nested
from onebasin.layout import AxisGroup, Part
from onebasin.permutation import Permutation
from onebasin.progress import Progress, Report
from onebasin.similarity import inner_products, scored_parts
from onebasin.symmetry import Matching, Status, Symmetry

_GAIN = 1e-12
"""The smallest gain, relative to the product of both networks' norms, that counts: smaller ones are rounding."""


def weight_matching(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], symmetry: Symmetry, seed: int, max_sweeps: int, progress: Report
) -> Matching:
    """Coordinate ascent from the identity; see the module's text and `onebasin.match`."""
    started = time.perf_counter()
    state = _State.of(a, b, symmetry)
    generator = np.random.default_rng(seed)
    history, status = [state.objective], Status.MAX_SWEEPS
    try:
        for sweep in range(max_sweeps):
            improved = False
            for position in generator.permutation(len(state.blocks)):
                for free in state.blocks[position].turns:
                    improved |= state.step(state.blocks[position], free)
            history.append(state.objective)
            progress(Progress("matching", sweep + 1, None, f"objective {state.objective:.6g}"))
            if not improved:
                status = Status.CONVERGED
                break
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    return state.current.replace(
        objective=state.objective,
        history=tuple(history),
        status=status,
        seconds={**state.seconds, "total": time.perf_counter() - started},
        method="weight",
        seed=seed,
    )


@dataclass(slots=True)
class _Scored:
    """One part of one tensor: A's view, and B's in the coordinates reached so far."""

    part: Part
    a: Tensor
    b: Tensor

    @property
    def value(self) -> float:
        """Its share of the objective."""
        return float(torch.dot(self.a.reshape(-1).double(), self.b.reshape(-1).double()))


@dataclass(slots=True)
class _Block:
    """A tree of nested groups that is solved in one step, and the parts it moves."""

    tree: "_Tree"
    names: frozenset[str]
    scored: list[_Scored]
    turns: list[frozenset[str]]


@dataclass(frozen=True, slots=True)
class _Tree:
    """A group and those nested in it; `held` where it only stands around a group that is solved while it stays."""

    group: AxisGroup
    children: tuple["_Tree", ...]
    held: bool = False

    @property
    def names(self) -> frozenset[str]:
        """The groups that are solved for: this one and all nested in it, those held left out."""
        own = frozenset[str]() if self.held else frozenset({self.group.name})
        return own.union(*(child.names for child in self.children))


@dataclass(slots=True)
class _State:
    symmetry: Symmetry
    current: Matching
    blocks: list[_Block]
    objective: float
    scale: float
    seconds: dict[str, float] = field(default_factory=lambda: {"similarity": 0.0, "assignment": 0.0, "apply": 0.0})

    @classmethod
    def of(cls, a: Mapping[str, Tensor], b: Mapping[str, Tensor], symmetry: Symmetry) -> "_State":
        """The start: the identity, with A and B split into parts of float32 (float64 where they are)."""
        scored = []
        for name, rows in scored_parts(symmetry, a).items():
            other = b[name] if name in b else _tied(symmetry, b, name)
            dtype = torch.float64 if a[name].dtype == torch.float64 else torch.float32
            left, right = a[name].detach().to(dtype), other.detach().to(dtype)
            scored += [
                _Scored(part, part.view(left), part.view(right))
                for part in rows
                if any(isinstance(factor, str) for factor in part.factors)
            ]
        blocks = []
        for tree in _forest(symmetry):
            names = tree.names
            touched = [item for item in scored if names.intersection(item.part.factors)]
            blocks.append(_Block(tree, names, touched, _turns(names, touched, symmetry.groups)))
        norms = [
            sum(float(side.double().square().sum()) for side in sides) ** 0.5
            for sides in ([item.a for item in scored], [item.b for item in scored])
        ]
        return cls(symmetry, symmetry.identity(), blocks, sum(item.value for item in scored), norms[0] * norms[1])

    def step(self, block: _Block, free: frozenset[str]) -> bool:
        """Reorder the free groups of one tree as well as possible, all others fixed; whether the objective grew."""
        times = [time.perf_counter()]
        scores = self._scores(block, free)
        times.append(time.perf_counter())
        index = solve_nested(_node(block.tree, scores, free)).index
        times.append(time.perf_counter())
        relative = {name: Permutation(index[name]) for name in block.names}
        moved = [permute_part(item.b, item.part, self.symmetry.groups, relative) for item in block.scored]
        before = sum(item.value for item in block.scored)
        after = sum(_Scored(item.part, item.a, b).value for item, b in zip(block.scored, moved, strict=True))
        gain = after - before
        improved = gain > _GAIN * self.scale
        if improved:
            for item, view in zip(block.scored, moved, strict=True):
                item.b = view
            step = Matching(self.symmetry, {**self.symmetry.identity().permutations, **relative})
            self.current = step.compose(self.current)
            self.objective += gain
        times.append(time.perf_counter())
        for part, begin, end in zip(self.seconds, times, times[1:], strict=False):
            self.seconds[part] += end - begin
        return improved

    def _scores(self, block: _Block, free: frozenset[str]) -> dict[str, Tensor]:
        """For every free group of the tree, member against member; nested groups are counted through the innermost.

        Groups that wait for their turn stay as they are: they are summed over like any other dimension.
        """
        scores: dict[str, Tensor] = {}
        for item in block.scored:
            for dim, context in _innermost(item.part, free, self.symmetry.groups).items():
                name = str(item.part.factors[dim])
                found = inner_products(item.a, item.b, (*context, dim))
                scores[name] = scores[name] + found if name in scores else found
        return scores


def _tied(symmetry: Symmetry, params: Mapping[str, Tensor], name: str) -> Tensor:
    row = next(row for row in symmetry.tied if name in row)
    return next(params[other] for other in row if other in params)


def _forest(symmetry: Symmetry) -> list[_Tree]:
    """Every group once: under the group it is directly nested in, or as a root.

    A group nested in several that are not nested in each other is a root inside fixed groups: it is solved while those
    around it stay.
    """
    groups = symmetry.groups

    def grow(group: AxisGroup) -> _Tree:
        chain = (*group.inside, group.name)
        return _Tree(group, tuple(grow(g) for g in groups.values() if g.inside == chain))

    roots = [grow(group) for group in groups.values() if not group.inside]
    covered = frozenset[str]().union(*(root.names for root in roots))
    for group in groups.values():
        if group.name not in covered:
            tree = _Tree(group, ())
            for outer in reversed(group.inside):
                tree = _Tree(groups[outer], (tree,), held=True)
            roots.append(tree)
    return [root for root in roots if not all(groups[name].fixed for name in root.names)]


def _node(tree: _Tree, scores: Mapping[str, Tensor], free: frozenset[str], around: tuple[int, ...] = ()) -> Node:
    sizes = (*around, tree.group.size)
    score = None if tree.held else scores.get(tree.group.name)
    return Node(
        tree.group.name,
        sizes,
        None if score is None else score.cpu().numpy(),
        tuple(_node(child, scores, free, sizes) for child in tree.children),
        fixed=tree.held or tree.group.fixed or tree.group.name not in free,
    )


def _turns(names: frozenset[str], scored: Sequence[_Scored], groups: Mapping[str, AxisGroup]) -> list[frozenset[str]]:
    """The sets of groups of one tree that can be solved in one step; together they cover the tree.

    Two groups that meet in a part without one being nested in the other are rivals: the part is linear in each only
    while the other stays. Each takes its turn with everything it is no rival of.
    """
    rivals: dict[str, set[str]] = {name: set() for name in names}
    for item in scored:
        here = [str(item.part.factors[dim]) for dim in _innermost(item.part, names, groups)]
        for name in here:
            rivals[name].update(set(here) - {name})
    turns: list[frozenset[str]] = []
    for name in sorted(names, key=lambda n: (len(groups[n].inside), n)):
        if any(name in turn for turn in turns):
            continue
        chosen = {name}
        for other in sorted(names):
            if not rivals[other] & chosen:
                chosen.add(other)
        turns.append(frozenset(chosen))
    return turns


def _innermost(part: Part, names: frozenset[str], groups: Mapping[str, AxisGroup]) -> dict[int, tuple[int, ...]]:
    """The dimensions of a part whose groups are among `names` and surround no other such, with their context."""
    context = {
        dim: part.context(dim, groups[str(factor)].inside) for dim, factor in enumerate(part.factors) if factor in names
    }
    return {dim: around for dim, around in context.items() if not any(dim in other for other in context.values())}
