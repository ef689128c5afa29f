"""Joint permutations of several networks: never worse than their start, exact on copies, better than pair by pair."""

import itertools
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from connectivity.nets import KINDS, data, evaluate, perceptron, symmetry, tiny, trained
from onebasin import Evaluation, Matching, Permutation, Progress, Status, Symmetry, discover
from onebasin.connectivity import PermutedSimplex, SimplexProfile, permuted_simplex, simplex_barrier, to_reference
from onebasin.connectivity.permuted import LAW, _Judge

QUICK = {"samples": 8, "ascents": 2, "steps": 2}


def search(seeds: tuple[int, ...], kind: str = "perceptron", **options: object) -> PermutedSimplex:
    """Search with few points."""
    model = KINDS[kind]()
    states = [trained(seed, kind) for seed in seeds]
    given = {"batches": data() * 4, "evaluate": evaluate, "validation": data()} | QUICK | options
    return permuted_simplex(model, states, symmetry(kind), **given)


@lru_cache
def found(kind: str = "perceptron") -> PermutedSimplex:
    """A search over three networks."""
    return search((1, 2, 3), kind, epochs=4)


@pytest.mark.parametrize("kind", ["perceptron", "normalised"])
def test_never_worse_than_any_start(kind: str) -> None:
    """The barrier reached is the lowest of all that were tried, starts included, and learning lowered it."""
    result = found(kind)

    assert [row.name for row in result.tried[:5]] == [
        "to-reference", "cycle-consistent", "frank-wolfe", "merge-many", "hierarchical"
    ]  # fmt: skip
    assert {row.name for row in result.tried[5:]} == {"learned"}
    assert result.barrier == min(row.barrier for row in result.tried)
    assert result.barrier < result.start.barrier
    assert result.start.barrier == min(row.barrier for row in result.tried[:5])
    assert result.matchings[0].is_identity
    assert result.status is Status.EPOCHS


def test_what_is_returned_is_what_was_measured() -> None:
    """The vertices of the result, measured anew, have the barrier it states."""
    result = found()
    vertices = result.vertices([trained(seed) for seed in (1, 2, 3)])
    again = simplex_barrier(perceptron(), vertices, Evaluation(evaluate, data()), **QUICK)

    assert again.barrier == pytest.approx(result.barrier, rel=1e-6)
    assert result.between(0, 2).compose(result.between(2, 1)).permutations == result.between(0, 1).permutations


def test_joint_beats_matching_to_the_first() -> None:
    """On data kept apart, the whole simplex is better than after matching each network to the first."""
    states, fresh = [trained(seed) for seed in (1, 2, 3)], Evaluation(evaluate, data(600, seed=9))
    pairwise = [m.apply(s) for m, s in zip(to_reference(states, symmetry()), states, strict=True)]
    before = simplex_barrier(perceptron(), pairwise, fresh, samples=32)
    after = simplex_barrier(perceptron(), found().vertices(states), fresh, samples=32)

    assert after.barrier < before.barrier
    assert after.mean < before.mean


def test_copies_have_no_barrier() -> None:
    """Reordered copies of one network are found: all averages are that network, and nothing is learned."""
    states = [trained(1), symmetry().random(3).apply(trained(1)), symmetry().random(4).apply(trained(1))]
    result = permuted_simplex(
        perceptron(), states, symmetry(), batches=data(), evaluate=evaluate, starts=["merge-many", "to-reference"]
    )

    assert all(torch.equal(vertex[name], states[0][name]) for vertex in result.vertices(states) for name in vertex)
    # The average of equal numbers is that number, rounded once.
    assert result.barrier < 1e-6
    assert len(result.tried) <= 2 + 5


def test_random_permutations_are_much_worse() -> None:
    """The negative control: three copies in random orders have a large barrier as they are."""
    states = [trained(1), symmetry().random(3).apply(trained(1)), symmetry().random(4).apply(trained(1))]
    profile = simplex_barrier(perceptron(), states, Evaluation(evaluate, data()), samples=8)

    assert profile.barrier > 1


