"""`onebasin path` measures the lines to the second network as it is and aligned."""

import json
from pathlib import Path

import pytest

from cli.networks import Files, Run, interrupting
from onebasin.cli.screen import sparkline


def test_both_lines_are_measured_and_written(files: Files, run: Run, tmp_path: Path) -> None:
    """Headline, pictures and the three barriers are shown; path.json, path.png and report.html are written."""
    out = tmp_path / "new" / "report"
    result = run("path", files.a, files.b, "--task", files.task, "--points", 5, "--out", out)

    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert "proved on the model" in result.stdout
    assert "Averaged as they are, the two networks give an accuracy of" in result.stdout
    assert "BatchNorm: re-estimated at every point, the ends included" in result.stdout
    assert "mean: above the" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == ["path.json", "path.png", "report.html"]
    assert (out / "path.png").read_bytes().startswith(b"\x89PNG")
    paths = json.loads((out / "path.json").read_text(encoding="utf-8"))["paths"]
    assert list(paths) == ["naive", "aligned"]
    # b is a reordered: once aligned, all points of the line are a.
    assert max(paths["aligned"]["loss"]) == pytest.approx(min(paths["aligned"]["loss"]))
    assert max(paths["naive"]["loss"]) > min(paths["naive"]["loss"]) + 0.001


def test_json_is_the_file(files: Files, run: Run, tmp_path: Path) -> None:
    """With --json the output is what path.json holds, and the proof."""
    result = run("path", files.a, files.c, "--task", files.task, "--points", 3, "--out", tmp_path, "--json")

    found = json.loads(result.stdout)
    assert found.pop("verification")["ok"]
    assert found == json.loads((tmp_path / "path.json").read_text(encoding="utf-8"))
    assert found["settings"]["a"] == "a.safetensors"
    assert found["paths"]["naive"]["lams"] == [0.0, 0.5, 1.0]


def test_one_line_only(files: Files, run: Run) -> None:
    """With --naive no symmetry is looked for, and --batchnorm keep leaves the statistics on the line."""
    options = ("--task", files.task, "--points", 3, "--split", "val", "--naive", "--batchnorm", "keep", "--json")
    found = json.loads(run("path", files.a, files.b, *options).stdout)

    assert list(found["paths"]) == ["naive"]
    assert found["paths"]["naive"]["batchnorm"] == "keep"
    assert found["verification"] is None
    assert found["split"] == "val"


def test_saved_matching_is_used(files: Files, run: Run, tmp_path: Path) -> None:
    """With --matching the line leads to the network it gives, without a search."""
    saved = tmp_path / "matching.json"
    run("match", files.a, files.b, "--symmetry", files.symmetry, "--seed", 9, "--out", saved)
    options = ("--task", files.task, "--points", 3, "--aligned", "--matching", saved, "--json")
    found = json.loads(run("path", files.a, files.b, *options).stdout)

    assert list(found["paths"]) == ["aligned"]
    assert found["settings"]["matching"]["seed"] == 9


def test_interrupted_line_keeps_its_points(files: Files, run: Run, tmp_path: Path) -> None:
    """Ctrl-C while measuring gives status 1; the points measured by then are in path.json, and nothing is drawn."""
    task, out = interrupting(tmp_path / "interrupted.py", 11), tmp_path / "report"
    options = ("--task", task, "--points", 9, "--batchnorm", "keep", "--out", out)
    result = run("path", files.a, files.b, *options)

    assert result.exit_code == 1
    assert result.stderr == "interrupted: measured 5 points of naive\n"
    assert [path.name for path in out.iterdir()] == ["path.json"]
    profile = json.loads((out / "path.json").read_text(encoding="utf-8"))["paths"]["naive"]
    assert not profile["complete"]
    assert profile["lams"] == [0.0, 0.125, 0.25, 0.375, 0.5]


def test_sparkline_draws_heights() -> None:
    """The lowest block stands for 0 and the highest for the top; without a height all blocks are lowest."""
    assert sparkline((0.0, 0.5, 1.0), 1.0) == "▁▅█"
    assert sparkline((0.0, 0.0), 0.0) == "▁▁"
