"""Every file that cannot be read or written is named, with what is wrong and what to do, in one line."""

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from checkpoint.states import small_state, unprivileged
from onebasin.checkpoint import open_checkpoint, save_checkpoint
from onebasin.errors import CheckpointError, OptionError

INDEX = "model.safetensors.index.json"
SHARD = "model-00001-of-00002.safetensors"
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n"
)


class Touch:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.path),))


def nothing(_: Path) -> None:
    """Leave the path as it is."""


def raw(data: bytes) -> Callable[[Path], None]:
    """Write bytes."""
    return lambda path: path.write_bytes(data) and None


def torch_file(content: object) -> Callable[[Path], None]:
    """Write any object with torch."""
    return lambda path: torch.save(content, path)


def cut(size: int, *, legacy: bool = False) -> Callable[[Path], None]:
    """Write a checkpoint without its last bytes."""

    def make(path: Path) -> None:
        if legacy:
            torch.save(small_state(), path, _use_new_zipfile_serialization=False)
        else:
            save_checkpoint(small_state(), path)
        path.write_bytes(path.read_bytes()[:-size])

    return make


def safetensors_file(header: object, size: int = 8) -> Callable[[Path], None]:
    """Write a safetensors file with a header of one's own and `size` zero bytes of data."""
    text = json.dumps(header).encode()
    return raw(struct.pack("<Q", len(text)) + text + bytes(size))


def folder(*names: str) -> Callable[[Path], None]:
    """Make a folder with files."""

    def make(path: Path) -> None:
        path.mkdir()
        for name in names:
            (path / name).write_bytes(b"x")

    return make


def sharded(change: Callable[[dict[str, dict[str, object]]], object], *, lose: bool = False) -> Callable[[Path], None]:
    """Write a checkpoint in shards, change its index, and maybe lose the first shard."""

    def make(path: Path) -> None:
        *_, index = save_checkpoint(small_state(), path, shard_bytes=24)
        content = json.loads(index.read_text())
        change(content)
        index.write_text(json.dumps(content))
        if lose:
            (path.parent / SHARD).unlink()

    return make


def index_of(weight_map: object) -> Callable[[Path], None]:
    """Write an index alone."""
    return raw(json.dumps({"weight_map": weight_map}).encode())


def script(path: Path) -> None:
    """Write a TorchScript archive: a zip file as torch makes it, with code."""
    with torch.serialization._open_zipfile_writer(str(path)) as archive:
        for record in ("data.pkl", "constants.pkl", "version"):
            archive.write_record(record, b"3\n", 2)


TIED = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}

