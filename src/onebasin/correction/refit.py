"""Refit every linear layer of a merged network on its own inputs towards the average of its aligned parents' outputs.

Layer by layer, in the order of the data flow: a ridge least-squares problem centred on the merged weights, whose inputs
are those of the network corrected so far, so that every layer makes up for what the ones before it still get wrong. The
last layer of a residual branch aims at the sum, so that the error of the stream is corrected block by block. A layer
that a ReLU follows is fitted for what the ReLU lets through (`rectified_fit`).
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.correction.batchnorm import Evaluate
from onebasin.correction.fold import folded, unfolded
from onebasin.correction.hosting import Data, Networks, hosting, read_batches, write
from onebasin.correction.reading import Reading, average_rows, read_sites, waves
from onebasin.correction.result import Correction
from onebasin.correction.site import Plan, Site
from onebasin.correction.sites import find_sites
from onebasin.correction.solve import Moments, Ridge, choose_ridge, rectified_fit
from onebasin.correction.spread import Sums
from onebasin.correction.trace import record, watch
from onebasin.errors import OptionError
from onebasin.merging.stack import round_once
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
    turn: bool = True,
    rows: int = ROWS,
    seed: int = 0,
    progress: Report = silent,
) -> Correction:
    """Refit every linear layer on the merged network's own inputs towards the average of its parents' outputs.

    Linear layers are found in the operations the model performs, whatever modules they are in: products and
    convolutions with a parameter, a BatchNorm behind them included (its statistics become those of the data, so that
    the result is an ordinary checkpoint). Everything else keeps the merged network's tensors; BatchNorms that follow no
    linear layer get their statistics re-estimated on the way. A weight that is used twice is left alone, and noted.

    Args:
        model: of the networks' architecture; runs them, and is left as it was.
        merged: the network to correct, a module, tensors by name or a path: the centre of the ridge.
        parents: those it was made of, in its coordinates (apply a matching first).
        batches: as `evaluate` takes them; labels are not used.
        evaluate: runs a model on one batch; `count` in its result says how many samples it held.
        weights: one number a parent (None: equal), divided by their sum.
        samples: stop reading after at least so many samples; None uses all.
        ridge: weight of the distance to the merged weights, in parts of the mean diagonal of the Gram matrix; None
            chooses it for every layer on a fifth of the rows that is held out of the fit for that.
        rectify: fit layers that a ReLU follows for what the ReLU lets through; False for plain least squares.
        rows: the most rows (samples, tokens, or positions of a convolution) used for a layer, drawn at random.
        seed: of the rows.
        progress: called after every layer.

    Returns:
        the corrected network with the error of every layer before and after. Same inputs, same result; memory beside
        the networks is that of one layer's Gram matrix and at most about 2 GiB of rows.

    Raises:
        OptionError: if an option or the data cannot work, or the model does not do the same for every batch.
        MismatchError: if a network does not fit the model.
    """
    if rows < 1 or (ridge is not None and not 0 < ridge < math.inf):
        raise OptionError(
            "rows and ridge",
            expected="at least 1, and a positive number or None",
            found=f"{rows} and {ridge}",
            remedy="raise them",
        )
    started = time.perf_counter()
    networks = Networks.of(model, merged, parents, weights)
    with hosting(model):
        write(model, networks.parents[0])
        data = read_batches(model, batches, evaluate, samples)
        plan = find_sites(record(model, data.runs[0]))
        work = _Work(networks, data, plan, ridge, rectify, turn, rows, seed)
        done = 0
        for group in work.groups():
            targets = work.targets(group)
            for wave in waves(plan, group):
                work.settle_norms(max(plan.sites[position].end.number for position in wave))
                work.fit(wave, targets)
                done += len(wave)
                progress(Progress("refitting", done, len(plan.sites), plan.sites[wave[-1]].name))
        work.settle_norms(None)
    notes = tuple(f"{name} was left as it was: {why}" for name, why in plan.skipped.items())
    return Correction(networks.merged, "refit", notes, time.perf_counter() - started, work.residuals)


@dataclass
class _Work:
    networks: Networks
    data: Data
    plan: Plan
    ridge: float | None
    rectify: bool
    turn: bool
    rows: int
    seed: int
    residuals: dict[str, tuple[float, float]] = field(default_factory=dict)
    ridges: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.norms = list(self.plan.norms)

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
            more = 4 * 3 * self.limit(position) * site.units  # the first parent, another one, and their sum
            if group and size + more > _BUDGET:
                yield group
                group, size = [], 0
            group.append(position)
            size += more
        if group:
            yield group

    def targets(self, group: Sequence[int]) -> dict[int, list[Tensor]]:
        """For every site, batch by batch, the average of what the parents give, `[groups, rows, out]`."""
        sites = {position: self.plan.sites[position] for position in group}
        limits = {position: self.limit(position) for position in group}
        turned = {position for position, site in sites.items() if self.turn and site.relu}
        return average_rows(self.networks, self.data, sites, limits, self.seed, "end", turned=turned)

    def settle_norms(self, before: int | None) -> None:
        """Give BatchNorms that belong to no site the statistics of what now reaches them, in order."""
        while self.norms and (before is None or self.norms[0][0].number < before):
            node, mean, variance = self.norms.pop(0)
            sums = Sums()

            def take(_: object, args: Sequence[Any], result: object, sums: Sums = sums) -> object:
                sums.add(args[0].transpose(0, 1).flatten(1).T[None])
                return result

            write(self.networks.model, self.networks.merged)
            for run in self.data.runs:
                watch(self.networks.model, run, {node.number: (node.func, take)})
            center, spread = (part[0] for part in sums.spread())
            pairs = ((mean, center), (variance, spread.square()))
            self.networks.change({name: round_once(value, self.networks.merged[name].dtype) for name, value in pairs})

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
            self.networks.change(changed)
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

    def solve(
        self, params: dict[str, Tensor], ridge: float | None
    ) -> tuple[Tensor, Tensor, tuple[float, float], float]:
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
