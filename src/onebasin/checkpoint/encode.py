"""Tensors to the bytes of one file."""

import json
import struct
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from onebasin.checkpoint.format import DTYPES, Alias, Packaging, encode_aliases, insert_aliases
from onebasin.checkpoint.source import Spec, specs
from onebasin.checkpoint.stream import as_bytes
from onebasin.errors import CheckpointError

CODES = {dtype: code for code, dtype in DTYPES.items()}
METADATA = "__metadata__"


class Place(NamedTuple):
    """Where a tensor lies in a file: the first byte, and the byte after the last."""

    begin: int
    end: int


def plan_safetensors(
    specs: Mapping[str, Spec], aliases: Iterable[Alias], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, Place]]:
    """All of a safetensors file but the values: the length of the header (8 bytes) and the header (JSON).

    The format is that of https://github.com/huggingface/safetensors#format. The library's own function keeps neither
    the order of the names nor, from one write to the next, that of the metadata.

    Args:
        specs: shape and dtype by name in the file.
        aliases: further names for them, recorded in the metadata.
        metadata: text for the header. `format` is "pt" if not given, as Hugging Face asks for it.

    Returns:
        The beginning of the file, and where in the file each tensor goes, in the order of the bytes.

    Raises:
        CheckpointError: the format has no such dtype, or no room for such a name.
    """
    # Largest items first, so that each tensor starts at a multiple of its item size and can be used where it lies.
    order = sorted(specs, key=lambda name: -specs[name].dtype.itemsize)
    ends = dict(zip(order, accumulate(specs[name].nbytes for name in order), strict=True))
    header: dict[str, object] = {
        METADATA: {**metadata, "format": metadata.get("format", "pt"), **encode_aliases(aliases)}
    }
    for name, spec in specs.items():
        if spec.dtype not in CODES or name == METADATA:
            raise CheckpointError(
                name,
                expected=f"a name other than {METADATA} and one of the dtypes {', '.join(map(str, CODES))}",
                found=str(spec.dtype),
                remedy="convert the tensor, or write a pickle such as `.pt`",
            )
        span = [ends[name] - spec.nbytes, ends[name]]
        header[name] = {"dtype": CODES[spec.dtype], "shape": list(spec.shape), "data_offsets": span}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = struct.pack("<Q", len(text)) + text
    return start, {name: Place(len(start) + ends[name] - specs[name].nbytes, len(start) + ends[name]) for name in order}


def write_safetensors(
    tensors: Mapping[str, Tensor], aliases: Iterable[Alias], metadata: Mapping[str, str], file: BinaryIO
) -> None:
    """Write a safetensors file; see `plan_safetensors`.

    Args:
        tensors: by name in the file, no two the same.
        aliases: further names for them.
        metadata: text for the header.
        file: open for writing.

    Raises:
        CheckpointError: the format has no such dtype, or no room for such a name.
    """
    start, places = plan_safetensors(specs(tensors), aliases, metadata)
    file.write(start)
    file.writelines(as_bytes(tensors[name]).numpy().data for name in places)


def write_pickle(tensors: Mapping[str, Tensor], aliases: Iterable[Alias], packaging: Packaging, file: BinaryIO) -> None:
    """Write a state dict with `torch.save`.

    Args:
        tensors: by name in the file, no two the same.
        aliases: further names for them.
        packaging: its wrapper key and its versions of modules are used.
        file: open for writing.
    """
    state = OrderedDict(insert_aliases(compact(tensors), aliases))
    if packaging.versions is not None:
        vars(state)["_metadata"] = packaging.versions  # where `Module.state_dict` puts it and `load_state_dict` looks
    # Given a path, torch would put the name of the temporary file into the archive, and no two writes would agree.
    torch.save(state if packaging.wrapper is None else {packaging.wrapper: state}, file)


def compact(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors on the CPU, copied where torch would write their storage badly or not at all.

    A pickle stores whole storages: one row of a large matrix would take the matrix along, and a storage seen as two
    dtypes is refused. Views of one dtype that together cover their storage stay views of it.
    """
    here = {name: tensor.cpu().resolve_conj().resolve_neg() for name, tensor in tensors.items()}
    views: dict[int, list[Tensor]] = {}
    for tensor in here.values():
        views.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)

    def stays(tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        group = views[storage.data_ptr()]
        return sum(t.nbytes for t in group) >= storage.nbytes() and len({t.dtype for t in group}) == 1

    return {name: tensor if stays(tensor) else tensor.clone() for name, tensor in here.items()}