# File name, how it is made, and what the error says: its subject (the path is P), and words on what was found.
BAD = [
    ("m.safetensors", nothing, "P", "found nothing there"),
    ("m.pt", nothing, "P", "found nothing there"),
    ("none/m.pt", nothing, "P", "found nothing there"),
    ("m.pt", raw(b""), "P", "found an empty file"),
    ("m.safetensors", raw(b""), "P", "found an empty file"),
    (INDEX, raw(b""), "P", "found an empty file"),
    ("m.safetensors", raw(POINTER), "P", "found a Git LFS pointer to one; run `git lfs pull`"),
    ("m.bin", raw(POINTER), "P", "found a Git LFS pointer to one; run `git lfs pull`"),
    ("m.gguf", raw(b"GGUF"), "P", "found `.gguf`; rename"),
    ("m", raw(b"x"), "P", "found no suffix; rename"),
    ("m.safetensors", cut(1), "P", "expected a complete safetensors file, found a truncated, damaged"),
    ("m.safetensors", raw(b"abc"), "P", "expected a complete safetensors file, found a truncated, damaged"),
    ("m.safetensors", torch_file({}), "P", "expected a complete safetensors file, found a truncated, damaged"),
    ("m.safetensors", safetensors_file([1]), "P", "expected a complete safetensors file, found a truncated, damaged"),
    ("m.pt", cut(100), "P", "expected a file written by `torch.save`, found a truncated, damaged"),
    ("m.pt", cut(10, legacy=True), "P", "expected a file written by `torch.save`, found a truncated, damaged"),
    ("m.pt", cut(300, legacy=True), "P", "expected a file written by `torch.save`, found a truncated, damaged"),
    ("m.pt", raw(b"<!DOCTYPE html>"), "P", "expected a file written by `torch.save`, found a truncated, damaged"),
    ("m.pt", raw(b"\x80\x04K\x01."), "P", "expected a file written by `torch.save`, found a truncated, damaged"),
    ("m.pt", torch_file(nn.Linear(2, 2)), "P", "found code or objects that are not tensors (`torch.nn"),
    ("m.pt", torch_file({"state_dict": small_state(), "at": Path("x")}), "P", "found code or objects"),
    ("m.pt", script, "P", "found code or objects that are not tensors, which are never loaded; export"),
    ("m.pt", torch_file([torch.ones(1)]), "P", "expected tensors by name, found a list; save"),
    ("m.pt", torch_file(torch.ones(1)), "P", "expected tensors by name, found a Tensor; save"),
    ("m.pt", torch_file({}), "P", "found a dict of 0 entries without any tensor by name; save"),
    ("m.pt", torch_file({"epoch": 3, "state_dict": {}}), "P", "found a dict of 2 entries without any tensor by name"),
    ("m.pt", torch_file({0: torch.ones(1)}), "P", "found the key 0 of type int; save"),
    ("m.pt", torch_file({"model": {0: torch.ones(1)}}), "P", "found the key 0 of type int; save"),
    ("m.pt", torch_file({"a": torch.ones(1), "b": 3}), "P: b", "found a value of type int; leave"),
    ("m.pt", torch_file({"a": torch.eye(2).to_sparse()}), "P: a", "found a tensor with layout torch.sparse_coo; leave"),
    ("m.pt", torch_file({"a": torch.empty(2, device="meta")}), "P: a", "found a tensor on the meta device; leave"),
    ("m.pt", torch_file({"g": small_state(), "d": small_state()}), "P", "found 2, under the keys g, d; save"),
    (
        "m.pt",
        torch_file({"net": small_state(), "model": small_state()}),
        "P",
        "found 2, under the keys net, model; save",
    ),
    ("m.safetensors", safetensors_file({}, 0), "P", "expected at least one tensor, found none"),
    ("m.safetensors", safetensors_file({"__metadata__": {"onebasin.tied": "[1]"}} | TIED), "P", "found [1]; write"),
    ("m.safetensors", safetensors_file({"__metadata__": {"onebasin.tied": "?"}} | TIED), "P", "found ?; write"),
    (
        "m.safetensors",
        safetensors_file({"__metadata__": {"onebasin.tied": '[["a","b",0]]'}} | TIED),
        "P: a",
        "found no tensor `b`; write",
    ),
    (
        "m.safetensors",
        safetensors_file({"__metadata__": {"onebasin.tied": '[["w","w",0]]'}} | TIED),
        "P: w",
        "found data of its own; write",
    ),
    ("m", folder("config.json"), "P", "expected a folder with one checkpoint, found none in it; name"),
    ("m", folder("a.pt", "b.pt"), "P", "found 2 (a.pt, b.pt); name"),
    ("m", folder("a.safetensors", "b.safetensors", "c.pt"), "P", "found 2 (a.safetensors, b.safetensors); name"),
    (INDEX, raw(b"{"), "P", "found text that is not JSON"),
    (INDEX, raw(b"\xff\xfe"), "P", "found text that is not JSON"),
    (INDEX, raw(b"[" * 100_000), "P", "found text that is not JSON"),
    (INDEX, raw(b"[]"), "P", "found no `weight_map` in it"),
    (INDEX, index_of([]), "P", "found no `weight_map` in it"),
    (INDEX, index_of({}), "P", "expected at least one tensor, found none"),
    (INDEX, index_of({"a": 3}), "P", "found the file name 3 for tensor `a`"),
    (INDEX, index_of({"a": "../x.safetensors"}), "P", "found the file name '../x.safetensors' for tensor `a`"),
    ("model.safetensors", sharded(dict, lose=True), f"D/{SHARD}", f"expected the shard that {INDEX} names for tensor"),
    (
        "model.safetensors",
        sharded(lambda content: content["weight_map"].update(extra=SHARD)),
        f"D/{SHARD}: extra",
        f"expected the tensor that {INDEX} says is here, found no tensor of that name",
    ),
]


