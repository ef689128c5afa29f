"""Filtrations, gluing, circles of matchings and growth against what can be computed by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from connectivity.nets import data, evaluate, perceptron, symmetry, trained
from onebasin import Evaluation, Matching, Permutation, discover, match, match_many
from onebasin.connectivity import (
    Filtration,
    Framed,
    SimplexProfile,
    copies,
    glue,
    grow,
    holonomy,
    simplex_barrier,
    triangles,
)
from onebasin.errors import MismatchError
from strategies import SEEDS, same

Barriers = dict[tuple[int, ...], float]


def full(n: int, seed: int, largest: int | None = None) -> Filtration:
    """A random monotone filtration of all faces of n vertices."""
    generator, barriers = np.random.default_rng(seed), {}
    for size in range(1, (largest or n) + 1):
        for face in itertools.combinations(range(n), size):
            below = [barriers[face[:k] + face[k + 1 :]] for k in range(size)] if size > 1 else []
            barriers[face] = max([*below, round(float(generator.random()), 3) * (size > 1)], default=0.0)
    return Filtration(tuple(map(str, range(n))), barriers)


def components(barriers: Barriers, n: int) -> list[float]:
    """When components join, by merging the sets of the lowest edges."""
    parts, deaths = [{k} for k in range(n)], []
    for (a, b), barrier in sorted(((f, x) for f, x in barriers.items() if len(f) == 2), key=lambda row: row[1]):
        first, second = (next(p for p in parts if k in p) for k in (a, b))
        if first is not second:
            parts = [p for p in parts if p not in (first, second)] + [first | second]
            deaths.append(barrier)
    return deaths


def reduced(barriers: Barriers) -> set[tuple[int, float, float]]:
    """Persistence by reducing the boundary matrix modulo 2, column by column."""
    faces = sorted(barriers, key=lambda face: (barriers[face], len(face), face))
    place = {face: k for k, face in enumerate(faces)}
    columns: dict[int, set[int]] = {}
    pairs, born = [], set(range(len(faces)))
    for k, face in enumerate(faces):
        column = {place[f] for f in itertools.combinations(face, len(face) - 1)} if len(face) > 1 else set()
        while column and max(column) in columns:
            column ^= columns[max(column)]
        if column:
            columns[max(column)] = column
            pairs.append((max(column), k))
            born -= {max(column), k}
    found = [(len(faces[a]) - 1, barriers[faces[a]], barriers[faces[b]]) for a, b in pairs]
    found += [(len(faces[k]) - 1, barriers[faces[k]], math.inf) for k in born]
    return {row for row in found if row[1] < row[2]}


@given(st.integers(2, 5), st.integers(0, 1000))
def test_persistence_of_random_filtrations(n: int, seed: int) -> None:
    """Intervals are those of reducing the boundary matrix, and components end at the edges of the spanning tree."""
    pytest.importorskip("gudhi", reason="the package gudhi is not installed")
    filtration = full(n, seed)
    found = filtration.persistence()

    assert {tuple(row) for row in found} == reduced(dict(filtration.barriers))
    deaths = [row.death for row in found if row.dimension == 0 and math.isfinite(row.death)]
    assert sorted(deaths) == pytest.approx(sorted(x for x in components(dict(filtration.barriers), n) if x > 0))


def test_hollow_triangle_is_a_circle() -> None:
    """Three good edges around a bad middle are a circle from the last edge on until the middle fills it."""
    pytest.importorskip("gudhi", reason="the package gudhi is not installed")
    edges: Barriers = {(0,): 0.0, (1,): 0.0, (2,): 0.0, (0, 1): 0.1, (0, 2): 0.2, (1, 2): 0.3}
    hollow = Filtration(("a", "b", "c"), edges | {(0, 1, 2): 0.7})

    assert hollow.persistence() == ((0, 0.0, math.inf), (0, 0.0, 0.2), (0, 0.0, 0.1), (1, 0.3, 0.7))
    assert hollow.tree() == ((0, 1, 0.1), (0, 2, 0.2))
    assert hollow.facets(0.3) == ((0, 1), (0, 2), (1, 2))
    assert hollow.facets(0.15) == ((2,), (0, 1))
    # Without the face that could fill it, nothing is said about circles.
    assert {row.dimension for row in Filtration(("a", "b", "c"), edges).persistence()} == {0}


@given(SEEDS)
def test_spanning_tree_is_the_lightest(seed: int) -> None:
    """No other tree over four vertices has a lower sum of barriers."""
    filtration = full(4, seed, largest=2)
    pairs = list(itertools.combinations(range(4), 2))
    trees = [t for t in itertools.combinations(pairs, 3) if len(components(dict.fromkeys(t, 0.0), 4)) == 3]
    lightest = min(sum(filtration.barriers[edge] for edge in tree) for tree in trees)

    assert sum(barrier for _, _, barrier in filtration.tree()) == pytest.approx(lightest)


def test_filtration_of_a_profile_is_monotone() -> None:
    """A face's barrier is never below that of its faces, vertices have 0, the whole has the simplex's barrier."""
    states = [trained(seed) for seed in (1, 2, 3, 4)]
    profile = simplex_barrier(perceptron(), states, Evaluation(evaluate, data()), samples=16, ascents=4)
    barriers = Filtration.of(profile).barriers

    assert len(barriers) == 15
    for face, barrier in barriers.items():
        assert barrier == 0 if len(face) == 1 else barrier > 0
        assert all(barriers[face[:k] + face[k + 1 :]] <= barrier for k in range(len(face)) if len(face) > 1)
    assert barriers[0, 1, 2, 3] == profile.barrier
    assert set(map(len, Filtration.of(profile, 2).barriers)) == {1, 2}


NETWORKS = {name: trained(seed) for name, seed in (("a", 1), ("b", 2), ("c", 3), ("d", 4))}


def framed(seed: int, *names: str) -> Framed:
    """A simplex with random frames."""
    return Framed({name: symmetry().random(seed + k) for k, name in enumerate(names)})


@given(SEEDS)
def test_simplex_is_glued_to_a_reordering_of_itself(seed: int) -> None:
    """All transitions are the reordering undone, and moving by it gives back every weight of every vertex."""
    sigma, g = framed(1, "a", "b", "c"), symmetry().random(seed)
    found = glue(sigma, sigma.moved(g), NETWORKS)

    assert found.glued
    assert found.shared == ("a", "b", "c")
    assert found.by.permutations == g.inverse().permutations
    assert not any(found.disagreement.values())
    back = sigma.moved(g).moved(found.by)
    assert all(same(back.frames[n].apply(NETWORKS[n]), sigma.frames[n].apply(NETWORKS[n])) for n in "abc")


def test_simplex_is_recognised_by_its_weights() -> None:
    """Frames are found from reordered weights alone, and a simplex whose weights are others is refused."""
    g = symmetry().random(5)
    sigma = framed(1, "a", "b", "c")
    tau = {name: g.compose(frame).apply(NETWORKS[name]) for name, frame in sigma.frames.items()}
    found = glue(sigma, Framed.recognise(tau, NETWORKS, symmetry()), NETWORKS)

    assert found.glued
    assert found.by.permutations == g.inverse().permutations
    with pytest.raises(MismatchError, match="its network, reordered"):
        Framed.recognise({"a": NETWORKS["b"]}, NETWORKS, symmetry())


def test_one_shared_vertex_always_glues() -> None:
    """Whatever the frames, the second simplex is brought onto the first at the network they share."""
    sigma, tau = framed(1, "a", "b", "c"), framed(50, "c", "d")
    found = glue(sigma, tau, NETWORKS)
    moved = tau.moved(found.by)

    assert found.glued
    assert found.shared == ("c",)
    assert same(moved.frames["c"].apply(NETWORKS["c"]), sigma.frames["c"].apply(NETWORKS["c"]))
    evaluation, options = Evaluation(evaluate, data()), {"samples": 2, "ascents": 0}
    profiles = [
        simplex_barrier(perceptron(), [f.apply(NETWORKS[n]) for n, f in t.frames.items()], evaluation, **options)
        for t in (tau, moved)
    ]
    assert profiles[1].loss == pytest.approx(profiles[0].loss, rel=1e-5)


def test_disagreeing_face_is_two_lifts() -> None:
    """Two simplexes whose transitions differ at a shared edge cannot be glued, and the disagreement is counted."""
    found = glue(framed(1, "a", "b"), framed(50, "a", "b"), NETWORKS)

    assert not found.glued
    assert found.by is None
    assert min(found.disagreement.values()) > 0.5


def doubled(name: str, *units: tuple[int, int]) -> dict[str, torch.Tensor]:
    """A network in which a unit of the first layer, and one of the second, is a copy of another."""
    state = {key: tensor.clone() for key, tensor in NETWORKS[name].items()}
    for layer, (a, b) in zip(("0", "2"), units, strict=False):
        following = {"0": "2", "2": "4"}[layer]
        for key in (f"{layer}.weight", f"{layer}.bias"):
            state[key][b] = state[key][a]
        state[f"{following}.weight"][:, b] = state[f"{following}.weight"][:, a]
    return state


def swap(group_place: int, a: int, b: int) -> Matching:
    """Exchange two units of one hidden layer."""
    chosen = list(symmetry().groups)[group_place]
    index = np.arange(12)
    index[[a, b]] = index[[b, a]]
    permutations = {name: Permutation(np.arange(12)) for name in symmetry().groups} | {chosen: Permutation(index)}
    return Matching(symmetry(), permutations)


def test_copies_of_units_are_found() -> None:
    """Units that are equal in all that comes in and goes out share a class, dead ones too, and no others do."""
    classes = copies(doubled("a", (2, 7)), symmetry())
    first, second = (classes[name] for name in symmetry().groups)
    dead = {key: tensor.clone() for key, tensor in NETWORKS["a"].items()}
    dead["0.weight"][:3], dead["0.bias"][:3], dead["2.weight"][:, :3] = 0.0, 0.0, -0.0

    assert first[2] == first[7]
    assert len(set(first.tolist())) == 11
    assert len(set(second.tolist())) == 12
    assert len(set(copies(dead, symmetry())[next(iter(symmetry().groups))].tolist())) == 10


def test_units_twice_in_one_tensor_count_as_different() -> None:
    """A recurrent layer reorders both axes of a tensor at once: no classes are claimed for it."""
    model = nn.RNN(3, 4)
    found = discover(model, (torch.zeros(2, 1, 3),))
    state = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}

    assert all(len(set(row.tolist())) == len(row) for row in copies(state, found).values())


def test_copies_of_units_let_a_face_be_glued() -> None:
    """Transitions that differ by an exchange of copies in each vertex agree on a third element, which is found."""
    networks = {"a": doubled("a", (2, 7)), "b": doubled("b", (4, 9))}
    sigma, g = framed(1, "a", "b"), symmetry().random(9)
    # Each vertex has its own copies exchanged before the whole is reordered: neither transition fits the other vertex.
    tau = Framed({
        "a": g.compose(sigma.frames["a"]).compose(swap(0, 2, 7)),
        "b": g.compose(sigma.frames["b"]).compose(swap(0, 4, 9)),
    })  # fmt: skip
    found = glue(sigma, tau, networks)

    assert max(found.disagreement.values()) > 0
    for h in found.transitions.values():
        assert not all(
            same(tau.moved(h).frames[n].apply(networks[n]), sigma.frames[n].apply(networks[n])) for n in networks
        )
    assert found.glued
    moved = tau.moved(found.by)
    assert all(same(moved.frames[n].apply(net), sigma.frames[n].apply(net)) for n, net in networks.items())
    # With the networks as they are, without copies, the same frames are two lifts.
    assert not glue(sigma, tau, NETWORKS).glued


def test_circle_of_a_universe_moves_nothing() -> None:
    """Matchings that all lead to one network bring every circle back, and the barrier of the round trip is 0."""
    states = [trained(seed) for seed in (1, 2, 3)]
    universe = match_many(states, symmetry())
    pairs = {(u, v): universe.between(u, v) for u, v in itertools.combinations(range(3), 2)}
    (found,) = triangles(pairs).values()

    assert found.share == 0
    assert set(found.moved.values()) == {0.0}
    line = found.round_trip(perceptron(), states[0], Evaluation(evaluate, data()), lams=5)
    assert line.loss_barrier() == pytest.approx(0, abs=1e-6)


def test_circle_of_pairwise_matchings() -> None:
    """What moves is counted group by group, the trip keeps the function, and what lies between does not."""
    states = [trained(seed) for seed in (1, 2, 3)]
    pairs = {(u, v): match(states[u], states[v], symmetry(), "weight") for u, v in itertools.combinations(range(3), 2)}
    found = triangles(pairs)[0, 1, 2]
    line = found.round_trip(perceptron(), states[0], Evaluation(evaluate, data()), lams=5)

    assert 0 < found.share < 1
    by_hand = pairs[0, 1].compose(pairs[1, 2]).compose(pairs[0, 2].inverse())
    moved = [np.mean(p.index != np.arange(12)) for p in by_hand.permutations.values()]
    assert list(found.moved.values()) == pytest.approx(moved)
    assert line.loss[0] == pytest.approx(line.loss[-1], rel=1e-5)
    assert line.loss_barrier() > 0.01
    assert holonomy([pairs[0, 1], pairs[0, 1].inverse()]).share == 0


def test_growing_by_a_copy_closes_the_simplex() -> None:
    """A network that is a reordered average of the face is found exactly: the simplex is as good as the face."""
    face = [trained(1), match(trained(1), trained(2), symmetry()).apply(trained(2))]
    middle = {name: (face[0][name] + face[1][name]) / 2 for name in face[0]}
    new = symmetry().random(11).apply(middle)
    evaluation = Evaluation(evaluate, data())
    found = grow(perceptron(), face, new, symmetry(), evaluation, samples=16)

    assert same(found.matching.apply(new), middle)
    assert found.after.barrier < found.before.barrier
    assert found.after.labels == ("model 1", "model 2", "model 3")
    assert isinstance(found.after, SimplexProfile)


def test_growing_is_one_matching_with_the_mean() -> None:
    """Joining a third network is weight matching against the mean of the first two."""
    face = [trained(1), match(trained(1), trained(2), symmetry()).apply(trained(2))]
    found = grow(perceptron(), face, trained(3), symmetry(), Evaluation(evaluate, data()), samples=16)
    mean = {name: (face[0][name] + face[1][name]) / 2 for name in face[0]}

    assert found.matching.permutations == match(mean, trained(3), symmetry()).permutations
    assert found.after.barrier < found.before.barrier
