"""What is taken as a model, and the check for NaN."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from checkpoint.states import assert_same, small_state
from onebasin.checkpoint import as_given, check_finite, load_params, open_checkpoint, save_checkpoint, specs
from onebasin.checkpoint.source import CHUNK
from onebasin.errors import CheckpointError, MismatchError, OptionError


class WithState(nn.Linear):
    """A layer whose state dict holds something that is not a tensor."""

    def get_extra_state(self) -> dict[str, int]:
        """Any object."""
        return {"calls": 3}

    def set_extra_state(self, state: object) -> None:
        """Ignored."""


def test_modules_give_their_state() -> None:
    """A module gives parameters and buffers that share its memory and are outside autograd."""
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    params = load_params(module)

    assert_same(params, module.state_dict())
    assert params["0.weight"].data_ptr() == module[0].weight.data_ptr()
    assert not any(tensor.requires_grad for tensor in params.values())


def test_wrapped_modules_give_the_names_of_the_module_inside() -> None:
    """A module wrapped for several devices, for the compiler, or both, has the names it had before."""
    parallel = nn.DataParallel(nn.Linear(2, 2))
    compiled = torch.compile(nn.Linear(2, 2), backend="eager")

    for module in (parallel, compiled, nn.DataParallel(compiled)):
        assert list(load_params(module)) == ["weight", "bias"]


def test_parts_called_module_are_no_wrappers() -> None:
    """A module with a part named like a wrapper's keeps that name."""
    model = nn.Module()
    model.module = nn.Linear(2, 2)

    assert list(load_params(model)) == ["module.weight", "module.bias"]


def test_mappings_pass_as_they_are() -> None:
    """A mapping is returned itself."""
    state = small_state()

    assert load_params(state) is state


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_are_opened(tmp_path: Path, kind: type[str] | type[Path]) -> None:
    """A path is opened as a checkpoint."""
    save_checkpoint(small_state(), tmp_path / "m.safetensors")

    assert_same(load_params(kind(tmp_path / "m.safetensors")), small_state())


def test_other_sources_are_refused() -> None:
    """What is no model is named by its type, and so is a state that is no tensor."""
    with pytest.raises(OptionError, match=r"source: .* found a value of type int; "):
        load_params(3)
    with pytest.raises(CheckpointError, match=r"WithState: _extra_state: .* found a value of type dict; "):
        load_params(WithState(1, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e5m2])
@pytest.mark.parametrize(("bad", "count"), [([torch.nan], 1), ([torch.inf, 1.0, -torch.inf, torch.nan], 3)])
def test_bad_numbers_are_counted_in_the_first_tensor(dtype: torch.dtype, bad: list[float], count: int) -> None:
    """The first tensor with NaN or infinity is named with the number of such entries."""
    params = {"good": torch.ones(3), "bad": torch.tensor([*bad, 2.0]).to(dtype), "worse": torch.tensor(torch.nan)}

    message = f"b.pt: bad: expected finite numbers, found NaN or infinity in {count} of {len(bad) + 1} entries; "
    with pytest.raises(MismatchError, match=re.escape(message)):
        check_finite(params, "b.pt")


def test_numbers_are_checked_in_every_chunk_and_layout() -> None:
    """Entries beyond the first chunk count, in any layout, of complex numbers and of eight bits too."""
    matrix = torch.zeros(2, CHUNK, dtype=torch.bfloat16)
    matrix[0, 0] = matrix[1, -1] = torch.nan

    with pytest.raises(MismatchError, match=f"in 2 of {2 * CHUNK} entries"):
        check_finite({"m": matrix.T}, "a")
    with pytest.raises(MismatchError, match="in 1 of 1 entries"):
        check_finite({"c": torch.tensor(complex(1, torch.inf))}, "a")
    with pytest.raises(MismatchError, match="in 1 of 2 entries"):  # torch itself has no test for this dtype
        check_finite({"e": torch.tensor([1.0, torch.nan]).to(torch.float8_e4m3fn)}, "a")


def test_finite_numbers_pass() -> None:
    """Finite, empty, integer and boolean tensors pass."""
    params = {"e": torch.empty(0), "i": torch.tensor(3), "b": torch.tensor(True), "f": torch.tensor(1e38)}

    check_finite({**params, **small_state()}, "a")


def test_arrays_are_seen_as_tensors() -> None:
    """NumPy arrays by name become tensors when asked for, sharing memory where they may be written to."""
    arrays = {"w": np.ones((2, 3), dtype=np.float32), "fixed": np.arange(3.0)}
    arrays["fixed"].setflags(write=False)
    found = load_params(arrays)

    assert list(found) == ["w", "fixed"]
    assert found["w"].data_ptr() == arrays["w"].ctypes.data
    assert found["fixed"].tolist() == [0.0, 1.0, 2.0]
    back = as_given(arrays, {"w": found["w"], "new": torch.ones(2)})
    assert [type(array) for array in back.values()] == [np.ndarray, np.ndarray]
    tensors = {"w": torch.ones(1)}
    assert as_given({"w": torch.ones(1)}, tensors) is tensors


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.ones(2, dtype=">f4"), np.arange(4)[::-1]])
def test_arrays_that_torch_cannot_hold_are_named(array: np.ndarray) -> None:
    """Texts, objects, foreign byte orders and negative steps are an error of that array."""
    with pytest.raises(MismatchError, match=r"^w: expected an array of numbers that torch can hold, found dtype"):
        load_params({"w": array})["w"]


def test_specs_do_not_read_data(tmp_path: Path) -> None:
    """Shape and dtype are those of the header, and tell what can be averaged and how many bytes it has."""
    save_checkpoint({"w": torch.ones(2, 3).half(), "n": torch.tensor(3)}, tmp_path / "m.safetensors")
    found = specs(open_checkpoint(tmp_path / "m.safetensors"))

    assert found == {"w": ((2, 3), torch.float16), "n": ((), torch.int64)}
    assert (found["w"].averages, found["w"].nbytes, found["n"].averages) == (True, 12, False)
    assert specs({"w": torch.ones(4)})["w"] == ((4,), torch.float32)
