"""`onebasin plane` draws planes and polygons of networks."""

import json
from pathlib import Path

import pytest

from cli.networks import Files, Run, interrupting


@pytest.mark.parametrize(
    ("names", "options", "kind"),
    [
        (("a", "b", "c"), (), "networks"),
        (("a", "b", "c"), ("--pca",), "trajectory"),
    ],
)
def test_planes_are_measured_and_drawn(
    names: tuple[str, ...], options: tuple[str, ...], kind: str, files: Files, run: Run, tmp_path: Path
) -> None:
    """Every kind of plane shows the networks' losses, and writes numbers, pictures and a page."""
    out = tmp_path / "plane"
    paths = [getattr(files, name) for name in names]
    result = run("plane", *paths, "--task", files.task, "--resolution", 3, *options, "--out", out)

    assert result.exit_code == 0, result.stderr
    assert "largest on the grid" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        "error.png", "error.svg", "loss.png", "loss.svg", "plane.json", "report.html", "settings.json",
    ]  # fmt: skip
    grid = json.loads((out / "plane.json").read_text(encoding="utf-8"))
    assert grid["kind"] == kind
    assert [mark["name"] for mark in grid["marks"]] == list(names)
    assert [len(row) for row in grid["loss"]] == [3, 3, 3]


def test_polygons_have_the_networks_at_their_corners(files: Files, run: Run) -> None:
    """With --polygon the values at the corners are those of the networks."""
    options = ("--task", files.task, "--batchnorm", "keep", "--json")
    grid = json.loads(run("plane", files.a, files.b, files.c, "--polygon", "--resolution", 3, *options).stdout)
    plane = json.loads(run("plane", files.a, files.b, files.c, "--resolution", 3, *options).stdout)

    ends = [grid["weights"].index([float(j == k) for j in range(3)]) for k in range(3)]
    assert [grid["loss"][k] for k in ends] == pytest.approx([mark["loss"] for mark in plane["marks"]])
    assert grid["settings"]["networks"] == "a, b, c"


def test_random_planes_follow_the_seed(files: Files, run: Run) -> None:
    """With --random the network is in the middle, and another seed gives another plane."""
    options = ("plane", files.a, "--random", "--task", files.task, "--resolution", 3, "--json")
    grids = [json.loads(run(*options, "--seed", seed).stdout) for seed in (0, 0, 1)]

    assert grids[0]["kind"] == "random"
    assert grids[0]["loss"][1][1] == pytest.approx(grids[0]["marks"][0]["loss"])
    assert grids[0]["loss"] == grids[1]["loss"] != grids[2]["loss"]


def test_aligned_copies_span_no_plane(files: Files, run: Run) -> None:
    """Once aligned, a reordered copy lies on the network itself, and there is no plane through both."""
    result = run("plane", files.a, files.b, files.c, "--aligned", "--task", files.task)

    assert result.exit_code == 2
    assert result.stderr.startswith("plane: expected networks that span a plane, found some on one line")


def test_interrupted_plane_goes_on_where_it_was(files: Files, run: Run, tmp_path: Path) -> None:
    """Ctrl-C gives status 1 and keeps whole rows; run again the command ends with what one run would have given."""
    task, out = interrupting(tmp_path / "interrupted.py", 13), tmp_path / "plane"
    options = (files.a, files.b, files.c, "--resolution", 3, "--batchnorm", "keep")
    result = run("plane", *options, "--task", task, "--out", out)

    assert result.exit_code == 1
    assert result.stderr.startswith("interrupted: measured 1 rows")
    assert sorted(path.name for path in out.iterdir()) == ["plane.json", "settings.json"]
    # The task counts its calls anew: two more rows can be measured, and the first and the networks need none.
    assert run("plane", *options, "--task", task, "--out", out).exit_code == 0
    whole = json.loads(run("plane", *options, "--task", files.task, "--json").stdout)
    found = json.loads((out / "plane.json").read_text(encoding="utf-8"))
    assert found["complete"]
    assert found == {name: value for name, value in whole.items() if name != "settings"}


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (("a", "b"), (), "expected 3 networks or more, found 2"),
        (("a", "b"), ("--random",), "expected one network, found 2"),
        (("a", "b", "c"), ("--pca", "--polygon"), "expected one of --random, --pca, --polygon, found several"),
        (("a", "b", "c"), ("--batchnorm", "repair"), "batchnorm: expected reestimate or keep"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    names: tuple[str, ...], options: tuple[str, ...], words: str, files: Files, run: Run
) -> None:
    """Too few or too many networks, two kinds at once, and REPAIR beyond the networks are errors in one line."""
    paths = [getattr(files, name) for name in names]
    result = run("plane", *paths, "--task", files.task, *options)

    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
