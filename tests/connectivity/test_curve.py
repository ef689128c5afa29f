"""Curves between networks: where they go, how long they are, and that training lowers their loss."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from connectivity.curve_networks import QUARTER, Plane, State, circle, classify, data, network, trained
from onebasin import Evaluation, Progress, discover, profile_path, save_checkpoint
from onebasin.connectivity import Curve, CurveProfile, Schedule, fit_curve, profile_curve, straight
from onebasin.connectivity.curve import BASES, bernstein, hats, whole


def plane(*places: tuple[float, float], kind: str = "polygonal") -> Curve:
    """A curve in the plane with control points at places, whose counters and statistics differ wildly."""
    states = [Plane(x, y, counter).state_dict() for counter, (x, y) in enumerate(places)]
    return Curve(kind, tuple(states), ("at",))


def test_bernstein_is_casteljau() -> None:
    """Bernstein weights give the point that de Casteljau's repeated halving gives."""
    points = np.random.default_rng(0).normal(size=(5, 3))
    for t in (0.0, 0.2, 0.7, 1.0):
        rows = points
        while len(rows) > 1:
            rows = (1 - t) * rows[:-1] + t * rows[1:]
        np.testing.assert_allclose(np.array(bernstein(t, 5)) @ points, rows[0], atol=1e-14)


def test_hats_are_numpy_interpolation() -> None:
    """The weights of a chain give the point that linear interpolation between its corners gives."""
    corners = np.random.default_rng(0).normal(size=4)
    ts = np.linspace(0, 1, 23)

    expected = np.interp(ts, np.linspace(0, 1, 4), corners)
    np.testing.assert_allclose([np.array(hats(float(t), 4)) @ corners for t in ts], expected, atol=1e-14)


@given(st.sampled_from(sorted(BASES)), st.floats(0, 1), st.integers(2, 7))
def test_weights_are_shares(kind: str, t: float, count: int) -> None:
    """At every t the weights are at least 0 and sum to 1, and at the ends all weight is on the end."""
    basis = BASES[kind]
    assert min(basis(t, count)) >= 0
    assert sum(basis(t, count)) == pytest.approx(1)
    assert basis(0.0, count) == (1.0, *[0.0] * (count - 1))
    assert basis(1.0, count) == (*[0.0] * (count - 1), 1.0)


def test_length_of_a_chain_is_that_of_its_pieces() -> None:
    """A chain is as long as its pieces together, whatever its counters and statistics hold."""
    curve = plane((0, 0), (3, 4), (3, 0), (0, 0.5))

    assert curve.length == pytest.approx(5 + 4 + np.hypot(3, 0.5), rel=1e-12)
    assert curve.chord == pytest.approx(0.5)
    np.testing.assert_allclose(curve.arc([0, 1 / 6, 1 / 3, 0.5]), [0, 2.5, 5, 7])


def test_length_of_a_parabola() -> None:
    """A quadratic Bezier curve has the length of its parabola, known in closed form."""
    curve = plane((0, 0), (1, 1), (2, 0), kind="bezier")  # y = x (2 - x) / 2

    assert curve.length == pytest.approx(np.sqrt(2) + np.arcsinh(1), rel=1e-6)


def test_integers_are_never_interpolated() -> None:
    """Between networks the counter is that of the first, and a straight line is as long as its weights are apart."""
    curve = plane((0, 0), (3, 4))

    assert int(curve.params(0.5)["counter"]) == 0
    assert curve.params(0.5)["at"].tolist() == [1.5, 2]
    assert curve.length == pytest.approx(5)


@pytest.mark.parametrize("kind", sorted(BASES))
def test_curve_follows_a_valley(kind: str) -> None:
    """Between two points of the unit circle the trained curve bends towards it, which its profile shows."""
    a, b = Plane(1, 0, 3), Plane(0, 1, 9)
    schedule = Schedule(epochs=300, rate=0.05)
    curve = fit_curve(Plane(5, 5), a, b, [None], circle, kind=kind, bends=3, schedule=schedule)
    profile = profile_curve(curve, Plane(5, 5), Evaluation(circle, [None]))

    assert max(profile.loss) < 0.003  # the middle of the chord has 0.086
    assert profile.length == pytest.approx(QUARTER, rel=0.05)
    assert profile.straightness == pytest.approx(profile.length / np.sqrt(2))
    assert len(profile.t) == len(profile.arc) == 61
    assert len(curve.losses) == 300
    assert curve.params(0.0)["at"].tolist() == [1, 0]
    assert curve.params(1.0)["at"].tolist() == [0, 1]


