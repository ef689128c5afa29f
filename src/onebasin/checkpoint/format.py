"""What reader and writer share: suffixes, how a file packs its tensors, and how safetensors remember tied ones."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from onebasin.errors import CheckpointError

T = TypeVar("T")

SAFETENSORS = ".safetensors"
PICKLES = (".pt", ".pth", ".th", ".bin", ".ckpt")
INDEX = ".index.json"
"""Added to the name of a whole file: `model.safetensors.index.json` says which shard holds which tensor."""

TIED = "onebasin.tied"
"""The metadata key under which a file without shared storage says which names are one tensor."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Torch dtype by its code in a safetensors header."""


@dataclass(frozen=True, slots=True)
class Packaging:
    """How a file packs the tensors it holds, so that another can be packed the same way.

    Attributes:
        wrapper: the key that holds the tensors inside a pickled dict, such as `"state_dict"`; None for a plain one.
        prefix: what was taken off every name, such as `"module."`.
        shards: file name by tensor name; empty for a single file.
        versions: the versions of the modules that `Module.state_dict` attaches, as found in a pickle.
    """

    wrapper: str | None = None
    prefix: str = ""
    shards: Mapping[str, str] = field(default_factory=dict)
    versions: object = None


class Alias(NamedTuple):
    """A name for a tensor that the file holds under another name.

    Attributes:
        name: the further name.
        source: the name the tensor is stored under.
        position: place of `name` among all names of the checkpoint, from 0.
    """

    name: str
    source: str
    position: int


def encode_aliases(aliases: Iterable[Alias]) -> dict[str, str]:
    """The metadata that records `aliases`; empty where there are none."""
    rows = list(aliases)
    return {TIED: json.dumps(rows, ensure_ascii=False, separators=(",", ":"))} if rows else {}


def decode_aliases(text: str, path: Path) -> list[Alias]:
    """The aliases that the metadata of `path` records.

    Raises:
        CheckpointError: the record is not one that `encode_aliases` wrote.
    """
    try:
        return [Alias(str(name), str(source), int(position)) for name, source, position in json.loads(text)]
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            str(path),
            expected=f"metadata `{TIED}` as a list of [name, source, position]",
            found=shorten(text),
            remedy="write the file again from its original",
        ) from error


def insert_aliases(rows: Mapping[str, T], aliases: Iterable[Alias]) -> dict[str, T]:
    """Stored rows by name, in order, with the row of its source for every alias at the position of the alias."""
    items = list(rows.items())
    for alias in sorted(aliases, key=lambda alias: alias.position):
        items.insert(alias.position, (alias.name, rows[alias.source]))
    return dict(items)


def kind_of(path: Path, suffix: str | None = None) -> str:
    """The format that the end of a file's name stands for.

    Args:
        path: the file.
        suffix: used in place of the name's own end, for files that have lost theirs.

    Returns:
        `SAFETENSORS` or one of `PICKLES`.

    Raises:
        CheckpointError: the suffix is not one of these.
    """
    kind = (path.suffix if suffix is None else suffix).lower()
    if kind != SAFETENSORS and kind not in PICKLES:
        raise CheckpointError(
            str(path),
            expected=f"a name that ends in one of {', '.join((SAFETENSORS, *PICKLES))}",
            found=f"`{kind}`" if kind else "no suffix",
            remedy="rename the file by its format or convert it",
        )
    return kind


def view_key(tensor: Tensor) -> tuple[object, ...] | None:
    """A key that two living tensors share exactly when they are the same view of the same memory; None if empty."""
    if tensor.numel() == 0:
        return None
    return (
        tensor.device,
        tensor.data_ptr(),
        tensor.dtype,
        tuple(tensor.shape),
        tensor.stride(),
        tensor.is_conj(),
        tensor.is_neg(),
    )


def require_dense(subject: str, value: object) -> Tensor:
    """`value` as a tensor outside autograd.

    Raises:
        CheckpointError: it is not a tensor, or one that is sparse, quantized or without data.
    """
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized and not value.is_meta:
        return value.detach()
    if not isinstance(value, Tensor):
        found = f"a value of type {type(value).__name__}"
    elif value.is_meta:
        found = "a tensor on the meta device"
    else:
        found = "a quantized tensor" if value.is_quantized else f"a tensor with layout {value.layout}"
    raise CheckpointError(
        subject,
        expected="a dense tensor with data",
        found=found,
        remedy="leave it out or convert it to a dense tensor first",
    )


def shorten(text: str, limit: int = 120) -> str:
    """The first line of a text that says something, cut to `limit` characters."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "nothing")
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
