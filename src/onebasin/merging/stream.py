"""Merge checkpoints into a file without holding more than a few chunks of a tensor in memory."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from onebasin.checkpoint import Checkpoint, save_checkpoint
from onebasin.checkpoint.format import SAFETENSORS, kind_of
from onebasin.checkpoint.shards import stream_checkpoint
from onebasin.merging.network import Moved, Plan
from onebasin.progress import Progress, Report, silent


def write_merged(
    plan: Plan,
    path: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    like: Checkpoint | None = None,
    shard_bytes: int | None = None,
    threads: int = 1,
    progress: Report = silent,
) -> tuple[Path, ...]:
    """Merge networks into a checkpoint.

    Safetensors are written tensor by tensor from several threads, each holding a few chunks (a network that is moved
    holds the tensor that is moved, up to three times). Interrupted or killed, the same call goes on with the files that
    are not finished. A pickle is gathered in memory.

    Args:
        plan: what to merge and how.
        path: the file to write, see `save_checkpoint`.
        metadata: text for the headers; by default that of `like`.
        like: packed as this is.
        shard_bytes: at most so many bytes of tensors in a file, or one tensor.
        threads: how many tensors are worked on at a time; the bytes written do not depend on it.
        progress: called with bytes written so far.

    Returns:
        The files written, the index last where there is one.

    Raises:
        CheckpointError: a file cannot be written, or another process writes it.
        MismatchError: a tensor holds NaN, or infinity where the plan does not let it pass.
    """
    if kind_of(path) != SAFETENSORS:
        progress(Progress("merging", 0))
        return save_checkpoint(_Merged(plan), path, metadata=metadata, like=like, shard_bytes=shard_bytes)
    with _one_thread():
        return stream_checkpoint(
            plan.specs,
            plan.chunks,
            path,
            digest=_digest(plan, [metadata, shard_bytes]),
            twins=plan.twins,
            metadata=metadata,
            like=like,
            shard_bytes=shard_bytes,
            threads=threads,
            progress=progress,
        )


class _Merged(Mapping[str, Tensor]):
    """The merged tensors, made when asked for; twins are asked for once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._made: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        first = self._plan.twins.get(name, name)
        if first not in self._plan.twins.values():
            return self._plan.tensor(first)
        if first not in self._made:
            self._made[first] = self._plan.tensor(first)
        return self._made[first]

    def __iter__(self) -> Iterator[str]:
        return iter(self._plan.specs)

    def __len__(self) -> int:
        return len(self._plan.specs)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch works with one thread: here it is tensors that are worked on at the same time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _digest(plan: Plan, more: list[object]) -> str:
    """Tells a merger from all others: by files, their sizes, times and headers, and by every setting."""
    networks = [*plan.models, *([] if plan.base is None else [plan.base])]
    about = [
        [_identity(network) for network in networks],
        plan.method.name,
        plan.settings.to_data(),
        {name: [spec.shape, str(spec.dtype)] for name, spec in plan.specs.items()},
        plan.twins,
        plan.infinity,
        more,
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _moves(network: Moved) -> str:
    """The digest of the permutations and of what they move."""
    digest = hashlib.sha256(json.dumps(network.matching.symmetry.to_json(), sort_keys=True).encode())
    for name, permutation in network.matching.permutations.items():
        digest.update(name.encode() + permutation.index.astype("<i8").tobytes())
    return digest.hexdigest()


def _identity(network: Mapping[str, Tensor]) -> list[object]:
    """What tells a network from others; one in memory is like no other, so that its merger is never gone on with."""
    if isinstance(network, Moved):
        return [_identity(network.params), _moves(network)]
    if not isinstance(network, Checkpoint):
        return [secrets.token_hex(16)]
    rows: list[object] = [str(network.path), network.packaging.prefix]
    for path in network.files:
        status = path.stat()
        with path.open("rb") as file:
            start = hashlib.sha256(file.read(1 << 20)).hexdigest()
        rows.append([path.name, status.st_size, status.st_mtime_ns, start])
    return rows
