"""What learned matching learns: numbers that assignment turns into a permutation.

A permutation has no gradient. Both latents below keep real numbers instead, let the loss see the permutation that these
are nearest to, and change the numbers as if the loss had seen them: the straight-through estimator (Bengio et al.
2013). With G the gradient of the loss with respect to the weights of an average in which B, moved by P, has the share
w, and V the moved tensors of B:

* **weights** (Ainsworth et al. 2023, section 3.3): a network in the coordinates of A, which P brings B nearest to. The
  gradient with respect to it is w G.
* **scores**: for every group a matrix Z, of which P = argmax <Z, P>. The gradient with respect to P of a group is, as
  in weight matching with G in the place of A, the sum over all tensors of the inner products of the slices of G with
  those of V: what each member of B would add to the loss in each place of A.

The scores are far fewer than the weights and sum up the evidence of all tensors a group stands in.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from onebasin.assignment import Nested, solve_nested
from onebasin.matching.ascent import ascend
from onebasin.matching.problem import Problem, Tree
from onebasin.permutation import Permutation
from onebasin.similarity import inner_products
from onebasin.symmetry import Matching

_SWEEPS = 1
"""Passes over all groups when a latent network is matched: a step changes it little, and the next goes on from here."""
_MEMORY = 0.99
"""How much of the mean square of the gradients is kept from step to step, as Adam's second moment is."""

State = Mapping[str, Tensor]
"""Tensors by name."""


class Latent(Protocol):
    """What a matching of one network is learned through.

    Attributes:
        matching: what it is projected to by now.
    """

    matching: Matching

    def follow(self, gradients: State, moved: State, share: float) -> None:
        """Take one step down the loss and project again.

        Args:
            gradients: of the loss with respect to the tensors of the average.
            moved: B's tensors in the coordinates of A, as `matching` moves them.
            share: of B in the average.
        """


class LatentWeights:
    """A latent network, which starts as A and follows the gradient by Adam.

    Args:
        a: the tensors of the reference that carry information about the groups.
        b: all tensors of the network to be moved.
        start: a matching to begin with.
        rate: how far a step goes, in units of the root mean square of each tensor.
    """

    def __init__(self, a: State, b: State, start: Matching, rate: float) -> None:
        self.matching = start
        wide = {name: torch.promote_types(tensor.dtype, torch.float32) for name, tensor in a.items()}
        self.weights = {name: tensor.to(wide[name], copy=True) for name, tensor in a.items()}
        # Its terms are views of the weights, which the optimiser changes in place.
        self._problem = Problem.of(self.weights, {name: b[name].to(wide[name]) for name in a}, start.symmetry)
        rows = [
            {"params": [tensor], "lr": rate * math.hypot(_size(tensor), _size(b[name])) / math.sqrt(2)}
            for name, tensor in self.weights.items()
        ]
        self._optimizer = torch.optim.Adam(rows)

    def follow(self, gradients: State, moved: State, share: float) -> None:  # noqa: ARG002 - the other latent needs it
        """See `Latent`; the projection is coordinate ascent from the last matching."""
        for name, tensor in self.weights.items():
            tensor.grad = share * gradients[name].to(tensor.dtype)
        self._optimizer.step()
        # A copy, since a problem remembers its bounds.
        self.matching = ascend(replace(self._problem), self.matching, seed=0, max_sweeps=_SWEEPS)


