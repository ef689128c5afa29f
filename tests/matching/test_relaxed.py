"""The relaxation: true to the objective at permutations, linear in each matrix, exact along lines."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from matching.networks import NETWORKS
from onebasin import AxisGroup, Matching, match
from onebasin.matching.anneal import anneal
from onebasin.matching.frank_wolfe import best_step, between, frank_wolfe, nearest
from onebasin.matching.problem import Problem
from onebasin.matching.relaxed import Relaxed, soften
from strategies import normal, score, written

each_network = pytest.mark.parametrize("network", NETWORKS)


def problem(network: str, seed: int = 0) -> Problem:
    """Two random networks."""
    s = NETWORKS[network]
    return Problem.of(normal(s, seed), normal(s, seed + 1), s)


def doubly(p: Problem, seed: int) -> dict[str, Tensor]:
    """Matrices between those of several random elements: doubly stochastic, nested as the trees are."""
    relaxed = Relaxed.of(p)
    X = relaxed.uniform()
    for k in range(3):
        X = between(X, relaxed.hard(p.symmetry.random(seed + k).permutations), 0.3)
    return {name: x.double() for name, x in X.items()}


@each_network
def test_at_permutations_nothing_changes(network: str) -> None:
    """The objective of permutation matrices is that of the permutations, and rounding gives the permutations back."""
    p = problem(network)
    relaxed = Relaxed.of(p)
    for seed in range(3):
        element = p.symmetry.random(seed)
        X = relaxed.hard(element.permutations)

        assert relaxed.objective(X) == pytest.approx(p.objective(element), rel=1e-6)
        assert Matching(p.symmetry, nearest(p, X)).permutations == element.permutations


@each_network
def test_gradient_is_the_slope(network: str) -> None:
    """Moving one matrix changes the objective by the scores times the move, as the objective is linear in it."""
    p = problem(network)
    relaxed = Relaxed.of(p)
    X, Y = doubly(p, 1), doubly(p, 5)
    for name in p.names:
        scores = relaxed.gradient(X, name)
        if scores is None:
            continue
        moved = relaxed.objective({**X, name: Y[name]}) - relaxed.objective(X)

        assert moved == pytest.approx(float((scores * (Y[name] - X[name])).sum()), rel=1e-5, abs=1e-6)


@each_network
@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_softened_scores_are_doubly_stochastic(network: str, sharpness: float) -> None:
    """Columns sum to one, rows nearly, entries are between 0 and 1, and inner matrices sum up to the outer ones."""
    p = problem(network)
    relaxed = Relaxed.of(p)
    X = relaxed.uniform()
    for tree in p.trees:
        found = soften(tree, relaxed.scores(tree, X), sharpness, p.device)
        for name, x in found.items():
            torch.testing.assert_close(x.sum(0), torch.ones(len(x)))
            assert bool((x >= 0).all())
            assert float((x.sum(1) - 1).abs().max()) < 0.5
            group = p.symmetry.groups[name]
            if group.inside and not p.symmetry.groups[group.inside[-1]].inside:
                outer, n = found[group.inside[-1]], group.size
                sums = x.reshape(len(outer), n, len(outer), n).sum((1, 3)) / n
                torch.testing.assert_close(sums, outer, atol=0.2, rtol=0)


def test_sharp_scores_are_permutations() -> None:
    """Very sharp scores lead to the best permutation, of heads and of the units inside them."""
    for network in ("mlp", "transformer"):
        s = NETWORKS[network]
        a = normal(s, 0)
        planted = s.random(3)
        p = Problem.of(a, planted.apply(a), s)
        relaxed = Relaxed.of(p)
        X = relaxed.hard(planted.inverse().permutations)
        for tree in p.trees:
            for name, x in soften(tree, relaxed.scores(tree, X), 300.0, p.device).items():
                torch.testing.assert_close(x, X[name], atol=1e-3, rtol=0)


@given(st.integers(2, 5), st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_the_best_step_is_exact(degree: int, numbers: list[float]) -> None:
    """No point of a fine grid is better than the step that is found for a polynomial of known degree."""
    curve = np.polynomial.Polynomial(numbers[: degree + 1])
    asked: list[float] = []

    def at(t: float) -> float:
        asked.append(t)
        return float(curve(t))

    t, value = best_step(float(curve(0)), float(curve.deriv()(0)), degree, at)

    assert len(asked) == degree - 1
    assert value == pytest.approx(float(curve(t)), abs=1e-6)
    assert value >= float(curve(np.linspace(0, 1, 1001)).max()) - 1e-5


@each_network
def test_starts_are_better_than_nothing(network: str) -> None:
    """Annealing and Frank-Wolfe end above the networks as given, before any ascent."""
    p = problem(network, 7)

    assert p.objective(anneal(p)) > p.given
    assert p.objective(frank_wolfe(p)) > p.given


def test_annealing_finds_what_no_axis_anchors() -> None:
    """A residual stream that meets all-ones weights at both ends is recovered exactly, which ascent alone is not."""
    groups = [AxisGroup("r", 32), AxisGroup("f", 48), AxisGroup("g", 48)]
    s = written(groups, {"in": "r,4", "f1": "f,r", "f2": "r,f", "g1": "g,r", "g2": "r,g", "out": "3,r"})
    back = {"weight": 0, "best": 0}
    for seed in range(5):
        a = normal(s, seed) | {"in": torch.ones(32, 4, dtype=torch.float64), "out": torch.ones(3, 32).double()}
        planted = s.random(seed)
        for method in back:
            back[method] += match(a, planted.apply(a), s, method).compose(planted).is_identity

    assert back == {"weight": 0, "best": 5}


@pytest.mark.parametrize("seed", range(6))
def test_bounds_hold(seed: int) -> None:
    """Neither bound is below the best of all elements, found by trying each; with gaps the same holds for one group."""
    s = written([AxisGroup("f", 4), AxisGroup("g", 3)], {"w": "f,2", "v": "g,f", "b": "g", "x": "2,g"})
    a, b = normal(s, seed), normal(s, seed + 50)
    p = Problem.of(a, b, s)
    every = [
        Matching(s, {"f": type(s.identity().permutations["f"])(f), "g": type(s.identity().permutations["g"])(g)})
        for f in itertools.permutations(range(4))
        for g in itertools.permutations(range(3))
    ]
    values = [p.objective(element) for element in every]
    found = match(a, b, s, restarts=2)

    assert max(values) <= p.bound <= p.ceiling + 1e-9
    assert found.objective == pytest.approx(max(values))
    assert found.objective == pytest.approx(score(a, found.apply(b), s))
    for name, gap in found.gaps.items():
        alone = [v for e, v in zip(every, values, strict=True) if _differ_only(e, found, name)]
        assert max(alone) <= (found.objective or 0) + gap + 1e-9


def _differ_only(x: Matching, y: Matching, name: str) -> bool:
    return all(p == y.permutations[other] for other, p in x.permutations.items() if other != name)
