"""REPAIR: give every unit of a merged network the mean and spread that it has in its parents (Jordan et al. 2023).

Averaging units that are not quite alike makes their outputs too narrow. The output y of every linear layer, its bias or
BatchNorm included, becomes `gain * (y - mean) + mean*`, which its parameters can express.
"""

import time
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.correction.fold import scaled
from onebasin.correction.hosting import Data, Networks, hosting, read_batches, write
from onebasin.correction.reading import Reading, average_rows, read_sites, waves
from onebasin.correction.result import Correction
from onebasin.correction.site import Plan, Site
from onebasin.correction.sites import find_sites
from onebasin.correction.spread import Spread, Sums
from onebasin.correction.trace import record
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluate
from onebasin.progress import Progress, Report, silent

FORMS = ("forward", "closed")
_ROWS = 1 << 16
_FLAT = 1e-6
"""A unit whose spread is below this part of its size never changes: what is left is rounding."""


def repair(
    model: nn.Module,
    merged: Source,
    parents: Sequence[Source],
    batches: Iterable[object],
    evaluate: Evaluate,
    weights: Sequence[float] | None = None,
    samples: int | None = 2000,
    *,
    form: str = "forward",
    seed: int = 0,
    progress: Report = silent,
) -> Correction:
    """Bring the mean and standard deviation of every unit to the weighted average of those of its parents.

    Args:
        model: of the networks' architecture; runs them, and is left as it was.
        merged: the network to correct, a module, tensors by name or a path.
        parents: those it was made of, in its coordinates.
        batches: as `evaluate` takes them; labels are not used.
        evaluate: runs a model on one batch; `count` in its result says how many samples it held.
        weights: one number a parent (None: equal), divided by their sum.
        samples: stop reading after at least so many samples; None uses all.
        form: `"forward"` measures the merged network, layer after layer, so that each sees what the corrections before
            it do; `"closed"` predicts its spread from the parents alone, `var(sum of share y)`, as if all layers before
            worked: cheaper, and less exact. In this form means stay as they are.
        seed: of the rows measured.
        progress: called after every layer.

    Returns:
        the corrected network; layers with neither bias nor BatchNorm are scaled, not shifted, and named in the notes.

    Raises:
        OptionError: if an option or the data cannot work.
        MismatchError: if a network does not fit the model.
    """
    if form not in FORMS:
        raise OptionError("form", expected=" or ".join(FORMS), found=repr(form), remedy="choose one of them")
    return _corrected(
        model, merged, parents, batches, evaluate, weights, samples, seed, progress, form=form, shifts=True
    )


def rescale(
    model: nn.Module,
    merged: Source,
    parents: Sequence[Source],
    batches: Iterable[object],
    evaluate: Evaluate,
    weights: Sequence[float] | None = None,
    samples: int | None = 2000,
    *,
    seed: int = 0,
    progress: Report = silent,
) -> Correction:
    """RESCALE: only the spread of every unit is brought to that of its parents; its output is multiplied by the gain.

    Arguments, result and errors are those of `repair`. For networks without norms whose means are far off, shifting
    them can do harm.
    """
    return _corrected(
        model, merged, parents, batches, evaluate, weights, samples, seed, progress, form="forward", shifts=False
    )


def _corrected(
    model: nn.Module,
    merged: Source,
    parents: Sequence[Source],
    batches: Iterable[object],
    evaluate: Evaluate,
    weights: Sequence[float] | None,
    samples: int | None,
    seed: int,
    progress: Report,
    *,
    form: str,
    shifts: bool,
) -> Correction:
    started = time.perf_counter()
    networks = Networks.of(model, merged, parents, weights)
    with hosting(model):
        write(model, networks.parents[0])
        data = read_batches(model, batches, evaluate, samples)
        plan = find_sites(record(model, data.runs[0]))
        wanted, averaged = _targets(networks, data, plan, seed)
        done = 0
        for wave in waves(plan, range(len(plan.sites))):
            sites = {position: plan.sites[position] for position in wave}
            found = averaged
            if form == "forward":
                write(model, networks.merged)
                found = _spreads(networks, data, sites, seed)
            for position, site in sites.items():
                (mean, std), (aim_mean, aim_std) = found[position], wanted[position]
                moves = std > _FLAT * (mean.abs() + aim_std)
                gain = torch.where(moves, aim_std / std, torch.ones_like(std))
                shift = aim_mean - gain * mean if shifts else torch.zeros_like(mean)
                networks.change(scaled(site, networks.merged, gain, shift))
            done += len(wave)
            progress(Progress("repairing", done, len(plan.sites), plan.sites[wave[-1]].name))
    notes = [f"{name} was left as it was: {why}" for name, why in plan.skipped.items()]
    if shifts:
        bare = [site.name for site in plan.sites if not (site.bias or site.norm)]
        notes += [f"{name} was scaled only: it has no bias" for name in bare]
    method = "rescale" if not shifts else "repair" if form == "forward" else "repair_closed"
    return Correction(networks.merged, method, tuple(notes), time.perf_counter() - started)


def _targets(networks: Networks, data: Data, plan: Plan, seed: int) -> tuple[dict[int, Spread], dict[int, Spread]]:
    """The average of the parents' spreads, and the spread of their averaged outputs."""
    sites = dict(enumerate(plan.sites))
    each = [{position: Sums() for position in sites} for _ in networks.parents]
    both = {position: Sums() for position in sites}

    def take(number: int, position: int, rows: Tensor) -> None:
        each[number][position].add(rows)

    for number, (run, count) in enumerate(zip(data.runs, data.counts, strict=True)):
        # Batch by batch, so that only the rows of one are in memory.
        part, rows = Data((run,), (count,), number + 1), -(-_ROWS * count // data.samples)
        averages = average_rows(networks, part, sites, dict.fromkeys(sites, rows), seed + number, "own", each=take)
        for position, (average,) in averages.items():
            both[position].add(average)
    wanted = {}
    for position in sites:
        pairs = list(zip(networks.shares, (sums[position].spread() for sums in each), strict=True))
        wanted[position] = (
            torch.stack([share * mean for share, (mean, _) in pairs]).sum(0),
            torch.stack([share * std for share, (_, std) in pairs]).sum(0),
        )
    return wanted, {position: sums.spread() for position, sums in both.items()}


def _spreads(networks: Networks, data: Data, sites: Mapping[int, Site], seed: int) -> dict[int, Spread]:
    sums = {position: Sums() for position in sites}

    def take(position: int, reading: Reading) -> None:
        sums[position].add(reading.own)

    read_sites(networks.model, data, sites, dict.fromkeys(sites, _ROWS), seed, ("own",), take)
    return {position: row.spread() for position, row in sums.items()}
