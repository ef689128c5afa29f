"""Weight similarity: inner products of the weights of every pair of units (Ainsworth et al., section 3.2)."""

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from onebasin.layout import Part
from onebasin.symmetry import Symmetry


def scored_parts(symmetry: Symmetry, params: Mapping[str, Tensor]) -> dict[str, list[Part]]:
    """The parts that carry information about the groups, by tensor.

    Left out are buffers (BatchNorm's running statistics are moved, not scored), tensors without a moving axis, and all
    but one name of tied tensors.
    """
    repeated = {name for row in symmetry.tied for name in [n for n in row if n in params][1:]}
    chosen: dict[str, list[Part]] = {}
    for name in symmetry.layouts:
        if name not in params or name in symmetry.buffers or name in repeated:
            continue
        if any(layout.groups for layout in symmetry.layouts[name]):
            chosen[name] = symmetry.parts(name)
    return chosen


def inner_products(a: Tensor, b: Tensor, dims: Sequence[int]) -> Tensor:
    """Inner products of every slice of `a` with every slice of `b`.

    Args:
        a: floating tensor of any shape.
        b: the same shape and dtype.
        dims: the dimensions that number the slices; all others are summed over.

    Returns:
        `[m, m]` float64 with m the product of the sizes of `dims`: entry `[i, j]` is the sum over all other dimensions
        of `a` at i times `b` at j. Products are taken in the dtype of `a`.
    """
    rest = [dim for dim in range(a.ndim) if dim not in dims]
    rows = prod(a.shape[dim] for dim in dims)
    order = [*dims, *rest]
    left = a.permute(order).reshape(rows, -1)
    right = b.permute(order).reshape(rows, -1)
    return torch.mm(left, right.T).double()
