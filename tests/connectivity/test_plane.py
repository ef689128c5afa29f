"""Planes hold the networks they are made of, and are measured where they say."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from onebasin import Evaluation, Progress
from onebasin.connectivity import (
    PlaneGrid,
    PolygonGrid,
    measure_plane,
    measure_polygon,
    pca_plane,
    plane_through,
    random_plane,
)
from onebasin.connectivity.plane import Plane
from onebasin.connectivity.polygon import Mesh, polygon_corners, wachspress
from onebasin.connectivity.span import Span
from onebasin.tasks import classification_logits, classification_sums


def network(seed: int = 0) -> nn.Module:
    """A small convolutional classifier with BatchNorm."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
        model[1].running_var.uniform_(0.5, 2)
    return model


def batches() -> list[tuple[Tensor, Tensor]]:
    """Two batches of unequal sizes."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(20, 1, 4, 4, generator=generator), torch.randint(3, (20,), generator=generator)
    return [(x[:12], y[:12]), (x[12:], y[12:])]


def evaluation(batchnorm: str = "keep") -> Evaluation:
    """How networks are measured here."""
    return Evaluation(classification_sums, batches(), classification_logits, batchnorm)


def flat(state: dict[str, Tensor]) -> Tensor:
    """All parameters of a network in a row, float64."""
    return torch.cat([state[name].double().reshape(-1) for name, _ in network().named_parameters()])


def mark(plane: Plane, k: int) -> tuple[float, float]:
    """Where a network lies."""
    return plane.marks[k].x, plane.marks[k].y


NETWORKS = [network(k) for k in range(4)]


def test_plane_through_three_networks_holds_them_exactly() -> None:
    """At each network's coordinates are its own tensors, bit by bit, buffers included."""
    plane = plane_through(network(9), NETWORKS[:3], ["p", "q", "r"])

    assert [found.name for found in plane.marks] == ["p", "q", "r"]
    for k, model in enumerate(NETWORKS[:3]):
        params = plane.params(*mark(plane, k))
        assert all(torch.equal(params[name], tensor) for name, tensor in model.state_dict().items())


def test_coordinates_are_distances() -> None:
    """Distances between marks are those between the networks' parameters; a fourth is as far away as it says."""
    plane = plane_through(network(9), NETWORKS)
    rows = [flat(model.state_dict()) for model in NETWORKS]
    for i in range(3):
        for j in range(i):
            assert math.dist(mark(plane, i), mark(plane, j)) == pytest.approx(float((rows[i] - rows[j]).norm()))
    last = plane.marks[3]
    for k in range(3):
        apart = math.hypot(math.dist(mark(plane, 3), mark(plane, k)), last.away)
        assert apart == pytest.approx(float((rows[3] - rows[k]).norm()))


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_points_of_a_plane_are_where_they_say(x: float, y: float) -> None:
    """A point is as far from the first network as its coordinates, and its weights add up to 1."""
    plane = plane_through(network(9), NETWORKS[:3])
    weights = plane.weights(x, y)
    point = sum(w * flat(model.state_dict()) for w, model in zip(weights, NETWORKS, strict=False))

    assert sum(weights) == pytest.approx(1)
    assert float((point - flat(NETWORKS[0].state_dict())).norm()) == pytest.approx(math.hypot(x, y), abs=1e-6)


def test_filters_of_random_directions_are_as_long_as_those_of_the_network() -> None:
    """One step along either axis moves every filter by its own length, and leaves biases and norms in place."""
    model = NETWORKS[0]
    plane = random_plane(model, model, seed=3)
    here = model.state_dict()
    for point in ((1.0, 0.0), (0.0, 1.0)):
        there = plane.params(*point)
        for name in ("0.weight", "4.weight"):
            moved = (there[name] - here[name]).reshape(len(here[name]), -1).norm(dim=1)
            assert torch.allclose(moved, here[name].reshape(len(here[name]), -1).norm(dim=1), rtol=1e-5)
        assert all(torch.equal(there[name], here[name]) for name in here if name not in ("0.weight", "4.weight"))


def test_random_directions_by_tensor_and_with_small_ones() -> None:
    """Without filters every tensor moves by its own length as a whole; with small ones, biases move, too."""
    model = NETWORKS[0]
    here = {name: tensor.detach().double() for name, tensor in model.named_parameters()}
    there = random_plane(model, model, seed=3, filters=False, small=True).params(1, 0)
    for name, tensor in here.items():
        assert float((there[name] - tensor).norm()) == pytest.approx(float(tensor.norm()), rel=1e-5, abs=1e-7)


