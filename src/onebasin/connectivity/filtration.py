"""The filtration of a simplex by its barriers: which networks belong together at which loss.

Every face of the simplex of n networks gets the barrier found inside it. A face's barrier is never below that of its
own faces, so those below a threshold are a simplicial complex, which grows with the threshold. Its connected components
join at the barriers of the minimum spanning tree (what AutoNEB builds, Draxler et al. 2018; single linkage); its
one-dimensional homology counts circles of networks with good edges around a bad middle.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from onebasin.connectivity.simplex_profile import SimplexProfile
from onebasin.errors import OptionError
from onebasin.json_file import write_json

FORMAT = "onebasin-filtration/1"
Face = tuple[int, ...]


class Interval(NamedTuple):
    """A component (dimension 0), circle (1) or hollow (2) of the complex, from one barrier to another."""

    dimension: int
    birth: float
    death: float


@dataclass(frozen=True)
class Filtration:
    """All faces of a simplex with their barriers.

    Attributes:
        labels: of the vertices.
        barriers: for every face, by the positions of its vertices, the largest excess found in it (see
            `SimplexProfile`); 0 for the vertices.
    """

    labels: tuple[str, ...]
    barriers: Mapping[Face, float]

    @classmethod
    def of(cls, profile: SimplexProfile, largest: int | None = None) -> Self:
        """The filtration that measured points give.

        Args:
            profile: its points on a face, those of its faces included, bound the face's barrier from below.
            largest: the number of vertices of the largest faces; None takes all.
        """
        n = len(profile.labels)
        sizes = range(1, 1 + (n if largest is None else min(largest, n)))
        faces = [face for size in sizes for face in itertools.combinations(range(n), size)]
        return cls(profile.labels, {face: profile.face_barrier(face) for face in faces})

    def facets(self, tau: float) -> tuple[Face, ...]:
        """The complex at a threshold: its faces that are part of no larger one."""
        alive = [face for face, barrier in self.barriers.items() if barrier <= tau]
        return tuple(face for face in alive if not any(set(face) < set(other) for other in alive))

    def tree(self) -> tuple[tuple[int, int, float], ...]:
        """The minimum spanning tree of the edges by their barriers, lowest first (Kruskal 1956)."""
        parts = {k: {k} for k in range(len(self.labels))}
        found = []
        edges = [(face, barrier) for face, barrier in self.barriers.items() if len(face) == 2]  # noqa: PLR2004 - edges
        for (a, b), barrier in sorted(edges, key=lambda row: (row[1], row[0])):
            if parts[a] is not parts[b]:
                found.append((a, b, barrier))
                joined = parts[a] | parts[b]
                parts |= dict.fromkeys(joined, joined)
        return tuple(found)

    def persistence(self) -> tuple[Interval, ...]:
        """When components, circles and hollows begin and end, over the integers modulo 2; those of no length left out.

        One component never ends. Where faces above some size were left out, hollows that these would fill are not
        listed.

        Raises:
            OptionError: if the package gudhi is not installed.
        """
        try:
            import gudhi
        except ImportError as error:
            raise OptionError(
                "persistence", expected="the package gudhi", found="none", remedy="pip install 'onebasin[complex]'"
            ) from error
        tree = gudhi.SimplexTree()
        for face, barrier in self.barriers.items():
            tree.insert(list(face), barrier)
        top = max(map(len, self.barriers)) - 1
        rows = tree.persistence(homology_coeff_field=2, min_persistence=0.0, persistence_dim_max=False)
        whole = top == len(self.labels) - 1
        found = [Interval(int(k), float(low), float(high)) for k, (low, high) in rows if whole or k < top]
        return tuple(sorted(found, key=lambda row: (row.dimension, row.birth, -row.death)))

    def to_json(self) -> dict[str, object]:
        """The JSON form, the spanning tree included."""
        return {
            "format": FORMAT,
            "vertices": list(self.labels),
            "faces": [{"vertices": list(face), "barrier": barrier} for face, barrier in self.barriers.items()],
            "tree": [{"vertices": [a, b], "barrier": barrier} for a, b, barrier in self.tree()],
        }

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, self.to_json())
