"""`onebasin spawn` finds the onset of stability, `onebasin spro` grows a simplex."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cli.networks import Files, Run
from onebasin.checkpoint import open_checkpoint
from onebasin.connectivity import Complex, SimplexProfile, Spawning

FEW = ("--epochs", 2, "--after", "0,1,2", "--points", 3, "--batch-size", 30)
SHORT = ("--grow", 2, "--train-epochs", 2, "--batch-size", 30, "--members", 2)


def test_children_are_measured_and_kept(files: Files, run: Run, tmp_path: Path) -> None:
    """Every epoch has a row, children that part at the end are one network, and a second run trains nothing."""
    call = ("spawn", "--task", files.task, *FEW, "--out", tmp_path)
    result = run(*call)

    assert result.exit_code == 0, result.stderr
    assert "Children stay connected" in result.stdout
    found = Spawning.load(tmp_path / "spawning.json")
    assert list(found.profiles) == [0, 1, 2]
    assert found.profiles[2].loss_barrier("mean") == pytest.approx(0, abs=1e-6)
    assert {"spawning.png", "report.html"} <= {path.name for path in tmp_path.iterdir()}
    before = (tmp_path / "spawning.json").read_bytes()
    again = json.loads(run(*call, "--json").stdout)
    assert (tmp_path / "spawning.json").read_bytes() == before
    assert again["onset"] == found.onset


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--after", "0,x"), "--after: expected epochs such as 0,1,2, found '0,x'"),
        (("--after", "2,9", "--epochs", 3), "expected"),
    ],
)
def test_epochs_that_cannot_be_are_one_line(files: Files, run: Run, options: tuple[object, ...], message: str) -> None:
    """Epochs that are no numbers, or beyond the end, are refused."""
    result = run("spawn", "--task", files.task, *options)

    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_simplex_is_grown_around_a_network(files: Files, run: Run, tmp_path: Path) -> None:
    """The network stays, two are trained beside it, the barrier is measured and points are scored as an ensemble."""
    call = ("spro", files.a, "--task", files.task, *SHORT, "--out", tmp_path)
    result = run(*call)

    assert result.exit_code == 0, result.stderr
    assert "worst excess found" in result.stdout
    made = Complex.load(tmp_path / "complex")
    with open_checkpoint(files.a) as a:
        assert all(torch.equal(made.vertices[0][name], tensor) for name, tensor in a.items())
    assert len(made.vertices) == 3
    profile = SimplexProfile.load(tmp_path / "simplex.json")
    assert np.isfinite(profile.barrier)
    found = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert found["barrier"] == profile.barrier
    assert found["log_volume"] > -np.inf
    assert {"simplex.png", "report.html"} <= {path.name for path in tmp_path.iterdir()}
    before = (tmp_path / "complex" / "vertex-2.safetensors").read_bytes()
    assert run(*call).exit_code == 0
    assert (tmp_path / "complex" / "vertex-2.safetensors").read_bytes() == before
