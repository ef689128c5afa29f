"""Open a checkpoint of any supported format as a mapping from names to tensors."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from onebasin.checkpoint.format import INDEX, TIED, Packaging, decode_aliases, insert_aliases
from onebasin.checkpoint.locate import locate, read_index
from onebasin.checkpoint.parts import Part, open_part
from onebasin.errors import CheckpointError

PREFIXES = ("module.", "_orig_mod.")
"""Put before every name by `DataParallel` and `DistributedDataParallel`, and by `torch.compile`."""


class _Entry(NamedTuple):
    """Where a tensor is: the file, and the name it is stored under."""

    part: Part
    stored: str


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a checkpoint by name, in the order of the file; made by `open_checkpoint`.

    Tensors lie on the CPU, outside autograd, mapped from the file where the format allows it, and are read when asked
    for. Names that share a tensor give the same object. Treat tensors as read-only: a change never reaches the file,
    but a later look at the same tensor may or may not show it. Two checkpoints are equal only if they are the same
    object. One can be sent to another process, which opens the file again. As a context manager it lets go of the
    files on exit; tensors already read stay valid.

    Attributes:
        path: the file opened; of a sharded checkpoint its index.
        files: the files that hold tensors.
        metadata: the text that the files carry, without our own record of tied tensors; empty for a pickle.
        tied: rows of names that share one tensor. Pickles show this; in safetensors only files written by
            `save_checkpoint` record it.
        packaging: what else a writer needs to write another file like this one.

    Raises:
        CheckpointError: as `open_checkpoint`.
    """

    def __init__(self, path: Path, *, suffix: str | None = None, strip_prefix: bool = True) -> None:
        self._arguments = (path.absolute(), suffix, strip_prefix)
        self.path = path
        parts, entries, self.metadata = _assemble(path, suffix)
        prefix = common_prefix(entries) if strip_prefix else ""
        self._entries = {name.removeprefix(prefix): entry for name, entry in entries.items()}
        self._parts = parts
        self._closed = False
        self._living: WeakValueDictionary[tuple[Path, str], Tensor] = WeakValueDictionary()
        self.files = tuple(part.path for part in parts)
        rows: dict[tuple[Path, str], list[str]] = {}
        for name, (part, stored) in self._entries.items():
            rows.setdefault((part.path, stored), []).append(name)
        self.tied = tuple(tuple(row) for row in rows.values() if len(row) > 1)
        sharded = path.name.endswith(INDEX)
        self.packaging = Packaging(
            wrapper=parts[0].wrapper,
            prefix=prefix,
            shards={name: part.path.name for name, (part, _) in self._entries.items()} if sharded else {},
            versions=parts[0].versions,
        )

    def __getitem__(self, name: str) -> Tensor:
        part, stored = self._open_entries()[name]
        tensor = self._living.get((part.path, stored))
        if tensor is None:
            tensor = self._living[part.path, stored] = part.read(stored)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:  # that of Mapping would read the tensor
        return name in self._entries

    __eq__ = object.__eq__  # that of Mapping would ask for the truth of `tensor == tensor`
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<Checkpoint {self.path}: {len(self)} tensors in {len(self.files)} files>"

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopen, self._arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; tensors already read stay valid."""
        if not self._closed:
            self._closed = True
            for part in self._parts:
                part.close()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor by name; safetensors data is not read.

        Raises:
            CheckpointError: the checkpoint was closed.
        """
        return {name: part.shape(stored) for name, (part, stored) in self._open_entries().items()}

    def dtypes(self) -> dict[str, torch.dtype]:
        """The dtype of every tensor by name; safetensors data is not read.

        Raises:
            CheckpointError: torch has no such dtype, or the checkpoint was closed.
        """
        return {name: part.dtype(stored) for name, (part, stored) in self._open_entries().items()}

    def _open_entries(self) -> dict[str, _Entry]:
        if self._closed:
            raise CheckpointError(
                str(self.path),
                expected="an open checkpoint",
                found="one that was closed",
                remedy="read its tensors inside the `with` block",
            )
        return self._entries


