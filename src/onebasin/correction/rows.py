"""Take the rows of a site's inputs and outputs out of the tensors of a forward pass.

A row is one place at which the linear map is applied: a sample, a token, or a position of a convolution with the patch
around it. Rows come as `[groups, rows, features]` in float32 (float64 where the model computes in it).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from onebasin.correction.moves import keeps_order, move
from onebasin.correction.site import Site


def count_rows(site: Site, output: Tensor) -> int:
    """How many rows an output of the site's operation has."""
    return output.numel() // site.units


def pick_rows(total: int, wanted: int, seed: int) -> Tensor:
    """Numbers of `wanted` rows out of `total`, ascending; all of them where there are no more. Int64."""
    if total <= wanted:
        return torch.arange(total)
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(total, generator=generator)[:wanted].sort().values


def input_rows(site: Site, inputs: Tensor, picked: Tensor) -> Tensor:
    """Rows of what the operation reads, `[groups, rows, in]`.

    Args:
        site: the linear layer.
        inputs: the argument that holds its inputs.
        picked: which rows.
    """
    if site.convolution is None:
        return _product_rows(site, inputs.transpose(-1, -2) if site.flipped else inputs, picked)
    shape = site.convolution
    padded = functional.pad(inputs, [n for size in reversed(shape.padding) for n in (size, size)])
    spans = [d * (k - 1) for k, d in zip(shape.kernel, shape.dilation, strict=True)]
    places = [(n - span - 1) // s + 1 for n, span, s in zip(padded.shape[2:], spans, shape.stride, strict=True)]
    strides = padded.stride()
    windows = padded.as_strided(
        (padded.shape[0], *places, padded.shape[1], *shape.kernel),
        (
            strides[0],
            *(step * s for step, s in zip(shape.stride, strides[2:], strict=True)),
            strides[1],
            *(step * s for step, s in zip(shape.dilation, strides[2:], strict=True)),
        ),
        padded.storage_offset(),
    )
    where = torch.unravel_index(picked.to(inputs.device), (padded.shape[0], *places))
    patches = _wide(windows[where]).reshape(len(picked), site.entries.shape[0], site.entries.shape[1])
    return patches.transpose(0, 1).contiguous()


def output_rows(
    site: Site, tensor: Tensor, picked: Tensor, shape: Sequence[int], moves: Sequence[tuple[Any, Sequence[Any]]]
) -> Tensor:
    """Rows of what the operation gave, or of what has become of it, `[groups, rows, out]`.

    Args:
        site: the linear layer.
        tensor: its output, after some operations.
        picked: which rows.
        shape: of the operation's own output.
        moves: the operations in between that moved entries, each with its arguments.
    """
    if all(keeps_order(node) for node, _ in moves):
        tensor = tensor.reshape(tuple(shape))
    else:
        places = torch.arange(tensor.numel(), device=tensor.device).reshape(tuple(shape))
        for node, args in moves:
            places = move(node, args, places)
        back = torch.empty_like(tensor.reshape(-1))
        back[places.reshape(-1)] = tensor.reshape(-1)
        tensor = back.reshape(tuple(shape))
    if site.convolution is None:
        return _product_rows(site, tensor.transpose(-1, -2) if site.flipped else tensor, picked)
    flat = tensor.flatten(2)
    sample, place = torch.unravel_index(picked.to(flat.device), (flat.shape[0], flat.shape[2]))
    rows = _wide(flat[sample, :, place]).reshape(len(picked), site.entries.shape[0], site.entries.shape[2])
    return rows.transpose(0, 1).contiguous()


def _product_rows(site: Site, tensor: Tensor, picked: Tensor) -> Tensor:
    groups, features = site.entries.shape[0], tensor.shape[-1]
    rows = tensor.reshape(groups, -1, features) if groups > 1 else tensor.reshape(1, -1, features)
    return _wide(rows.index_select(1, picked.to(tensor.device)))


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def weights(site: Site, params: Mapping[str, Tensor]) -> Tensor:
    """The site's weights as `[groups, in, out]`, float64."""
    return params[site.name].detach().double().reshape(-1)[site.entries.to(params[site.name].device)]
