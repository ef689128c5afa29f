"""`onebasin features` compares features of an average with averages of features."""

import json
from pathlib import Path

import pytest

from cli.networks import Files, Run
from onebasin.connectivity import FeatureLinearity


def test_both_sets_are_measured_and_written(files: Files, run: Run, tmp_path: Path) -> None:
    """A table of all layers as they are and aligned, that of stitching, and a file that can be read back."""
    result = run("features", files.a, files.b, "--task", files.task, "--stitch", "--out", tmp_path / "new")

    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert "proved on the model" in result.stdout
    assert "weights: 0.5, 0.5; BatchNorm: reestimate" in result.stdout
    assert "A's features in the rest of B" in result.stdout
    found = json.loads((tmp_path / "new" / "features.json").read_text(encoding="utf-8"))
    features = {name: FeatureLinearity.from_json(data, "features.json") for name, data in found["features"].items()}
    # b is a reordered: once aligned, all features are a's.
    assert list(features) == list(found["stitching"]) == ["naive", "aligned"]
    assert max(features["aligned"].defect) < 1e-6 < max(features["naive"].defect)
    assert max(features["aligned"].baseline) < 1e-6
    stitched = found["stitching"]["aligned"]
    assert stitched["loss"] == pytest.approx([stitched["tail"][0]] * len(stitched["loss"]), rel=1e-5)


def test_several_networks_with_weights(files: Files, run: Run) -> None:
    """Three networks have three weights; a pair has one number, the weight of the second; --naive needs no search."""
    options = ("--task", files.task, "--naive", "--json")
    three = json.loads(run("features", files.a, files.b, files.c, *options, "--lam", "0.2,0.3,0.5").stdout)
    pair = json.loads(run("features", files.a, files.c, *options, "--lam", 0.25, "--feature-samples", 10).stdout)

    assert list(three["features"]) == ["naive"]
    assert three["features"]["naive"]["weights"] == [0.2, 0.3, 0.5]
    assert three["verification"] is None
    assert pair["features"]["naive"]["weights"] == [0.75, 0.25]
    assert pair["features"]["naive"]["samples"] == 40


@pytest.mark.parametrize(
    ("option", "line"),
    [
        (("--lam", "x"), "--lam: expected a number, found 'x'; try 0.5, or leave it out\n"),
        (("--lam", "1,2,3"), "--lam: expected a number, found '1,2,3'; try 0.5, or leave it out\n"),
    ],
)
def test_bad_options_are_told_in_a_line(option: tuple[str, str], line: str, files: Files, run: Run) -> None:
    """An option that cannot be used ends the command with one line and status 2."""
    result = run("features", files.a, files.b, "--task", files.task, *option)

    assert (result.exit_code, result.stderr) == (2, line)


def test_one_network_is_not_enough(files: Files, run: Run) -> None:
    """There is nothing to compare one network with."""
    result = run("features", files.a, "--task", files.task, "--naive")

    assert result.exit_code == 2
    assert result.stderr.startswith("networks: expected two or more, found 1;")
