"""`onebasin inspect` shows a symmetry, and says whether it holds."""

import json
import math
from pathlib import Path

import pytest

from cli.networks import Files, Run
from onebasin import Symmetry


@pytest.fixture
def wrong(files: Files, tmp_path: Path) -> Path:
    """A symmetry written by hand whose second group is the first, which the model contradicts."""
    data = json.loads(files.symmetry.read_text(encoding="utf-8"))
    first, second = data["groups"]
    data["tensors"]["3.weight"] = [second, second]
    data["tensors"]["1.weight"] = ["8"]
    data["groups"][first]["size"] = 8
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_task_is_inspected_and_proved(files: Files, run: Run, tmp_path: Path) -> None:
    """Groups, the number of reorderings, the proof and the pins are shown, and the symmetry is saved."""
    out = tmp_path / "symmetry.json"
    result = run("inspect", "--task", files.task, "--out", out)

    assert result.exit_code == 0
    assert result.stdout.startswith(
        "2 groups, 10^9.2 reorderings (natural logarithm 21.2)\nproved on the model: max relat"
    )
    assert "0.weight      8   0.weight:0, 0.bias:0, 1.weight:0, 1.bias:0 and 3 more" in result.stdout
    assert "an output of the model" in result.stdout
    assert result.stderr == ""
    assert Symmetry.load(out).log_order == pytest.approx(2 * math.lgamma(9))


def test_json_holds_everything(files: Files, run: Run, symmetry: Symmetry) -> None:
    """With --json the output is one JSON object with every group, pin and figure of the proof."""
    found = json.loads(run("inspect", "--task", files.task, "--json", "--trials", 2, "--seed", 5).stdout)

    assert {name: group["size"] for name, group in found["groups"].items()} == symmetry.sizes
    assert found["groups"]["3.weight"]["axes"] == ["3.weight:0", "3.bias:0", "5.weight:1"]
    assert found["log10_order"] == pytest.approx(symmetry.log_order / math.log(10))
    assert found["verification"]["ok"]
    assert found["verification"]["trials"] == 2
    assert found["verification"]["max_relative_error"] < found["verification"]["tolerance"]
    assert sorted(axis for axes in found["pins"].values() for axis in axes) == sorted(map(str, symmetry.pins))


def test_saved_symmetry_is_shown_and_checked(files: Files, run: Run) -> None:
    """A saved symmetry is shown without a model, and compared with a checkpoint that fits it."""
    result = run("inspect", files.symmetry, "--checkpoint", files.c)

    assert result.exit_code == 0
    assert "not verified: no model given" in result.stdout
    assert f"{files.c} fits" in result.stdout


def test_proof_can_be_left_out(files: Files, run: Run) -> None:
    """With --no-verify nothing is proved, and the output says so."""
    result = run("inspect", "--task", files.task, "--no-verify")

    assert result.exit_code == 0
    assert "not verified: --no-verify was given" in result.stdout


def test_wrong_symmetry_is_refused(files: Files, run: Run, wrong: Path, tmp_path: Path) -> None:
    """A symmetry that does not hold gives status 1, names a group at fault and is not saved."""
    out = tmp_path / "out.json"
    result = run("inspect", wrong, "--task", files.task, "--out", out)

    assert result.exit_code == 1
    assert "NOT a symmetry of the model" in result.stdout
    assert result.stderr.startswith("my_task: expected a symmetry that keeps the model's function")
    assert "at fault: 0.weight" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not out.exists()


def test_wrong_symmetry_is_refused_in_json(files: Files, run: Run, wrong: Path) -> None:
    """With --json a symmetry that does not hold gives its figures as JSON, and status 1."""
    result = run("inspect", wrong, "--task", files.task, "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["verification"]["ok"] is False


def test_model_without_symmetry_is_said_so(run: Run, tmp_path: Path) -> None:
    """A model in which nothing can be reordered is no error."""
    task = tmp_path / "linear.py"
    task.write_text(
        "import torch\n\n\ndef build_model():\n    return torch.nn.Linear(3, 2)\n\n\n"
        "def example_inputs():\n    return (torch.ones(2, 3),)\n",
        encoding="utf-8",
    )
    result = run("inspect", "--task", task)

    assert result.exit_code == 0
    assert result.stdout.startswith("no group: nothing can be reordered\n")


def test_output_is_plain_where_nobody_looks(files: Files, run: Run) -> None:
    """Without a terminal there are no colours and no line of a table is wider than 80 columns."""
    result = run("inspect", files.symmetry)

    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_why_tells_the_chain(files: Files, run: Run) -> None:
    """A pin is told with its cause, an axis that moves with its company, and two tensors with what ties them."""
    pinned = run("inspect", "--task", files.task, "--no-verify", "--why", "0.weight:1")
    moving = run("inspect", "--task", files.task, "--no-verify", "--why", "3.weight")
    tied = run("inspect", "--task", files.task, "--no-verify", "--why", "3.weight:0,5.weight", "--json")

    assert pinned.stdout.startswith("0.weight:1: cannot move: an input of the model")
    assert moving.stdout.startswith("3.weight:0: can move, together with 3.bias, 5.weight")
    assert "moves together with 5.weight:1" in json.loads(tied.stdout)["answer"]
    assert json.loads(tied.stdout)["steps"][-1]["reaches"] == "5.weight:1"


def test_why_of_nothing_is_refused(files: Files, run: Run) -> None:
    """A tensor that the model does not have is named, and so is a symmetry that keeps no chains."""
    unknown = run("inspect", "--task", files.task, "--no-verify", "--why", "nothing:0")
    saved = run("inspect", files.symmetry, "--why", "0.weight:1")

    assert (unknown.exit_code, saved.exit_code) == (2, 2)
    assert unknown.stderr.startswith("nothing:0: expected a tensor of the model")
    assert saved.stderr.startswith("explain: expected a symmetry just discovered")


@pytest.mark.parametrize("suffix", [".svg", ".png", ".html"])
def test_picture_of_the_groups(suffix: str, files: Files, run: Run, tmp_path: Path) -> None:
    """The groups are drawn into a file of the format asked for; another one is refused and nothing written."""
    target = tmp_path / f"groups{suffix}"

    assert run("inspect", files.symmetry, "--picture", target).exit_code == 0
    assert target.stat().st_size > 1000
    refused = run("inspect", files.symmetry, "--picture", tmp_path / "groups.bmp")
    assert refused.exit_code == 2
    assert "expected a name ending in .png, .svg or .html" in refused.stderr
    assert not (tmp_path / "groups.bmp").exists()
