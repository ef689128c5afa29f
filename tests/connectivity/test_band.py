"""Elastic bands: the tangent, the spreading of pivots, and known passes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from connectivity.curve_networks import Plane, State, circle, classify, data, muller_brown, network, trained
from onebasin import Evaluation, Progress, profile_path
from onebasin.connectivity import Band, BandSchedule, auto_neb, redistribute
from onebasin.connectivity.band import tangents

DEEP = (-0.55822363, 1.44172584)
"""The deepest minimum of Muller and Brown's potential, -146.70."""
SECOND = (0.62349941, 0.02803776)
"""The second deepest, -108.17."""
PASS = -40.66
"""The higher of the two passes between them, at (-0.82, 0.62)."""


def test_points_of_a_polyline_are_spread_by_hand() -> None:
    """Crowded points on a path of three equal sides of a square end up at the corners, the ends where they are."""
    line = torch.tensor([[0.0, 0], [0, 1], [0.1, 1], [0.9, 1], [1, 1], [1, 0]])

    half = [[0, 0], [0, 0.6], [0.2, 1], [0.8, 1], [1, 0.6], [1, 0]]
    np.testing.assert_allclose(redistribute(line), half, atol=1e-6)
    corners = redistribute(torch.tensor([[0.0, 0], [0, 1], [1, 1], [1, 0]]))
    np.testing.assert_allclose(corners, [[0, 0], [0, 1], [1, 1], [1, 0]], atol=1e-6)


def test_shares_of_the_length_are_kept() -> None:
    """On a straight line the segments get the parts of the length that are asked for."""
    line = torch.tensor([[0.0], [1], [9], [10]], dtype=torch.float64)

    np.testing.assert_allclose(redistribute(line, torch.tensor([1.0, 1, 3]))[:, 0], [0, 2, 4, 10])


@given(st.integers(0, 2**32 - 1), st.integers(3, 9), st.integers(1, 4))
def test_spread_points_lie_evenly_on_the_old_line(seed: int, count: int, dimensions: int) -> None:
    """New points lie on the old polyline at equal arc lengths, which an interpolation by NumPy gives as well."""
    points = np.random.default_rng(seed).normal(size=(count, dimensions))
    arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    places = np.linspace(0, arc[-1], count)
    expected = np.stack([np.interp(places, arc, column) for column in points.T], axis=1)

    found = redistribute(torch.from_numpy(points))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert torch.equal(found[0], torch.from_numpy(points[0]))
    assert torch.equal(found[-1], torch.from_numpy(points[-1]))


def test_coinciding_points_stay() -> None:
    """Points that are all the same stay where they are."""
    assert torch.equal(redistribute(torch.ones(4, 2)), torch.ones(4, 2))


@pytest.mark.parametrize(
    ("losses", "direction"),
    [
        ((0.0, 1.0, 3.0), (0, 1)),  # rises: towards the next
        ((3.0, 1.0, 0.0), (1, 0)),  # falls: from the one before, which is higher
        ((1.0, 3.0, 2.0), (1, 2)),  # a maximum, the next is higher: the next step weighs by the larger difference, 2
        ((2.0, 3.0, 1.0), (2, 1)),
        ((2.0, 1.0, 4.0), (1, 3)),  # a minimum, the next is higher
        ((4.0, 1.0, 2.0), (3, 1)),
        ((1.0, 1.0, 1.0), (1, 1)),
    ],
)
def test_tangents_are_those_of_henkelman_and_jonsson(losses: tuple[float, ...], direction: tuple[float, float]) -> None:
    """With a step along x and then one along y, the tangent's parts are the weights of equations 8 to 11."""
    points = torch.tensor([[0.0, 0], [1, 0], [1, 1]], dtype=torch.float64)

    expected = np.array(direction) / np.linalg.norm(direction)
    np.testing.assert_allclose(tangents(points, torch.tensor(losses))[0], expected)


def test_band_finds_the_pass_of_muller_and_brown() -> None:
    """Between the two deep minima the highest point of the band is the pass of -40.66, not the height of the line."""
    schedule = BandSchedule(cycles=4, steps=60, rate=2e-4, momentum=0.5, pivots=7, insertions=4)
    band = auto_neb(Plane(0, 0), Plane(*DEEP, 1), Plane(*SECOND, 7), [None], muller_brown, schedule=schedule)

    assert band.complete
    assert band.saddle == pytest.approx(PASS, abs=0.05)
    assert band.saddles[0] > 0
    top = band.curve.params(band.profile.t[int(np.argmax(band.profile.loss))])["at"]
    np.testing.assert_allclose(top, [-0.822, 0.624], atol=0.005)
    assert len(band.curve.controls) > 9  # pivots were inserted


