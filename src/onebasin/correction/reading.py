"""Read what sites take in and give out while networks run."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from onebasin.correction.hosting import Data, Networks, write
from onebasin.correction.rows import count_rows, input_rows, output_rows, pick_rows
from onebasin.correction.site import Plan, Site
from onebasin.correction.trace import Node, Watcher, watch
from onebasin.errors import OptionError

_NOTHING = torch.empty(0)


@dataclass(slots=True)
class Reading:
    """Rows of one site in one forward pass.

    Attributes:
        site: the linear layer.
        wanted: the most rows to take.
        seed: which rows; the same seed takes the same ones in every network.
        inputs: what the operation reads, `[groups, rows, in]`.
        own: the layer's own output, `[groups, rows, out]`.
        end: the sum with the stream where there is one, else the own output.
    """

    site: Site
    wanted: int
    seed: int
    inputs: Tensor = _NOTHING
    own: Tensor = _NOTHING
    end: Tensor = _NOTHING
    _picked: Tensor = _NOTHING
    _shape: tuple[int, ...] = ()
    _args: dict[int, Sequence[Any]] = field(default_factory=dict)

    def added(self) -> Tensor:
        """What the stream adds to the layer's own output, `[groups, rows, out]` zeros where there is none."""
        if self.site.stream is None:
            return self.inputs.new_zeros(1, self.inputs.shape[1], 1)
        return self.end - self.own

    def check(self, parts: Sequence[str], batch: int) -> None:
        """Refuse what cannot be averaged or solved.

        Raises:
            OptionError: if a part that was read holds NaN or infinity.
        """
        for part in parts:
            if not bool(getattr(self, part).isfinite().all()):
                raise OptionError(
                    "batches",
                    expected="finite values in every layer",
                    found=f"NaN or infinity at {self.site.name}, in batch {batch}",
                    remedy="look for them in that batch and in the networks",
                )

    def watchers(self, *parts: str) -> list[tuple[Node, Watcher]]:
        """The operations to look at, in order, to read `"inputs"`, `"own"` and `"end"`."""
        site = self.site

        def start(_: Any, args: Sequence[Any], result: Tensor) -> Tensor:
            self._shape = tuple(result.shape)
            self._picked = pick_rows(count_rows(site, result), self.wanted, self.seed)
            if "inputs" in parts:
                self.inputs = input_rows(site, args[site.operand], self._picked)
            return result

        rows: list[tuple[Node, Watcher]] = [(site.node, start)]
        rows += [(node, self._note(node)) for node in site.end_moves]
        if "own" in parts:
            rows.append((site.own, self._read("own", site.moves)))
        if "end" in parts:
            rows.append((site.end, self._read("end", site.end_moves)))
        return rows

    def _note(self, node: Node) -> Watcher:
        def note(_: Any, args: Sequence[Any], result: Any) -> Any:
            self._args[node.number] = args
            return result

        return note

    def _read(self, part: str, moves: Sequence[Node]) -> Watcher:
        def read(_: Any, __: Any, result: Any) -> Any:
            tensor = result[0] if isinstance(result, tuple) else result
            passed = [(node, self._args[node.number]) for node in moves]
            setattr(self, part, output_rows(self.site, tensor, self._picked, self._shape, passed))
            return result

        return read


def joined(rows: Sequence[tuple[Node, Watcher]]) -> dict[int, tuple[Any, Watcher]]:
    """One watcher for each operation, calling in turn all that look at it."""
    by_number: dict[int, tuple[Any, list[Watcher]]] = {}
    for node, watcher in rows:
        by_number.setdefault(node.number, (node.func, []))[1].append(watcher)
    return {number: (func, _all_of(watchers)) for number, (func, watchers) in by_number.items()}


def _all_of(watchers: Sequence[Watcher]) -> Watcher:
    def every(func: Any, args: tuple[Any, ...], result: Any) -> Any:
        for watcher in watchers:
            result = watcher(func, args, result)
        return result

    return every


