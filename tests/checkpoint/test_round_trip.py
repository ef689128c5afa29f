"""What is written is what is read, in every format."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from checkpoint.states import FORMATS, assert_same, expected_ties, small_state, states
from onebasin.checkpoint import open_checkpoint, save_checkpoint


@pytest.mark.parametrize(("name", "shard_bytes"), FORMATS)
@given(state=states())
@settings(max_examples=25)
def test_every_format_gives_back_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, name: str, shard_bytes: int | None, state: dict[str, Tensor]
) -> None:
    """Names, their order, dtypes, shapes, bits and ties survive writing and reading."""
    folder = tmp_path_factory.mktemp("round-trip")
    files = save_checkpoint(state, folder / name, shard_bytes=shard_bytes)

    with open_checkpoint(folder / name) as found:
        assert_same(found, state)
        assert found.shapes() == {name: tuple(tensor.shape) for name, tensor in state.items()}
        assert found.dtypes() == {name: tensor.dtype for name, tensor in state.items()}
        assert sorted(found.tied) == sorted(expected_ties(state))
        assert all(found[name] is found[row[0]] for row in found.tied for name in row)
        assert {*found.files, found.path} == set(files) == set(folder.iterdir())


@pytest.mark.parametrize(("first", "shard_bytes"), FORMATS)
@pytest.mark.parametrize("second", ["model.safetensors", "model.pt"])
def test_formats_convert_into_each_other(tmp_path: Path, first: str, shard_bytes: int | None, second: str) -> None:
    """A checkpoint read from one format and written to another is the same, its ties included."""
    state = small_state()
    state["tied.weight"] = state["layer.weight"]
    save_checkpoint(state, tmp_path / first, shard_bytes=shard_bytes)
    (tmp_path / "out").mkdir()
    save_checkpoint(open_checkpoint(tmp_path / first), tmp_path / "out" / second)

    found = open_checkpoint(tmp_path / "out")
    assert_same(found, state)
    assert found.tied == (("layer.weight", "tied.weight"),)


def test_other_libraries_read_what_was_saved(tmp_path: Path) -> None:
    """The safetensors library and torch read our files without us."""
    state = small_state()
    save_checkpoint(state, tmp_path / "model.safetensors")
    save_checkpoint(state, tmp_path / "model.pt")

    library = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert_same({name: library[name] for name in state}, state)
    assert_same(torch.load(tmp_path / "model.pt", weights_only=True), state)


def test_files_of_other_libraries_are_read(tmp_path: Path) -> None:
    """Files of the safetensors library and of torch, new and old format, are read, names in the order of the file."""
    state = small_state()
    safetensors.torch.save_file(state, tmp_path / "library.safetensors", metadata={"by": "another"})
    torch.save(state, tmp_path / "zip.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)

    library = open_checkpoint(tmp_path / "library.safetensors")
    assert_same({name: library[name] for name in state}, state)
    assert library.metadata == {"by": "another"}
    assert_same(open_checkpoint(tmp_path / "zip.pt"), state)
    assert_same(open_checkpoint(tmp_path / "old.pt"), state)


def test_tensors_start_where_they_can_be_used(tmp_path: Path) -> None:
    """In safetensors every tensor starts at a multiple of its item size, whatever the order of the names."""
    save_checkpoint(
        {"flag": torch.tensor(True), "wide": torch.ones(2, dtype=torch.float64)}, tmp_path / "m.safetensors"
    )

    found = open_checkpoint(tmp_path / "m.safetensors")
    assert list(found) == ["flag", "wide"]
    assert found["wide"].data_ptr() % 8 == 0


def test_shards_follow_the_convention(tmp_path: Path) -> None:
    """Shards and index have the names and the content that Hugging Face gives them."""
    files = save_checkpoint(small_state(), tmp_path / "model.safetensors", shard_bytes=24)

    names = [f"model-{number:05}-of-00002.safetensors" for number in (1, 2)]
    assert [file.name for file in files] == [*names, "model.safetensors.index.json"]
    index = json.loads(files[-1].read_text())
    assert index["metadata"]["total_size"] == 16 + 8 + 12 + 8
    assert list(index["weight_map"].items()) == [
        ("layer.weight", names[0]),
        ("layer.bias", names[0]),
        ("head.weight", names[1]),
        ("counter", names[1]),
    ]
    parts = [safetensors.torch.load_file(file) for file in files[:-1]]
    assert_same({name: (parts[0] | parts[1])[name] for name in small_state()}, small_state())


def test_one_shard_is_a_plain_file(tmp_path: Path) -> None:
    """Where everything fits into one file, there is no index."""
    files = save_checkpoint(small_state(), tmp_path / "model.safetensors", shard_bytes=1000)

    assert files == (tmp_path / "model.safetensors",) == tuple(tmp_path.iterdir())


def test_shards_replace_the_plain_file_that_would_hide_them(tmp_path: Path) -> None:
    """A checkpoint written in shards over a plain one is what is read afterwards."""
    save_checkpoint({"old": torch.ones(1)}, tmp_path / "model.safetensors")
    save_checkpoint(small_state(), tmp_path / "model.safetensors", shard_bytes=24)

    assert_same(open_checkpoint(tmp_path), small_state())
    assert_same(open_checkpoint(tmp_path / "model.safetensors"), small_state())


def test_like_keeps_the_shards(tmp_path: Path) -> None:
    """Written like a sharded checkpoint, each tensor goes to the file of the same number, a new one to the last."""
    save_checkpoint(small_state(), tmp_path / "model.safetensors", shard_bytes=24)
    like = open_checkpoint(tmp_path)
    state = {name: tensor + 1 for name, tensor in small_state().items()}
    reordered = {"new": torch.zeros(5), **{name: state[name] for name in reversed(state)}}
    save_checkpoint(reordered, tmp_path / "other.safetensors", like=like)

    found = open_checkpoint(tmp_path / "other.safetensors")
    assert_same(found, reordered)
    numbers = {name: file.removeprefix("model") for name, file in like.packaging.shards.items()}
    expected = {"new": "-00002-of-00002.safetensors"} | numbers
    assert {name: file.removeprefix("other") for name, file in found.packaging.shards.items()} == expected


def test_like_keeps_an_index_of_one_shard(tmp_path: Path) -> None:
    """Written like a checkpoint of one shard with an index, there is one shard with an index again."""
    shard = tmp_path / "model-00001-of-00001.safetensors"
    save_checkpoint(small_state(), shard)
    index = {"metadata": {}, "weight_map": dict.fromkeys(small_state(), shard.name)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    files = save_checkpoint(small_state(), tmp_path / "copy.safetensors", like=open_checkpoint(tmp_path))

    assert [file.name for file in files] == ["copy-00001-of-00001.safetensors", "copy.safetensors.index.json"]
    assert_same(open_checkpoint(files[-1]), small_state())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_prefixes_are_taken_off_and_put_back(tmp_path: Path, prefix: str, suffix: str) -> None:
    """A prefix that all names have is not seen by the reader, and is written again with `like`."""
    stored = {prefix + name: tensor for name, tensor in small_state().items()}
    save_checkpoint(stored, tmp_path / f"a{suffix}")
    like = open_checkpoint(tmp_path / f"a{suffix}")
    save_checkpoint(like, tmp_path / f"b{suffix}", like=like)

    assert_same(like, small_state())
    assert_same(open_checkpoint(tmp_path / f"a{suffix}", strip_prefix=False), stored)
    assert (tmp_path / f"b{suffix}").read_bytes() == (tmp_path / f"a{suffix}").read_bytes()


@pytest.mark.parametrize("names", [["module.a", "b"], ["module."], ["module", "module.a"]])
def test_prefixes_that_some_names_lack_stay(tmp_path: Path, names: list[str]) -> None:
    """A prefix is kept where a name lacks it or consists of nothing else."""
    save_checkpoint({name: torch.ones(1) for name in names}, tmp_path / "m.pt")

    assert list(open_checkpoint(tmp_path / "m.pt")) == names


# What training scripts save, with S for the state dict; and the key under which it lies.
WRAPPED = [
    ({"state_dict": "S", "epoch": 3, "best": torch.tensor(0.5)}, "state_dict"),
    (
        {"model_state_dict": "S", "optimizer_state_dict": {"state": {0: {"step": torch.tensor(1.0)}}}},
        "model_state_dict",
    ),
    ({"model": "S", "ema": "S"}, "model"),
    ({"epoch": 3, "net": "S", "acc": 91.5}, "net"),
    ({"weights": "S", "loss": [0.5, 0.25]}, "weights"),
    ("S", None),
]


@pytest.mark.parametrize(("content", "wrapper"), WRAPPED)
def test_wrappers_are_opened_and_put_back(tmp_path: Path, content: object, wrapper: str | None) -> None:
    """The state dict inside a wrapper is found, and is written inside it again with `like`, without the rest."""
    filled = {k: small_state() if v == "S" else v for k, v in content.items()} if isinstance(content, dict) else None
    torch.save(filled or small_state(), tmp_path / "a.pt")
    like = open_checkpoint(tmp_path / "a.pt")
    save_checkpoint(like, tmp_path / "b.pt", like=like)
    save_checkpoint(like, tmp_path / "c.pt")

    assert_same(like, small_state())
    written = torch.load(tmp_path / "b.pt", weights_only=True)
    assert wrapper is None or list(written) == [wrapper]
    assert_same(written if wrapper is None else written[wrapper], small_state())
    assert_same(torch.load(tmp_path / "c.pt", weights_only=True), small_state())


@pytest.mark.parametrize("source", ["module", "like"])
def test_versions_of_modules_are_kept(tmp_path: Path, source: str) -> None:
    """The versions that torch attaches to a state dict are written with it, and again with `like`."""
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    save_checkpoint(module.state_dict(), tmp_path / "a.pt")
    if source == "like":
        like = open_checkpoint(tmp_path / "a.pt")
        save_checkpoint(dict(like), tmp_path / "a.pt", like=like)

    state = torch.load(tmp_path / "a.pt", weights_only=True)
    assert state._metadata == module.state_dict()._metadata
    assert state._metadata["1"] == {"version": 2}


@pytest.mark.parametrize("shard_bytes", [None, 24])
def test_metadata_is_kept(tmp_path: Path, shard_bytes: int | None) -> None:
    """Metadata is read as written, comes from `like` or the source by default, and gives way to what is passed."""
    path = tmp_path / "model.safetensors"
    given = {"task": "digits", "note": 'ä\n"', "format": "pt"}
    save_checkpoint(small_state(), path, metadata=given, shard_bytes=shard_bytes)
    first = open_checkpoint(path)
    save_checkpoint(first, tmp_path / "copy.safetensors")
    save_checkpoint(small_state(), tmp_path / "like.safetensors", like=first)
    save_checkpoint(first, tmp_path / "new.safetensors", metadata={"only": "this"})

    assert list(first.metadata.items()) == list(given.items())
    assert open_checkpoint(tmp_path / "copy.safetensors").metadata == given
    assert open_checkpoint(tmp_path / "like.safetensors").metadata == given
    assert open_checkpoint(tmp_path / "new.safetensors").metadata == {"format": "pt", "only": "this"}


COPY = """
from onebasin.checkpoint import open_checkpoint, save_checkpoint
for suffix in (".safetensors", ".pt"):
    like = open_checkpoint("a" + suffix)
    save_checkpoint(like, "b" + suffix, like=like)
