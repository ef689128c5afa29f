"""Refit every linear layer of a merged network on its own inputs towards the average of its aligned parents' outputs.

Layer by layer, in the order of the data flow: a ridge least-squares problem centred on the merged weights, whose inputs
are those of the network corrected so far, so that every layer makes up for what the ones before it still get wrong. The
last layer of a residual branch aims at the sum, so that the error of the stream is corrected block by block. A layer
that a ReLU follows is fitted for what the ReLU lets through (`rectified_fit`).
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source, tied_names
from onebasin.correction.batchnorm import Evaluate
from onebasin.correction.fold import folded, unfolded
from onebasin.correction.hosting import Data, Networks, hosting, read_batches, write
from onebasin.correction.reading import Reading, read_sites
from onebasin.correction.result import Correction
from onebasin.correction.sites import Plan, Site, find_sites
from onebasin.correction.solve import Moments, Ridge, choose_ridge, rectified_fit
from onebasin.correction.trace import record
from onebasin.progress import Progress, Report, silent

ROWS = 1 << 17
"""The most rows of one layer that are used."""

_BUDGET = 1 << 30
_HELD = 5


def refit(
    model: nn.Module,
    merged: Source,
    parents: Sequence[Source],
    batches: Iterable[object],
    evaluate: Evaluate,
    weights: Sequence[float] | None = None,
    samples: int | None = 2000,
    *,
    ridge: float | None = None,
    rectify: bool = True,
    rows: int = ROWS,
    seed: int = 0,
    progress: Report = silent,
) -> Correction:
    """docstring"""
    started = time.perf_counter()
    networks = Networks.of(model, merged, parents, weights)
    with hosting(model):
        write(model, networks.parents[0])
        data = read_batches(model, batches, evaluate, samples)
        plan = find_sites(record(model, data.runs[0]))
        work = _Work(networks, data, plan, ridge, rectify, rows, seed)
        done = 0
        for group in work.groups():
            targets = work.targets(group)
            for wave in _waves(plan, group):
                work.fit(wave, targets)
                done += len(wave)
                progress(Progress("refitting", done, len(plan.sites), plan.sites[wave[-1]].name))
    params = networks.merged
    for row in tied_names(work.original):
        twin = next((name for name in row if name in work.changed), None)
        if twin:
            params.update(dict.fromkeys(row, params[twin]))
    notes = tuple(f"{name} was left as it was: {why}" for name, why in plan.skipped.items())
    return Correction(params, "refit", notes, time.perf_counter() - started, work.residuals)


@dataclass
class _Work:
    networks: Networks
    data: Data
    plan: Plan
    ridge: float | None
    rectify: bool
    rows: int
    seed: int
    changed: set[str] = field(default_factory=set)
    residuals: dict[str, tuple[float, float]] = field(default_factory=dict)
    ridges: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.original = dict(self.networks.merged)

    def limit(self, position: int) -> int:
        """How many rows of a site are taken: those that are held in memory together must fit the budget."""
        site = self.plan.sites[position]
        groups, inputs, outputs = site.entries.shape
        if not (site.relu and self.rectify):
            return self.rows
        return max(1, min(self.rows, _BUDGET // (4 * groups * (inputs + 3 * outputs))))

    def groups(self) -> Iterator[list[int]]:
        """Positions of sites whose targets fit the budget together."""
        group: list[int] = []
        size = 0
        for position, site in enumerate(self.plan.sites):
            more = 4 * self.limit(position) * site.entries.shape[0] * site.entries.shape[2]
            if group and size + more > _BUDGET:
                yield group
                group, size = [], 0
            group.append(position)
            size += more
        if group:
            yield group

    def targets(self, group: Sequence[int]) -> dict[int, list[Tensor]]:
        """For every site, batch by batch, the average of what the parents give, `[groups, rows, out]`."""
        found: dict[int, list[Tensor]] = {position: [] for position in group}
        sites = {position: self.plan.sites[position] for position in group}
        limits = {position: self.limit(position) for position in group}
        for number, (parent, share) in enumerate(zip(self.networks.parents, self.networks.shares, strict=True)):
            seen = dict.fromkeys(group, 0)

            def take(position: int, reading: Reading, *, share: float = share, first: bool = number == 0, seen: dict[int, int] = seen) -> None:
                if reading.end is None:
                    return
                if first:
                    found[position].append(reading.end.mul_(share))
                else:
                    found[position][seen[position]].add_(reading.end, alpha=share)
                seen[position] += 1

            write(self.networks.model, parent)
            read_sites(self.networks.model, self.data, sites, limits, self.seed, ("end",), take)
        return found

    def fit(self, wave: Sequence[int], targets: dict[int, list[Tensor]]) -> None:
        """Refit sites that do not depend on each other, from one pass of the merged network."""
        problems = {p: _Problem.of(self.plan.sites[p], rectify=self.rectify) for p in wave}
        sites = {position: self.plan.sites[position] for position in wave}
        limits = {position: self.limit(position) for position in wave}

        def take(position: int, reading: Reading) -> None:
            problems[position].add(reading, targets[position].pop(0))

        write(self.networks.model, self.networks.merged)
        parts = ("inputs", "own", "end") if any(site.stream for site in sites.values()) else ("inputs",)
        read_sites(self.networks.model, self.data, sites, limits, self.seed, parts, take)
        for position, problem in problems.items():
            site = sites[position]
            W, b, residual, ridge = problem.solve(self.networks.merged, self.ridge)
            moments = problem.moments
            changed = unfolded(site, self.networks.merged, W, b, (moments.mean(), moments.covariance()))
            self.networks.merged.update(changed)
            self.changed.update(changed)
            self.residuals[site.name] = residual
            self.ridges[site.name] = ridge


@dataclass
class _Problem:
    """The least-squares problem of one site."""

    site: Site
    train: Moments
    held: Moments
    keep: bool
    kept: list[tuple[Tensor, Tensor, Tensor]]

    @classmethod
    def of(cls, site: Site, *, rectify: bool) -> "_Problem":
        groups, inputs, outputs = site.entries.shape
        zero = [Moments.zero(groups, inputs, outputs, torch.device("cpu")) for _ in range(2)]
        return cls(site, zero[0], zero[1], rectify and site.relu, [])

    @property
    def moments(self) -> Moments:
        return self.train + self.held

    def add(self, reading: Reading, target: Tensor) -> None:
        x = reading.inputs
        if x is None:
            return
        added = torch.zeros((1, 1, 1), dtype=x.dtype)
        if self.site.stream is not None and reading.end is not None and reading.own is not None:
            added = reading.end - reading.own
        y = target - added
        cut = x.shape[1] - x.shape[1] // _HELD
        self.train.add(x[:, :cut], y[:, :cut])
        self.held.add(x[:, cut:], y[:, cut:])
        if self.keep:
            self.kept.append((x, target, added.expand(1, x.shape[1], 1) if added.numel() == 1 else added))

    def solve(self, params: dict[str, Tensor], ridge: float | None) -> tuple[Tensor, Tensor, tuple[float, float], float]:
        W0, b0 = folded(self.site, params)
        fixed = None if self.site.bias or self.site.norm else b0
        moments = self.moments
        chosen = ridge if ridge is not None else choose_ridge(self.train, self.held, W0, fixed)
        problem = Ridge(moments, W0, chosen, fixed)
        W, b = problem.solve(moments.xy, moments.y)
        if not self.keep:
            spread = moments.spread()
            return W, b, (moments.error(W0, b0) / spread, moments.error(W, b) / spread), chosen
        x, target, added = (torch.cat(parts, 1) for parts in zip(*self.kept, strict=True))
        W, b = rectified_fit(problem, x, target, added, (W, b))
        let_through = target.clamp(min=0)
        spread = float((let_through - let_through.mean(1, keepdim=True)).double().square().sum())

        def error(W: Tensor, b: Tensor) -> float:
            z = x @ W.to(x.dtype) + b.to(x.dtype)[:, None] + added
            return float((z.clamp(min=0) - let_through).double().square().sum()) / spread

        return W, b, (error(W0, b0), error(W, b)), chosen


def _waves(plan: Plan, group: Sequence[int]) -> Iterator[list[int]]:
    """Runs of consecutive sites none of which depends on another one of the run."""
    wave: list[int] = []
    for position in group:
        if any(plan.needs[position] >> other & 1 for other in wave):
            yield wave
            wave = []
        wave.append(position)
    if wave:
        yield wave