def test_counters_and_statistics_take_no_part() -> None:
    """The same band is found whatever integers and buffers the ends hold, and they are never interpolated."""
    schedule = BandSchedule(cycles=2, steps=30, rate=0.05)
    bands = [
        auto_neb(Plane(5, 5), Plane(1, 0, counter), Plane(-0.1, 1), [None], circle, schedule=schedule)
        for counter in (0, 10**6)
    ]

    assert bands[0].curve.length == bands[1].curve.length
    for one, other in zip(bands[0].curve.controls, bands[1].curve.controls, strict=True):
        assert torch.equal(one["at"], other["at"])
    assert {int(control["counter"]) for control in bands[1].curve.controls[:-1]} == {10**6}


def test_equal_segments_have_equal_lengths() -> None:
    """Without insertions the pivots of a relaxed band are equally far apart."""
    schedule = BandSchedule(cycles=1, steps=100, rate=0.05, insertions=0)
    band = auto_neb(Plane(5, 5), Plane(1, 0), Plane(-1, 0.01), [None], circle, schedule=schedule)

    gaps = np.diff(band.curve.arc(np.linspace(0, 1, 5)))
    np.testing.assert_allclose(gaps, np.mean(gaps), rtol=0.02)


def test_insertion_is_where_the_band_misses_most() -> None:
    """After a cycle the one new pivot lies in the segment whose inside rises highest above its ends."""

    def bump(model: torch.nn.Module, _: object) -> State:
        x, _y = model.at
        return {"loss": torch.exp(-((x - 0.6) ** 2) * 200) + 0 * model.at.sum(), "count": torch.tensor(1)}

    schedule = BandSchedule(cycles=2, steps=1, rate=1e-12, pivots=1, insertions=1)
    band = auto_neb(Plane(0, 0), Plane(0, 0), Plane(1, 0), [None], bump, schedule=schedule)

    assert band.saddles[2] == pytest.approx(1)
    assert [round(float(control["at"][0]), 3) for control in band.curve.controls] in ([0, 0.5, 1], [0, 0.5, 0.6, 1])


def test_rates_are_the_published_ones() -> None:
    """Of fourteen cycles six have the full rate, four a tenth and four a hundredth."""
    schedule = BandSchedule()

    expected = [0.1] * 6 + [0.01] * 4 + [0.001] * 4
    np.testing.assert_allclose([schedule.rate_of(cycle) for cycle in range(14)], expected)


def test_band_of_networks_lies_below_the_line(tmp_path: Path) -> None:
    """Between networks with BatchNorm the pass is below the line's, ends keep their bytes, what is saved comes back."""
    a, b = trained(1, 200), trained(2, 200)
    evaluation = Evaluation(classify, data())
    seen: list[Progress] = []
    band = auto_neb(network(), a, b, data(), classify, schedule=BandSchedule(cycles=3, steps=20), progress=seen.append)
    line = profile_path(network(), a, b, evaluation, lams=41)
    band.save(tmp_path / "band")
    loaded = Band.load(tmp_path / "band")

    assert band.saddles[0] == pytest.approx(max(line.loss))
    assert band.saddle == min(band.saddles) < max(line.loss) - 0.5 * line.barrier(baseline="worst")
    assert torch.equal(band.curve.params(0.0)["0.weight"], a["0.weight"])
    assert (loaded.saddle, loaded.saddles, loaded.complete) == (band.saddle, band.saddles, True)
    assert [step.done for step in seen] == [0, 1, 2, 3]


def test_interrupted_band_is_the_best_so_far() -> None:
    """Ctrl-C while relaxing gives the best band by then; before the line is measured there is none."""
    calls = [0]

    def evaluate(model: torch.nn.Module, batch: object) -> State:
        calls[0] += 1
        if calls[0] > limit:
            raise KeyboardInterrupt
        return circle(model, batch)

    limit = 60
    band = auto_neb(Plane(0, 0), Plane(1, 0), Plane(0, 1), [None], evaluate, schedule=BandSchedule(steps=5))
    assert not band.complete
    assert len(band.saddles) == 1
    calls[0], limit = 0, 3
    with pytest.raises(KeyboardInterrupt):
        auto_neb(Plane(0, 0), Plane(1, 0), Plane(0, 1), [None], evaluate)
