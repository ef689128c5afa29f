"""Going around a circle of networks, and growing a simplex by one network more.

Pairwise matchings P_uv, which bring v into the coordinates of u, need not agree: going around u, v, w and back,

    h = P_uv P_vw P_wu,

is an element of the symmetry group that moves u's own units, its holonomy (a failure of cycle consistency; Crisostomi
et al., C2M3, 2024). It computes u's function, in other places: what lies between u and h u tells what the disagreement
costs. Matchings that all lead to one network have h = 1 for every circle.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from onebasin.checkpoint import Source
from onebasin.connectivity.path import PathProfile, profile_path
from onebasin.connectivity.simplex_profile import SimplexProfile
from onebasin.connectivity.worst_point import simplex_barrier
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation
from onebasin.matching import match
from onebasin.merging import merge
from onebasin.progress import Report, silent
from onebasin.symmetry import Matching, Symmetry


@dataclass(frozen=True)
class Holonomy:
    """What going around a circle of matchings leaves moved.

    Attributes:
        matching: the composition of all.
        moved: for every group the share of its units, 0 to 1, that end elsewhere.
    """

    matching: Matching
    moved: Mapping[str, float]

    @property
    def share(self) -> float:
        """The share of all units that end elsewhere."""
        sizes = {name: self.matching.members(name).size for name in self.moved}
        total = sum(sizes.values())
        return sum(self.moved[name] * size for name, size in sizes.items()) / total if total else 0.0

    def round_trip(
        self, model: nn.Module, source: Source, evaluation: Evaluation, *, lams: int = 11, progress: Report = silent
    ) -> PathProfile:
        """The line between a network and itself after the trip; its barrier is 0 where nothing moves.

        Args:
            model: of the architecture.
            source: the network that the circle begins and ends at.
            evaluation: how to measure.
            lams: points on the line, ends included.
            progress: called after every point.
        """
        there = self.matching.apply(source)
        return profile_path(model, source, there, evaluation, lams=lams, progress=progress)


def holonomy(loop: Sequence[Matching]) -> Holonomy:
    """Go around a circle.

    Args:
        loop: P_uv, P_vw, ..., P_zu: each brings the next network into the coordinates of the one before.

    Raises:
        OptionError: if there is none.
        SymmetryError: if they belong to different symmetries.
    """
    if not loop:
        raise OptionError("loop", expected="one matching or more", found="none", remedy="pass those of a circle")
    found = loop[0]
    for matching in loop[1:]:
        found = found.compose(matching)
    rows = {name: found.members(name) for name in found.permutations}
    return Holonomy(found, {name: float((row != np.arange(row.size)).mean()) for name, row in rows.items()})


def triangles(pairs: Mapping[tuple[int, int], Matching]) -> dict[tuple[int, int, int], Holonomy]:
    """The holonomy of every triangle of some networks.

    Args:
        pairs: for some u < v what brings v into the coordinates of u.
    """
    networks = sorted({network for pair in pairs for network in pair})
    found = {}
    for u, v, w in itertools.combinations(networks, 3):
        if {(u, v), (v, w), (u, w)} <= pairs.keys():
            found[u, v, w] = holonomy([pairs[u, v], pairs[v, w], pairs[u, w].inverse()])
    return found


@dataclass(frozen=True)
class Growth:
    """A simplex with one network more.

    Attributes:
        matching: what brings the new network into the coordinates of the face.
        before: the simplex with the new network as it is.
        after: the simplex with the new network matched; its last vertex is the new one.
    """

    matching: Matching
    before: SimplexProfile
    after: SimplexProfile


def grow(
    model: nn.Module,
    face: Sequence[Source],
    new: Source,
    symmetry: Symmetry,
    evaluation: Evaluation,
    *,
    samples: int = 64,
    ascents: int = 8,
    seed: int = 0,
    progress: Report = silent,
) -> Growth:
    """Join a network with a face that stays as it is, by one matching.

    The sum of squared distances between the new network, moved, and the vertices of the face is, up to a constant, -2
    times the inner product of the moved network with their sum: one weight matching against the mean of the face.

    Args:
        model: of the architecture.
        face: the networks of the face, in the same coordinates.
        new: the network to be moved.
        symmetry: of all.
        evaluation: how the two simplexes are measured.
        samples: see `simplex_barrier`, as for all below.
        ascents: see there.
        seed: of everything random.
        progress: called after every point.

    Raises:
        MismatchError: if a network does not fit.
    """
    matching = match(merge(face), new, symmetry, seed=seed)
    profiles = [
        simplex_barrier(
            model, [*face, last], evaluation, samples=samples, ascents=ascents, seed=seed, progress=progress
        )
        for last in (new, matching.apply(new))
    ]
    return Growth(matching, profiles[0], profiles[1])
