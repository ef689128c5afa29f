"""Profiles as values: barriers by their formulas, and files."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from onebasin import PathProfile
from onebasin.errors import CheckpointError, OptionError

NUMBERS = st.floats(0, 100)


@st.composite
def profiles(draw: DrawFn) -> PathProfile:
    """Complete profiles of two to six points, with errors or without."""
    inner = sorted(draw(st.lists(st.floats(0, 1), max_size=4)))
    lams = (0.0, *inner, 1.0)
    rows = st.lists(NUMBERS, min_size=len(lams), max_size=len(lams)).map(tuple)
    return PathProfile(lams, draw(rows), draw(st.just(()) | rows), draw(st.integers(1, 9)), "keep")


def highest(profile: PathProfile, values: tuple[float, ...], baseline: str) -> float:
    """The largest rise above a baseline, point by point."""
    first, last = values[0], values[-1]
    rises = []
    for lam, value in zip(profile.lams, values, strict=True):
        below = {"linear": (1 - lam) * first + lam * last, "mean": (first + last) / 2, "worst": max(first, last)}
        rises.append(value - below[baseline])
    return max(rises)


@given(profiles(), st.sampled_from(["linear", "mean", "worst"]))
def test_barriers_are_the_highest_rise(profile: PathProfile, baseline: str) -> None:
    """A barrier is the highest rise above its baseline; the linear one is never below zero, the worst never above."""
    barrier = profile.loss_barrier(baseline)

    assert barrier == pytest.approx(highest(profile, profile.loss, baseline))
    if profile.error:
        assert profile.error_barrier(baseline) == pytest.approx(highest(profile, profile.error, baseline))
    assert profile.loss_barrier() == profile.loss_barrier("linear") >= 0
    assert profile.loss_barrier("worst") <= profile.loss_barrier("mean") + 1e-9
    assert profile.loss_barrier("worst") <= profile.loss_barrier("linear") + 1e-9


@pytest.mark.parametrize(
    ("lams", "loss", "linear", "mean", "worst"),
    [
        ((0, 0.5, 1), (1, 3, 2), 1.5, 1.5, 1),
        ((0, 0.25, 1), (0, 2, 4), 1, 2, 0),
        ((0, 0.5, 1), (3, 1, 1), 0, 1, 0),
        ((0, 0.75, 1), (0, 4, 4), 1, 2, 0),
        ((0, 1), (5, 5), 0, 0, 0),
    ],
)
def test_barriers_of_small_paths(
    lams: tuple[float, ...], loss: tuple[float, ...], linear: float, mean: float, worst: float
) -> None:
    """On paths small enough to see, the three definitions differ as they should."""
    profile = PathProfile(lams, loss, loss, 1, "keep")

    for barrier in (profile.loss_barrier, profile.error_barrier):
        assert [barrier(baseline) for baseline in ("linear", "mean", "worst")] == [linear, mean, worst]


@pytest.mark.parametrize("baseline", ["Linear", "", "best"])
def test_baselines_have_names(baseline: str) -> None:
    """A barrier above anything else is refused."""
    profile = PathProfile((0, 1), (1, 1), (0, 0), 1, "keep")

    with pytest.raises(OptionError, match=r"^baseline: expected linear or mean or worst"):
        profile.loss_barrier(baseline)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(profiles())
def test_profiles_are_read_back(tmp_path: Path, profile: PathProfile) -> None:
    """A saved profile is read back equal, and the file holds the barriers for those who read it elsewhere."""
    profile.save(tmp_path / "path.json")
    data = json.loads((tmp_path / "path.json").read_text())

    assert PathProfile.load(str(tmp_path / "path.json")) == profile
    assert data["barriers"]["loss"]["mean"] == profile.loss_barrier("mean")
    assert ("error" in data["barriers"]) is bool(profile.error)


def content(**changes: object) -> dict[str, object]:
    """The JSON form of a profile, with changes."""
    return PathProfile((0.0, 1.0), (1.0, 2.0), (), 3, "keep").to_json() | changes


@pytest.mark.parametrize(
    "data",
    [[], content(format="onebasin-path/2"), {"format": "onebasin-path/1"}, {**content()} | {"format": None}, "path"],
)
def test_other_files_are_refused(tmp_path: Path, data: object) -> None:
    """A file of another kind, or with a field missing, is named."""
    (tmp_path / "path.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=r"path\.json: expected a path profile, format onebasin-path/1"):
        PathProfile.load(tmp_path / "path.json")


@pytest.mark.parametrize(
    "changes", [{"lams": 3}, {"loss": ["x", 1]}, {"loss": [1.0]}, {"count": "many"}, {"complete": "no"}, {"error": [1]}]
)
def test_wrong_fields_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    """A field of the wrong type or length is an error that names the file."""
    (tmp_path / "path.json").write_text(json.dumps(content(**changes)))
    with pytest.raises(CheckpointError, match=r"path\.json"):
        PathProfile.load(tmp_path / "path.json")


@pytest.mark.parametrize(("name", "value"), [("error", [1]), ("count", True)])
def test_the_wrong_field_is_named(tmp_path: Path, name: str, value: object) -> None:
    """The field that is wrong is the one that is named."""
    (tmp_path / "path.json").write_text(json.dumps(content(**{name: value})))
    with pytest.raises(
        CheckpointError, match=rf"path\.json: expected a path profile, .* found something that does not fit: .*{name}: "
    ):
        PathProfile.load(tmp_path / "path.json")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_profiles_of_broken_networks_are_read_back(tmp_path: Path, value: float) -> None:
    """A loss that is infinite or not a number at some point can be saved and read."""
    profile = PathProfile((0.0, 0.5, 1.0), (1.0, value, 1.0), (), 3, "keep")
    profile.save(tmp_path / "path.json")

    assert not math.isfinite(PathProfile.load(tmp_path / "path.json").loss[1])
