"""Simplexes: all averages of n networks, their size in float64, and the points at which they are looked at.

The points of a simplex are `sum of lambda_i theta_i` with weights lambda that are not negative and add up to 1. With
the edges D from the first vertex to the others and G = D D^T,

    V = sqrt(det G) / (n - 1)!,

which for n vertices at distance 1 from each other is sqrt(n / 2^(n - 1)) / (n - 1)!. In the space of a network's
weights neither V nor its square fits a float: volumes are logarithms here. A volume can be told from another only
together with n; the edge of the regular simplex of the same volume can be compared with distances between networks.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError

Weights = NDArray[np.float64]
"""Points of a simplex, `[points, n]`: rows of weights."""


def log_volume(table: Tensor) -> Tensor:
    """The natural logarithm of the volume of a simplex, which can be differentiated.

    Args:
        table: the coordinates of its vertices, `[n, numbers]`.

    Returns:
        a float64 scalar; minus infinity where the vertices lie in fewer than n - 1 dimensions, to the accuracy of
        float64: the Gram determinant is then below n * 2.2e-16 of the product of the edges' squared lengths.
    """
    edges = (table[1:] - table[0]).double()
    gram = edges @ edges.T
    lengths = gram.diagonal()
    if not len(edges):
        return table.new_zeros((), dtype=torch.float64)
    if not bool((lengths > 0).all()):
        return table.new_full((), -math.inf, dtype=torch.float64)
    # Edges of unit length: their determinant says how far the simplex is from flat, whatever its size.
    unit = gram / (lengths[:, None] * lengths).sqrt()
    sign, flat = torch.linalg.slogdet(unit)
    if float(sign.detach()) <= 0 or float(flat.detach()) < math.log(len(table) * torch.finfo(torch.float64).eps):
        return table.new_full((), -math.inf, dtype=torch.float64)
    found: Tensor = (flat + lengths.log().sum()) / 2 - math.lgamma(len(table))
    return found


def regular_edge(volume: float, vertices: int) -> float:
    """The edge of the regular simplex of some volume: ((n - 1)! V / sqrt(n / 2^(n - 1)))^(1 / (n - 1)).

    Args:
        volume: its natural logarithm.
        vertices: n, 2 or more.
    """
    k = vertices - 1
    return math.exp((volume + math.lgamma(k + 1) - (math.log(vertices) - k * math.log(2)) / 2) / k)


@dataclass(frozen=True)
class Simplex:
    """All averages of several networks of one architecture, in the same coordinates.

    Attributes:
        span: the networks.
    """

    span: Span

    @classmethod
    def of(cls, model: nn.Module, vertices: Sequence[Source], labels: Sequence[str] | None = None) -> Self:
        """The simplex of some networks; see `Span`."""
        return cls(Span(model, vertices, labels))

    @cached_property
    def log_volume(self) -> float:
        """The natural logarithm of the volume; see the function of this name."""
        return float(log_volume(self.span.matrix()))

    @property
    def edge(self) -> float:
        """The edge of the regular simplex of the same volume; 0 for a flat one."""
        return regular_edge(self.log_volume, len(self.span))

    @cached_property
    def edges(self) -> Weights:
        """The distances between all vertices, `[n, n]`."""
        table = self.span.matrix()
        return np.array([[float((a - b).norm()) for a in table] for b in table])

    def params(self, weights: Sequence[float]) -> dict[str, Tensor]:
        """The tensors of a point; see `Span.params`."""
        return self.span.params(weights)

    def barycentre(self) -> dict[str, Tensor]:
        """The tensors of the equal average."""
        return self.params([1 / len(self.span)] * len(self.span))


def dirichlet(vertices: int, count: int, generator: np.random.Generator) -> Weights:
    """Points drawn uniformly from a simplex, by Dirichlet(1, ..., 1): E |lambda|^2 = 2 / (n + 1).

    Args:
        vertices: n.
        count: how many.
        generator: draws them.

    Returns:
        float64 `[count, n]`.
    """
    return generator.dirichlet(np.ones(vertices), size=count)


def barycentres(vertices: int, sizes: Sequence[int]) -> Weights:
    """The centres of all faces of some numbers of vertices, float64 `[faces, n]`."""
    faces = [face for size in sizes for face in itertools.combinations(range(vertices), size)]
    found = np.zeros((len(faces), vertices))
    for row, face in zip(found, faces, strict=True):
        row[list(face)] = 1 / len(face)
    return found


def edge_points(vertices: int, count: int) -> Weights:
    """Equally spaced points inside every edge, ends left out: float64 `[edges * count, n]`, the middle where odd."""
    found = np.zeros((math.comb(vertices, 2) * count, vertices))
    pairs = itertools.product(itertools.combinations(range(vertices), 2), range(1, count + 1))
    for row, ((a, b), step) in zip(found, pairs, strict=True):
        row[a], row[b] = 1 - step / (count + 1), step / (count + 1)
    return found


def check_vertices(count: int, least: int = 2) -> None:
    """Refuse too few networks.

    Raises:
        OptionError: if there are fewer than `least`.
    """
    if count < least:
        raise OptionError("models", expected=f"{least} or more", found=str(count), remedy="pass more networks")