class LatentScores:
    """Latent scores for every group, which begin as those of weight matching and add up the gradients.

    Every group's scores start with unit variance, and its gradients are divided by their own root mean square, one
    number for the whole group: entries that matter more move further. On the digits and MNIST this reached lower losses
    than Adam, which moves all entries alike.

    Args:
        a: the tensors of the reference that carry information about the groups.
        b: all tensors of the network to be moved.
        start: a matching to begin with. Where it is not what the scores of weight matching lead to, being in place
            counts just enough that it is.
        rate: how far a step goes, in standard deviations of the first scores.
    """

    def __init__(self, a: State, b: State, start: Matching, rate: float) -> None:
        self.matching = start
        self._rate, self._steps = rate, 0
        problem = Problem.of(a, b, start.symmetry)
        self._trees = problem.trees
        self._places = [
            (term.part, mode) for term in problem.terms for mode in term.modes(start.symmetry.groups, problem.names)
        ]
        self._warm: dict[int, Nested] = {}
        first = self._evidence(a, start.apply(b))
        self.scores = {name: _scaled(score, _size(score)) for name, score in first.items()}
        self._squares = dict.fromkeys(first, 0.0)
        for tree in self._trees:
            self._hold(tree)

    def follow(self, gradients: State, moved: State, share: float) -> None:
        """See `Latent`; the projection is one assignment a tree of groups."""
        self._steps += 1
        remembered = 1 - _MEMORY**self._steps
        for name, slope in self._evidence(gradients, moved).items():
            slope.mul_(share)
            self._squares[name] = _MEMORY * self._squares[name] + (1 - _MEMORY) * _size(slope) ** 2
            self.scores[name] -= _scaled(slope, math.sqrt(self._squares[name] / remembered), self._rate)
        for position, tree in enumerate(self._trees):
            self._project(position, tree)

    def _evidence(self, a: State, moved: State) -> dict[str, Tensor]:
        """Inner products of all members of `a` with those of B as given, centred, `[m, m]` float32 for every group."""
        found: dict[str, Tensor] = {}
        for part, mode in self._places:
            score = inner_products(part.view(a[part.tensor]), part.view(moved[part.tensor]), mode.dims).float()
            found[mode.group] = found[mode.group].add_(score) if mode.group in found else score
        back = {name: np.argsort(self.matching.members(name)) for name in found}
        return {name: _centred(score)[:, self._columns(back[name], score)] for name, score in found.items()}

    def _columns(self, index: np.ndarray[tuple[int, ...], np.dtype[np.int64]], like: Tensor) -> Tensor:
        return torch.from_numpy(index).to(like.device)

    def _aligned(self, tree: Tree) -> dict[str, Tensor]:
        """The scores of a tree with B's members in the order they are in by now."""
        names = sorted(tree.names & self.scores.keys())
        return {n: self.scores[n][:, self._columns(self.matching.members(n), self.scores[n])] for n in names}

    def _hold(self, tree: Tree) -> None:
        """Let being in place count, and more and more, until the best permutation of a tree is the start."""
        held = 1.0
        while not _still(tree, solve_nested(tree.node(self._aligned(tree), tree.names))):
            for name in tree.names & self.scores.keys():
                rows = torch.arange(len(self.scores[name]), device=self.scores[name].device)
                self.scores[name][rows, self._columns(self.matching.members(name), rows)] += held
            held *= 2

    def _project(self, position: int, tree: Tree) -> None:
        found = solve_nested(tree.node(self._aligned(tree), tree.names), self._warm.get(position))
        if found.outer is not None:
            # The next solve sees B's members where this one puts them.
            prices = found.outer.prices[found.outer.index]
            still = replace(found.outer, index=np.arange(len(prices)), prices=prices)
            self._warm[position] = replace(found, outer=still)
        if not _still(tree, found):
            rest = self.matching.symmetry.identity().permutations
            relative = {**rest, **{name: Permutation(found.index[name]) for name in tree.names}}
            self.matching = Matching(self.matching.symmetry, relative).compose(self.matching)


def _still(tree: Tree, found: Nested) -> bool:
    return all((found.index[name] == np.arange(found.index[name].shape[-1])).all() for name in tree.names)


def _centred(score: Tensor) -> Tensor:
    """A score that no row or column is ahead in: adding a number to one changes all permutations alike."""
    score -= score.mean(0)
    score -= score.mean(1, keepdim=True)
    return score


def _size(tensor: Tensor) -> float:
    """The root mean square of all entries."""
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) / math.sqrt(max(1, tensor.numel()))


def _scaled(tensor: Tensor, size: float, factor: float = 1.0) -> Tensor:
    """`tensor * factor / size`; nothing where there is nothing to scale."""
    return tensor.mul_(factor / size) if size > 0 else tensor.zero_()


LATENTS: dict[str, Callable[[State, State, Matching, float], Latent]] = {
    "learned": LatentScores,
    "straight-through": LatentWeights,
}
"""By the names that `learn_matching` takes."""
