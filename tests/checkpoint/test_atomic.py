"""A checkpoint is replaced whole or not at all."""

import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from checkpoint.states import FORMATS, assert_same, small_state
from onebasin.checkpoint import open_checkpoint, save_checkpoint
from onebasin.errors import CheckpointError


class Breaking(Mapping[str, Tensor]):
    """Gives the tensors of `small_state`, and an error in place of the third."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getitem__(self, name: str) -> Tensor:
        if name == list(small_state())[2]:
            raise self.error
        return small_state()[name] + 1

    def __iter__(self) -> Iterator[str]:
        return iter(small_state())

    def __len__(self) -> int:
        return len(small_state())


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("error", [RuntimeError("the source broke"), KeyboardInterrupt()])
@pytest.mark.parametrize(("name", "shard_bytes"), FORMATS)
def test_interrupted_writes_leave_everything_as_it_was(
    tmp_path: Path, name: str, shard_bytes: int | None, error: BaseException
) -> None:
    """When a tensor cannot be had, the error passes unchanged, old files are untouched and no new file is there."""
    save_checkpoint(small_state(), tmp_path / name, shard_bytes=shard_bytes)
    before = content(tmp_path)
    with pytest.raises(type(error)) as caught:
        save_checkpoint(Breaking(error), tmp_path / name, shard_bytes=shard_bytes)

    assert caught.value is error
    assert content(tmp_path) == before


@pytest.mark.parametrize(("name", "shard_bytes"), FORMATS)
def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path, name: str, shard_bytes: int | None) -> None:
    """When the system takes no more bytes, the error says so, and the old files are all there is."""
    path = tmp_path / name
    save_checkpoint(small_state(), path, shard_bytes=shard_bytes)
    before = content(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match="found File too large; check") as caught:
            save_checkpoint(small_state() | {"large": torch.ones(200_000)}, path, shard_bytes=shard_bytes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert caught.value.subject == str(path)
    assert content(tmp_path) == before


def test_shards_are_replaced_together(tmp_path: Path) -> None:
    """Where one shard may not be replaced, none is."""
    *shards, _ = save_checkpoint(small_state(), tmp_path / "m.safetensors", shard_bytes=24)
    shards[1].unlink()
    shards[1].mkdir()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(CheckpointError, match="found a folder") as caught:
        save_checkpoint({n: t + 1 for n, t in small_state().items()}, tmp_path / "m.safetensors", shard_bytes=24)

    assert caught.value.subject == str(shards[1])
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_shards_are_replaced_by_shards(tmp_path: Path) -> None:
    """A second write in shards gives the new tensors and leaves nothing beside them."""
    save_checkpoint(small_state(), tmp_path / "m.safetensors", shard_bytes=24)
    names = set(content(tmp_path))
    state = {name: tensor + 1 for name, tensor in small_state().items()}
    save_checkpoint(state, tmp_path / "m.safetensors", shard_bytes=24)

    assert_same(open_checkpoint(tmp_path), state)
    assert set(content(tmp_path)) == names
