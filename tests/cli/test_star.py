"""`onebasin star` trains a centre and measures its lines."""

import json
from pathlib import Path

import pytest
import torch

from cli.networks import Files, Run
from onebasin.checkpoint import open_checkpoint
from onebasin.connectivity import Star

SHORT = ("--train-epochs", 2, "--points", 3, "--batch-size", 30, "--restarts", 0)


def test_centre_is_a_checkpoint(files: Files, run: Run, tmp_path: Path) -> None:
    """The centre is written like a network, and every line is in the table, those of networks held out as well."""
    options = ("--task", files.task, "--held-out", 1, "--out", tmp_path, *SHORT)
    result = run("star", files.a, files.b, files.c, *options)

    assert result.exit_code == 0, result.stderr
    assert "barrier" in result.stdout
    assert "no" in result.stdout.split("\nc ")[1]
    with open_checkpoint(tmp_path / "centre.safetensors") as centre, open_checkpoint(files.a) as a:
        assert list(centre) == list(a)
    made = ["centre.safetensors", "profile.json", "result.json", "settings.json", "star.json"]
    drawn = ["report.html", "star.png", "star.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(made + drawn)


def test_finished_star_is_not_trained_again(files: Files, run: Run, tmp_path: Path) -> None:
    """A second run shows the same and leaves the centre as it is."""
    options = ("--task", files.task, "--naive", "--json", "--out", tmp_path, *SHORT)
    first = run("star", files.a, files.c, *options)
    centre = Star.load(tmp_path).centre["0.weight"].clone()
    second = run("star", files.a, files.c, *options)

    assert second.stdout == first.stdout
    assert torch.equal(Star.load(tmp_path).centre["0.weight"], centre)
    assert list(json.loads(first.stdout)["barriers"]) == ["a", "c"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--law", "x"), "--law: expected uniform or beta, found 'x'; choose one"),
        (("--held-out", 2), "--held-out: expected one network to train with, found 2; lower it"),
    ],
)
def test_bad_options_are_one_line(files: Files, run: Run, options: tuple[object, ...], message: str) -> None:
    """What cannot be used is said in one line, with status 2."""
    result = run("star", files.a, files.c, "--task", files.task, *options)

    assert (result.exit_code, result.stderr.strip()) == (2, message)
