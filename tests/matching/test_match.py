"""Weight matching: finds planted reorderings, climbs its objective, and says truly what it reached."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from matching.networks import NETWORKS, TRANSFORMER
from onebasin import AxisGroup, Matching, Permutation, Progress, Status, Symmetry, match, save_checkpoint
from onebasin.errors import MismatchError
from onebasin.matching import METHODS, ascent
from strategies import SEEDS, normal, same, score, symmetries, written

State = dict[str, Tensor]

each_network = pytest.mark.parametrize("network", NETWORKS)
each_method = pytest.mark.parametrize("method", METHODS)


@pytest.mark.parametrize("seed", range(2))
@each_method
@each_network
def test_planted_reorderings_are_found(network: str, method: str, seed: int) -> None:
    """A network and a reordered copy are brought together bit by bit, and the search knows that nothing is better."""
    s = NETWORKS[network]
    a = normal(s, seed, torch.float32)
    b = s.random(seed + 100).apply(a)
    found = match(a, b, s, method, seed=seed)

    assert not same(a, b)
    assert same(found.apply(b), a)
    assert found.status is Status.OPTIMAL
    assert found.share == pytest.approx(1)
    assert found.objective == pytest.approx(score(a, a, s))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_planted_reorderings_are_found_in_other_dtypes(dtype: torch.dtype) -> None:
    """Half precision and double precision networks are matched as well."""
    a = normal(TRANSFORMER, 0, dtype)
    b = TRANSFORMER.random(1).apply(a)
    found = match(a, b, TRANSFORMER)

    assert same(found.apply(b), a)
    assert found.objective == pytest.approx(score(a, a, TRANSFORMER))


@each_method
@each_network
def test_a_network_matches_itself_as_it_is(network: str, method: str) -> None:
    """Nothing moves where both networks are one, whether passed once or as a copy."""
    s = NETWORKS[network]
    a = normal(s, 3, torch.float32)
    for other in (a, {name: tensor.clone() for name, tensor in a.items()}):
        found = match(a, other, s, method)

        assert found.is_identity
        assert found.status is Status.OPTIMAL
        assert same(found.apply(other), a)


@given(symmetries(crossed=False), SEEDS)
def test_objective_and_history_are_true(symmetry: Symmetry, seed: int) -> None:
    """The objective is a times the moved b, entry by entry; it starts at b as given, never falls, ends as reported."""
    a, b = normal(symmetry, seed), normal(symmetry, seed + 1)
    found = match(a, b, symmetry, seed=seed)

    assert found.objective == pytest.approx(score(a, found.apply(b), symmetry), rel=1e-9, abs=1e-9)
    assert found.history[0] == pytest.approx(score(a, b, symmetry), rel=1e-9, abs=1e-9)
    assert found.history[-1] == found.objective == max(found.history)
    assert list(found.history[1:]) == sorted(found.history[1:])
    assert found.status in (Status.CONVERGED, Status.OPTIMAL)
    assert found.bound is not None
    assert found.bound >= found.objective - 1e-9 * abs(found.bound)
    assert all(found.permutations[name].is_identity for name, group in symmetry.groups.items() if group.fixed)


@each_network
def test_objective_is_minus_half_the_squared_distance(network: str) -> None:
    """Up to a constant, the objective is minus half the squared distance of the weights, statistics left out."""
    s = NETWORKS[network]
    a, b = normal(s, 5), normal(s, 6)
    found = match(a, b, s)

    def distance(aligned: State) -> float:
        again = {name for row in s.tied for name in row[1:]}
        names = [name for name in s.layouts if name not in s.buffers and name not in again]
        return sum(float(((a[name] - aligned[name]) ** 2).sum()) for name in names)

    assert found.objective is not None
    assert found.objective - found.history[0] == pytest.approx((distance(b) - distance(found.apply(b))) / 2)


def elements_of(symmetry: Symmetry, name: str) -> Iterator[Matching]:
    """Every element that moves one group and leaves the others."""
    group = symmetry.groups[name]
    shape = symmetry.context_sizes(group)
    rows = itertools.permutations(range(group.size))
    for choice in itertools.product(rows, repeat=int(np.prod(shape, dtype=int))):
        index = Permutation(np.array(choice).reshape(*shape, group.size))
        yield Matching(symmetry, {**symmetry.identity().permutations, name: index})


def improving(symmetry: Symmetry, seed: int) -> list[str]:
    """The groups of which some reordering still improves the objective after matching two random networks."""
    a, b = normal(symmetry, seed), normal(symmetry, seed + 1)
    found = match(a, b, symmetry, seed=seed)
    assert found.status in (Status.CONVERGED, Status.OPTIMAL)
    aligned = found.apply(b)
    limit = score(a, aligned, symmetry) + 1e-9
    return [
        name
        for name, group in symmetry.groups.items()
        if not group.fixed and any(score(a, m.apply(aligned), symmetry) > limit for m in elements_of(symmetry, name))
    ]


H, U, V = AxisGroup("h", 2), AxisGroup("u", 3, ("h",)), AxisGroup("v", 2, ("h",))
SMALL = {
    "mlp": written(
        [AxisGroup(name, 4) for name in "fghi"], {"w1": "f,1", "w2": "g,f", "w3": "h,g", "w4": "i,h", "w5": "1,i"}
    ),
    "heads": written(
        [H, U, V, AxisGroup("r", 3)], {"e": "2,r", "q": "h*(u + u),r", "v": "r,h*v", "o": "v*h,r", "s": "h"}
    ),
    "fixed": written([AxisGroup("h", 2, (), fixed=True), U, AxisGroup("r", 4)], {"q": "h*u,r", "o": "r,u,h"}),
}
COUPLED = {
    "siblings in one tensor": written([H, U, V], {"w": "h,u,v,2", "u": "h*u,1", "v": "h*v,1"}),
    "one group on two axes": written([AxisGroup("h", 5)], {"w": "h,h", "x": "h,2"}),
}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("case", SMALL)
def test_converged_is_true(case: str, seed: int) -> None:
    """Where the search says that it has converged, no reordering of any one group is better."""
    assert improving(SMALL[case], seed) == []


def test_converged_is_true_of_coupled_groups() -> None:
    """The same holds where two groups meet in one tensor, as the objective is linear in each of them."""
    assert [improving(COUPLED["siblings in one tensor"], seed) for seed in range(6)] == [[]] * 6


def test_converged_is_true_where_rivals_stand_alone_too() -> None:
    """Nor is any reordering of three heads better, whose units meet in one tensor and are scored in others, too."""
    groups = [AxisGroup("h", 3), AxisGroup("u", 2, ("h",)), AxisGroup("v", 2, ("h",))]
    s = written(groups, {"w": "h,u,v,1", "u": "h*u,2", "v": "h*v,2", "h": "h,3"})

    assert {seed: names for seed in range(20) if (names := improving(s, seed))} == {}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", COUPLED)
def test_coupled_groups_climb(case: str, seed: int) -> None:
    """Where groups meet in one tensor, or one stands on two axes, the objective is true and never falls."""
    s = COUPLED[case]
    a, b = normal(s, seed), normal(s, seed + 1)
    found = match(a, b, s, seed=seed)

    assert found.objective == pytest.approx(score(a, found.apply(b), s))
    assert found.history[0] == pytest.approx(score(a, b, s))
    assert list(found.history) == sorted(found.history)


def test_recurrent_weights_are_recovered() -> None:
    """A hidden state on both axes of its recurrent matrix is found where the inputs tell its units apart."""
    s = written([AxisGroup("h", 20)], {"hh": "h,h", "ih": "h,30", "b": "h"})
    a = normal(s, 0)
    b = s.random(1).apply(a)

    assert same(match(a, b, s).apply(b), a)


def test_groups_nested_in_two_are_matched() -> None:
    """A group nested in two that are not nested in each other is matched while those around it move on their own."""
    s = written([AxisGroup("a", 2), AxisGroup("b", 3), AxisGroup("x", 4, ("a", "b"))], {"w": "a*b*x,9", "v": "a,b,7"})
    a = normal(s, 0)
    b = s.random(1).apply(a)

    assert same(match(a, b, s).apply(b), a)


def test_siblings_take_their_turns_before_the_search_ends() -> None:
    """Where only the second of two groups that meet in one tensor is out of place, it is found."""
    s = written([H, U, V], {"w": "h,u,v,30"})
    a = normal(s, 0)
    shuffled = [s.random(seed, only=[name]).apply(a) for seed in range(4) for name in ("u", "v")]

    assert [same(match(a, b, s).apply(b), a) for b in shuffled] == [True] * 8


@pytest.mark.parametrize(
    "exponent",
    [
        20,
        -10,
        -25,
    ],
)
def test_scale_makes_no_difference(exponent: int) -> None:
    """Networks of large or small weights are matched like the same networks at scale 1."""
    s = NETWORKS["mlp"]
    a, b = normal(s, 0), normal(s, 1)
    scaled = [{name: tensor * 2.0**exponent for name, tensor in state.items()} for state in (a, b)]

    assert match(*scaled, s).permutations == match(a, b, s).permutations


def test_the_seed_decides() -> None:
    """The same seed gives the same matching and history; other seeds visit the groups in other orders."""
    s = NETWORKS["conv"]
    a, b = normal(s, 0), normal(s, 1)
    found = [match(a, b, s, "weight", seed=seed) for seed in (0, 0, 1, 2)]

    assert found[0] == found[1]
    assert [m.seed for m in found] == [0, 0, 1, 2]
    assert len({m.history for m in found}) > 1
    assert {m.method for m in found} == {"weight"}
    assert found[0].seconds["total"] >= sum(found[0].seconds[part] for part in ("similarity", "assignment", "apply"))


@pytest.mark.parametrize("sweeps", [1, 2])
def test_sweeps_are_limited_and_reported(sweeps: int) -> None:
    """The search stops at the limit and says so, with one report and one entry of the history a sweep."""
    s = NETWORKS["mlp"]
    a, b = normal(s, 0), normal(s, 1)
    reports: list[Progress] = []
    found = match(a, b, s, "weight", max_sweeps=sweeps, progress=reports.append)

    assert found.status is Status.MAX_SWEEPS
    assert [report.done for report in reports] == list(range(1, sweeps + 1))
    assert {report.stage for report in reports} == {"matching"}
    assert reports[-1].detail == f"objective {found.objective:.6g}"
    assert len(found.history) == sweeps + 1
    assert found.history == match(a, b, s, "weight").history[: sweeps + 1]
    assert found.objective == pytest.approx(score(a, found.apply(b), s))


def test_interrupted_work_is_kept() -> None:
    """Interrupted from the outside, the search returns what it had, with a status that says so."""
    s = NETWORKS["mlp"]
    a, b = normal(s, 0), normal(s, 1)

    def interrupt(report: Progress) -> None:
        if report.done == 2:
            raise KeyboardInterrupt

    found = match(a, b, s, "weight", progress=interrupt)

    assert found.status is Status.INTERRUPTED
    assert found.history == match(a, b, s, "weight").history[:3]
    assert found.permutations == match(a, b, s, "weight", max_sweeps=2).permutations
    assert found.objective == pytest.approx(score(a, found.apply(b), s)) == found.history[-1]


def test_other_errors_of_the_report_pass() -> None:
    """An error of the caller's own report is not swallowed."""

    def fail(_: Progress) -> None:
        raise RuntimeError("mine")

    s = NETWORKS["mlp"]
    with pytest.raises(RuntimeError, match="mine"):
        match(normal(s, 0), normal(s, 1), s, progress=fail)


