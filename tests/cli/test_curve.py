"""`onebasin curve` trains a curve between two networks, measures it beside the line, and goes on where it stopped."""

import json
from pathlib import Path

import pytest

from cli.networks import GO_ON, Files, Run, interrupting
from onebasin.connectivity import Curve, CurveProfile

SHORT = ("--train-epochs", 3, "--points", 5, "--batch-size", 30, "--restarts", 0)


def test_curve_and_line_are_measured_and_written(files: Files, run: Run, tmp_path: Path) -> None:
    """Table, control networks and profiles are there for the network as it is and aligned."""
    out = tmp_path / "curves"
    result = run("curve", files.a, files.b, "--task", files.task, "--out", out, *SHORT)

    assert result.exit_code == 0, result.stderr
    assert "proved on the model" in result.stdout
    assert "stretch" in result.stdout
    written = ["aligned", "curves.json", "curves.png", "curves.svg", "naive", "report.html", "settings.json"]
    assert sorted(path.name for path in out.iterdir()) == written
    curve = Curve.load(out / "aligned")
    profile = CurveProfile.load(out / "aligned" / "profile.json")
    line = CurveProfile.load(out / "aligned" / "line.json")
    assert profile.length == pytest.approx(curve.length)
    assert (curve.kind, len(curve.controls), len(curve.losses)) == ("bezier", 3, 3)
    assert (profile.loss[0], profile.loss[-1]) == (line.loss[0], line.loss[-1])
    assert max(line.loss) == pytest.approx(min(line.loss))  # b is a reordered


def test_json_is_the_file(files: Files, run: Run, tmp_path: Path) -> None:
    """With --json the output is what curves.json holds; --polygonal and its bends are in it."""
    options = ("--task", files.task, "--naive", "--kind", "polygonal", "--bends", 2, "--split", "train", *SHORT)
    result = run("curve", files.a, files.c, *options, "--out", tmp_path, "--json")

    found = json.loads(result.stdout)
    assert found == json.loads((tmp_path / "curves.json").read_text(encoding="utf-8"))
    assert found["verification"] is None
    assert (found["split"], found["bends"]) == ("train", 2)
    assert list(found["curves"]["naive"]) == ["line", "polygonal"]
    assert len(found["curves"]["naive"]["polygonal"]["t"]) == 5


def test_interrupted_curve_goes_on(files: Files, run: Run, tmp_path: Path) -> None:
    """After Ctrl-C the same command goes on from what is there, to the bytes of a run that was never interrupted."""
    task = interrupting(tmp_path / "my_task.py", 14)
    options = ("--task", task, "--aligned", "--batchnorm", "keep", *SHORT)
    broken = run("curve", files.a, files.c, *options, "--out", tmp_path / "twice")
    (tmp_path / GO_ON).touch()

    assert broken.exit_code == 1
    assert "interrupted" in broken.stderr
    assert sorted(path.name for path in (tmp_path / "twice" / "aligned").iterdir()) == ["line.json"]
    for folder in ("twice", "once"):
        assert run("curve", files.a, files.c, *options, "--out", tmp_path / folder).exit_code == 0
    for name in ("curves.json", "aligned/curve.json", "aligned/control_1.safetensors"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


def test_finished_work_is_not_done_again(files: Files, run: Run, tmp_path: Path) -> None:
    """A second run with the same options shows the same and trains nothing."""
    options = ("--task", files.task, "--aligned", "--json", "--out", tmp_path, *SHORT)
    first = run("curve", files.a, files.c, *options)
    stamp = (tmp_path / "aligned" / "curve.json").stat().st_mtime_ns
    second = run("curve", files.a, files.c, *options)

    assert second.stdout == first.stdout
    assert (tmp_path / "aligned" / "curve.json").stat().st_mtime_ns == stamp


def test_rematching_is_an_option(files: Files, run: Run, tmp_path: Path) -> None:
    """--rematch finds the order that the search for an alignment was kept from finding."""
    options = ("--aligned", "--rematch", 1, "--match-method", "weight", "--rate", 0.001)
    result = run("curve", files.a, files.b, "--task", files.task, *options, *SHORT, "--out", tmp_path)

    assert result.exit_code == 0, result.stderr
    assert len(Curve.load(tmp_path / "aligned").losses) == 4  # three epochs in two equal parts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--kind", "spline"), "kind: expected bezier or polygonal, found 'spline'; choose one"),
        (("--rematch", 1), "--rematch: expected --aligned, found networks as they are; pass both"),
        (("--split", "all"), "--split: expected a split out of train, val, test, found 'all'; ask for one of these"),
        (("--rate", -1), "rate: expected a positive number, found -1.0; try 0.05"),
    ],
)
def test_bad_options_are_one_line(files: Files, run: Run, options: tuple[object, ...], message: str) -> None:
    """What cannot be used is said in one line, with status 2."""
    result = run("curve", files.a, files.c, "--task", files.task, *options)

    assert result.exit_code == 2
    assert result.stderr.strip() == message


def test_folder_of_other_options_is_refused(files: Files, run: Run, tmp_path: Path) -> None:
    """A folder begun with other options, or for other networks, is left as it is."""
    run("curve", files.a, files.c, "--task", files.task, "--naive", "--out", tmp_path, *SHORT)
    for other in ((files.a, files.c, "--seed", 1), (files.a, files.b)):
        result = run("curve", *other, "--task", files.task, "--naive", "--out", tmp_path, *SHORT)
        assert result.exit_code == 2
        assert "found results of other " in result.stderr