def open_checkpoint(path: str | Path, *, suffix: str | None = None, strip_prefix: bool = True) -> Checkpoint:
    """Open a checkpoint for reading.

    Read are `.safetensors`; `.pt`, `.pth`, `.th`, `.bin` and `.ckpt` written by `torch.save`; an index
    `*.index.json` of either with its shards; and a folder that holds one of these. A pickle is read with
    `weights_only=True`, so no code in it runs. Its state dict is what lies under the one of the keys `state_dict`,
    `model_state_dict`, `model` and `net` that holds tensors by name; without such a key, the whole, or, if that has
    no tensor among its own values, what lies under the only key that holds tensors by name. What lies beside it is
    left out. The prefixes `module.` and `_orig_mod.` are taken off where every name has them.

    Args:
        path: a file or folder. Where the file is missing but its index is there, the index is opened.
        suffix: read the file as if its name ended like this, such as `".pt"`.
        strip_prefix: take the prefixes off; False where the model itself has a part called `module`.

    Returns:
        The checkpoint, open.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged or needs code to be read, its suffix is unknown, its
            index does not match its shards, or it holds no tensor.
    """
    return Checkpoint(locate(Path(path)), suffix=suffix, strip_prefix=strip_prefix)


def _reopen(path: Path, suffix: str | None, strip_prefix: bool) -> Checkpoint:  # noqa: FBT001 - called by pickle
    return Checkpoint(path, suffix=suffix, strip_prefix=strip_prefix)


def common_prefix(names: Iterable[str]) -> str:
    """The known prefixes, one after the other, that stand before every one of some names."""
    names = list(names)
    prefix = ""
    while True:
        longer = (prefix + more for more in PREFIXES)
        found = next((p for p in longer if all(name.startswith(p) and name != p for name in names)), None)
        if found is None:
            return prefix
        prefix = found


def _assemble(path: Path, suffix: str | None) -> tuple[list[Part], dict[str, _Entry], dict[str, str]]:
    """The files of a checkpoint, where each of its tensors is, and its metadata."""
    if path.name.endswith(INDEX):
        weight_map, metadata = read_index(path)
        parts = {file: open_part(path.parent / file) for file in dict.fromkeys(weight_map.values())}
        homes = {name: parts[file] for name, file in weight_map.items()}
    else:
        part = open_part(path, suffix)
        metadata, parts, homes = {}, {path.name: part}, dict.fromkeys(part.stored, part)
    for name, part in homes.items():
        if name not in part.stored:
            raise CheckpointError(
                f"{part.path}: {name}",
                expected=f"the tensor that {path.name} says is here",
                found="no tensor of that name",
                remedy="copy or download the checkpoint again",
            )
    entries = {name: _Entry(part, part.stored[name]) for name, part in homes.items()}
    for part in parts.values():
        metadata = part.metadata | metadata
    if TIED in metadata:
        entries = _with_aliases(entries, metadata.pop(TIED), path)
    if not entries:
        raise CheckpointError(
            str(path), expected="at least one tensor", found="none", remedy="check that this is the right file"
        )
    return list(parts.values()), entries, metadata


def _with_aliases(entries: dict[str, _Entry], record: str, path: Path) -> dict[str, _Entry]:
    """The entries with those names put back that were not stored because another name has the same tensor."""
    aliases = decode_aliases(record, path)
    for alias in aliases:
        if alias.source not in entries or alias.name in entries:
            raise CheckpointError(
                f"{path}: {alias.name}",
                expected=f"a name without data of its own, tied to `{alias.source}` as metadata `{TIED}` says",
                found="data of its own" if alias.name in entries else f"no tensor `{alias.source}`",
                remedy="write the file again, without that metadata",
            )
    return insert_aliases(entries, aliases)