@each_network
def test_inputs_are_untouched(network: str) -> None:
    """Neither network is written to, not even for a moment."""
    s = NETWORKS[network]
    a, b = normal(s, 0), normal(s, 1)
    versions = [tensor._version for state in (a, b) for tensor in state.values()]
    match(a, b, s)

    assert same(a, normal(s, 0))
    assert same(b, normal(s, 1))
    assert [tensor._version for state in (a, b) for tensor in state.values()] == versions


def test_buffers_move_but_do_not_count() -> None:
    """Running statistics change nothing about the matching, and follow it."""
    s = NETWORKS["conv"]
    a, b = normal(s, 0), normal(s, 1)
    found = match(a, b, s)
    again = match(a | {name: a[name] + 9 for name in s.buffers}, b, s)

    assert again.permutations == found.permutations
    assert again.history == found.history
    assert torch.equal(found.apply(b)["bn1.running_mean"], b["bn1.running_mean"][found.permutations["c1"].index.copy()])


@pytest.mark.parametrize(("left_out_of_a", "left_out_of_b"), [("head", "head"), ("embed", "head"), ("head", "embed")])
def test_tied_tensors_count_once_under_any_name(left_out_of_a: str, left_out_of_b: str) -> None:
    """Checkpoints that list a tied tensor under either name are matched as those that list both."""
    a, b = normal(TRANSFORMER, 0), normal(TRANSFORMER, 1)
    expected = match(a, b, TRANSFORMER)
    a.pop(left_out_of_a)
    b.pop(left_out_of_b)
    found = match(a, b, TRANSFORMER)

    assert found.permutations == expected.permutations
    assert found.objective == pytest.approx(expected.objective)