def read_sites(
    model: nn.Module,
    data: Data,
    sites: Mapping[int, Site],
    rows: Mapping[int, int],
    seed: int,
    parts: Sequence[str],
    take: Callable[[int, Reading], None],
) -> None:
    """Run a model over all batches and hand over the rows of some sites, batch by batch.

    Args:
        model: holds the network to read.
        data: the batches.
        sites: by their position in the plan.
        rows: how many rows of each to take from all batches together.
        seed: which rows.
        parts: what to read of them.
        take: called with the position and the reading, for every batch and site.

    Raises:
        OptionError: if a layer reads or gives NaN or infinity.
    """
    for number, (run, count) in enumerate(zip(data.runs, data.counts, strict=True)):
        readings = {
            position: Reading(site, -(-rows[position] * count // data.samples), _mixed(seed, position, number))
            for position, site in sites.items()
        }
        watch(model, run, joined([row for reading in readings.values() for row in reading.watchers(*parts)]))
        for position, reading in readings.items():
            reading.check(parts, data.first + number)
            take(position, reading)


def average_rows(
    networks: Networks,
    data: Data,
    sites: Mapping[int, Site],
    rows: Mapping[int, int],
    seed: int,
    part: str,
    *,
    turned: Collection[int] = (),
    mixed: Collection[int] = (),
    each: Callable[[int, int, Tensor], None] | None = None,
) -> dict[int, list[Tensor]]:
    """The weighted average of what the parents give at some sites, batch by batch, `[groups, rows, out]`.

    Args:
        networks: the parents and their shares; the model is left holding the last parent.
        data: the batches.
        sites: by their position in the plan.
        rows: how many rows of each.
        seed: which rows.
        part: `"own"` or `"end"`.
        turned: sites at which the rows of all parents but the first are turned towards those of the first before.
        mixed: sites at which the rows are logits, and the logarithm of the average of their probabilities is taken.
        each: called with the number of the parent, the position and the rows.
    """
    first: dict[int, list[Tensor]] = {}
    total: dict[int, list[Tensor]] = {}
    for number, (parent, share) in enumerate(zip(networks.parents, networks.shares, strict=True)):
        given: dict[int, list[Tensor]] = {position: [] for position in sites}

        def take(position: int, reading: Reading, number: int = number, given: dict[int, list[Tensor]] = given) -> None:
            found: Tensor = getattr(reading, part)
            given[position].append(found)
            if each is not None:
                each(number, position, found)

        write(networks.model, parent)
        read_sites(networks.model, data, sites, rows, seed, (part,), take)
        if number == 0:
            first = given
            total = {
                position: _mixture(None, batch, share) if position in mixed else [found * share for found in batch]
                for position, batch in given.items()
            }
            continue
        for position, batch in given.items():
            if position in mixed:
                total[position] = _mixture(total[position], batch, share)
                continue
            moved = turn(batch, first[position]) if position in turned else batch
            for sums, found in zip(total[position], moved, strict=True):
                sums.add_(found, alpha=share)
    for position in total.keys() & set(mixed):
        total[position] = [sums[..., :-1] + sums[..., -1:] for sums in total[position]]
    return total


def _mixture(sums: list[Tensor] | None, rows: Sequence[Tensor], share: float) -> list[Tensor]:
    """Add a parent's logits to the logarithm of the average of probabilities, `log sum of share softmax(z)`.

    Logits say nothing about a constant a row. The one that softmax takes out is not linear in what the logits are made
    from, so its average over the parents stands behind the logits of the mixture as one more unit, added in the end.
    """
    found = []
    for number, z in enumerate(rows):
        size = z.logsumexp(-1, keepdim=True)
        own = torch.cat([z - size + math.log(share) if share > 0 else torch.full_like(z, -math.inf), share * size], -1)
        if sums is not None:
            own = torch.cat(
                [torch.logaddexp(sums[number][..., :-1], own[..., :-1]), sums[number][..., -1:] + own[..., -1:]], -1
            )
        found.append(own)
    return found


def turn(rows: Sequence[Tensor], towards: Sequence[Tensor]) -> list[Tensor]:
    """Rotate rows around their mean, and move that mean, so that they come as close as possible to others.

    The rotation is that of orthogonal Procrustes: `U V^T` of the singular value decomposition of the cross-covariance.

    Args:
        rows: `[groups, rows, out]`, batch by batch.
        towards: the same rows in another network.
    """
    count = sum(part.shape[1] for part in rows)
    means = [
        torch.stack([part.sum(1, dtype=torch.float64) for part in parts]).sum(0) / count for parts in (rows, towards)
    ]
    cross = torch.zeros((), dtype=torch.float64)
    for a, b in zip(rows, towards, strict=True):
        cross = cross + (a.transpose(1, 2) @ b).double()
    U, _, Vh = torch.linalg.svd(cross - count * means[0][:, :, None] * means[1][:, None])
    rotation = (U @ Vh).to(rows[0].dtype)
    center, place = (mean.to(rows[0].dtype)[:, None] for mean in means)
    return [(part - center) @ rotation + place for part in rows]


def waves(plan: Plan, positions: Sequence[int]) -> Iterator[list[int]]:
    """Runs of consecutive sites none of which depends on another one of the run: one pass serves them all."""
    wave: list[int] = []
    for position in positions:
        if any(plan.needs[position] >> other & 1 for other in wave):
            yield wave
            wave = []
        wave.append(position)
    if wave:
        yield wave


def _mixed(*numbers: int) -> int:
    """One seed from several numbers."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 1) % (1 << 62)
    return mixed
