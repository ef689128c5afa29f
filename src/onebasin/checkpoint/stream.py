"""The tensors to be written: each asked for once, and none written twice."""

from collections.abc import Iterable, Iterator, Mapping
from weakref import ref

import torch
from torch import Tensor

from onebasin.checkpoint.format import Alias, require_dense, view_key


class TensorStream:
    """The tensors of a mapping on their way to a file, without those that repeat an earlier one.

    Args:
        params: tensors by name.
        tied: rows of names that were one tensor in the model; they still are where their tensors are equal.

    Attributes:
        names: all names, in the order of `params`.
        aliases: the names passed over so far because an earlier one has the same tensor.
    """

    def __init__(self, params: Mapping[str, Tensor], tied: Iterable[tuple[str, ...]]) -> None:
        self.names = list(params)
        self.aliases: list[Alias] = []
        self._params = params
        self._positions = {name: position for position, name in enumerate(self.names)}
        self._rows = {name: row for row in tied for name in row}
        self._first_of_row: dict[tuple[str, ...], tuple[str, Tensor]] = {}
        self._seen: dict[tuple[object, ...] | None, tuple[ref[Tensor], str]] = {}

    def take(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor for those names that no earlier name stands for.

        Raises:
            CheckpointError: a tensor is sparse, quantized or without data.
        """
        for name in names:
            value = self._params[name]
            tensor = require_dense(name, value)
            stored = self._stored(name, value, tensor)
            if stored == name:
                yield name, tensor
            else:
                self.aliases.append(Alias(name, stored, self._positions[name]))

    def batches_by_file(self, shards: Mapping[str, str]) -> Iterator[dict[str, Tensor]]:
        """The tensors of one file after the other; a name that `shards` does not know goes to the last file."""
        files = sorted(set(shards.values()))
        for file in files:
            batch = dict(self.take(name for name in self.names if shards.get(name, files[-1]) == file))
            if batch:
                yield batch

    def batches_by_size(self, limit: int) -> Iterator[dict[str, Tensor]]:
        """Tensors in their order, as many at a time as have `limit` bytes together, but at least one."""
        batch: dict[str, Tensor] = {}
        size = 0
        for name, tensor in self.take(self.names):
            if batch and size + tensor.nbytes > limit:
                yield batch
                batch, size = {}, 0
            batch[name] = tensor
            size += tensor.nbytes
        yield batch

    def _stored(self, name: str, value: Tensor, tensor: Tensor) -> str:
        """The name whose tensor stands for this one: its own, or an earlier one."""
        key = view_key(tensor)
        earlier: ref[Tensor] | None
        earlier, stored = self._seen.get(key, (None, name))
        # The memory of a tensor that is gone may have been given to this one, so the earlier one must still live.
        alive = earlier is not None and earlier() is not None
        if not alive:
            stored = name
        row = self._rows.get(name)
        if row is not None:
            first, kept = self._first_of_row.setdefault(row, (stored, tensor))
            if stored == name and same_bits(kept, tensor):
                stored = first
        if key is not None and not alive:
            self._seen[key] = (ref(value), stored)
        return stored


def as_bytes(tensor: Tensor) -> Tensor:
    """The values of a tensor in row-major order as they lie in memory.

    Returns:
        uint8 `[bytes]` on the CPU; the memory of `tensor` itself where it is laid out like that.
    """
    return tensor.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors agree in dtype, shape and every bit, NaN included."""
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(as_bytes(a), as_bytes(b))