"""


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    """Another process with another hash seed, writing to another name, writes the same bytes."""
    suffixes = (".safetensors", ".pt")
    for suffix in suffixes:
        save_checkpoint(small_state(), tmp_path / f"a{suffix}", metadata={letter: letter for letter in "qwertyuiop"})
    variables = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", COPY], check=True, env=variables, cwd=tmp_path)

    for suffix in suffixes:
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_suffix_can_be_given_apart_from_the_name(tmp_path: Path) -> None:
    """A file whose name says nothing is written and read as if it ended in `suffix`."""
    for suffix in (".pt", ".safetensors"):
        save_checkpoint(small_state(), tmp_path / "blob", suffix=suffix)
        assert_same(open_checkpoint(tmp_path / "blob", suffix=suffix), small_state())


def test_a_part_of_a_large_tensor_is_written_alone(tmp_path: Path) -> None:
    """A row of a matrix does not take the matrix along into a pickle."""
    matrix = torch.ones(1000, 1000)
    save_checkpoint({"row": matrix[3]}, tmp_path / "m.pt")

    assert (tmp_path / "m.pt").stat().st_size < 10_000


def test_gradients_are_left_behind(tmp_path: Path) -> None:
    """Parameters are written as plain tensors, and parameters in a file are read as such."""
    layer = nn.Linear(2, 2)
    save_checkpoint(dict(layer.named_parameters()), tmp_path / "a.pt")
    torch.save(dict(layer.named_parameters()), tmp_path / "b.pt")

    assert type(torch.load(tmp_path / "a.pt", weights_only=True)["weight"]) is Tensor
    found = open_checkpoint(tmp_path / "b.pt")["weight"]
    assert type(found) is Tensor
    assert not found.requires_grad