def test_random_directions_follow_the_seed() -> None:
    """The same seed gives the same directions and another seed others, whose angle is wide."""
    one, same, other = (flat(random_plane(NETWORKS[0], NETWORKS[0], seed=k).params(1, 0)) for k in (3, 3, 4))

    assert torch.equal(one, same)
    assert abs(float(torch.cosine_similarity(one - flat(NETWORKS[0].state_dict()), other - one, dim=0))) < 0.9


def test_trajectory_in_a_plane_is_shown_as_it_is() -> None:
    """Checkpoints that lie in a plane keep their distances, explain all variance, and are found at their marks."""
    a, b, c = (model.state_dict() for model in NETWORKS[:3])
    track = [
        {n: (a[n] + s * (b[n] - a[n]) + t * (c[n] - a[n])) if a[n].is_floating_point() else a[n] for n in a}
        for s, t in ((0, 0), (1, 0), (1.5, 0.7), (1.6, 1.5))
    ]
    plane = pca_plane(network(9), track)

    assert sum(plane.explained) == pytest.approx(1)
    assert plane.explained[0] >= plane.explained[1]
    assert mark(plane, 3) == (0, 0)
    assert plane.marks[0].x > 0 < plane.marks[0].y
    for k, params in enumerate(track):
        assert plane.marks[k].away == pytest.approx(0, abs=1e-5)
        assert torch.allclose(flat(plane.params(*mark(plane, k))), flat(params), atol=1e-5)


def test_principal_axes_are_those_of_a_singular_value_decomposition() -> None:
    """Coordinates agree, up to sign, with those of the SVD of the centred networks."""
    plane = pca_plane(network(9), NETWORKS)
    rows = torch.stack([flat(model.state_dict()) for model in NETWORKS]).numpy()
    _, lengths, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    expected = (rows - rows[-1]) @ axes[:2].T

    assert np.abs([mark(plane, k) for k in range(4)]) == pytest.approx(np.abs(expected), abs=1e-6)
    assert plane.explained == pytest.approx((lengths**2 / (lengths**2).sum())[:2])


def measured(plane: Plane, **options: object) -> PlaneGrid:
    """A small grid of a plane."""
    return measure_plane(plane, evaluation(), resolution=3, margin=0, **options)


def test_grid_is_measured_as_by_hand() -> None:
    """Every value is that of the network at the point, and those of the marks are the networks' own."""
    plane = plane_through(network(9), NETWORKS[:3])
    grid = measured(plane)
    model = network(9).eval()

    def by_hand(params: dict[str, Tensor]) -> tuple[float, float]:
        model.load_state_dict(params, strict=False)
        with torch.no_grad():
            sums = [classification_sums(model, batch) for batch in batches()]
        return sum(float(s["loss"]) for s in sums) / 20, 1 - sum(float(s["correct"]) for s in sums) / 20

    assert grid.complete
    assert grid.count == 20
    for i, y in enumerate(grid.ys):
        for j, x in enumerate(grid.xs):
            loss, error = by_hand(plane.params(x, y))
            assert (grid.loss[i][j], grid.error[i][j]) == pytest.approx((loss, error), rel=1e-5)
    for found, network_ in zip(grid.marks, NETWORKS, strict=False):
        assert (found.loss, found.error) == pytest.approx(by_hand(network_.state_dict()), rel=1e-5)


def test_grid_reaches_beyond_the_networks_by_its_margin() -> None:
    """With a margin of a half the grid is twice as wide as the networks' box; its ends are where they should be."""
    plane = plane_through(network(9), NETWORKS[:3])
    grid = measure_plane(plane, evaluation(), resolution=2, margin=0.5)
    x, y = [m.x for m in plane.marks], [m.y for m in plane.marks]

    assert grid.xs[1] - grid.xs[0] == pytest.approx(2 * (max(x) - min(x)))
    assert grid.ys[1] - grid.ys[0] == pytest.approx(2 * (max(y) - min(y)))


def test_statistics_are_estimated_at_every_point() -> None:
    """With statistics re-estimated, losses beyond the networks are finite as well."""
    grid = measure_plane(plane_through(network(9), NETWORKS[:3]), evaluation("reestimate"), resolution=3, margin=2)

    assert grid.batchnorm == "reestimate"
    assert np.isfinite(grid.loss).all()


