"""`onebasin band` connects networks pair by pair and gives the tree of passes."""

import json
from pathlib import Path

import pytest

from cli.networks import Files, Run
from onebasin.connectivity import Band, Tree

SHORT = ("--cycles", 2, "--steps", 2, "--between", 2, "--pivots", 1, "--batch-size", 30, "--restarts", 0)


def test_band_of_a_pair(files: Files, run: Run, tmp_path: Path) -> None:
    """Of two networks there is one band, and its pass is at most as high as the line."""
    result = run("band", files.a, files.c, "--task", files.task, "--out", tmp_path, *SHORT)

    assert result.exit_code == 0, result.stderr
    assert "Highest loss, my_task, train split" in result.stdout
    band = Band.load(tmp_path / "band_1_2")
    assert band.complete
    assert band.saddle <= band.saddles[0]
    assert len(band.saddles) == 3
    ((*names, saddle),) = Tree.load(tmp_path / "tree.json").edges
    assert (sorted(names), saddle) == (["a", "c"], band.saddle)


def test_bands_of_three_are_a_tree_and_are_kept(files: Files, run: Run, tmp_path: Path) -> None:
    """As many pairs as networks are connected; the second run takes them from the folder and shows the same."""
    options = ("--task", files.task, "--naive", "--json", "--out", tmp_path, *SHORT)
    first = run("band", files.a, files.b, files.c, *options)
    (tmp_path / "band_1_2" / "profile.json").touch()
    stamps = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("band_*/profile.json"))]
    second = run("band", files.a, files.b, files.c, *options)

    found = json.loads(first.stdout)
    assert len(found["bands"]) == len(stamps) == 3
    assert len(found["tree"]["edges"]) == 2
    assert set(found["bands"][0]["profile"]) >= {"t", "loss", "error", "length"}
    assert second.stdout == first.stdout
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("band_*/profile.json"))] == stamps


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a",), "networks: expected two or more, found 1; name more checkpoints"),
        (("a", "a"), "networks: expected different ones, found one twice; name each once"),
    ],
)
def test_bad_networks_are_one_line(files: Files, run: Run, names: tuple[str, ...], message: str) -> None:
    """Fewer than two networks, or one twice, are refused."""
    result = run("band", *(getattr(files, name) for name in names), "--task", files.task, "--naive", *SHORT)

    assert (result.exit_code, result.stderr.strip()) == (2, message)
