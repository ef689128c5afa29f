"""Averages of one tensor over several models."""

from collections.abc import Sequence

import torch
from torch import Tensor


def mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The weighted average, summed in float64 (complex128) and rounded once.

    Args:
        tensors: of one floating or complex dtype and shape.
        shares: one number a tensor; they sum to 1. Tensors with a share of 0 are not looked at.

    Returns:
        a new tensor of the dtype and shape of the first. Entries on which all tensors agree are kept bit by bit, so
        that the infinities of a mask survive.
    """
    wide = torch.complex128 if tensors[0].is_complex() else torch.float64
    rows = [(tensor.detach(), share) for tensor, share in zip(tensors, shares, strict=True) if share != 0]
    total = rows[0][0].to(wide) * rows[0][1]
    agree = torch.ones_like(total, dtype=torch.bool)
    for tensor, share in rows[1:]:
        total = total + tensor.to(wide) * share
        agree &= tensor == rows[0][0]
    return torch.where(agree, rows[0][0], round_once(total, tensors[0].dtype))


def lerp(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The point on the line between two tensors, `shares[0] * first + shares[1] * second`; exact at both ends."""
    return mean(tensors, shares)


def round_once(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A float64 tensor in a shorter dtype, rounded to the nearest.

    PyTorch goes from float64 to half precision by way of float32, which rounds twice. Rounding to odd on the way makes
    the second rounding exact: the last bit of the float32 is set wherever something was cut off (Boldo and Melquiond,
    2008).
    """
    if tensor.dtype != torch.float64 or dtype.itemsize >= torch.float32.itemsize:
        return tensor.to(dtype)
    near = tensor.to(torch.float32)
    low = torch.where(near.double().abs() > tensor.abs(), torch.nextafter(near, torch.zeros_like(near)), near)
    cut_off = (low.double() != tensor) & tensor.isfinite()
    return (low.view(torch.int32) | cut_off.int()).view(torch.float32).to(dtype)
