"""Weight similarity: inner products of the weights of every pair of units (Ainsworth et al., section 3.2)."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from onebasin.parallel import product

_CHUNK = 2**16
"""So many entries are converted to float64 at a time."""


def inner_products(a: Tensor, b: Tensor, dims: Sequence[int]) -> Tensor:
    """Inner products of every slice of `a` with every slice of `b`.

    Args:
        a: floating tensor of any shape and strides.
        b: the same shape and dtype.
        dims: the dimensions that number the slices; all others are summed over.

    Returns:
        `[m, m]` with m the product of the sizes of `dims`: entry `[i, j]` is the sum over all other dimensions of `a`
        at i times `b` at j; float64 where `a` is, float32 otherwise.
    """
    return product(matrix(a, dims), matrix(b, dims))


def matrix(tensor: Tensor, dims: Sequence[int]) -> Tensor:
    """The slices of a tensor as rows: `[m, rest]` with m the product of the sizes of `dims`, float32 or float64.

    A view where the memory allows it.
    """
    rest = [dim for dim in range(tensor.ndim) if dim not in dims]
    rows = prod(tensor.shape[dim] for dim in dims)
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return tensor.to(dtype).permute([*dims, *rest]).reshape(rows, -1)


def dot(a: Tensor, b: Tensor) -> float:
    """The sum of the products of all entries, in float64, a piece at a time that fits a cache."""
    left, right = a.reshape(-1), b.reshape(-1)
    pieces = zip(left.split(_CHUNK), right.split(_CHUNK), strict=True)
    return sum(float(torch.dot(x.double(), y.double())) for x, y in pieces)
