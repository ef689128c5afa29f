"""Simplexes against geometry, and their barriers against lines, brute force and the binomial distribution."""

import copy
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from connectivity.nets import KINDS, data, evaluate, normalised, perceptron, symmetry, trained
from onebasin import Evaluation, Progress, profile_path
from onebasin.connectivity import Simplex, SimplexProfile, simplex_barrier
from onebasin.connectivity.simplex import barycentres, dirichlet, edge_points, log_volume, regular_edge
from onebasin.connectivity.simplex_profile import binomial_bound
from onebasin.connectivity.span import Span
from onebasin.connectivity.worst_point import Search, ascent
from onebasin.progress import silent
from onebasin.tasks import classification_logits


def regular(vertices: int, dimensions: int, edge: float) -> torch.Tensor:
    """Points at one distance from each other, turned and moved at random."""
    table = torch.zeros(vertices, dimensions, dtype=torch.float64)
    table[:, :vertices] = torch.eye(vertices, dtype=torch.float64) * edge / math.sqrt(2)
    turn = torch.linalg.qr(torch.randn(dimensions, dimensions, dtype=torch.float64)).Q
    return table @ turn + torch.randn(dimensions, dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("edge", [1.0, 1e-3, 40.0])
def test_volume_of_a_regular_simplex(k: int, edge: float) -> None:
    """In k dimensions it is edge^k sqrt(k + 1) / (k! sqrt(2^k)), and its effective edge is its edge."""
    volume = float(log_volume(regular(k + 1, 30, edge)))

    assert volume == pytest.approx(
        k * math.log(edge) + math.log(k + 1) / 2 - math.lgamma(k + 1) - k * math.log(2) / 2, abs=1e-9
    )
    assert regular_edge(volume, k + 1) == pytest.approx(edge)


def test_volume_of_a_known_tetrahedron() -> None:
    """The corner of a box of 2, 3 and 5 has a sixth of its volume."""
    table = torch.tensor([[1.0, 1, 1], [3, 1, 1], [1, 4, 1], [1, 1, 6]])

    assert float(log_volume(table)) == pytest.approx(math.log(2 * 3 * 5 / 6))


@pytest.mark.parametrize(
    "rows",
    [
        [[0, 0, 0], [1, 1, 1], [2, 2, 2]],
        [[0, 0, 0], [0, 0, 0], [1, 0, 0]],
        [[0.1, 0.7, 0.3], [0.4, 0.1, 0.9], [0.25, 0.4, 0.6]],
    ],
)
def test_flat_simplex_has_no_volume(rows: list[list[float]]) -> None:
    """Points on one line give minus infinity, also where rounding leaves a small number."""
    assert float(log_volume(torch.tensor(rows, dtype=torch.float64))) == -math.inf


def test_volume_can_be_followed() -> None:
    """Its gradient with respect to a vertex is the normal of the opposite face over the height."""
    table = torch.tensor([[0.0, 0, 0], [4, 0, 0], [1, 2, 0]], dtype=torch.float64, requires_grad=True)
    log_volume(table).backward()

    assert table.grad[2].tolist() == pytest.approx([0, 1 / 2, 0])


def test_simplex_of_networks_measures_parameters_only() -> None:
    """Volume and distances are those of the parameters of networks, buffers and counters left out."""
    states = [copy.deepcopy(trained(seed, "normalised")) for seed in (1, 2, 3)]
    before = Simplex.of(normalised(), states)
    states[0]["1.running_mean"] += 100
    states[0]["1.num_batches_tracked"] += 100
    after = Simplex.of(normalised(), states)
    names = dict(normalised().named_parameters())
    rows = [torch.cat([state[name].double().reshape(-1) for name in names]) for state in states]
    lengths = [float((a - b).norm()) for a, b in itertools.combinations(rows, 2)]
    half = sum(lengths) / 2
    heron = math.sqrt(half * math.prod(half - side for side in lengths))

    assert before.log_volume == after.log_volume == pytest.approx(math.log(heron))
    assert before.edges[0, 1] == pytest.approx(lengths[0])
    assert before.edge == pytest.approx(math.sqrt(heron * 4 / math.sqrt(3)))
    middle = sum(state["0.weight"].double() for state in states) / 3
    assert torch.allclose(before.barycentre()["0.weight"].double(), middle, atol=1e-7)


@pytest.mark.parametrize("n", range(2, 8))
def test_dirichlet_is_uniform(n: int) -> None:
    """Weights have mean 1 / n, and their squared length 2 / (n + 1)."""
    points = dirichlet(n, 20_000, np.random.default_rng(n))

    assert points.sum(1) == pytest.approx(np.ones(20_000))
    assert points.mean(0) == pytest.approx(np.full(n, 1 / n), abs=0.02)
    assert (points**2).sum(1).mean() == pytest.approx(2 / (n + 1), abs=0.02)


def test_faces_and_edges() -> None:
    """There is one centre for every face, and every edge has equally spaced points."""
    centres = barycentres(4, [3, 4])

    assert len(centres) == 5
    assert centres[0].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert edge_points(3, 3)[:3].tolist() == [[0.75, 0.25, 0], [0.5, 0.5, 0], [0.25, 0.75, 0]]
    assert len(edge_points(5, 3)) == 30


@pytest.mark.parametrize("kind", ["perceptron", "normalised"])
@pytest.mark.parametrize("batchnorm", ["reestimate", "keep", "repair"])
def test_two_vertices_are_a_line(kind: str, batchnorm: str) -> None:
    """The simplex barrier of two networks is the barrier of the line between them at the same points."""
    evaluation = Evaluation(evaluate, data(), batchnorm=batchnorm)
    model, a, b = KINDS[kind](), trained(1, kind), trained(2, kind)
    profile = simplex_barrier(model, [a, b], evaluation, samples=4, ascents=2, steps=2)
    order = np.argsort(profile.weights[:, 1], kind="stable")
    line = profile_path(model, a, b, evaluation, lams=profile.weights[order, 1].tolist())

    # A weight of the line is 1 - lam, which differs from the simplex's by rounding.
    assert line.loss == pytest.approx([profile.loss[k] for k in order], rel=1e-6)
    assert profile.barrier == pytest.approx(line.loss_barrier(), rel=1e-5)
    assert profile.edge_barrier == profile.barrier > 0
    assert profile.error_barrier == pytest.approx(line.error_barrier())


def test_search_finds_what_a_grid_finds() -> None:
    """The barrier of three networks is that of a fine grid of their triangle, though far fewer points are measured."""
    evaluation, model = Evaluation(evaluate, data()), perceptron()
    states = [trained(seed) for seed in (1, 2, 3)]
    profile = simplex_barrier(model, states, evaluation, samples=16, ascents=4, steps=4)
    steps = 24
    grid = [(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]
    search = Search(Span(model, states), evaluation, silent)
    search.look(np.eye(3), "vertex")
    finest = search.look(np.array(grid) / steps, "sample").max()

    assert len(profile.loss) < len(grid) / 3
    assert profile.barrier >= 0.98 * finest


def test_climbing_finds_more_than_sampling() -> None:
    """The worst point found by climbing is worse than all that it began from, and measured like any other."""
    evaluation, states = Evaluation(evaluate, data()), [trained(seed) for seed in (1, 2, 3, 4)]
    profile = simplex_barrier(perceptron(), states, evaluation, samples=8, ascents=4, steps=4, edge=1)
    kinds = np.array(profile.kinds)
    best = {kind: profile.excess[kinds == kind].max() for kind in dict.fromkeys(kinds)}

    assert list(best) == ["vertex", "edge", "face", "sample", "ascent"]
    assert best["ascent"] > max(best["edge"], best["face"], best["sample"])
    assert profile.worst.tolist() == profile.weights[int(np.argmax(profile.excess))].tolist()
    assert profile.worst.sum() == pytest.approx(1)
    assert (profile.weights >= 0).all()


@pytest.mark.parametrize("kind", ["perceptron", "normalised"])
def test_slopes_are_differences(kind: str) -> None:
    """The slope towards vertex k against vertex j is the change of the excess along that direction."""
    batches = [tuple(torch.cat(parts) for parts in zip(*data(4000), strict=True))]  # one batch: its statistics are all
    states = [
        {n: t.double() if t.is_floating_point() else t for n, t in trained(seed, kind).items()} for seed in (1, 2, 3)
    ]

    def wide(model: nn.Module, batch: object) -> dict[str, torch.Tensor]:
        x, y = batch
        return evaluate(model, (x.double(), y))

    search = Search(Span(KINDS[kind]().double(), states), Evaluation(wide, batches), silent)
    search.look(np.eye(3), "vertex")
    point, step = np.array([0.5, 0.2, 0.3]), 1e-5
    slopes = search.slopes(point[None])[0]
    for k, j in itertools.permutations(range(3), 2):
        direction = np.eye(3)[k] - np.eye(3)[j]
        above, below = search.look(np.array([point + step * direction, point - step * direction]), "sample")
        # Re-estimated variances are unbiased, those of a batch are not.
        assert slopes[k] - slopes[j] == pytest.approx((above - below) / (2 * step), rel=0.01, abs=2e-3)


def test_ascent_stays_inside_and_goes_up() -> None:
    """A step moves weight to the vertices with larger slopes, out of faces too, and never leaves the simplex."""
    points = np.array([[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    found = ascent(points, np.array([[0.0, 1.0, 5.0], [7.0, 7.0, 7.0]]), np.array([2.0, 2.0]))

    assert found.sum(1) == pytest.approx([1, 1])
    assert found[0, 2] > 0.02
    assert found[0, 1] > found[0, 0]
    assert found[1] == pytest.approx(points[1])


@pytest.mark.parametrize("policy", ["keep", "reestimate", "repair"])
def test_permuting_any_vertex_leaves_vertex_losses(policy: str) -> None:
    """Reordering units changes no vertex, and it changes the points between."""
    evaluation = Evaluation(evaluate, data(), batchnorm=policy)
    states = [trained(seed, "normalised") for seed in (1, 2, 3)]
    options = {"samples": 2, "ascents": 0, "edge": 1}
    before = simplex_barrier(normalised(), states, evaluation, **options)
    for moved in range(3):
        others = [symmetry("normalised").random(7).apply(s) if k == moved else s for k, s in enumerate(states)]
        after = simplex_barrier(normalised(), others, evaluation, **options)
        assert after.loss[:3] == pytest.approx(before.loss[:3], rel=1e-5)
        assert after.barycentre != pytest.approx(before.barycentre, rel=1e-3)


def test_calibrated_losses_are_kept() -> None:
    """With predictions every point has its calibration error, and with temperatures its calibrated loss."""
    evaluation = Evaluation(evaluate, data(), classification_logits, temperature=True)
    found = simplex_barrier(perceptron(), [trained(1), trained(2)], evaluation, samples=1, ascents=0, edge=1)

    assert set(found.others) == {"ece", "brier", "temperature", "calibrated_loss", "calibrated_ece"}
    assert all(len(row) == len(found.loss) for row in found.others.values())


def profile(excess: list[float], tau: float = 0.1) -> SimplexProfile:
    """A profile of three vertices without loss, and of points drawn whose losses are given."""
    rows = np.concatenate([np.eye(3), dirichlet(3, len(excess), np.random.default_rng(0))])
    kinds = ("vertex",) * 3 + ("sample",) * len(excess)
    return SimplexProfile(tuple("abc"), rows, kinds, (0.0, 0.0, 0.0, *excess), (), 10, "keep", tau)


def test_bad_volume_is_the_exact_bound() -> None:
    """None bad of N leaves at most ln 20 / N, and k bad ones what Clopper and Pearson say."""
    none, some = profile([0.0] * 512), profile([0.0] * 90 + [1.0] * 10)

    assert none.bad_share == 0
    assert 0.99 * math.log(20) / 512 < none.bad_volume < math.log(20) / 512
    assert some.bad_share == 0.1
    assert some.bad_volume == pytest.approx(stats.beta.ppf(0.95, 11, 90))


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_binomial_bound_against_scipy(numbers: tuple[int, int]) -> None:
    """The bound is the quantile of the beta distribution that Clopper and Pearson give."""
    bad, total = numbers
    expected = 1.0 if bad == total else stats.beta.ppf(0.95, bad + 1, total - bad)

    assert binomial_bound(bad, total) == pytest.approx(expected, rel=1e-7)


def test_faces_below_a_threshold() -> None:
    """The largest faces whose points are all good are listed, and each that lies in another is not."""
    rows = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.4, 0.3, 0.3]])
    kinds = ("vertex",) * 3 + ("edge",) * 3 + ("face",)
    found = SimplexProfile(tuple("abc"), rows, kinds, (0, 0, 0, 0.1, 0.5, 0.2, 0.3), (), 10, "keep", 0.25)

    assert found.faces() == ((0, 1), (1, 2))
    assert found.faces(0.6) == ((0, 1, 2),)
    assert found.faces(0.05) == ((0,), (1,), (2,))
    assert found.face_barrier([0, 1, 2]) == found.barrier == found.edge_barrier == 0.5
    assert found.edge_ratio == 1


def test_a_loss_that_is_no_number_is_infinitely_bad() -> None:
    """A point whose network gives NaN is the worst one and bad, also after saving and loading."""
    found = profile([0.0, math.nan, 0.3])
    again = SimplexProfile.from_json(json.loads(json.dumps(found.to_json())), "again")

    assert found.barrier == again.barrier == math.inf
    assert found.bad_share == again.bad_share == 2 / 3
    assert found.worst.tolist() == found.weights[4].tolist()


def test_profile_is_kept_in_a_file(tmp_path: Path) -> None:
    """What is loaded equals what was saved, and the file has what a picture needs."""
    found = simplex_barrier(
        perceptron(), [trained(1), trained(2), trained(3)], Evaluation(evaluate, data()), samples=4, ascents=1, steps=1
    )
    found.save(tmp_path / "simplex.json")
    loaded = SimplexProfile.load(tmp_path / "simplex.json")
    written = json.loads((tmp_path / "simplex.json").read_text(encoding="utf-8"))

    assert loaded.to_json() == found.to_json()
    assert loaded.barrier == found.barrier
    assert written["worst"] == found.worst.tolist()
    assert written["vertices"] == ["model 1", "model 2", "model 3"]
    assert len(written["weights"]) == len(written["loss"]) == len(written["error"])


def test_same_seed_same_points_and_progress() -> None:
    """Two runs with one seed are equal, another seed draws other points, and every point is reported."""
    steps: list[Progress] = []
    states, evaluation = [trained(1), trained(2), trained(3)], Evaluation(evaluate, data())
    options = {"samples": 3, "ascents": 1, "steps": 1}
    first = simplex_barrier(perceptron(), states, evaluation, **options, progress=steps.append)
    again = simplex_barrier(perceptron(), states, evaluation, **options)
    other = simplex_barrier(perceptron(), states, evaluation, **options, seed=1)

    assert first.to_json() == again.to_json()
    assert other.loss != first.loss
    assert [step.done for step in steps] == list(range(1, len(first.loss) + 1))
    assert steps[-1].total == len(first.loss)


def test_interruption_keeps_the_points() -> None:
    """Ctrl-C leaves the points measured by then, marked as incomplete."""

    def stop(step: Progress) -> None:
        if step.done == 5:
            raise KeyboardInterrupt

    found = simplex_barrier(perceptron(), [trained(1), trained(2)], Evaluation(evaluate, data()), progress=stop)

    assert not found.complete
    assert len(found.loss) == len(found.weights) == 5
