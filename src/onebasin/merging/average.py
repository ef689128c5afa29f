"""Averages of one tensor over several models."""

from collections.abc import Sequence

import torch
from torch import Tensor


def mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The weighted average, summed in float64 and rounded once.

    Args:
        tensors: of one floating dtype and shape.
        shares: one number a tensor; they sum to 1.

    Returns:
        a new tensor of the dtype and shape of the first. Entries on which all tensors agree are kept bit by bit.
    """
    # The first tensor plus weighted differences: where all agree every difference is exactly zero.
    total = tensors[0].double()
    for tensor, share in zip(tensors[1:], shares[1:], strict=True):
        total = total + share * (tensor.double() - tensors[0].double())
    return total.to(tensors[0].dtype)


def lerp(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The point on the line between two tensors, `shares[0] * first + shares[1] * second`; exact at both ends."""
    first, second = tensors
    return torch.lerp(first.double(), second.double(), shares[1]).to(first.dtype)
