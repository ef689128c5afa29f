"""Tensors with several names."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from weakref import ref

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from checkpoint.states import FORMATS, assert_same, same
from onebasin.checkpoint import load_params, open_checkpoint, save_checkpoint


class FreshTensors(Mapping[str, Tensor]):
    """Makes every tensor when asked for it, and counts how many are in memory at most."""

    def __init__(self, values: dict[str, float]) -> None:
        self.values_of = values
        self.made: list[ref[np.ndarray[tuple[int], np.dtype[np.float64]]]] = []
        self.most = 0

    def __getitem__(self, name: str) -> Tensor:
        data = np.full(64, self.values_of[name])
        self.made.append(ref(data))
        self.most = max(self.most, sum(earlier() is not None for earlier in self.made))
        return torch.from_numpy(data)

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_of)

    def __len__(self) -> int:
        return len(self.values_of)


def language_model() -> nn.Module:
    """An embedding whose weight is that of the last layer too."""
    model = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 3), nn.Linear(3, 4, bias=False))
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize(("name", "shard_bytes"), FORMATS)
def test_tied_modules_stay_tied(tmp_path: Path, name: str, shard_bytes: int | None) -> None:
    """A module's tied weights are one tensor in the file, and one after reading."""
    params = load_params(language_model())
    save_checkpoint(params, tmp_path / name, shard_bytes=shard_bytes)

    found = open_checkpoint(tmp_path / name)
    assert found.tied == (("0.weight", "2.weight"),)
    assert found["0.weight"] is found["2.weight"]
    assert_same(found, params)


def test_safetensors_hold_one_copy(tmp_path: Path) -> None:
    """The further name of a tied tensor is in the metadata only, as the safetensors library asks for."""
    save_checkpoint(load_params(language_model()), tmp_path / "model.safetensors")

    assert set(safetensors.torch.load_file(tmp_path / "model.safetensors")) == {"0.weight", "1.weight", "1.bias"}
    assert "onebasin.tied" not in open_checkpoint(tmp_path / "model.safetensors").metadata


@pytest.mark.parametrize(("name", "shard_bytes"), FORMATS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_equal_tensors_are_tied_as_in_like(tmp_path: Path, name: str, shard_bytes: int | None, prefix: str) -> None:
    """Copies under names that are tied in `like` are tied again, NaN or not, and other equal tensors are not."""
    tied, other = torch.tensor([1.0, torch.nan]), torch.tensor([2.0])
    state = {f"{prefix}a": other, f"{prefix}b": tied, f"{prefix}c": tied}
    save_checkpoint(state, tmp_path / name, shard_bytes=shard_bytes)
    like = open_checkpoint(tmp_path / name)
    copies = {"a": tied.clone(), "b": tied.clone(), "c": tied.clone()}
    save_checkpoint(copies, tmp_path / name, like=like, shard_bytes=shard_bytes)

    found = open_checkpoint(tmp_path / name)
    assert like.tied == found.tied == (("b", "c"),)
    assert found.packaging.prefix == prefix
    assert_same(found, copies)


def test_an_old_record_of_ties_is_not_kept(tmp_path: Path) -> None:
    """Metadata copied from another file by hand does not tie what is written with it."""
    record = {"onebasin.tied": '[["x","y",0]]'}
    save_checkpoint({"a": torch.ones(1)}, tmp_path / "m.safetensors", metadata=record)

    assert open_checkpoint(tmp_path / "m.safetensors").tied == ()


def test_tensors_that_differ_are_untied(tmp_path: Path) -> None:
    """Names tied in `like` whose tensors now differ are written one by one, be it by the sign of a zero."""
    shared = torch.zeros(2)
    save_checkpoint({"a": shared, "b": shared}, tmp_path / "m.safetensors")
    state = {"a": torch.zeros(2), "b": -torch.zeros(2)}
    save_checkpoint(state, tmp_path / "m.safetensors", like=open_checkpoint(tmp_path / "m.safetensors"))

    found = open_checkpoint(tmp_path / "m.safetensors")
    assert found.tied == ()
    assert_same(found, state)


def test_chains_of_ties_end_at_a_stored_tensor(tmp_path: Path) -> None:
    """A name that shares memory with a name that is a copy of a third is stored under the third."""
    shared = torch.ones(3)
    save_checkpoint({"a": shared, "b": shared}, tmp_path / "like.safetensors")
    copy = shared.clone()
    state = {"a": shared, "b": copy, "c": copy, "d": shared}
    save_checkpoint(state, tmp_path / "m.safetensors", like=open_checkpoint(tmp_path / "like.safetensors"))

    assert open_checkpoint(tmp_path / "m.safetensors").tied == (("a", "b", "c", "d"),)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_conjugate_views_keep_their_values(tmp_path: Path, suffix: str) -> None:
    """A conjugate and a negated view of the same memory, which torch leaves uncomputed, read as they were."""
    numbers = torch.tensor([1 + 2j, 3 - 4j])
    state = {"a": numbers, "conj": numbers.conj(), "imag": numbers.imag, "neg": numbers.conj().imag}
    save_checkpoint(state, tmp_path / f"m{suffix}")

    assert_same(open_checkpoint(tmp_path / f"m{suffix}"), {name: t.clone() for name, t in state.items()})


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_other_views_of_the_same_memory_keep_their_values(tmp_path: Path, suffix: str) -> None:
    """A transposed view, a flat view and overlapping parts are not tied, and each reads as it was."""
    matrix = torch.arange(9.0).reshape(3, 3)
    state = {"m": matrix, "t": matrix.T, "flat": matrix.view(-1), "top": matrix[:2], "bottom": matrix[1:]}
    save_checkpoint(state, tmp_path / f"m{suffix}")

    found = open_checkpoint(tmp_path / f"m{suffix}")
    assert found.tied == ()
    assert_same(found, state)


def test_views_that_cover_their_storage_stay_views_in_a_pickle(tmp_path: Path) -> None:
    """Weights that lie in one flat buffer, as recurrent layers keep them, still do."""
    flat = torch.arange(6.0)
    save_checkpoint({"a": flat[:2], "b": flat[2:]}, tmp_path / "m.pt")

    found = torch.load(tmp_path / "m.pt", weights_only=True)
    assert found["a"].untyped_storage().data_ptr() == found["b"].untyped_storage().data_ptr()


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_reused_memory_is_not_taken_for_a_tie(tmp_path: Path, name: str) -> None:
    """Tensors that are gone before the next is made are written apart, though their addresses may be the same."""
    params = FreshTensors({f"p{i}": float(i) for i in range(40)})
    save_checkpoint(params, tmp_path / name, shard_bytes=64 * 8 * 2)

    found = open_checkpoint(tmp_path / name)
    assert found.tied == ()
    assert all(
        same(found[name], torch.full((64,), value, dtype=torch.float64)) for name, value in params.values_of.items()
    )


def test_shards_are_written_one_at_a_time(tmp_path: Path) -> None:
    """Of tensors made on demand, no more than one shard and the next tensor are in memory at once."""
    params = FreshTensors({f"p{i}": float(i) for i in range(40)})
    save_checkpoint(params, tmp_path / "model.safetensors", shard_bytes=64 * 8 * 4)

    assert params.most <= 4 + 1
