"""Average what matches and keep the rest apart: a wider network between the average and the ensemble.

The partial merge of ZipIt and PLeaS, for any discovered symmetry. Of every group the worst matched units are not
averaged; each parent keeps its own, side by side. A unit of a parent reads from averaged units and from its own; an
averaged unit reads from all. With every unit apart the network computes the average of its parents' outputs, with none
apart it is the average of their weights.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.correction.hosting import Networks
from onebasin.correction.sites import find_sites
from onebasin.correction.trace import record
from onebasin.errors import OptionError
from onebasin.layout import Part, parts
from onebasin.matching.problem import scored_parts
from onebasin.merging.stack import round_once
from onebasin.symmetry import Symmetry

_SHARED = -1


@dataclass(frozen=True)
class Expansion:
    """A wider network.

    Attributes:
        params: its tensors, under the names of the parents.
        sizes: the new size of every group: what the model must be built with.
        apart: for every group the units, in the coordinates of the first parent, that are kept apart.
    """

    params: dict[str, Tensor]
    sizes: Mapping[str, int]
    apart: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Units:
    """The units of an expanded group.

    Attributes:
        source: which unit of the parents each is, int64.
        owner: the number of the parent it belongs to; `_SHARED` for averaged ones.
    """

    source: Tensor
    owner: Tensor


def expand(
    model: nn.Module,
    parents: Sequence[Source],
    symmetry: Symmetry,
    extra: float,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    weights: Sequence[float] | None = None,
    groups: Collection[str] | None = None,
) -> Expansion:
    """Merge networks, keeping a part of the units of every group apart.

    Not for groups over which something is normalised (the stream of a transformer with LayerNorm): leave them out.

    Args:
        model: of the parents' architecture; run once to see which way tensors are used, and left as it was.
        parents: in the coordinates of the first (apply a matching first).
        symmetry: of the architecture.
        extra: the share of each group's units to keep apart, 0 to 1: n units become `n + extra n (parents - 1)`.
        args: positional inputs of one forward pass; their values do not matter.
        kwargs: named ones.
        weights: one number a parent (None: equal), divided by their sum.
        groups: which to expand; None for all that are neither nested nor fixed.

    Returns:
        the tensors and the sizes of a wider network; building the model for them is the caller's.

    Raises:
        OptionError: if `extra` is out of range or a group unknown, nested or fixed.
        MismatchError: if a parent does not fit the model or the symmetry.
    """
    free = [group.name for group in symmetry.groups.values() if not group.inside and not group.fixed]
    chosen = free if groups is None else list(groups)
    if not 0 <= extra <= 1 or not set(chosen) <= set(free):
        raise OptionError(
            "extra and groups",
            expected=f"a share from 0 to 1, and groups out of {', '.join(free)}",
            found=f"{extra} and {', '.join(chosen)}",
            remedy="correct them",
        )
    networks = Networks.of(model, parents[0] if parents else {}, parents, weights)
    for number, parent in enumerate(networks.parents, start=1):
        symmetry.check(parent, f"parent {number}")
    outputs = _output_axes(model, args, kwargs)
    apart = {name: _worst(networks.parents, symmetry, name, extra) for name in chosen}
    units = {name: _units(symmetry.groups[name].size, apart[name], len(networks.parents)) for name in chosen}
    sizes = symmetry.sizes | {name: len(unit.source) for name, unit in units.items()}
    params: dict[str, Tensor] = {}
    for name, tensor in networks.merged.items():
        rows = [parent[name] for parent in networks.parents]
        axes = outputs.get(name, frozenset(range(tensor.ndim)))
        twin = next((other for row in networks.tied if name in row for other in row if other in params), None)
        params[name] = params[twin] if twin else _wider(name, rows, networks.shares, symmetry, units, sizes, axes)
    return Expansion(params, sizes, {name: tuple(found.tolist()) for name, found in apart.items()})


def _output_axes(
    model: nn.Module, args: Sequence[object], kwargs: Mapping[str, object] | None
) -> dict[str, frozenset[int]]:
    """For the weights of linear layers, the axes that number their outputs; of all else, every axis does."""
    found: dict[str, frozenset[int]] = {}
    state = model.state_dict()
    for site in find_sites(record(model, lambda network: network(*args, **kwargs or {}))).sites:
        places = torch.unravel_index(site.entries, tuple(state[site.name].shape))
        axes = {axis for axis, place in enumerate(places) if bool((place != place[:1, :, :1]).any())}
        inputs = {axis for axis, place in enumerate(places) if bool((place != place[:, :1]).any())}
        found[site.name] = frozenset(axes - inputs)
    return found


def _worst(parents: Sequence[Mapping[str, Tensor]], symmetry: Symmetry, name: str, extra: float) -> Tensor:
    """The units of a group whose weights point least the same way in all parents, ascending; int64."""
    size = symmetry.groups[name].size
    dots, lengths = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for tensor, rows in scored_parts(symmetry, parents[0]).items():
        for part in rows:
            if name not in part.factors:
                continue
            dim = part.factors.index(name)
            views = [part.view(parent[tensor]).double().movedim(dim, 0).reshape(size, -1) for parent in parents]
            total = torch.stack(views).sum(0).square().sum(1)
            own = torch.stack(views).square().sum((0, 2))
            dots += (total - own).cpu()
            lengths += own.cpu()
    order = torch.argsort(dots / lengths.clamp(min=torch.finfo(torch.float64).tiny), stable=True)
    return order[: round(extra * size)].sort().values


def _units(size: int, apart: Tensor, parents: int) -> _Units:
    """Averaged units in their order, then those of every parent."""
    shared = torch.tensor([unit for unit in range(size) if unit not in set(apart.tolist())], dtype=torch.int64)
    owners = [torch.full((len(shared),), _SHARED), *(torch.full((len(apart),), number) for number in range(parents))]
    return _Units(torch.cat([shared, *[apart] * parents]), torch.cat(owners))


def _wider(
    name: str,
    tensors: Sequence[Tensor],
    shares: Sequence[float],
    symmetry: Symmetry,
    units: Mapping[str, _Units],
    sizes: Mapping[str, int],
    outputs: frozenset[int],
) -> Tensor:
    """One tensor of the wider network."""
    layouts = symmetry.layouts[name]
    if not tensors[0].is_floating_point() or not any(group in units for layout in layouts for group in layout.groups):
        if not tensors[0].is_floating_point():
            return tensors[0].clone()
        average = torch.stack([tensor.double() * share for tensor, share in zip(tensors, shares, strict=True)]).sum(0)
        return round_once(average, tensors[0].dtype)
    wide = torch.zeros([layout.size(sizes) for layout in layouts], dtype=torch.float64, device=tensors[0].device)
    for old, new in zip(symmetry.parts(name), parts(name, layouts, sizes), strict=True):
        target = new.view(wide)
        for number, (tensor, share) in enumerate(zip(tensors, shares, strict=True)):
            view = old.view(tensor).double()
            for dim, factor in enumerate(old.factors):
                if factor in units:
                    view = view.index_select(dim, units[str(factor)].source.to(view.device))
            target += view * _parts_of(number, share, old, units, outputs).to(view.device)
    return round_once(wide, tensors[0].dtype)


def _parts_of(number: int, share: float, part: Part, units: Mapping[str, _Units], outputs: frozenset[int]) -> Tensor:
    """How much of one parent goes into every entry: nothing into what is another's, all into outputs of its own."""
    allowed, own = torch.ones((), dtype=torch.bool), torch.zeros((), dtype=torch.bool)
    for dim, factor in enumerate(part.factors):
        if factor not in units:
            continue
        owner = units[str(factor)].owner.reshape(-1, *(1,) * (len(part.factors) - dim - 1))
        allowed = allowed & ((owner == _SHARED) | (owner == number))
        if part.axes[dim] in outputs:
            own = own | (owner == number)
    return allowed * torch.where(own, 1.0, torch.tensor(share, dtype=torch.float64))
