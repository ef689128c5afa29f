"""`onebasin simplex` measures the simplex of networks as they are, matched to the first, and matched jointly."""

import json
from pathlib import Path

import pytest

from cli.networks import GO_ON, Files, Run, interrupting
from onebasin.cli import simplexes
from onebasin.connectivity import SimplexProfile

FEW = ("--points", 8, "--ascents", 2, "--epochs", 1)


def test_three_simplexes_are_measured_and_kept(files: Files, run: Run, tmp_path: Path) -> None:
    """A sentence, a table of barriers and the worst averages are shown, and every result is in the folder."""
    out = tmp_path / "new"
    result = run("simplex", files.a, files.b, files.c, "--task", files.task, *FEW, "--out", out)

    assert result.exit_code == 0, result.stderr
    assert "proved on the model" in result.stdout
    assert "The worst average found of the 3 networks" in result.stdout
    assert "worst average found, joint:" in result.stdout
    drawn = [f"{name}{suffix}" for name in ("joint", "naive", "to-reference") for suffix in (".png", ".svg")]
    kept = {"joint-matchings", "to-reference-matchings", "joint.json", "naive.json", "to-reference.json"}
    assert {path.name for path in out.iterdir()} == kept | {*drawn, "report.html", "settings.json"}
    assert all(f"written: {path}" in result.stdout for path in out.iterdir() if path.name != "settings.json")
    found = SimplexProfile.load(out / "naive.json")
    assert found.labels == ("a", "b", "c")
    assert len(found.worst) == 3
    matchings = [option for k in (2, 3) for option in ("--matching", out / "joint-matchings" / f"matching-{k}.json")]
    merged = run("merge", files.a, files.b, files.c, "--task", files.task, *matchings, "--out", tmp_path / "m.pt")
    assert merged.exit_code == 0, merged.stderr


def test_reordered_copy_is_found(files: Files, run: Run) -> None:
    """Of a network and its reordered copy all averages are that network once matched, and not before."""
    found = json.loads(run("simplex", files.a, files.b, "--task", files.task, *FEW, "--json").stdout)
    losses = {name: profile["loss"] for name, profile in found["simplexes"].items()}

    assert list(losses) == ["naive", "to-reference", "joint"]
    assert found["verification"]["ok"]
    assert max(losses["joint"]) == pytest.approx(min(losses["joint"]))
    assert max(losses["to-reference"]) == pytest.approx(min(losses["to-reference"]))
    assert max(losses["naive"]) - min(losses["naive"]) > 0.001


def test_one_simplex_only(files: Files, run: Run) -> None:
    """With --naive no symmetry is looked for; statistics and batches are as chosen."""
    options = ("--naive", "--batchnorm", "keep", "--batches", 1, "--split", "val", "--json")
    found = json.loads(run("simplex", files.a, files.c, "--task", files.task, *FEW, *options).stdout)
    (profile,) = found["simplexes"].values()

    assert found["verification"] is None
    assert profile["batchnorm"] == "keep"
    assert profile["count"] == 40
    assert profile["barriers"]["edge"] == profile["barriers"]["loss"]


def test_second_run_goes_on(files: Files, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was finished is taken from the folder, what is missing is not; other options need another folder."""
    call = ("simplex", files.a, files.b, "--task", files.task, *FEW, "--out", tmp_path, "--json")
    first = run(*call)
    (tmp_path / "joint.json").unlink()
    searched: list[object] = []
    monkeypatch.setattr(simplexes, "permuted_simplex", lambda *args, **_: searched.append(args))
    again = run(*call)

    assert again.stdout == first.stdout
    assert (tmp_path / "joint.json").exists()
    assert searched == []
    monkeypatch.undo()
    other = run(*call, "--seed", 5)
    assert other.exit_code == 2
    assert "found results of other seed; name another folder" in other.stderr


def test_interrupted_work_is_kept(files: Files, run: Run, tmp_path: Path) -> None:
    """Ctrl-C gives status 1, names what was written, and a second run takes it up."""
    task, out = interrupting(tmp_path / "my_task.py", 60), tmp_path / "out"
    call = ("simplex", files.a, files.b, "--task", task, "--batchnorm", "keep", *FEW, "--out", out)
    result = run(*call)

    assert result.exit_code == 1
    assert "interrupted; written so far:" in result.stderr
    assert "naive.json" in {path.name for path in out.iterdir()}
    assert "joint.json" not in {path.name for path in out.iterdir()}
    before = (out / "naive.json").read_bytes()
    (tmp_path / GO_ON).touch()
    assert run(*call).exit_code == 0
    assert (out / "naive.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a",), "networks: expected two or more, found 1; name more checkpoints"),
        (("a", "b", "--split", "x"), "--split: expected a split out of train, val, test"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], message: str, files: Files, run: Run) -> None:
    """Too few networks and an unknown split are refused with status 2."""
    given = [getattr(files, name, name) for name in arguments]
    result = run("simplex", *given, "--task", files.task)

    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
