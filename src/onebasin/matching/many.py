"""Match many networks in one set of coordinates, so that every way around gives the same answer.

Every network p has one element P_p that brings it into common coordinates, those of the first network; the map between
two of them is P_p^-1 P_q (Crisostomi et al., C2M3, 2024), so that no cycle of maps moves anything. What is maximised is

    f = sum over pairs p < q of <P_p theta_p, P_q theta_q>,

up to a constant minus half the sum of the squared distances. With S the sum of all moved networks it is, in one P_p,
the objective of matching theta_p to S - P_p theta_p: an iteration costs as much as one matching a network, not a pair.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from onebasin.checkpoint import Source
from onebasin.errors import OptionError
from onebasin.matching.checks import comparable
from onebasin.matching.networks import Networks
from onebasin.matching.universe import STARTS, climb
from onebasin.parallel import workers
from onebasin.progress import Report, silent
from onebasin.symmetry import Matching, Status, Symmetry


@dataclass(frozen=True)
class Universe:
    """Several networks and what brings each into the coordinates of the first.

    Attributes:
        matchings: one a network, in the order given; the first moves nothing.
        objective: the sum of inner products over all pairs of moved networks.
        history: the objective of the networks as given, of the start, and after every pass over all networks.
        status: why the search stopped.
        method: the algorithm that found them.
        seed: of its random choices.
        seconds: the time it took; not part of the result's identity.
    """

    matchings: tuple[Matching, ...]
    objective: float
    history: tuple[float, ...]
    status: Status
    method: str
    seed: int
    seconds: float = field(default=0.0, compare=False)

    def between(self, p: int, q: int) -> Matching:
        """What brings network `q` into the coordinates of network `p`, both counted from 0."""
        return self.matchings[p].inverse().compose(self.matchings[q])

    @cached_property
    def cycle_error(self) -> float:
        """The largest share of units that a round trip through three networks leaves elsewhere; 0 by construction."""
        worst = 0.0
        for p, q, r in itertools.combinations(range(len(self.matchings)), 3):
            trip = self.between(p, q).compose(self.between(q, r)).compose(self.between(r, p))
            moved = [index.index != np.arange(index.size) for index in trip.permutations.values()]
            worst = max(worst, *(float(row.mean()) for row in moved)) if moved else worst
        return worst


def match_many(
    models: Sequence[Source],
    symmetry: Symmetry,
    method: str = "cycle-consistent",
    seed: int = 0,
    *,
    max_sweeps: int = 100,
    progress: Report = silent,
) -> Universe:
    """Find what brings several networks into the coordinates of the first.

    Args:
        models: two or more modules, state dicts or checkpoints' paths of one architecture.
        symmetry: as discovered on the architecture, or loaded.
        method: `"cycle-consistent"` anneals all networks together, `"frank-wolfe"` moves all of them at once by Frank
            and Wolfe's method (Crisostomi et al. 2024); `"merge-many"` matches one after the other to the mean of the
            rest (Ainsworth et al. 2023, algorithm 3). These three end in passes of the latter until nothing improves.
            `"hierarchical"` matches and averages pairs, then pairs of averages, and so on.
        seed: of every random choice.
        max_sweeps: the largest number of passes.
        progress: called after every pass.

    Returns:
        one matching for every network, the first being the identity. Interrupted with Ctrl-C it returns the best
        reached so far, its status saying so.

    Raises:
        OptionError: if there are fewer than two networks, or an option is unknown or out of range.
        MismatchError: if a network does not fit the symmetry or the first one.
    """
    if method not in STARTS:
        raise OptionError("method", expected=" or ".join(STARTS), found=repr(method), remedy="choose one of them")
    if len(models) < 2:  # noqa: PLR2004 - with one there is nothing to match
        raise OptionError("models", expected="two or more", found=str(len(models)), remedy="pass more")
    for name, value, least in (("max_sweeps", max_sweeps, 1), ("seed", seed, 0)):
        if value < least:
            raise OptionError(name, expected=f"{least} or more", found=str(value), remedy="raise it")
    started = time.perf_counter()
    with workers():
        networks = Networks.of(comparable(models, symmetry), symmetry, seed, max_sweeps, progress)
        identity = [symmetry.identity()] * len(models)
        found, status, history = identity, Status.INTERRUPTED, [networks.measure(identity)]
        try:
            found = STARTS[method](networks)
            history.append(networks.measure(found))
            found, status, climbed = climb(networks, found, 0 if method == "hierarchical" else max_sweeps)
            history += climbed
        except KeyboardInterrupt:
            pass
    back = found[0].inverse()
    matchings = tuple(back.compose(matching).replace(method=method, seed=seed) for matching in found)
    return Universe(matchings, history[-1], tuple(history), status, method, seed, time.perf_counter() - started)