def test_free_ends_move() -> None:
    """With free ends the ends are trained as well; fixed ones stay as they are."""
    a, b = Plane(2, 0), Plane(0, 2)
    free = fit_curve(a, a, b, [None], circle, free_ends=True, schedule=Schedule(epochs=200, rate=0.3))

    assert float(free.params(0.0)["at"].norm()) < 1.2
    assert a.at.tolist() == [2, 0]


def test_training_lowers_the_loss_and_ends_stay_to_the_bit() -> None:
    """A curve of networks with BatchNorm ends where they are, and its worst loss is below that of the line."""
    a, b = trained(1), trained(2)
    curve = fit_curve(network(), a, b, data(), classify, schedule=Schedule(epochs=60, rate=0.1))
    evaluation = Evaluation(classify, data())
    line = profile_path(network(), a, b, evaluation)
    profile = profile_curve(curve, network(), evaluation)

    for t, end in ((0.0, a), (1.0, b)):
        assert all(torch.equal(tensor, end[name]) for name, tensor in curve.params(t).items() if name != "steps")
    assert (profile.loss[0], profile.loss[-1]) == pytest.approx((line.loss[0], line.loss[-1]), abs=1e-12)
    assert (profile.error[0], profile.error[-1]) == (line.error[0], line.error[-1])
    assert profile.path.barrier() < 0.6 * line.barrier()


def test_members_are_the_points_that_are_profiled() -> None:
    """Networks along a curve, ready to run, have the losses of its profile, BatchNorm re-estimated or kept."""
    curve = fit_curve(network(), trained(1), trained(2), data(), classify, schedule=Schedule(epochs=2))
    points = (0.0, 0.4, 1.0)
    for policy in ("reestimate", "keep"):
        evaluation = Evaluation(classify, data(), batchnorm=policy)
        profile = profile_curve(curve, network(), evaluation, points)
        losses = []
        for member in curve.members(network(), points, evaluation):
            model = network().eval()
            model.load_state_dict(member)
            with torch.no_grad():
                rows = [classify(model, batch) for batch in data()]
            losses.append(float(sum(row["loss"] for row in rows) / sum(row["count"] for row in rows)))
        assert losses == pytest.approx(profile.loss, abs=1e-6), policy