@pytest.mark.parametrize(("name", "make", "subject", "words"), BAD)
def test_bad_checkpoints_are_named(
    tmp_path: Path, name: str, make: Callable[[Path], None], subject: str, words: str
) -> None:
    """Each bad file gives one line with the file or tensor, what was expected, what was found, and a remedy."""
    path = tmp_path / name
    make(path)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)

    line = str(caught.value)
    named = subject.replace("P", str(path), 1) if subject[0] == "P" else subject.replace("D", str(tmp_path), 1)
    assert caught.value.subject == named
    assert words in line
    assert line.startswith(f"{named}: expected ")
    assert "\n" not in line
    assert "\x1b" not in line


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    """A pickle that would do something when loaded is refused before it does."""
    torch.save({"w": torch.ones(1), "x": Touch(tmp_path / "made")}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=r"`posix\.mkdir`"):
        open_checkpoint(tmp_path / "m.pt")

    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("code", ["F4", "F8_E8M0"])
def test_unknown_dtypes_are_named_when_asked_for(tmp_path: Path, code: str) -> None:
    """A safetensors dtype that is not supported is an error of that tensor, not of the others."""
    path = tmp_path / "m.safetensors"
    count = 16 if code == "F4" else 8
    header = {"odd": {"dtype": code, "shape": [count], "data_offsets": [8, 16]}}
    safetensors_file(TIED | header, 16)(path)
    found = open_checkpoint(path)

    assert found["w"].tolist() == [0.0, 0.0]
    for ask in (found.dtypes, lambda: found["odd"]):
        with pytest.raises(CheckpointError, match=f"m.safetensors: odd: .* found {code}; convert"):
            ask()


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder with a checkpoint that this process has no permission for."""
    if os.name != "posix":
        pytest.skip("permissions of this kind exist on POSIX only")
    path = tmp_path / "locked"
    path.mkdir()
    save_checkpoint(small_state(), path / "m.pt")
    save_checkpoint(small_state(), path / "m.safetensors")
    path.chmod(0)
    with unprivileged():
        yield path
    path.chmod(0o700)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "m.safetensors.index.json", "."])
def test_missing_permissions_are_named(locked: Path, name: str) -> None:
    """A file or folder that may not be read or written is an error that says so."""
    with pytest.raises(CheckpointError, match=r"found Permission denied; check the permissions"):
        open_checkpoint(locked / name)
    if name != ".":
        with pytest.raises(CheckpointError, match=r"found Permission denied; check the permissions"):
            save_checkpoint(small_state(), locked / name)


# What cannot be written: tensors, file name, the subject of the error, and words of it.
UNWRITABLE = [
    ({}, "m.pt", "P", "expected tensors to write, found none"),
    (small_state(), "m.gguf", "P", "found `.gguf`"),
    (small_state(), "m", "P", "found no suffix"),
    (small_state(), "none/m.pt", "D/none", "expected a folder to write to, found nothing there"),
    (small_state(), "taken.pt", "P", "found a folder; choose"),
    ({"a": torch.eye(2).to_sparse()}, "m.pt", "a", "found a tensor with layout torch.sparse_coo"),
    ({"a": torch.ones(2, device="meta")}, "m.safetensors", "a", "found a tensor on the meta device"),
    ({"a": [1.0]}, "m.safetensors", "a", "found a value of type list"),
    ({"a": torch.ones(1, dtype=torch.complex128)}, "m.safetensors", "a", "found torch.complex128"),
    ({"__metadata__": torch.ones(1)}, "m.safetensors", "__metadata__", "a name other than"),
]


@pytest.mark.parametrize(("state", "name", "subject", "words"), UNWRITABLE)
def test_what_cannot_be_written_is_named(
    tmp_path: Path, state: dict[str, torch.Tensor], name: str, subject: str, words: str
) -> None:
    """Each request that cannot be met gives one line, and nothing is written."""
    (tmp_path / "taken.pt").mkdir()
    with pytest.raises(CheckpointError) as caught:
        save_checkpoint(state, tmp_path / name)

    named = {"P": str(tmp_path / name), "D/none": str(tmp_path / "none")}.get(subject, subject)
    assert caught.value.subject == named
    assert words in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.pt"]


def test_bad_options_are_named(tmp_path: Path) -> None:
    """A shard without room and metadata that is not text are errors of these options."""
    with pytest.raises(OptionError, match="shard_bytes: expected at least 1, found 0"):
        save_checkpoint(small_state(), tmp_path / "m.pt", shard_bytes=0)
    with pytest.raises(OptionError, match=r"metadata\['n'\]: expected text, found a value of type int"):
        save_checkpoint(small_state(), tmp_path / "m.safetensors", metadata={"n": 3})
