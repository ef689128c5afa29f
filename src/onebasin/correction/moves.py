"""Operations that only move entries about, and the values that hold nothing but entries of one parameter."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from onebasin.correction.trace import Node, Trace

_COPIES = frozenset(f"aten::{name}" for name in ("clone", "contiguous", "detach", "alias", "lift_fresh", "_to_copy"))
_VIEWS = frozenset({"aten::view", "aten::_unsafe_view", "aten::_reshape_alias"})
_RESHAPES = _VIEWS | {"aten::unsqueeze", "aten::squeeze"}
_REORDERS = frozenset(f"aten::{name}" for name in ("permute", "transpose", "t", "roll", "flip"))
_PARTS = frozenset(f"aten::{name}" for name in ("slice", "select", "expand", "split", "split_with_sizes", "unbind"))


def moves_all(node: Node) -> bool:
    """Whether an operation gives all entries of its one tensor, each once, perhaps in another order."""
    return node.name in _COPIES | _RESHAPES | _REORDERS and len(node.reads) == 1


def keeps_order(node: Node) -> bool:
    """Whether an operation that moves entries leaves them in their order."""
    return node.name in _COPIES | _RESHAPES


def move(node: Node, args: Sequence[Any], tensor: Tensor) -> Any:
    """What an operation that only moves entries makes of another tensor.

    Args:
        node: the operation.
        args: its arguments, here or for another batch; the first is replaced.
        tensor: of the shape of the first argument.
    """
    if node.name in _COPIES:
        return tensor
    return tensor.reshape(args[1]) if node.name in _VIEWS else node.func(tensor, *args[1:], **node.kwargs)


@dataclass(frozen=True)
class Origin:
    """Where a value comes from that holds nothing but entries of one tensor of the state dict.

    Attributes:
        name: of that tensor.
        entries: int64 of the value's shape: which entry of the flattened tensor each is.
    """

    name: str
    entries: Tensor


def find_origins(trace: Trace) -> dict[int, Origin]:
    """Every value that holds nothing but entries of one tensor of the state dict."""
    found = {
        value: Origin(name, torch.arange(prod(trace.shapes[value])).reshape(trace.shapes[value]))
        for value, name in trace.state.items()
    }
    for node in trace.nodes:
        if not (moves_all(node) or (node.name in _PARTS and len(node.reads) == 1)) or node.reads[0] not in found:
            continue
        source = found[node.reads[0]]
        moved = move(node, node.args, source.entries)
        for value, part in zip(node.results, moved if isinstance(moved, list | tuple) else (moved,), strict=True):
            if value is not None:
                found[value] = Origin(source.name, part)
    return found
