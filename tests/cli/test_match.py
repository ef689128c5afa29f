"""`onebasin match` reorders the second network and says how far it came."""

import json
from pathlib import Path

import pytest
import torch

from cli.networks import Files, Run
from onebasin import Matching, Progress
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.screen import Screen


def test_matching_and_aligned_network_are_written(files: Files, run: Run, tmp_path: Path) -> None:
    """The units of b, which is a reordered, find back to a; both files are written and the proof is shown."""
    out, aligned = tmp_path / "matching.json", tmp_path / "b.safetensors"
    result = run("match", files.a, files.b, "--task", files.task, "--out", out, "--write-b", aligned)

    assert result.exit_code == 0
    assert result.stderr == ""
    assert "proved on the model: max relative error" in result.stdout
    assert "100.00 % of its upper bound" in result.stdout
    assert "optimal" in result.stdout
    assert f"written: {out}" in result.stdout
    a, b = open_checkpoint(files.a), open_checkpoint(aligned)
    assert list(b) == list(a)
    for name in a:
        torch.testing.assert_close(b[name], a[name])
    assert not Matching.load(out).is_identity


def test_result_has_the_format_of_b(files: Files, run: Run, tmp_path: Path) -> None:
    """The aligned network is packed as b was: a pickle with its tensors under `state_dict`."""
    aligned = tmp_path / "aligned.pt"
    result = run("match", files.a, files.c, "--symmetry", files.symmetry, "--write-b", aligned)

    assert result.exit_code == 0
    assert "not verified: no model given" in result.stdout
    assert list(torch.load(aligned, weights_only=True)) == ["state_dict"]


def test_json_is_the_matching(files: Files, run: Run, tmp_path: Path) -> None:
    """With --json the objective before and after, status and share of moved units are printed, the file as well."""
    out = tmp_path / "matching.json"
    arguments = ("match", files.a, files.c, "--symmetry", files.symmetry, "--seed", 7, "--out", out, "--json")
    found = json.loads(run(*arguments).stdout)

    saved = Matching.load(out)
    assert found["objective"] == saved.objective
    assert found["objective"] > found["objective_before"] == saved.history[0]
    assert (found["method"], found["seed"], found["status"]) == ("best", 7, "converged")
    assert found["bound"] == saved.bound >= found["objective"]
    assert [trial["name"] for trial in found["tried"]] == ["the identity", "annealing", "reheating 1"]
    assert set(found["moved"]) == set(saved.symmetry.groups)
    assert found["verification"] == {"verified": False, "reason": "no model given"}


def test_learning_needs_a_task(files: Files, run: Run) -> None:
    """Learned matchings take the loss of a task: refused without one, done with it."""
    both = ("match", files.a, files.b, "--match-method", "learned", "--epochs", 1)

    assert run(*both, "--task", files.task).exit_code == 0
    assert run(*both, "--symmetry", files.symmetry).exit_code == 2


def test_activations_are_compared(files: Files, run: Run) -> None:
    """With a share of activations the task's data is run through both networks; without a task that is refused."""
    both = ("match", files.a, files.b, "--activations", 1, "--match-method", "weight")
    result = run(*both, "--task", files.task, "--activation-samples", 32)

    assert result.exit_code == 0
    assert "100.00 % of its upper bound" in result.stdout
    assert run(*both, "--symmetry", files.symmetry).exit_code == 2


def test_limit_of_sweeps_is_said(files: Files, run: Run) -> None:
    """A search that stopped at its limit is no failure, but the output says what to do."""
    result = run("match", files.a, files.c, "--symmetry", files.symmetry, "--match-method", "weight", "--max-sweeps", 1)

    assert result.exit_code == 0
    assert "raise max_sweeps to go on" in result.stdout


def test_interrupted_search_writes_what_it_reached(
    files: Files, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C during the search gives status 1, and the valid matching reached so far is written."""
    monkeypatch.setattr(Screen, "progress", interrupt)
    out = tmp_path / "matching.json"
    result = run("match", files.a, files.b, "--symmetry", files.symmetry, "--out", out)

    assert result.exit_code == 1
    assert f"written: {out}" in result.stdout
    assert result.stderr.startswith("interrupted; the matching is valid and the best reached so far")
    assert Matching.load(out).status.name == "INTERRUPTED"


def interrupt(_: Screen, step: Progress) -> None:
    """Press Ctrl-C after the first sweep of a matching."""
    if step.stage.startswith("matching"):
        raise KeyboardInterrupt


def test_interrupted_search_stops_a_merger(
    files: Files, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C during the search of a merger gives status 1 and writes nothing."""
    monkeypatch.setattr(Screen, "progress", interrupt)
    out = tmp_path / "merged.pt"
    result = run("merge", files.a, files.b, "--symmetry", files.symmetry, "--out", out)

    assert result.exit_code == 1
    assert result.stderr == "interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []
