"""Refit the sites of a merged network one after another."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from onebasin.correction.fold import unfolded
from onebasin.correction.hosting import Data, Networks, write
from onebasin.correction.problem import Problem, Residual
from onebasin.correction.reading import Reading, average_rows, read_sites, waves
from onebasin.correction.site import Plan, Site
from onebasin.correction.spread import Sums
from onebasin.correction.trace import watch
from onebasin.merging.stack import round_once

BUDGET = 1 << 30
"""Bytes of rows that are kept in memory for the targets of several sites, and again for the inputs of one."""

_FLOAT = 4


@dataclass(frozen=True)
class Options:
    """How sites are refitted; see `refit`."""

    ridge: float | None
    rectify: bool
    turn: bool
    outputs: str
    rows: int
    seed: int


class Layerwise:
    """The work on one merged network.

    Args:
        networks: its tensors are replaced, site by site.
        data: the batches.
        plan: the sites.
        options: how.

    Attributes:
        residuals: for every site corrected so far, by the name of its parameter.
    """

    def __init__(self, networks: Networks, data: Data, plan: Plan, options: Options) -> None:
        self.residuals: dict[str, Residual] = {}
        self._networks, self._data, self._plan, self._options = networks, data, plan, options
        self._norms = list(plan.norms)

    def run(self, report: Callable[[int, str], None]) -> None:
        """Correct every site; `report` is told how many are done, and the last one's name."""
        done = 0
        for group in self._groups():
            targets = self._targets(group)
            for wave in waves(self._plan, group):
                self._settle_norms(max(self._plan.sites[position].end.number for position in wave))
                self._fit(wave, targets)
                done += len(wave)
                report(done, self._plan.sites[wave[-1]].name)
        self._settle_norms(None)

    def final_residual(self) -> float:
        """The mean error, after the correction, of the sites that no other one builds on."""
        used = 0
        for needed in self._plan.needs:
            used |= needed
        last = [site.name for position, site in enumerate(self._plan.sites) if not used >> position & 1]
        return sum(self.residuals[name][1] for name in last) / max(1, len(last))

    def _rectified(self, site: Site) -> bool:
        return site.relu and self._options.rectify

    def _limits(self, positions: Sequence[int]) -> dict[int, int]:
        """How many rows of each site are taken: where they are kept, they must fit the budget."""
        limits = {}
        for position in positions:
            site = self._plan.sites[position]
            groups, inputs, outputs = site.sizes
            fitting = BUDGET // (_FLOAT * groups * (inputs + 3 * outputs))
            limits[position] = max(1, min(self._options.rows, fitting)) if self._rectified(site) else self._options.rows
        return limits

    def _groups(self) -> Iterator[list[int]]:
        """Positions of sites whose targets fit the budget together."""
        group: list[int] = []
        size = 0
        for position, limit in self._limits(range(len(self._plan.sites))).items():
            # What the first parent gives, what another one gives, and their sum.
            more = 3 * _FLOAT * limit * self._plan.sites[position].units
            if group and size + more > BUDGET:
                yield group
                group, size = [], 0
            group.append(position)
            size += more
        if group:
            yield group

    def _sites(self, positions: Sequence[int]) -> dict[int, Site]:
        return {position: self._plan.sites[position] for position in positions}

    def _targets(self, group: Sequence[int]) -> dict[int, list[Tensor]]:
        """For every site, batch by batch, the average of what the parents give, `[groups, rows, out]`."""
        sites, options = self._sites(group), self._options
        turned = [position for position, site in sites.items() if options.turn and site.relu]
        mixed = [position for position, site in sites.items() if options.outputs == "probabilities" and site.logits]
        limits = self._limits(group)
        return average_rows(self._networks, self._data, sites, limits, options.seed, "end", turned=turned, mixed=mixed)

    def _fit(self, wave: Sequence[int], targets: dict[int, list[Tensor]]) -> None:
        """Refit sites that do not depend on each other, from one pass of the merged network."""
        sites = self._sites(wave)
        problems = {position: Problem(site, rectify=self._rectified(site)) for position, site in sites.items()}

        def take(position: int, reading: Reading) -> None:
            problems[position].add(reading, targets[position].pop(0))

        merged = self._networks.merged
        write(self._networks.model, merged)
        parts = ("inputs", "own", "end") if any(site.stream for site in sites.values()) else ("inputs",)
        read_sites(self._networks.model, self._data, sites, self._limits(wave), self._options.seed, parts, take)
        for position, site in sites.items():
            found = problems[position].solve(merged, self._options.ridge)
            self._networks.change(unfolded(site, merged, found.W, found.b, found.outputs))
            self.residuals[site.name] = found.residual

    def _settle_norms(self, before: int | None) -> None:
        """Give BatchNorms that belong to no site the statistics of what now reaches them, in order."""
        while self._norms and (before is None or self._norms[0][0].number < before):
            node, mean, variance = self._norms.pop(0)
            sums = Sums()

            def take(_: object, args: Sequence[Any], result: object, sums: Sums = sums) -> object:
                sums.add(args[0].transpose(0, 1).flatten(1).T[None])
                return result

            write(self._networks.model, self._networks.merged)
            for run in self._data.runs:
                watch(self._networks.model, run, {node.number: (node.func, take)})
            center, spread = (part[0] for part in sums.spread())
            found = {mean: center, variance: spread.square()}
            self._networks.change(
                {name: round_once(value, self._networks.merged[name].dtype) for name, value in found.items()}
            )
