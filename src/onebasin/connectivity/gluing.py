"""Glue simplexes together that share networks, each in coordinates of its own.

A simplex holds networks theta_v in its own coordinates: its frame P_v brings the canonical copy of network v there. Two
simplexes sigma and tau that share networks F have transitions

    g_v = P_v^sigma (P_v^tau)^-1,    v in F,

which bring tau's copy of v onto sigma's. Moving a whole simplex by one element h of the symmetry group changes no
function and no distance. So the two can be glued along F if and only if one h brings all of tau's copies onto sigma's:
h in the intersection over F of g_v Stab_v, Stab_v being what leaves tau's copy of v as it is. With one shared network
h = g_v always does. With more, the transitions must agree but for stabilisers; otherwise the two are different lifts of
the same face, and both stay.

A network is left as it is by the reorderings of units that are copies of each other, in what comes in and what goes
out; dead units, whose weights are all zero, are such copies. Where the units of v at i and j are copies, h may take
either. With every unit of sigma's coordinates allowed those of tau's that all v in F agree on, h exists if and only if
a perfect matching of the allowed pairs does, group by group.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onebasin.assignment import solve
from onebasin.checkpoint import Source, load_params
from onebasin.errors import MismatchError, OptionError
from onebasin.matching import match
from onebasin.permutation import Permutation
from onebasin.symmetry import Matching, Symmetry

Classes = dict[str, NDArray[np.int64]]
"""For every group and unit the number of its class: units of one class are copies of each other."""


@dataclass(frozen=True)
class Framed:
    """A simplex of named networks, each brought into the simplex's coordinates.

    Attributes:
        frames: by the name of the network what brings its canonical copy into the coordinates of the simplex.
    """

    frames: Mapping[str, Matching]

    @classmethod
    def recognise(
        cls, vertices: Mapping[str, Source], networks: Mapping[str, Source], symmetry: Symmetry, seed: int = 0
    ) -> Self:
        """Find the frames of a simplex whose vertices are reordered copies of known networks.

        Args:
            vertices: the networks in the coordinates of the simplex, by name.
            networks: their canonical copies.
            symmetry: of all.
            seed: of the search.

        Raises:
            MismatchError: if a vertex is no copy of its network: no matching was found that makes both equal.
        """
        found = {}
        for name, vertex in vertices.items():
            frame = match(vertex, networks[name], symmetry, seed=seed)
            if not _equal(frame.apply(networks[name]), load_params(vertex), symmetry):
                raise MismatchError(
                    name, expected="its network, reordered", found="another one", remedy="pass the network it came from"
                )
            found[name] = frame
        return cls(found)

    def moved(self, by: Matching) -> "Framed":
        """The same simplex in other coordinates."""
        return Framed({name: by.compose(frame) for name, frame in self.frames.items()})


@dataclass(frozen=True)
class Gluing:
    """Whether two simplexes fit together, and how.

    Attributes:
        shared: the networks that both have, in the order of the first.
        transitions: for each of these, what brings the second's copy onto the first's.
        by: what brings the whole second simplex onto the first where they share networks; None where nothing does.
        disagreement: for every group, the largest share of units on which transitions differ; 0 everywhere where they
            agree without the help of stabilisers.
    """

    shared: tuple[str, ...]
    transitions: Mapping[str, Matching]
    by: Matching | None
    disagreement: Mapping[str, float]

    @property
    def glued(self) -> bool:
        """Whether the two are one complex; if not, they are two lifts of the face they share."""
        return self.by is not None


def glue(first: Framed, second: Framed, networks: Mapping[str, Source]) -> Gluing:
    """Bring a simplex onto another one along the networks that they share, if that is possible.

    Args:
        first: stays.
        second: to be moved.
        networks: the canonical copies, by name, of those shared at least.

    Returns:
        the gluing. Where it succeeds, it was checked on the weights: all shared vertices are equal, bit by bit.

    Raises:
        OptionError: if they share no network, or one that is shared is not in `networks`.
    """
    shared = tuple(name for name in first.frames if name in second.frames)
    if not shared or any(name not in networks for name in shared):
        raise OptionError(
            "networks",
            expected="those that both simplexes have, one at least",
            found=", ".join(shared) or "none",
            remedy="pass simplexes that share a network, and all that they share",
        )
    transitions = {name: first.frames[name].compose(second.frames[name].inverse()) for name in shared}
    pairs = {
        name: (first.frames[name].apply(networks[name]), second.frames[name].apply(networks[name])) for name in shared
    }
    symmetry = transitions[shared[0]].symmetry
    by = next((h for h in transitions.values() if _fits(h, pairs, symmetry)), None)
    if by is None:
        agreed = _agreed(transitions, {name: tau for name, (_, tau) in pairs.items()}, symmetry)
        by = agreed if agreed is not None and _fits(agreed, pairs, symmetry) else None
    rows = {name: [g.members(name) for g in transitions.values()] for name in symmetry.groups}
    differ = {name: max(float((row != members[0]).mean()) for row in members) for name, members in rows.items()}
    return Gluing(shared, transitions, by, differ)


def copies(params: Source, symmetry: Symmetry) -> Classes:
    """Which units of a network are copies of each other, so that exchanging them changes no weight.

    Groups that are nested in others, or have others inside, and those that stand more than once in a part of a tensor
    count as groups without copies.

    Args:
        params: the network.
        symmetry: fits it.

    Returns:
        for every group `[size]` int64, units of one class having the same number.
    """
    tensors = load_params(params)
    around = {outer for group in symmetry.groups.values() for outer in group.inside}
    found: Classes = {}
    for name, group in symmetry.groups.items():
        rows = None if group.inside or name in around or group.fixed else _slices(name, tensors, symmetry)
        if rows is None:
            found[name] = np.arange(int(np.prod(symmetry.context_sizes(group))) * group.size)
        else:
            _, number = np.unique(rows, axis=0, return_inverse=True)
            found[name] = number.reshape(-1).astype(np.int64)
    return found


def _slices(group: str, tensors: Mapping[str, Tensor], symmetry: Symmetry) -> NDArray[np.uint8] | None:
    """Everything that belongs to each unit, as bytes `[size, bytes]`; None where a part has the group twice."""
    size, rows = symmetry.groups[group].size, []
    for name in symmetry.layouts:
        if name not in tensors:
            continue
        for part in symmetry.parts(name):
            dims = [dim for dim, factor in enumerate(part.factors) if factor == group]
            if len(dims) > 1:
                return None
            if dims:
                view = part.view(tensors[name].detach()).movedim(dims[0], 0).reshape(size, -1).contiguous().cpu()
                # Zeros of both signs are one number: adding 0 gives them one pattern of bits.
                rows.append((view + 0).view(torch.uint8).numpy())
    return np.concatenate(rows, axis=1) if rows else None


def _agreed(
    transitions: Mapping[str, Matching], tau: Mapping[str, Mapping[str, Tensor]], symmetry: Symmetry
) -> Matching | None:
    """One element that all transitions allow, but for copies; None where there is none."""
    classes = {name: copies(dict(params), symmetry) for name, params in tau.items()}
    first = next(iter(transitions.values()))
    permutations = dict(first.permutations)
    for name, group in symmetry.groups.items():
        if group.inside or group.fixed:
            continue
        allowed = np.ones((group.size, group.size), dtype=np.float32)
        for network, transition in transitions.items():
            kind = classes[network][name]
            allowed *= kind[transition.permutations[name].index][:, None] == kind
        index = solve(allowed).index
        if not allowed[np.arange(group.size), index].all():
            return None
        permutations[name] = Permutation(index)
    return Matching(symmetry, permutations)


def _fits(h: Matching, pairs: Mapping[str, tuple[dict[str, Tensor], dict[str, Tensor]]], symmetry: Symmetry) -> bool:
    return all(_equal(h.apply(tau), sigma, symmetry) for sigma, tau in pairs.values())


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor], symmetry: Symmetry) -> bool:
    return all(torch.equal(a[name], b[name]) for name in symmetry.layouts if name in a)
