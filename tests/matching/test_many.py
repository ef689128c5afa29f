"""Many networks in one set of coordinates."""

import itertools

import pytest

from matching.networks import NETWORKS
from onebasin import Progress, Status, match_many
from onebasin.errors import MismatchError, OptionError
from onebasin.matching.universe import STARTS
from strategies import normal, same, score

each_method = pytest.mark.parametrize("method", STARTS)


@each_method
@pytest.mark.parametrize("network", NETWORKS)
def test_planted_copies_come_together(network: str, method: str) -> None:
    """Five reordered copies of one network all become the first one, bit by bit."""
    s = NETWORKS[network]
    first = normal(s, 0)
    models = [first, *(s.random(seed).apply(first) for seed in range(4))]
    found = match_many(models, s, method)

    assert [same(m.apply(x), first) for m, x in zip(found.matchings, models, strict=True)] == [True] * 5
    assert found.cycle_error == 0


@each_method
@pytest.mark.parametrize("network", NETWORKS)
def test_objective_and_cycles_are_true(network: str, method: str) -> None:
    """The objective is the sum over pairs of moved networks, above that of the networks as given; cycles close."""
    s = NETWORKS[network]
    models = [normal(s, seed) for seed in range(4)]
    found = match_many(models, s, method)
    moved = [m.apply(x) for m, x in zip(found.matchings, models, strict=True)]

    def value(states: list[dict[str, object]]) -> float:
        return sum(score(a, b, s) for a, b in itertools.combinations(states, 2))

    assert found.matchings[0].is_identity
    assert found.objective - found.history[0] == pytest.approx(value(moved) - value(models), rel=1e-5, abs=1e-5)
    assert found.objective > found.history[0]
    assert found.cycle_error == 0
    assert same(found.between(1, 2).apply(models[2]), found.matchings[1].inverse().apply(moved[2]))
    assert found == match_many(models, s, method)


def test_all_methods_end_where_no_network_can_be_better_placed() -> None:
    """After convergence, matching any one network to the sum of the others again gains nothing."""
    s = NETWORKS["conv"]
    models = [normal(s, seed) for seed in range(4)]
    for method in ("cycle-consistent", "frank-wolfe", "merge-many"):
        found = match_many(models, s, method)
        again = match_many([m.apply(x) for m, x in zip(found.matchings, models, strict=True)], s, "merge-many")

        assert found.status is Status.CONVERGED
        assert again.objective == pytest.approx(found.objective, rel=1e-9)


def test_interrupted_work_is_kept() -> None:
    """Interrupted, the search returns what it had reached, and says so."""
    s = NETWORKS["mlp"]
    models = [normal(s, seed) for seed in range(3)]

    def interrupt(report: Progress) -> None:
        if report.stage == "matching all":
            raise KeyboardInterrupt

    found = match_many(models, s, progress=interrupt)

    assert found.status is Status.INTERRUPTED
    assert found.objective == found.history[-1] > found.history[0]


def test_bad_requests_are_refused() -> None:
    """One network, an unknown method and networks of other shapes are named."""
    s = NETWORKS["mlp"]
    a, b = normal(s, 0), normal(s, 1)
    with pytest.raises(OptionError, match="models: expected two or more, found 1"):
        match_many([a], s)
    with pytest.raises(OptionError, match=r"method: expected cycle-consistent or frank-wolfe or .*found 'x'"):
        match_many([a, b], s, "x")
    with pytest.raises(MismatchError, match=r"c: w1: expected a tensor of this name"):
        match_many([a, b, {}], s)