def test_grid_survives_its_file(tmp_path: Path) -> None:
    """What is loaded is what was saved, with NaN where a loss was not finite."""
    grid = measured(random_plane(NETWORKS[0], NETWORKS[0]))
    grid.save(tmp_path / "plane.json")
    assert PlaneGrid.load(tmp_path / "plane.json") == grid

    replace(grid, loss=((math.inf, 1.0, 2.0), *grid.loss[1:])).save(tmp_path / "plane.json")
    assert math.isnan(PlaneGrid.load(tmp_path / "plane.json").loss[0][0])


def test_interrupted_grid_goes_on_where_it_was(tmp_path: Path) -> None:
    """Ctrl-C keeps whole rows; going on from their file gives the whole grid without measuring them again."""
    plane = plane_through(network(9), NETWORKS[:3])
    path = tmp_path / "plane.json"

    def stop(grid: PlaneGrid) -> None:
        grid.save(path)
        if len(grid.loss) == 2:
            raise KeyboardInterrupt

    half = measured(plane, after_row=stop)
    steps: list[Progress] = []
    whole = measured(plane, so_far=PlaneGrid.load(path), progress=steps.append)

    assert (half.complete, len(half.loss)) == (False, 2)
    assert [step.done for step in steps] == [3]
    assert whole == measured(plane)


def positions(count: int) -> Sequence[tuple[float, ...]]:
    """Points inside a polygon, out of random weights of its corners."""
    draws = np.random.default_rng(count).dirichlet(np.ones(count), size=50)
    return draws @ polygon_corners(count)


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_wachspress_weights_give_back_the_point(count: int) -> None:
    """Weights are not negative, add up to 1, and the corners weighted by them give the point."""
    corners, points = polygon_corners(count), np.array(positions(count))
    weights = wachspress(points, corners)

    assert (weights >= 0).all()
    assert weights.sum(axis=1) == pytest.approx(1)
    assert weights @ corners == pytest.approx(points)


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_wachspress_weights_are_linear_on_edges_and_exact_at_corners(count: int) -> None:
    """On an edge only its ends have weights, in proportion; at a corner that weight is 1 and the others 0, exactly."""
    corners = polygon_corners(count)
    assert (wachspress(corners, corners) == np.eye(count)).all()
    for k in range(count):
        after = (k + 1) % count
        for t in (0.1, 0.5, 0.8):
            weights = wachspress(((1 - t) * corners[k] + t * corners[after])[None], corners)[0]
            assert (weights[k], weights[after]) == pytest.approx((1 - t, t))
            assert [weights[j] for j in range(count) if j not in (k, after)] == [0] * (count - 2)


def test_wachspress_weights_in_a_triangle_are_barycentric() -> None:
    """In a triangle the weights are those of which the point is a sum."""
    weights = np.random.default_rng(0).dirichlet(np.ones(3), size=50)

    assert wachspress(weights @ polygon_corners(3), polygon_corners(3)) == pytest.approx(weights)


@pytest.mark.parametrize(("count", "rings"), [(3, 1), (3, 4), (5, 3)])
def test_mesh_covers_the_polygon_once(count: int, rings: int) -> None:
    """Triangles have as much area as the polygon, all turn the same way, and every point is used."""
    mesh = Mesh.of(count, rings)
    a, b, c = (mesh.points[mesh.triangles[:, k]] for k in range(3))
    areas = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2

    assert len(mesh.points) == 1 + count * rings * (rings + 1) // 2
    assert len(mesh.triangles) == count * rings**2
    assert (areas < 0).all()
    assert -areas.sum() == pytest.approx(count / 2 * math.sin(2 * math.pi / count))
    assert set(mesh.triangles.flat) == set(range(len(mesh.points)))


def test_polygon_is_measured_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """Corners have the networks' losses, the middle that of their average, and finished points are kept."""
    span = Span(network(9), NETWORKS)
    path = tmp_path / "polygon.json"

    def stop(grid: PolygonGrid) -> None:
        grid.save(path)
        raise KeyboardInterrupt

    names = ["a", "b", "c", "d"]
    assert not measure_polygon(span, names, evaluation(), rings=2, after_part=stop).complete
    steps: list[Progress] = []
    grid = measure_polygon(span, names, evaluation(), rings=2, so_far=PolygonGrid.load(path), progress=steps.append)
    alone = measure_plane(plane_through(network(9), NETWORKS), evaluation(), resolution=2)

    assert [step.done for step in steps] == [13]
    assert grid == measure_polygon(span, names, evaluation(), rings=2)
    assert grid.weights[0] == pytest.approx((0.25,) * 4)
    ends = [grid.weights.index(tuple(float(j == k) for j in range(4))) for k in range(4)]
    assert [grid.loss[k] for k in ends] == pytest.approx([mark.loss for mark in alone.marks])
