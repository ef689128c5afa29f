"""Matching over doubly stochastic matrices instead of permutations: no order of steps, and doubt that can be kept.

Every group g has a matrix X_g, `[m, m]` over its members (see `Mode`): row i says where member i of A comes from in B
as given. Permutations are its extreme points; groups nested in others keep the block structure of their trees, X of
units inside heads being H_ij U_ij. With (X ... V) for V with every axis multiplied by its matrix, the objective goes on
unchanged, and its gradient with respect to X_g is the score matrix of one step of coordinate ascent, the neighbours
being uncertain:

    S_g = sum over terms with g of w <A, B with all other axes multiplied>  (+ C_g).

Terms in which two groups of one tree cross (see `turns`) are left out of the relaxation; coordinate ascent, which ends
every search, knows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onebasin.matching.problem import Mode, Problem, Term, Tree
from onebasin.parallel import product
from onebasin.permutation import Permutation
from onebasin.similarity import dot, inner_products, matrix
from onebasin.symmetry import Matching

_BALANCINGS = 5
"""Rows and columns are balanced so many times."""
_FLOOR = -500.0
"""Logarithm of the smallest weight that is told from zero."""
_EVEN = 1e-12
"""Scores that differ by less, relatively, are equal."""

Doubly = Mapping[str, Tensor]
"""For every group that moves or stands around one that does, `[m, m]` doubly stochastic."""


@dataclass(frozen=True, slots=True)
class Relaxed:
    """The relaxation of a problem.

    Attributes:
        problem: the problem.
        places: every term that takes part, with its modes.
    """

    problem: Problem
    places: tuple[tuple[Term, tuple[Mode, ...]], ...]

    @classmethod
    def of(cls, problem: Problem) -> "Relaxed":
        """The relaxation of `problem`."""
        groups = problem.symmetry.groups
        held = frozenset[str]().union(*(tree.around for tree in problem.trees))
        rows = [(term, term.modes(groups, held)) for term in problem.terms]
        return cls(problem, tuple((term, modes) for term, modes in rows if _disjoint(modes)))

    @property
    def degree(self) -> int:
        """The largest number of matrices that multiply one term."""
        return max((len(modes) for _, modes in self.places), default=1)

    def gradient(self, X: Doubly, group: str) -> Tensor | None:
        """S_g of the module's text, `[m, m]`; None where the group is in no term that takes part."""
        total = self.problem.linear.get(group)
        total = None if total is None else total.clone()
        for term, modes in self.places:
            for mode in modes:
                if mode.group != group:
                    continue
                b = self.transformed(term, [other for other in modes if other is not mode], X)
                found = inner_products(term.a, b, mode.dims).mul_(term.weight)
                total = found if total is None else total + found
        return total

    def transformed(self, term: Term, modes: list[Mode] | tuple[Mode, ...], X: Doubly) -> Tensor:
        """B's side of a term with some of its axes multiplied by their matrices."""
        b = term.b
        for mode in modes:
            order = [*mode.dims, *(dim for dim in range(b.ndim) if dim not in mode.dims)]
            rows = matrix(b, mode.dims)
            rows = product(X[mode.group].to(rows.dtype), rows.T)
            b = rows.reshape([b.shape[dim] for dim in order]).permute(*np.argsort(order))
        return b

    def objective(self, X: Doubly) -> float:
        """The objective of doubly stochastic matrices, in float64."""
        total = sum(term.weight * dot(term.a, self.transformed(term, modes, X)) for term, modes in self.places)
        return total + sum(dot(values, X[name]) for name, values in self.problem.linear.items())

    def scores(self, tree: Tree, X: Doubly) -> dict[str, Tensor]:
        """The gradient for every group of a tree that has one."""
        found = {name: self.gradient(X, name) for name in sorted(tree.names)}
        return {name: score for name, score in found.items() if score is not None}

    def uniform(self) -> dict[str, Tensor]:
        """Full doubt: every member may come from every member that its tree allows."""
        found: dict[str, Tensor] = {}
        for tree in self.problem.trees:
            found |= soften(tree, {}, 1.0, self.problem.device)
        return found

    def hard(self, permutations: Mapping[str, Permutation]) -> dict[str, Tensor]:
        """The permutation matrices of one permutation for every group."""
        matching = Matching(self.problem.symmetry, permutations)
        index = {name: torch.from_numpy(matching.members(name)) for name in permutations}
        return {name: torch.eye(len(i))[i].to(self.problem.device) for name, i in index.items()}


