"""`onebasin ensemble` compares ensembles at equal cost."""

import json
from pathlib import Path

import pytest

from cli.networks import TASK, Files, Run, interrupting


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """The task of the networks, with predictions."""
    path = tmp_path / "predicting.py"
    text = TASK.replace("import classification_sums", "import classification_logits, classification_sums")
    path.write_text(text + "predict = classification_logits\n", encoding="utf-8")
    return path


def rows(text: str) -> dict[tuple[str, int], dict[str, object]]:
    """Rows of the JSON form by name and cost."""
    return {(row["name"], row["forwards"]): row for row in json.loads(text)["rows"]}


def test_table_and_sentences(files: Files, run: Run, task: Path, tmp_path: Path) -> None:
    """The null is stated first, then the table, with what was added; the result is written."""
    added = f"mine={files.a},{files.c}"
    out = tmp_path / "out"
    result = run("ensemble", files.a, files.c, "--task", task, "--budgets", "1,2", "--add", added, "--out", out)

    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert "the vertices at" in result.stdout
    assert "single, mean" in result.stdout
    assert f"written: {out / 'ensemble.json'}" in result.stdout
    found = rows((out / "ensemble.json").read_text(encoding="utf-8"))
    assert {("barycentre", 1), ("naive barycentre", 1), ("simplex points", 2), ("mine", 1)} <= set(found)
    assert found["mine", 2]["nll"] == pytest.approx(found["vertices", 2]["nll"], rel=1e-5)


def test_aligning_changes_only_what_is_between(files: Files, run: Run, task: Path) -> None:
    """B is a reordered: aligned, their barycentre is a; --naive leaves it where it is, and the vertices alike."""
    options = ("--task", task, "--budgets", "1,2", "--batchnorm", "keep", "--json")
    aligned, naive = (rows(run("ensemble", files.a, files.b, *options, *more).stdout) for more in ((), ("--naive",)))

    assert aligned["barycentre", 1]["nll"] == pytest.approx(aligned["single, mean", 1]["nll"], rel=1e-5)
    assert naive["barycentre", 1]["nll"] == pytest.approx(aligned["naive barycentre", 1]["nll"], rel=1e-5)
    assert naive["barycentre", 1]["nll"] != pytest.approx(naive["single, mean", 1]["nll"], rel=1e-3)
    assert naive["vertices", 2]["nll"] == pytest.approx(aligned["vertices", 2]["nll"], rel=1e-5)


def test_contenders_are_trained_once(files: Files, run: Run, task: Path, tmp_path: Path) -> None:
    """A soup, points of a trained simplex and complex, and a star's centre are rows; run again nothing is trained."""
    options = ("--soup", "--espro", "--complex", "--star", "--train-epochs", 1, "--batch-size", 20, "--budgets", "1,2")
    call = ("ensemble", files.a, files.b, files.c, "--task", task, *options, "--out", tmp_path / "out", "--json")
    first = run(*call)
    trained = [*(tmp_path / "out").glob("*/*.safetensors")]
    before = {path: path.stat().st_mtime_ns for path in trained}
    again = run(*call)

    assert first.exit_code == 0, first.stderr
    made = {("greedy soup", 1), ("star centre", 1), ("ESPRO", 1), ("ESPRO", 2), ("complex points", 2)}
    assert made <= set(rows(first.stdout))
    assert len(trained) == 3 + 4 + 1  # A and two others; A, B, C and what joins them; the centre
    assert again.stdout == first.stdout
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_snapshots_are_gone_on_with(files: Files, run: Run, task: Path, tmp_path: Path) -> None:
    """With --out a longer run keeps the cycles that are there, and is what it would have been at once."""
    options = ("--task", task, "--budgets", "1,2", "--naive", "--fge-rates", "0.2", "0.1", "--json")
    networks = ("ensemble", files.a, files.c)
    run(*networks, *options, "--fge", 1, "--out", tmp_path / "parts")
    first = tmp_path / "parts" / "fge" / "cycle_1.safetensors"
    before = first.stat().st_mtime_ns
    parts = run(*networks, *options, "--fge", 2, "--out", tmp_path / "parts")
    whole = run(*networks, *options, "--fge", 2, "--out", tmp_path / "whole")

    assert parts.exit_code == 0, parts.stderr
    assert first.stat().st_mtime_ns == before
    assert parts.stdout == whole.stdout
    assert {("FGE", 1), ("FGE", 2), ("SWA", 1)} <= set(rows(whole.stdout))
    other = run(*networks, *options, "--fge", 2, "--seed", 5, "--out", tmp_path / "parts")
    assert other.exit_code == 2
    assert "found results of other seed" in other.stderr


def test_interrupted_training_keeps_its_cycles(files: Files, run: Run, task: Path, tmp_path: Path) -> None:
    """Ctrl-C in the second cycle gives status 1 and leaves the first one's snapshot."""
    interrupting(task, 3, task.read_text(encoding="utf-8"))
    result = run("ensemble", files.a, files.c, "--task", task, "--naive", "--fge", 2, "--out", tmp_path / "out")

    assert result.exit_code == 1
    assert [path.name for path in (tmp_path / "out" / "fge").iterdir() if path.suffix == ".safetensors"] == [
        "cycle_1.safetensors"
    ]
    assert result.stderr.startswith("interrupted; written so far: ")


@pytest.mark.parametrize(
    ("option", "line"),
    [
        (("--budgets", "0"), "--budgets: expected whole numbers from 1, with commas, found '0'; try 1,2,4\n"),
        (("--add", "x"), "--add: expected NAME=FILE,FILE, found 'x'; name a file after the =\n"),
    ],
)
def test_bad_options_are_told_in_a_line(option: tuple[str, str], line: str, files: Files, run: Run, task: Path) -> None:
    """An option that cannot be used ends the command with one line and status 2."""
    result = run("ensemble", files.a, files.c, "--task", task, *option)

    assert (result.exit_code, result.stderr) == (2, line)


def test_a_task_without_predictions_is_refused(files: Files, run: Run) -> None:
    """Ensembles need probabilities: a task without `predict` is told so."""
    result = run("ensemble", files.a, files.c, "--task", files.task, "--naive")

    assert result.exit_code == 2
    assert result.stderr.startswith("predict: expected a function that gives logits and labels, found none;")
