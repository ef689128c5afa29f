"""Matching two networks as an optimisation problem: a sum of bilinear terms, and trees of groups to be solved for.

With A's weights W_l and B's weights V_l the objective of weight matching (Ainsworth et al. 2023, section 3.2) is

    f(P) = sum over l of w_l <W_l, P_l V_l P_{l-1}^T> + sum over g of <C_g, P_g>,

up to a constant minus half the squared distance of the two networks where every w_l is 1 and every C_g is 0. Norm gains
and biases take part as tensors of one axis; C_g holds what else is known of the members of a group, such as the
correlation of their activations.

A **term** is one part of one tensor (see `onebasin.layout`), a **mode** one of the places where it can be reordered: an
innermost group together with the groups around it, whose members are numbered as one row, `[*groups around, n]` read
row by row. Groups that are nested in each other form a **tree** and are solved for together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from onebasin.apply import permute_part
from onebasin.assignment import Node, solve_nested
from onebasin.errors import MismatchError
from onebasin.layout import AxisGroup, Part
from onebasin.similarity import dot
from onebasin.symmetry import Matching, Symmetry


@dataclass(frozen=True, slots=True)
class Mode:
    """A place where a term can be reordered.

    Attributes:
        group: the innermost group.
        dims: the term's dimensions that number its members, those of the groups around first.
    """

    group: str
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """One part of one tensor in both networks, and what it counts for.

    Attributes:
        part: which factor each dimension is.
        a: A's view, of shape `part.sizes`.
        b: B's view, of the same shape, as B was given.
        weight: its factor in the objective.
    """

    part: Part
    a: Tensor
    b: Tensor
    weight: float = 1.0

    def modes(self, groups: Mapping[str, AxisGroup], names: frozenset[str]) -> tuple[Mode, ...]:
        """The places where groups of `names` can reorder the term, those that surround another of them left out."""
        found = {
            dim: (*self.part.context(dim, groups[str(factor)].inside), dim)
            for dim, factor in enumerate(self.part.factors)
            if factor in names
        }
        return tuple(
            Mode(str(self.part.factors[dim]), dims)
            for dim, dims in found.items()
            if not any(dim in other[:-1] for other in found.values())
        )

    def apart(self, mode: Mode, groups: Mapping[str, AxisGroup]) -> bool:
        """Whether everything else that can move here moves alike wherever the members of `mode` are."""
        whole = self.modes(groups, frozenset(groups))
        return mode in whole and not any(set(mode.dims) & set(other.dims) for other in whole if other != mode)


@dataclass(frozen=True, slots=True)
class Tree:
    """A group and those nested in it; `held` where it only stands around a group that is solved while it stays."""

    group: AxisGroup
    children: tuple["Tree", ...]
    held: bool = False

    @property
    def names(self) -> frozenset[str]:
        """The groups that are solved for: this one and all nested in it, those held left out."""
        own = frozenset[str]() if self.held else frozenset({self.group.name})
        return own.union(*(child.names for child in self.children))

    @property
    def around(self) -> frozenset[str]:
        """All groups of the tree, those that are held included."""
        return frozenset({self.group.name}).union(*(child.around for child in self.children))

    def node(self, scores: Mapping[str, Tensor], free: frozenset[str], around: tuple[int, ...] = ()) -> Node:
        """The tree as an assignment problem.

        Args:
            scores: `[m, m]` for some of its groups, to be maximised.
            free: the groups that may move.
            around: the sizes of the groups around.
        """
        sizes = (*around, self.group.size)
        score = None if self.held else scores.get(self.group.name)
        return Node(
            self.group.name,
            sizes,
            None if score is None else score.cpu().numpy(),
            tuple(child.node(scores, free, sizes) for child in self.children),
            fixed=self.held or self.group.fixed or self.group.name not in free,
        )


@dataclass(frozen=True)
class Problem:
    """What is to be maximised, and over what.

    Attributes:
        symmetry: of both networks.
        terms: all parts that something can reorder.
        linear: for some groups `[m, m]` float64, members of A against members of B as given, m as in `Mode`.
        trees: every group that moves, once.
    """

    symmetry: Symmetry
    terms: tuple[Term, ...]
    linear: Mapping[str, Tensor]
    trees: tuple[Tree, ...]

    @classmethod
    def of(
        cls, a: Mapping[str, Tensor], b: Mapping[str, Tensor], symmetry: Symmetry, *, normalised: bool = False
    ) -> "Problem":
        """The problem of weight matching.

        Args:
            a: state dict of the reference.
            b: state dict of the network to be moved.
            symmetry: fits both.
            normalised: weigh every tensor by `numel / (|A_t| |B_t|)`: all tensors brought to unit variance, which is
                the likelihood of B being A reordered, with noise in proportion to each tensor's own scale.
        """
        terms = []
        for name, rows in scored_parts(symmetry, a).items():
            left, right = a[name].detach(), (b[name] if name in b else tied(symmetry, b, name)).detach()
            norms = _norm(left) * _norm(right)
            weight = (left.numel() / norms if norms else 0.0) if normalised else 1.0
            terms += [
                Term(part, part.view(left), part.view(right), weight)
                for part in rows
                if any(isinstance(factor, str) for factor in part.factors)
            ]
        return cls(symmetry, tuple(terms), {}, forest(symmetry))

    def mixed(self, activations: Mapping[str, Tensor], alpha: float) -> "Problem":
        """The mixture `(1 - alpha) * this + alpha * activations`, both divided by their upper bounds.

        Args:
            activations: for some groups `[m, m]`, members of A against members of B as given.
            alpha: the share of the activations, above 0 and at most 1.

        Raises:
            MismatchError: if a matrix is of a group that does not move, or has another shape, or is not finite.
        """
        for name, values in activations.items():
            shape = (self.size(name),) * 2 if name in self.names else None
            if tuple(values.shape) != shape or not torch.isfinite(values).all():
                raise MismatchError(
                    f"activations: {name}",
                    expected=f"finite numbers of shape {shape}" if shape else "a group of the symmetry that moves",
                    found=f"shape {tuple(values.shape)}" + ("" if torch.isfinite(values).all() else ", not all finite"),
                    remedy="compute them with this symmetry",
                )
        linear = Problem(self.symmetry, (), {n: v.double().to(self.device) for n, v in activations.items()}, self.trees)
        shares = ((1 - alpha) / (self.ceiling or 1.0), alpha / (linear.ceiling or 1.0))
        terms = tuple(replace(t, weight=t.weight * shares[0]) for t in self.terms) if alpha < 1 else ()
        return replace(self, terms=terms, linear={n: v * shares[1] for n, v in linear.linear.items()})

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.terms[0].a.device if self.terms else torch.device("cpu")

    @property
    def names(self) -> frozenset[str]:
        """The groups that move."""
        return frozenset[str]().union(*(tree.names for tree in self.trees))

    def objective(self, matching: Matching) -> float:
        """The objective of an element of the symmetry group, in float64."""
        groups = self.symmetry.groups
        total = 0.0
        for term in self.terms:
            total += term.weight * dot(term.a, permute_part(term.b, term.part, groups, matching.permutations))
        for name, values in self.linear.items():
            index = torch.from_numpy(matching.members(name)).to(values.device)
            total += float(values[torch.arange(len(index), device=values.device), index].sum())
        return float(total)

    @cached_property
    def given(self) -> float:
        """The objective of B as it was given."""
        return self.objective(self.symmetry.identity())

    @cached_property
    def ceiling(self) -> float:
        """A quick upper bound on the objective: Cauchy and Schwarz for every term, the assignment bound for scores.

        It is reached where B is A reordered, and serves as the scale by which gains are measured.
        """
        terms = sum(abs(t.weight) * _norm(t.a) * _norm(t.b) for t in self.terms)
        return terms + sum(self._most(tree) for tree in self.trees if tree.names & self.linear.keys())

    @cached_property
    def bound(self) -> float:
        """An upper bound on the objective that takes longer: the largest rows meet each other.

        For a term with rows a_i and b_j along one of its modes, <A, P B Q> <= sum over i of |a|_(i) |b|_(i), norms in
        descending order, whatever happens inside the rows; for rows of one entry the entries themselves are sorted.
        The least of this over all modes counts.
        """
        terms = sum(term.weight * _sorted_products(term, self.symmetry.groups) for term in self.terms)
        return terms + sum(self._most(tree) for tree in self.trees if tree.names & self.linear.keys())

    def _most(self, tree: Tree) -> float:
        return solve_nested(tree.node(self.linear, tree.names)).bound

    def size(self, group: str) -> int:
        """How many members a group has, counted over all members of the groups around."""
        found = self.symmetry.groups[group]
        return prod(self.symmetry.context_sizes(found)) * found.size


def scored_parts(symmetry: Symmetry, params: Mapping[str, Tensor]) -> dict[str, list[Part]]:
    """The parts that carry information about the groups, by tensor.

    Left out are buffers (BatchNorm's running statistics are moved, not scored), tensors without a moving axis, and all
    but one name of tied tensors.
    """
    repeated = {name for row in symmetry.tied for name in [n for n in row if n in params][1:]}
    return {
        name: symmetry.parts(name)
        for name in symmetry.layouts
        if name in params
        and name not in symmetry.buffers
        and name not in repeated
        and any(layout.groups for layout in symmetry.layouts[name])
    }


def tied(symmetry: Symmetry, params: Mapping[str, Tensor], name: str) -> Tensor:
    """The tensor that stands under another name of its row of ties."""
    row = next(row for row in symmetry.tied if name in row)
    return next(params[other] for other in row if other in params)


def forest(symmetry: Symmetry) -> tuple[Tree, ...]:
    """Every group once: under the group it is directly nested in, or as a root.

    A group nested in several that are not nested in each other is a root inside fixed groups: it is solved while those
    around it stay.
    """
    groups = symmetry.groups

    def grow(group: AxisGroup) -> Tree:
        chain = (*group.inside, group.name)
        return Tree(group, tuple(grow(g) for g in groups.values() if g.inside == chain))

    roots = [grow(group) for group in groups.values() if not group.inside]
    covered = frozenset[str]().union(*(root.names for root in roots))
    for group in groups.values():
        if group.name not in covered:
            tree = Tree(group, ())
            for outer in reversed(group.inside):
                tree = Tree(groups[outer], (tree,), held=True)
            roots.append(tree)
    return tuple(root for root in roots if not all(groups[name].fixed for name in root.names))


def turns(tree: Tree, problem_terms: Sequence[Term], groups: Mapping[str, AxisGroup]) -> list[frozenset[str]]:
    """The sets of groups of one tree that can be solved in one step; together they cover the tree.

    Two groups that meet in a part without one being nested in the other are rivals: the part is linear in each only
    while the other stays. Each takes its turn with everything it is no rival of.
    """
    names = tree.names
    rivals: dict[str, set[str]] = {name: set() for name in names}
    for term in problem_terms:
        here = [mode.group for mode in term.modes(groups, names)]
        for name in here:
            rivals[name].update(set(here) - {name})
    found: list[frozenset[str]] = []
    for name in sorted(names, key=lambda n: (len(groups[n].inside), n)):
        if any(name in turn for turn in found):
            continue
        chosen = {name}
        for other in sorted(names):
            if not rivals[other] & chosen:
                chosen.add(other)
        found.append(frozenset(chosen))
    return found


def _norm(tensor: Tensor) -> float:
    return math.sqrt(dot(tensor, tensor))


def _sorted_products(term: Term, groups: Mapping[str, AxisGroup]) -> float:
    found = []
    for mode in term.modes(groups, frozenset(groups)):
        rest = [dim for dim in range(term.a.ndim) if dim not in mode.dims]
        single = all(term.a.shape[dim] == 1 for dim in rest)
        rows = [
            (t.double() if single else torch.linalg.vector_norm(t, dim=rest, dtype=torch.float64)).reshape(-1)
            for t in (term.a, term.b)
        ]
        found.append(float(torch.dot(*(row.sort().values for row in rows))))
    return min(found)