def soften(tree: Tree, scores: Mapping[str, Tensor], sharpness: float, device: torch.device) -> dict[str, Tensor]:
    """The matrices of a tree that scores of some sharpness lead to (Gold and Rangarajan 1996, for nested groups).

    Maximises <X, S> + t H(X), H the entropy, from the inside out: what the units inside head i of A and head j of B can
    do, entropy included, is added to the score of that pair of heads.

    Args:
        tree: the groups.
        scores: `[m, m]` for some of them.
        sharpness: t is the standard deviation of a group's scores divided by this.
        device: of the result.

    Returns:
        `[m, m]` float32 for every group of the tree.
    """
    return _unfold(_soft(tree, scores, sharpness, 1, device), torch.ones(1, 1, dtype=torch.float64, device=device))


@dataclass(frozen=True, slots=True)
class _Soft:
    """The matrices of one group for every pair of members around: `choice` [M, M, n, n], and their worth [M, M]."""

    group: str
    choice: Tensor
    worth: Tensor
    inner: list["_Soft"]


def _soft(tree: Tree, scores: Mapping[str, Tensor], sharpness: float, around: int, device: torch.device) -> _Soft:
    n = tree.group.size
    inner = [_soft(child, scores, sharpness, around * n, device) for child in tree.children]
    score = None if tree.held else scores.get(tree.group.name)
    total = torch.zeros(around * n, around * n, dtype=torch.float64, device=device)
    for part in ([] if score is None else [score], *([soft.worth] for soft in inner)):
        for given in part:
            total += given
    pairs = total.reshape(around, n, around, n).transpose(1, 2)
    if tree.held or tree.group.fixed:
        still = torch.eye(n, dtype=torch.float64, device=device).expand_as(pairs)
        return _Soft(tree.group.name, still, pairs.diagonal(dim1=2, dim2=3).sum(-1), inner)
    return _Soft(tree.group.name, *_sinkhorn(pairs, sharpness), inner)


def _sinkhorn(scores: Tensor, sharpness: float) -> tuple[Tensor, Tensor]:
    """`[..., n, n]` float64 doubly stochastic (columns exactly, rows nearly), and `[...]` <X, S> + t H(X)."""
    centred = scores - scores.mean(-1, keepdim=True)
    centred -= centred.mean(-2, keepdim=True)
    t = float(centred.square().mean().sqrt()) / sharpness
    if t <= _EVEN * float(scores.abs().max()):
        X = torch.full_like(scores, 1 / scores.shape[-1])
    else:
        centred -= centred.amax(-1, keepdim=True)
        K = centred.div_(t).clamp_(min=_FLOOR).exp_()
        u = v = torch.ones_like(K[..., :1])
        for _ in range(_BALANCINGS):
            u = 1 / (K @ v)
            v = 1 / (K.mT @ u)
        X = K.mul_(u).mul_(v.mT)
    return X, (X * scores).sum((-1, -2)) + t * torch.special.entr(X).sum((-1, -2))


def _unfold(soft: _Soft, around: Tensor) -> dict[str, Tensor]:
    m = around.shape[0] * soft.choice.shape[-1]
    X = (around[:, :, None, None] * soft.choice).transpose(1, 2).reshape(m, m)
    found = {soft.group: X.float()}
    for inner in soft.inner:
        found |= _unfold(inner, X)
    return found


def _disjoint(modes: tuple[Mode, ...]) -> bool:
    dims = [dim for mode in modes for dim in mode.dims]
    return len(dims) == len(set(dims))
