"""Star domains: the centre is trained along its lines to the anchors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from connectivity.curve_networks import Plane, State, circle, classify, data, network, trained
from onebasin import Evaluation, Progress, profile_path
from onebasin.connectivity import Schedule, Star, StarProfile, fit_star, profile_star


def test_centre_sits_where_its_lines_are_lowest() -> None:
    """For a quadratic loss the centre is the one that minimises the mean over its lines, in closed form."""

    def bowl(model: torch.nn.Module, _: object) -> State:
        return {"loss": model.at.square().sum(), "count": torch.tensor(1)}

    anchors = [Plane(2, 0), Plane(0, 4)]
    star = fit_star(Plane(0, 0), anchors, [None] * 200, bowl, law="uniform", schedule=Schedule(epochs=20, rate=0.02))

    # d/dc E |t c + (1 - t) m|^2 = 0 gives c = -m E[t (1 - t)] / E[t^2] = -m / 2, m the mean of the anchors.
    np.testing.assert_allclose(star.centre["at"], [-0.5, -1], atol=0.15)


def test_lines_of_the_centre_are_lower_than_those_between_anchors() -> None:
    """The barriers between the centre and its anchors are lower than those between the anchors."""
    anchors = {str(seed): trained(seed) for seed in (1, 2, 3)}
    evaluation = Evaluation(classify, data())
    seen: list[Progress] = []
    star = fit_star(
        network(),
        list(anchors.values()),
        data() * 4,
        classify,
        schedule=Schedule(epochs=60, rate=0.1),
        progress=seen.append,
    )
    profile = profile_star(star.centre, anchors, network(), evaluation)
    between = profile_path(network(), anchors["1"], anchors["2"], evaluation, lams=11).barrier()

    assert star.complete
    assert list(profile.barriers()) == ["1", "2", "3"]
    assert max(profile.barriers().values()) < 0.7 * between
    assert (seen[0].stage, seen[-1].done, len(star.losses)) == ("star", 60, 60)


def test_centre_of_one_anchor_twice() -> None:
    """A spoke ends at the anchor, to the last digit, and the centre starts at the mean."""
    a, b = Plane(1, 0), Plane(0, 1)
    star = fit_star(Plane(0, 0), [a, b], [None], circle, schedule=Schedule(epochs=1, rate=1e-12))
    profile = profile_star(star.centre, {"a": a}, Plane(0, 0), Evaluation(circle, [None]), 3)

    np.testing.assert_allclose(star.centre["at"], [0.5, 0.5])
    assert profile.spokes["a"].loss[-1] == 0


def test_same_seed_same_bytes_and_files(tmp_path: Path) -> None:
    """The same seed gives the same centre, and what is saved comes back."""
    anchors = [trained(1, 2), trained(2, 2)]
    first, again = (fit_star(network(), anchors, data(), classify, schedule=Schedule(epochs=2)) for _ in range(2))
    first.save(tmp_path / "star")
    loaded = Star.load(tmp_path / "star")
    profile = profile_star(first.centre, {"a": anchors[0]}, network(), Evaluation(classify, data()), 3)
    profile.save(tmp_path / "profile.json")

    assert all(torch.equal(tensor, again.centre[name]) for name, tensor in first.centre.items())
    assert all(torch.equal(tensor, loaded.centre[name]) for name, tensor in first.centre.items())
    assert loaded.losses == first.losses
    assert StarProfile.load(tmp_path / "profile.json").to_json() == profile.to_json()


def test_interrupted_profile_says_so() -> None:
    """Ctrl-C on the second spoke leaves the first one whole, and the profile incomplete."""
    calls = []

    def evaluate(model: torch.nn.Module, batch: object) -> State:
        calls.append(batch)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return circle(model, batch)

    centre = Plane(0, 0)
    profile = profile_star(centre, dict.fromkeys("abc", Plane(0, 1)), centre, Evaluation(evaluate, [None]), 3)

    assert not profile.complete
    assert list(profile.spokes) == ["a", "b"]
    with pytest.raises(ValueError, match="complete path"):
        profile.barriers()
