"""Trained vertices: simplexes grow, stay good, and are drawn from in proportion to their volume."""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from connectivity.nets import data, evaluate, perceptron, trained
from onebasin import Evaluation, Progress
from onebasin.connectivity import Complex, Simplex, fit_complex, fit_simplex, simplex_barrier
from onebasin.connectivity.training import Schedule

SCHEDULE = Schedule(epochs=25, rate=0.02)


@lru_cache
def grown(strength: float = 0.01) -> Complex:
    """A triangle around one network."""
    return fit_simplex(perceptron(), [trained(1)], data() * 4, evaluate, 2, strength=strength, schedule=SCHEDULE)


def test_simplex_around_a_network_is_good() -> None:
    """All averages of a network and two trained vertices are as good as the network, which stays."""
    found = grown()
    profile = simplex_barrier(perceptron(), found.vertices, Evaluation(evaluate, data()), samples=32)

    assert found.simplexes == ((0, 1, 2),)
    assert found.trained == (1, 2)
    assert all(torch.equal(found.vertices[0][name], trained(1)[name]) for name in trained(1))
    assert profile.barrier < 0.05
    assert max(profile.loss) < profile.loss[0] + 0.1
    assert [len(row) for row in found.losses] == [25, 25]


def test_more_strength_more_volume() -> None:
    """The volume grows with what it may cost, and without that it is far smaller."""
    volumes = [grown(strength).log_volumes(perceptron())[0] for strength in (0.0, 0.01, 0.1)]

    assert volumes[0] < volumes[1] < volumes[2]
    assert all(math.isfinite(volume) for volume in volumes)


def test_connector_joins_independent_networks() -> None:
    """One vertex that two simplexes share makes both better than the line between the networks they join."""
    modes = [trained(1), trained(2), trained(3)]
    found = fit_complex(
        perceptron(), modes, [(0, 1, 3), (1, 2, 3)], data() * 4, evaluate, strength=1e-3, schedule=SCHEDULE
    )
    evaluation = Evaluation(evaluate, data())
    for k in range(3):
        line = simplex_barrier(perceptron(), [modes[k], found.vertices[3]], evaluation, samples=8)
        straight = simplex_barrier(perceptron(), [modes[k], modes[(k + 1) % 3]], evaluation, samples=8)
        assert line.barrier < straight.barrier / 2

    assert found.simplexes == ((0, 1, 3), (1, 2, 3))
    assert len(found.vertices) == 4


def test_complex_of_simplexes_of_several_sizes() -> None:
    """Vertices are trained in their order, each on the faces that exist by then; faces of others are left out."""
    schedule = Schedule(epochs=1, rate=0.01)
    found = fit_complex(
        perceptron(), [trained(1), trained(2)], [(0, 2), (0, 1, 3), (2, 3)], data(), evaluate, schedule=schedule
    )

    assert found.simplexes == ((0, 2), (0, 1, 3), (2, 3))
    assert found.trained == (2, 3)


def corner(*points: tuple[float, float]) -> tuple[dict[str, torch.Tensor], ...]:
    """Networks that are points of the plane."""
    return tuple({"weight": torch.tensor([[x, y]])} for x, y in points)


PLANE = torch.nn.Linear(2, 1, bias=False)


def test_simplexes_are_drawn_by_volume() -> None:
    """A triangle three times as large is drawn from three times as often, an edge never, and points are uniform."""
    found = Complex(corner((0, 0), (1, 0), (0, 1), (4, 0)), ((0, 1, 2), (1, 2, 3), (0, 3)))
    points = np.array(found.sample(PLANE, 4000, np.random.default_rng(0)))
    small = points[:, 0] > 0
    places = points @ np.array([[0, 0], [1, 0], [0, 1], [4, 0]])

    assert small.mean() == pytest.approx(1 / 4, abs=0.03)
    assert not ((points[:, 0] > 0) & (points[:, 3] > 0)).any()
    # The centre of the triangle (0, 0), (4, 0), (0, 1), which the two make up.
    assert places.mean(0) == pytest.approx([4 / 3, 1 / 3], abs=0.05)
    assert found.log_volumes(PLANE) == pytest.approx([math.log(0.5), math.log(1.5), math.log(4)])


def test_flat_complex_can_be_drawn_from() -> None:
    """Where no simplex has a volume, each is as likely."""
    found = Complex(corner((0, 0), (1, 0), (2, 0), (3, 0)), ((0, 1, 2), (1, 2, 3)))
    points = np.array(found.sample(PLANE, 1000, np.random.default_rng(0)))

    assert (points[:, 0] > 0).mean() == pytest.approx(0.5, abs=0.06)


def test_points_of_a_complex_are_networks() -> None:
    """A drawn point gives the tensors of the weighted sum."""
    found = grown()
    (weights,) = found.sample(perceptron(), 1, np.random.default_rng(0))
    expected = sum(w * v["0.weight"].double() for w, v in zip(weights, found.vertices, strict=True))

    assert torch.allclose(found.span(perceptron()).params(weights)["0.weight"].double(), expected, atol=1e-6)


def test_complex_is_kept_in_a_folder(tmp_path: Path) -> None:
    """What is loaded equals what was saved."""
    grown().save(tmp_path)
    loaded = Complex.load(tmp_path)

    assert (loaded.simplexes, loaded.trained, loaded.losses) == (grown().simplexes, grown().trained, grown().losses)
    for ours, theirs in zip(grown().vertices, loaded.vertices, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_same_seed_same_bytes() -> None:
    """Two fits with one seed agree, and another seed leads elsewhere."""
    schedule = Schedule(epochs=2, rate=0.02, seed=3)
    runs = [
        fit_simplex(perceptron(), [trained(1)], data(), evaluate, schedule=s)
        for s in (schedule, schedule, Schedule(epochs=2, rate=0.02, seed=4))
    ]

    assert torch.equal(runs[0].vertices[1]["0.weight"], runs[1].vertices[1]["0.weight"])
    assert not torch.equal(runs[0].vertices[1]["0.weight"], runs[2].vertices[1]["0.weight"])
    assert Simplex.of(perceptron(), runs[0].vertices).edge > 0


def test_interruption_keeps_what_was_trained() -> None:
    """Ctrl-C in the second vertex leaves the first, and the second as far as it came."""
    seen: list[Progress] = []

    def stop(step: Progress) -> None:
        seen.append(step)
        if len(seen) == 3:
            raise KeyboardInterrupt

    schedule = Schedule(epochs=2, rate=0.02)
    found = fit_simplex(perceptron(), [trained(1)], data(), evaluate, 3, schedule=schedule, progress=stop)

    assert not found.complete
    assert len(found.vertices) == 3
    assert found.simplexes == ((0, 1, 2),)
    assert [step.stage for step in seen] == ["vertex 2", "vertex 2", "vertex 3"]
