"""Permute tensors: the same function in other coordinates."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from onebasin.layout import AxisGroup, AxisLayout, Part, parts
from onebasin.permutation import Permutation

Layouts = Mapping[str, tuple[AxisLayout, ...]]
"""The layout of every axis of every tensor, by the tensor's name."""


def permute_part(
    view: Tensor,
    part: Part,
    groups: Mapping[str, AxisGroup],
    permutations: Mapping[str, Permutation],
    skip: Sequence[int] = (),
) -> Tensor:
    """The view of one part with every dimension reordered, except those in `skip`.

    With p for an outer group and q for one nested in it, `result[i, j] = view[p[i], q[i, j]]`: outer dimensions are
    reordered first, so that the permutations of nested groups are looked up in the coordinates of the result.

    Args:
        view: `part.sizes`, any dtype and device. Not modified.
        part: which factor each dimension is.
        groups: every group of the symmetry.
        permutations: one permutation a group; a group without an entry stays in place.
        skip: dimensions left as they are.

    Returns:
        A tensor of the same shape; `view` itself where nothing moves.
    """
    moving = [
        (dim, groups[factor])
        for dim, factor in enumerate(part.factors)
        if isinstance(factor, str) and factor in permutations and dim not in skip
    ]
    for dim, group in sorted(moving, key=lambda pair: len(pair[1].inside)):
        permutation = permutations[group.name]
        if permutation.is_identity:
            continue
        index = torch.from_numpy(np.array(permutation.index)).to(view.device)
        if not group.inside:
            view = view.index_select(dim, index)
            continue
        # index is [*context, n]: lay its dimensions beside those of the view, with size 1 everywhere else.
        where = (*part.context(dim, group.inside), dim)
        order = sorted(range(len(where)), key=where.__getitem__)
        shape = [1] * view.ndim
        for d in where:
            shape[d] = view.shape[d]
        spread = index.permute(order).reshape(shape)
        view = view.take_along_dim(spread.expand(view.shape), dim)
    return view


def permute_tensor(
    name: str,
    tensor: Tensor,
    layouts: Sequence[AxisLayout],
    groups: Mapping[str, AxisGroup],
    permutations: Mapping[str, Permutation],
) -> Tensor:
    """A new tensor with every axis reordered; `tensor` is not modified, dtype, device and shape are kept."""
    given = _plain(tensor)
    moved = given.clone(memory_format=torch.contiguous_format)
    sizes = {group.name: group.size for group in groups.values()}
    source, target = _bits(given), _bits(moved)
    for part in parts(name, layouts, sizes) if layouts else ():
        if any(isinstance(factor, str) for factor in part.factors):
            part.view(target).copy_(permute_part(part.view(source), part, groups, permutations))
    return moved


def _plain(tensor: Tensor) -> Tensor:
    """The tensor with its values in memory: a conjugate or negative view only promises them."""
    return tensor.detach().resolve_conj().resolve_neg()


def _bits(tensor: Tensor) -> Tensor:
    """The same memory read as integers: PyTorch moves these of every size, but not all floats."""
    return tensor.view(_INTEGERS.get(tensor.element_size(), tensor.dtype))


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(_bits(_plain(a)), _bits(_plain(b)))


def permute_stream(
    tensors: Mapping[str, Tensor],
    layouts: Layouts,
    groups: Mapping[str, AxisGroup],
    permutations: Mapping[str, Permutation],
    tied: Sequence[Sequence[str]] = (),
) -> Iterator[tuple[str, Tensor]]:
    """Reorder a mapping one tensor at a time, in its own order.

    A tensor without a layout is passed on as a copy. Names in one row of `tied` whose tensors are equal give one
    tensor, so that tied weights stay tied.

    Yields:
        name and reordered tensor; memory in use is that of one tensor and the tied ones, if the caller keeps none.
    """
    first = {name: names[0] for names in tied for name in names}
    done: dict[str, tuple[Tensor, Tensor]] = {}
    for name, tensor in tensors.items():
        given, moved = done.get(first.get(name, ""), (None, None))
        if given is None or moved is None or not _same(given, tensor):
            moved = permute_tensor(name, tensor, layouts.get(name, ()), groups, permutations)
            if name in first:
                done.setdefault(first[name], (tensor, moved))
        yield name, moved