def test_masks_of_infinity_are_no_hindrance() -> None:
    """A tensor without a group may hold infinities, as a causal mask does."""
    s = written([AxisGroup("h", 8)], {"w": "h,9", "mask": "2,2"})
    a = normal(s, 0) | {"mask": torch.tensor([[0.0, -torch.inf], [0.0, 0.0]])}
    b = s.random(1).apply(a)

    assert same(match(a, b, s).apply(b), a)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("which", [0, 1])
def test_broken_networks_are_refused(which: int, value: float) -> None:
    """A network that holds NaN or infinity is named with the tensor, be it scored or not."""
    states = [normal(NETWORKS["conv"], seed) for seed in (0, 1)]
    states[which]["bn1.running_mean"][3] = value

    with pytest.raises(
        MismatchError, match=rf"^{'ab'[which]}: bn1\.running_mean: expected (finite numbers|no NaN), found NaN"
    ):
        match(*states, NETWORKS["conv"])


def test_nothing_to_match() -> None:
    """A symmetry without groups, or with fixed ones only, has one element, which is found at once."""
    for groups, axis in (([], "2"), ([AxisGroup("h", 2, (), fixed=True)], "h")):
        s = written(groups, {"w": axis})
        found = match({"w": torch.ones(2)}, {"w": torch.ones(2)}, s)

        assert found.is_identity
        assert found.status is Status.OPTIMAL