@pytest.mark.parametrize("seeds", [(1, 2), (3, 4), (5, 6)])
def test_close_to_the_best_of_all_permutations(seeds: tuple[int, int]) -> None:
    """For two networks of five units, no more than a tenth of all orders has a lower barrier than what is found."""
    states, group = [trained(seed, "tiny") for seed in seeds], next(iter(symmetry("tiny").groups))
    evaluation, barriers = Evaluation(evaluate, data()), []
    for index in itertools.permutations(range(5)):
        moved = Matching(symmetry("tiny"), {group: Permutation(np.array(index))}).apply(states[1])
        barriers.append(simplex_barrier(tiny(), [states[0], moved], evaluation, **QUICK).barrier)
    result = permuted_simplex(
        tiny(), states, symmetry("tiny"), batches=data() * 8, evaluate=evaluate, validation=data(), epochs=8, **QUICK
    )

    assert min(barriers) <= result.barrier <= sorted(barriers)[12]
    assert sorted(barriers)[60] > sorted(barriers)[12]


def test_given_starts_are_kept_if_nothing_is_better(tmp_path: Path) -> None:
    """A start of the user's own is measured like the others; without epochs the best start is returned and saved."""
    own = found().matchings
    result = search((1, 2, 3), starts=[own, "to-reference"], epochs=0)
    result.save(tmp_path)

    assert [row.name for row in result.tried] == ["given 1", "to-reference"]
    assert [m.permutations for m in result.matchings] == [m.permutations for m in own]
    assert Matching.load(tmp_path / "matching-2.json").permutations == own[1].permutations
    assert SimplexProfile.load(tmp_path / "simplex.json").barrier == result.barrier


def test_start_in_other_coordinates() -> None:
    """Matchings that lead all networks elsewhere are the same start: the first network stays where it is."""
    own, g = found().matchings, symmetry().random(8)
    result = search((1, 2, 3), starts=[[g.compose(matching) for matching in own]], epochs=0)

    assert [m.permutations for m in result.matchings] == [m.permutations for m in own]
    assert result.barrier == pytest.approx(found().barrier, rel=1e-5)


def test_same_seed_same_result() -> None:
    """Two searches with one seed agree in every permutation and every figure."""
    first, again = (search((1, 2, 3), starts=["merge-many"], epochs=2) for _ in range(2))

    assert [m.permutations for m in first.matchings] == [m.permutations for m in again.matchings]
    assert first.tried == again.tried


def test_law_of_points() -> None:
    """Steps follow uniform points, centres of faces, middles of edges and worst points as often as the law says."""
    states = [trained(seed) for seed in (1, 2, 3)]
    evaluation = Evaluation(evaluate, data())
    judge = _Judge(states, lambda vertices: simplex_barrier(perceptron(), vertices, evaluation, **QUICK))
    judge.look("naive", (symmetry().identity(),) * 3)
    generator = np.random.default_rng(0)
    points = np.array([judge.draw(generator) for _ in range(4000)])
    inside = (points > 0).all(1)
    equal = inside & (np.abs(points - 1 / 3).max(1) < 1e-9)
    edges = ((points > 0).sum(1) == 2) & ((points == 0.5).sum(1) == 2)

    assert points.sum(1) == pytest.approx(np.ones(4000))
    # Centres of a random size from 2 to 3: half of them are middles of edges. The bank may hold either, too.
    assert LAW[1] / 2 - 0.02 < equal.mean() < LAW[1] / 2 + LAW[3] + 0.02
    assert LAW[2] + LAW[1] / 2 - 0.02 < edges.mean() < LAW[2] + LAW[1] / 2 + LAW[3] + 0.02
    assert (inside & ~equal).mean() > LAW[0] - 0.02
    bank = {tuple(row) for row in judge.rows[0].profile.weights.tolist()}
    assert np.mean([tuple(point) in bank for point in points.tolist()]) > LAW[3]


def test_interruption_keeps_the_best() -> None:
    """Ctrl-C after two starts returns the better of the two."""

    def stop(step: Progress) -> None:
        if step.done == 2:
            raise KeyboardInterrupt

    result = search((1, 2, 3), progress=stop)

    assert len(result.tried) == 2
    assert result.status is Status.INTERRUPTED
    assert result.barrier == min(row.barrier for row in result.tried)


def test_nothing_to_permute() -> None:
    """A network without groups is measured as it is."""
    model = zoo.mlp(4, 3)
    nothing = discover(model, (torch.zeros(2, 4),))
    states = [{n: t + k for n, t in model.state_dict().items()} for k in range(3)]
    result = permuted_simplex(model, states, nothing, batches=data(), evaluate=evaluate, starts=["to-reference"])

    assert isinstance(nothing, Symmetry)
    assert all(matching.is_identity for matching in result.matchings)
