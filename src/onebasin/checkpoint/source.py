"""What the library takes as a model: a module, tensors by name, or the path of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from onebasin.checkpoint.format import require_dense
from onebasin.checkpoint.reader import Checkpoint, open_checkpoint
from onebasin.errors import MismatchError, OptionError

# Entries looked at in one step: bounds the memory that a check takes beside the tensor.
CHUNK = 1 << 22

Source = nn.Module | Mapping[str, Tensor] | str | Path
"""Whatever tensors by name can be taken from."""


def load_params(source: Source) -> Mapping[str, Tensor]:
    """The tensors of a model by name.

    Args:
        source: a module, whose state dict is taken (of one wrapped by `DataParallel`, `DistributedDataParallel` or
            `torch.compile`, that of the module inside); tensors by name, returned as they are; or a path, opened as
            by `open_checkpoint`.

    Returns:
        Tensors by name in the order of the source. Those of a module share its memory and are outside autograd.

    Raises:
        CheckpointError: the path has no checkpoint that can be read, or a module's state holds something other than
            dense tensors.
        OptionError: `source` is none of these.
    """
    if isinstance(source, nn.Module):
        state: Mapping[str, Tensor] = _innermost(source).state_dict()
        for name, value in state.items():
            require_dense(f"{type(source).__name__}: {name}", value)
        return state
    if isinstance(source, Mapping):
        return source
    if isinstance(source, str | Path):
        return open_checkpoint(source)
    raise OptionError(
        "source",
        expected="a module, a mapping from names to tensors, or a path",
        found=f"a value of type {type(source).__name__}",
        remedy="pass one of these",
    )


def tied_names(params: Mapping[str, Tensor]) -> tuple[tuple[str, ...], ...]:
    """Rows of names that are one tensor, as far as the source shows it: by record in files, by memory elsewhere."""
    if isinstance(params, Checkpoint):
        return params.tied
    rows: dict[tuple[object, ...], list[str]] = {}
    held = dict(params)  # An address is only meaningful while the tensor lives.
    for name, tensor in held.items():
        if tensor.numel():
            view = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.dtype, tensor.shape)
            rows.setdefault((*view, tensor.stride()), []).append(name)
    return tuple(tuple(row) for row in rows.values() if len(row) > 1)


def _innermost(module: nn.Module) -> nn.Module:
    """The module that the wrappers of torch put a prefix before."""
    while True:
        # `torch.compile` returns a class that torch does not export; this attribute is how it keeps the original.
        inner = getattr(module, "_orig_mod", None)
        if isinstance(module, DataParallel | DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def check_finite(params: Mapping[str, Tensor], label: str, *, infinity: bool = False) -> None:
    """Refuse tensors that hold NaN or infinity.

    Args:
        params: tensors by name; those that are not floating-point or complex are not looked at.
        label: what the reader calls them, such as `"a"` or the name of a file.
        infinity: let infinities pass, such as those of a causal mask.

    Raises:
        MismatchError: a tensor holds NaN or infinity; the first one is named, and its bad entries are counted.
    """
    for name, tensor in params.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        bad = sum(_count_bad(chunk, infinity) for chunk in tensor.detach().reshape(-1).split(CHUNK))
        if bad:
            raise MismatchError(
                f"{label}: {name}",
                expected="no NaN" if infinity else "finite numbers",
                found=f"NaN in {bad} of {tensor.numel()} entries"
                if infinity
                else f"NaN or infinity in {bad} of {tensor.numel()} entries",
                remedy="train again or take an earlier checkpoint",
            )


def _count_bad(chunk: Tensor, infinity: bool) -> int:  # noqa: FBT001 - passed on
    """How many entries are NaN or infinite; eight-bit floats have no test of their own and are widened."""
    wide = chunk.to(torch.float32) if chunk.dtype.itemsize == 1 else chunk
    return int(torch.isnan(wide).sum()) if infinity else chunk.numel() - int(torch.isfinite(wide).sum())