@pytest.mark.parametrize("kind", ["module", "path", "transposed"])
def test_all_sources_are_equal(kind: str, tmp_path: Path) -> None:
    """Modules, files and tensors in another memory layout give the matching of their state dicts."""
    s = written([AxisGroup("h", 12)], {"0.weight": "h,6", "0.bias": "h", "2.weight": "3,h", "2.bias": "3"})
    models = [nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)).double() for _ in range(2)]
    states = [{name: tensor.clone() for name, tensor in model.state_dict().items()} for model in models]
    expected = match(*states, s)
    for number, state in enumerate(states):
        save_checkpoint(state, tmp_path / f"{number}.safetensors")
    sources = {
        "module": models,
        "path": [tmp_path / "0.safetensors", str(tmp_path / "1.safetensors")],
        "transposed": [{n: t.mT.contiguous().mT if t.ndim > 1 else t for n, t in state.items()} for state in states],
    }
    found = match(*sources[kind], s)

    assert found.permutations == expected.permutations
    assert found.objective == pytest.approx(expected.objective, rel=1e-12)
    x = torch.randn(7, 6, dtype=torch.float64)
    before = models[1](x)
    models[1].load_state_dict(found.apply(models[1]))
    torch.testing.assert_close(models[1](x), before, rtol=1e-12, atol=1e-12)


@each_network
def test_scores_may_be_forgotten(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory allows no score to be kept between visits, the search takes the same steps."""
    s = NETWORKS[network]
    a, b = normal(s, 1, torch.float64), normal(s, 2, torch.float64)
    expected = match(a, b, s, "weight")
    monkeypatch.setattr(ascent, "_KEPT", 0)
    found = match(a, b, s, "weight")

    assert found.permutations == expected.permutations
    assert found.objective == pytest.approx(expected.objective)