def test_same_seed_same_bytes() -> None:
    """The same seed gives the same curve to the bit, another seed another curve."""
    a, b = trained(1, 2), trained(2, 2)

    def middle(seed: int) -> State:
        return fit_curve(network(), a, b, data(), classify, schedule=Schedule(epochs=2, seed=seed)).params(0.5)

    first, again, other = middle(0), middle(0), middle(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_weight_decay_pulls_the_curve_inwards() -> None:
    """Decay acts on the points of the curve: where the loss is flat the inner control point goes below the chord."""

    def flat(model: nn.Module, _: object) -> State:
        return {"loss": 0 * model.at.sum(), "count": torch.tensor(1)}

    schedule = Schedule(epochs=400, rate=0.5, weight_decay=0.5)
    curve = fit_curve(Plane(0, 0), Plane(1, 1), Plane(-1, 1), [None], flat, schedule=schedule)

    # Minimising the integral of |w(t)|^2 for w = (1-t)^2 a + 2t(1-t) c + t^2 b gives c = -3/4 (a + b).
    np.testing.assert_allclose(curve.controls[1]["at"], [0, -1.5], atol=0.2)


def test_rematching_undoes_a_permutation() -> None:
    """A curve to a reordered copy of its beginning finds the order that makes it flat, and says which."""
    model = network()
    a = trained(1)
    symmetry = discover(model, (torch.randn(5, 2),))
    moved = symmetry.random(3)
    b = moved.apply(a)
    schedule = Schedule(epochs=4, rate=1e-4)
    curve = fit_curve(model, a, b, data(), classify, symmetry=symmetry, rematch=1, schedule=schedule)

    assert curve.matching is not None
    assert curve.matching.compose(moved).is_identity
    assert torch.equal(curve.params(1.0)["0.weight"], a["0.weight"])
    assert len(curve.losses) == 4


def test_rematching_keeps_what_is_better() -> None:
    """Where reordering does not lower the loss the end stays as it is."""
    a = trained(1)
    symmetry = discover(network(), (torch.randn(5, 2),))
    curve = fit_curve(network(), a, a, data(), classify, symmetry=symmetry, rematch=2, schedule=Schedule(epochs=3))

    assert curve.matching is None


def test_interrupted_training_is_kept() -> None:
    """Ctrl-C during the second epoch gives a curve of what was reached, which says so."""
    calls = []

    def evaluate(model: nn.Module, batch: object) -> State:
        calls.append(batch)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return classify(model, batch)

    curve = fit_curve(network(), trained(1, 1), trained(2, 1), data(), evaluate)

    assert not curve.complete
    assert len(curve.losses) == 1


def test_progress_counts_all_epochs() -> None:
    """Progress goes from the first to the last epoch, over all parts between rematchings."""
    seen: list[Progress] = []
    symmetry = discover(network(), (torch.randn(5, 2),))
    fit_curve(
        network(),
        trained(1, 1),
        trained(2, 1),
        data(),
        classify,
        symmetry=symmetry,
        rematch=1,
        schedule=Schedule(epochs=4),
        progress=seen.append,
    )

    assert [(step.stage, step.done, step.total) for step in seen] == [("curve", k, 4) for k in (1, 2, 3, 4)]


def test_saved_curve_is_the_curve(tmp_path: Path) -> None:
    """What is loaded gives the same points, losses and matching; one cut off in the middle of saving is none."""
    symmetry = discover(network(), (torch.randn(5, 2),))
    a = trained(1, 5)
    b = symmetry.random(3).apply(a)
    curve = fit_curve(network(), a, b, data(), classify, symmetry=symmetry, rematch=1, schedule=Schedule(epochs=2))
    curve.save(tmp_path / "curve")
    loaded = Curve.load(tmp_path / "curve")

    assert loaded.length == curve.length
    assert loaded.losses == curve.losses
    assert loaded.matching is not None
    assert all(torch.equal(loaded.params(0.3)[name], tensor) for name, tensor in curve.params(0.3).items())
    names = {"curve.json", "matching.json", *(f"control_{place}.safetensors" for place in range(3))}
    assert {path.name for path in (tmp_path / "curve").iterdir()} == names


def test_saved_profile_is_the_profile(tmp_path: Path) -> None:
    """What is loaded is what was saved, and its file holds t, loss, error and length for other programs."""
    profile = profile_curve(
        straight(network(), [trained(1, 1), trained(2, 1)]), network(), Evaluation(classify, data())
    )
    profile.save(tmp_path / "profile.json")
    loaded = CurveProfile.load(tmp_path / "profile.json")
    data_ = profile.to_json()

    assert loaded.to_json() == data_
    assert data_["t"] == list(profile.t)
    assert data_["length"] == profile.length
    assert set(data_["summary"]) == {"loss", "error"}


def test_straight_line_is_the_path() -> None:
    """The chain through two networks has the profile of the straight path between them."""
    a, b = trained(1, 3), trained(2, 3)
    evaluation = Evaluation(classify, data())
    profile = profile_curve(straight(network(), [a, b]), network(), evaluation, 7)
    path = profile_path(network(), a, b, evaluation, lams=7)

    np.testing.assert_allclose(profile.loss, path.loss, rtol=1e-12)
    assert profile.straightness == pytest.approx(1)
    np.testing.assert_allclose(np.diff(profile.arc), profile.length / 6)


def test_integral_is_over_arc_length() -> None:
    """A loss on a quickly passed piece weighs in the integral by its length and in the mean by its points."""
    curve = plane((0, 0), (1, 0), (10, 0))
    far = profile_curve(
        curve, Plane(0, 0), Evaluation(lambda model, _: {"loss": model.at[0], "count": torch.tensor(1)}, [None]), 601
    )

    assert far.summary()["integral"] == pytest.approx(5, rel=1e-3)  # of x from 0 to 10
    assert far.summary()["mean"] == pytest.approx((0.5 + 5.5) / 2, rel=1e-2)
    assert (far.summary()["min"], far.summary()["max"]) == (0, 10)


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    """A network whose layers share a tensor gives a curve whose points have it under both names."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.Linear(3, 3, bias=False) for _ in range(2))
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.relu(self.first(torch.cat([x, x[:, :1]], dim=1))))

    model, other = Tied(), Tied()
    curve = fit_curve(model, model, other, data(), classify, schedule=Schedule(epochs=1))
    save_checkpoint(curve.params(0.5), tmp_path / "middle.safetensors")

    assert list(whole(model, {"first.weight": other.first.weight})) == ["first.weight", "second.weight"]
    assert torch.equal(curve.params(0.5)["first.weight"], curve.params(0.5)["second.weight"])
    model.load_state_dict(curve.params(0.5))
    assert curve.parameters == ("first.weight",)
