"""What the library takes as a model: a module, tensors by name, or the path of a checkpoint."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from onebasin.checkpoint.format import require_dense
from onebasin.checkpoint.reader import Checkpoint, open_checkpoint
from onebasin.errors import MismatchError, OptionError

# Entries looked at in one step: bounds the memory that a check takes beside the tensor.
CHUNK = 1 << 22

Source = nn.Module | Mapping[str, Tensor] | Mapping[str, NDArray[Any]] | str | Path
"""Whatever tensors by name can be taken from."""


class Spec(NamedTuple):
    """What a tensor is like, but for its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def averages(self) -> bool:
        """Whether such tensors can be averaged: they are floating-point or complex."""
        return self.dtype.is_floating_point or self.dtype.is_complex

    @property
    def nbytes(self) -> int:
        """The bytes of the values."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class _Arrays(Mapping[str, Tensor]):
    """NumPy arrays by name, seen as tensors; those that can be written to share their memory.

    Dtypes that NumPy borrows from elsewhere, such as JAX's bfloat16, become torch's of the same name.

    Args:
        arrays: by name.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = arrays

    def __getitem__(self, name: str) -> Tensor:
        array = np.asarray(self.arrays[name])
        array = array if array.flags.writeable else array.copy()
        kind = getattr(torch, array.dtype.name, None) if array.dtype.kind == "V" else None
        try:
            if isinstance(kind, torch.dtype):
                return torch.from_numpy(array.view(f"i{array.dtype.itemsize}")).view(kind)
            return torch.from_numpy(array)
        except (TypeError, ValueError) as error:  # texts, objects, the other byte order, negative strides
            raise MismatchError(
                name,
                expected="an array of numbers that torch can hold",
                found=f"dtype {array.dtype}",
                remedy="convert it with `numpy.ascontiguousarray` and `astype`",
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


def as_given(source: object, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Tensors in the form in which a model was given: NumPy arrays, of its dtypes' kinds, where it was one of these.

    Args:
        source: the model as `load_params` takes it.
        tensors: by name, on the CPU where they are to become arrays.
    """
    if not _holds_arrays(source):
        return tensors

    def array(name: str, tensor: Tensor) -> NDArray[Any]:
        given = source[name].dtype if name in source else np.dtype(np.float32)  # type: ignore[index,operator]
        if given.kind != "V":
            return tensor.numpy()
        return tensor.view(getattr(torch, f"int{8 * given.itemsize}")).numpy().view(given)

    return {name: array(name, tensor) for name, tensor in tensors.items()}


def _holds_arrays(source: object) -> bool:
    """Whether the first value of a mapping is an array."""
    return isinstance(source, Mapping) and isinstance(next(iter(source.values()), None), np.ndarray)


def specs(params: Mapping[str, Tensor]) -> dict[str, Spec]:
    """Shape and dtype of every tensor, in their order; of a checkpoint by its header, without looking at data."""
    if isinstance(params, Checkpoint):
        dtypes = params.dtypes()
        return {name: Spec(shape, dtypes[name]) for name, shape in params.shapes().items()}
    return {name: Spec(tuple(tensor.shape), tensor.dtype) for name, tensor in params.items()}


def load_params(source: Source) -> Mapping[str, Tensor]:
    """The tensors of a model by name.

    Args:
        source: a module, whose state dict is taken (of one wrapped by `DataParallel`, `DistributedDataParallel` or
            `torch.compile`, that of the module inside); tensors by name, returned as they are, or NumPy arrays by name,
            which become tensors when asked for; or a path, opened as by `open_checkpoint`.

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
        held = cast("Mapping[str, Any]", source)
        return held if isinstance(source, Checkpoint) or not _holds_arrays(source) else _Arrays(held)
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
    if torch.isfinite(wide.sum()):
        return 0  # one pass instead of three: a sum is not finite if an entry is not
    return int(torch.isnan(wide).sum()) if infinity else chunk.numel() - int(torch.isfinite(wide).sum())
