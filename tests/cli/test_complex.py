"""`onebasin complex` lists the sets of networks by their barriers, components and holes, and round trips."""

import json
import sys
from pathlib import Path

import pytest

from cli.networks import Files, Run

FEW = ("--points", 8, "--ascents", 2, "--epochs", 1)


def test_filtration_and_round_trips(files: Files, run: Run, tmp_path: Path) -> None:
    """All sets are listed with barriers, a tree joins the networks, and a copy's round trip moves nothing."""
    pytest.importorskip("gudhi", reason="the package gudhi is not installed")
    call = ("complex", files.a, files.b, files.c, "--task", files.task, *FEW, "--out", tmp_path / "out")
    result, found = run(*call), json.loads(run(*call, "--json").stdout)

    assert result.exit_code == 0, result.stderr
    assert "Sets in which no average found loses more than 0.05" in result.stdout
    assert "units moved" in result.stdout
    faces = {tuple(row["vertices"]): row["barrier"] for row in found["filtration"]["faces"]}
    assert len(faces) == 7
    assert faces[0, 1] == pytest.approx(0, abs=1e-6)
    assert faces[0, 1, 2] == max(faces.values())
    assert len(found["filtration"]["tree"]) == 2
    assert [row["dimension"] for row in found["persistence"] if row["death"] is None] == [0]
    # Going from a network to its copy and by way of a third network back undoes all: pairs agree up to the search.
    assert set(found["triangles"]) == {"a b c"}
    assert 0 <= found["triangles"]["a b c"]["moved"] <= 1
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"filtration.json", "joint.json", "pair-1-2-matchings", "trip-1-2-3.json", "graph.png"} <= written


def test_without_gudhi_the_rest_is_shown(files: Files, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is missing a note says so, and only components and holes are left out."""
    monkeypatch.setitem(sys.modules, "gudhi", None)
    result = run("complex", files.a, files.b, "--task", files.task, *FEW)

    assert result.exit_code == 0
    assert "pip install 'onebasin[complex]'" in result.stderr
    assert "Components and holes" not in result.stdout
    assert "in the tree" in result.stdout


def test_second_run_writes_the_same(files: Files, run: Run, tmp_path: Path) -> None:
    """A second run takes everything from the folder and says the same."""
    call = ("complex", files.a, files.b, files.c, "--task", files.task, *FEW, "--out", tmp_path, "--json")
    first = run(*call)
    kept = [*tmp_path.glob("trip-*.json"), *tmp_path.glob("pair-*/*.json"), tmp_path / "joint.json"]
    before = {path: path.stat().st_mtime_ns for path in kept}
    again = run(*call)

    assert again.stdout == first.stdout
    assert len(before) == 5
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
