"""`onebasin simplex` measures the simplex of networks as they are, matched to the first, and matched jointly."""

import json
from pathlib import Path

import pytest

from cli.networks import TASK, Files, Run
from onebasin.cli import simplexes
from onebasin.connectivity import SimplexProfile

FEW = ("--samples", 8, "--ascents", 2, "--epochs", 1)


def test_three_simplexes_are_measured_and_kept(files: Files, run: Run, tmp_path: Path) -> None:
    """A sentence, a table of barriers and the worst averages are shown, and every result is in the folder."""
    out = tmp_path / "new"
    result = run("simplex", files.a, files.b, files.c, "--task", files.task, *FEW, "--out", out)

    assert result.exit_code == 0, result.stderr
    assert "proved on the model" in result.stdout
    assert "The worst average found of the 3 networks" in result.stdout
    assert "worst average found, joint:" in result.stdout
    drawn = [f"{name}{suffix}" for name in ("joint", "naive", "to-reference") for suffix in (".png", ".svg")]
    kept = ("joint-matching-2", "joint-matching-3", "joint-permutations", "joint", "naive", "to-reference-permutations")
    made = {f"{name}.json" for name in (*kept, "to-reference")}
    assert {path.name for path in out.iterdir()} == made | {*drawn, "report.html"}
    assert all(f"written: {path}" in result.stdout for path in out.iterdir())
    kept = json.loads((out / "naive.json").read_text(encoding="utf-8"))["result"]
    assert SimplexProfile.from_json(kept, "naive").labels == ("a", "b", "c")
    assert len(kept["worst"]) == len(kept["vertices"]) == 3
    matchings = [option for k in (2, 3) for option in ("--matching", out / f"joint-matching-{k}.json")]
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
    """What was finished with the same options is taken from the folder, what is missing or of other options is not."""
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
    other = json.loads(run(*call, "--seed", 5).stdout)
    assert other["settings"]["seed"] == 5
    assert other["simplexes"] != json.loads(first.stdout)["simplexes"]


def test_interrupted_work_is_kept(files: Files, run: Run, tmp_path: Path) -> None:
    """Ctrl-C gives status 1, names what was written, and a second run takes it up."""
    task, out = tmp_path / "my_task.py", tmp_path / "out"
    stop = (
        "calls = []\n\n\ndef evaluate(model, batch):\n    calls.append(1)\n    if len(calls) > 60:\n"
        "        raise KeyboardInterrupt\n    return classification_sums(model, batch)\n"
    )
    task.write_text(TASK.replace("evaluate = classification_sums", stop), encoding="utf-8")
    call = ("simplex", files.a, files.b, "--task", task, "--batchnorm", "keep", *FEW, "--out", out)
    result = run(*call)

    assert result.exit_code == 1
    assert "interrupted; written so far:" in result.stderr
    assert "naive.json" in {path.name for path in out.iterdir()}
    assert "joint.json" not in {path.name for path in out.iterdir()}
    before = (out / "naive.json").read_bytes()
    task.write_text(TASK, encoding="utf-8")
    assert run(*call).exit_code == 0
    assert (out / "naive.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a",), "A B ...: expected two networks or more, found one; name another"),
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
