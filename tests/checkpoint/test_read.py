"""Opening checkpoints: where they are found, and what is read when."""

import json
import pickle
import resource
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from checkpoint.states import assert_same, same, small_state
from onebasin.checkpoint import Checkpoint, load_params, open_checkpoint, save_checkpoint
from onebasin.errors import CheckpointError
from shared_data import require_checkpoints

USUAL = "model.safetensors"
# Files of a folder, and the one that is opened.
FOLDERS = [
    (["anything.safetensors", "config.json"], "anything.safetensors"),
    (["weights.pth"], "weights.pth"),
    ([USUAL, "adapter.safetensors", "optimizer.pt"], USUAL),
    (["pytorch_model.bin", "training_args.bin"], "pytorch_model.bin"),
    ([USUAL, "pytorch_model.bin"], USUAL),
    (["weights.safetensors", "weights.pt"], "weights.safetensors"),
    (["weights.pt", ".onebasin-0.pt", ".onebasin-0.safetensors"], "weights.pt"),
]


@pytest.mark.parametrize(("files", "chosen"), FOLDERS)
def test_folders_are_searched(tmp_path: Path, files: list[str], chosen: str) -> None:
    """Of a folder the usual names are taken first, then the only safetensors file, then the only pickle."""
    for file in files:
        if file == chosen:
            save_checkpoint(small_state(), tmp_path / file)
        else:
            (tmp_path / file).write_bytes(b"something else")

    found = open_checkpoint(tmp_path)
    assert found.path == tmp_path / chosen
    assert_same(found, small_state())


def test_indices_are_opened_by_every_name(tmp_path: Path) -> None:
    """Shards are opened by their folder, by their index, and by the name of the file they stand for."""
    *shards, index = save_checkpoint(small_state(), tmp_path / "w.safetensors", shard_bytes=24)

    for path in (tmp_path, index, tmp_path / "w.safetensors", str(index)):
        found = open_checkpoint(path)
        assert found.path == index
        assert found.files == tuple(shards)


def test_tensors_beside_the_index_are_not_seen(tmp_path: Path) -> None:
    """The index says what belongs to the checkpoint; what else its shards hold does not."""
    *_, index = save_checkpoint(small_state(), tmp_path / USUAL, shard_bytes=24)
    content = json.loads(index.read_text())
    del content["weight_map"]["counter"]
    index.write_text(json.dumps(content))

    assert "counter" not in open_checkpoint(index)


def test_shards_are_read_when_asked_for(tmp_path: Path) -> None:
    """Shapes and dtypes come from the headers; a shard cut short after opening hurts only its own tensors."""
    (first, _), index = save_checkpoint(small_state(), tmp_path / USUAL, shard_bytes=24)[:2], tmp_path
    found = open_checkpoint(index)
    first.unlink()

    assert found.shapes()["layer.weight"] == (2, 2)
    assert found.dtypes()["head.weight"] == torch.bfloat16
    assert same(found["counter"], small_state()["counter"])


def test_data_is_not_read_before_it_is_asked_for(tmp_path: Path) -> None:
    """A file of two gigabytes is opened, described and read in part without taking that memory."""
    path, count = tmp_path / "large.safetensors", 1 << 29
    header = {
        "small": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "large": {"dtype": "F32", "shape": [count], "data_offsets": [8, 8 + 4 * count]},
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + 8 + 4 * count)  # a hole: the file takes no space on disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = open_checkpoint(path)

    assert found.shapes() == {"small": (2,), "large": (count,)}
    assert found["small"].tolist() == [0.0, 0.0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not list what is mapped")
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_tensors_are_mapped_from_the_file(tmp_path: Path, suffix: str) -> None:
    """The memory of a tensor is that of its file, in safetensors and in a zip of torch."""
    path = tmp_path / f"m{suffix}"
    save_checkpoint(small_state(), path)
    weight = open_checkpoint(path)["layer.weight"]
    spans = [
        line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line
    ]

    assert any(int(start, 16) <= weight.data_ptr() < int(stop, 16) for start, stop in spans)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_closing_lets_go_of_files_not_of_tensors(tmp_path: Path, suffix: str) -> None:
    """After the `with` block a tensor read before is still there, and no other can be read."""
    save_checkpoint(small_state(), tmp_path / f"m{suffix}")
    with open_checkpoint(tmp_path / f"m{suffix}") as found:
        weight = found["layer.weight"]
    found.close()

    assert same(weight, small_state()["layer.weight"])
    assert list(found) == list(small_state())
    for ask in (lambda: found["layer.weight"], found.shapes, found.dtypes):
        with pytest.raises(CheckpointError, match="closed"):
            ask()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_changes_do_not_reach_the_file(tmp_path: Path, suffix: str) -> None:
    """A tensor that was mapped from a file can be changed, and the file stays as it was."""
    save_checkpoint(small_state(), tmp_path / f"m{suffix}")
    before = (tmp_path / f"m{suffix}").read_bytes()
    open_checkpoint(tmp_path / f"m{suffix}")["layer.weight"].fill_(-1)

    assert (tmp_path / f"m{suffix}").read_bytes() == before


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_checkpoint_can_be_written_over_itself(tmp_path: Path, suffix: str) -> None:
    """Tensors mapped from a file stay what they were while that very file is replaced."""
    path = tmp_path / f"m{suffix}"
    save_checkpoint(small_state(), path)
    found = open_checkpoint(path)
    save_checkpoint({name: tensor * 2 for name, tensor in found.items()}, path)

    assert_same(found, small_state())
    assert same(open_checkpoint(path)["layer.bias"], torch.tensor([1.0, -1.0]))


def test_checkpoints_travel_to_other_processes(tmp_path: Path) -> None:
    """A pickled checkpoint opens its file again, read in the same way."""
    save_checkpoint({"module.a": torch.ones(2)}, tmp_path / "blob", suffix=".pt")
    found = open_checkpoint(tmp_path / "blob", suffix=".pt", strip_prefix=False)

    assert_same(pickle.loads(pickle.dumps(found)), {"module.a": torch.ones(2)})


def test_checkpoints_behave_as_mappings(tmp_path: Path) -> None:
    """Names can be looked for, are missing as in a dict, and comparing two checkpoints does not read them."""
    save_checkpoint(small_state(), tmp_path / "m.pt")
    found, other = open_checkpoint(tmp_path / "m.pt"), open_checkpoint(tmp_path / "m.pt")

    assert "layer.bias" in found
    assert "bias" not in found
    assert len(found) == 4
    assert found == found  # noqa: PLR0124 - equality is what is tested
    assert found != other
    assert repr(found) == f"<Checkpoint {tmp_path / 'm.pt'}: 4 tensors in 1 files>"
    with pytest.raises(KeyError, match="bias"):
        found["bias"]


def test_real_checkpoints_are_read_and_kept() -> None:
    """Published safetensors files read as the library of that format reads them."""
    for path in require_checkpoints("cifar10_resnet20"):
        found = load_params(path)
        library = safetensors.torch.load_file(path)
        prefix = found.packaging.prefix if isinstance(found, Checkpoint) else ""
        assert {prefix + name for name in found} == set(library)
        assert all(same(found[name], library[prefix + name]) for name in found)
