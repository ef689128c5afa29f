"""`onebasin demo` shows on real digits what alignment is for."""

import json
from pathlib import Path

import pytest

from cli.networks import Run
from onebasin import Matching, Symmetry
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.screen import Screen

FILES = [
    "a.safetensors",
    "b.safetensors",
    "merged.safetensors",
    "symmetry.json",
    "matching.json",
    "path.json",
    "path.png",
    "report.html",
]


def test_demo_shows_the_effect(run: Run, tmp_path: Path) -> None:
    """The plain average loses 15 points of accuracy or more, the aligned one less than 2, and all files are there."""
    out = tmp_path / "demo"
    result = run("demo", "--out", out, "--json")

    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    accuracy = {name: sums["accuracy"] for name, sums in found["networks"].items()}
    ends = (accuracy["a"] + accuracy["b"]) / 2
    assert ends > 0.95
    assert accuracy["average, as they are"] < ends - 0.15
    assert accuracy["average, aligned"] > ends - 0.02
    assert found["verification"]["ok"]
    assert found["files"] == FILES
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)

    middle = found["paths"]["aligned"]["lams"].index(0.5)
    assert 1 - found["paths"]["aligned"]["error"][middle] == pytest.approx(accuracy["average, aligned"])
    b = open_checkpoint(out / "b.safetensors")
    Symmetry.load(out / "symmetry.json", b)
    assert Matching.load(out / "matching.json").apply(b).keys() == b.keys()
    about = json.loads(open_checkpoint(out / "merged.safetensors").metadata["onebasin"])
    assert about["parents"] == ["a.safetensors", "b.safetensors"]
    assert "handwritten digits" in (out / "report.html").read_text(encoding="utf-8")


def test_interrupted_demo_writes_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during the training gives status 1, one line, and no folder."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Screen, "progress", interrupt)
    result = run("demo", "--out", tmp_path / "demo")

    assert result.exit_code == 1
    assert result.stderr == "interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    """A file where the folder should be is refused before anything is trained."""
    file = tmp_path / "demo"
    file.write_text("mine", encoding="utf-8")
    result = run("demo", "--out", file)

    assert result.exit_code == 2
    assert result.stderr == f"--out {file}: expected a folder, found a file; name another folder\n"
    assert file.read_text(encoding="utf-8") == "mine"
