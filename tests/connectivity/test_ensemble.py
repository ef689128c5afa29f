"""Ensembles: scores by hand, what aligning must not change, the null, and snapshots of cyclic training."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onebasin import Evaluation, discover, merge, reestimate_batchnorm
from onebasin.connectivity import EnsembleTable, cyclic, ensemble_table, score_ensemble, snapshot_average
from onebasin.connectivity.comparison import compare, recovered
from onebasin.connectivity.cycles import _rate
from onebasin.connectivity.ensemble import Ensemble, Predictions, mean_log_probabilities
from onebasin.connectivity.ensemble_result import EnsembleRow
from onebasin.connectivity.ensemble_rows import _choices, _equivalent

State = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]
INPUT = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))


def predict(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits and labels."""
    return model(batch[0]), batch[1]


def classify(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Sums over a batch."""
    logits, labels = predict(model, batch)
    return {"loss": nn.functional.cross_entropy(logits, labels, reduction="sum"), "count": torch.tensor(len(labels))}


def network(*, norm: bool = False) -> nn.Sequential:
    """A small classifier."""
    return nn.Sequential(nn.Linear(4, 8), *([nn.BatchNorm1d(8)] if norm else []), nn.ReLU(), nn.Linear(8, 3))


def data(seed: int = 0, sizes: tuple[int, ...] = (40, 30)) -> list[Batch]:
    """Batches of points in three classes."""
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.randn(size, 4, generator=generator) for size in sizes]
    return [(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()) for x in batches]


def evaluation(**given: object) -> Evaluation:
    """How networks are measured here."""
    fixed = {"evaluate": classify, "batches": data(), "predict": predict, "calibration": data(1), "temperature": True}
    return Evaluation(**(fixed | given))


def states(count: int, **given: bool) -> list[State]:
    """So many networks."""
    return [network(**given).state_dict() for _ in range(count)]


def rows(table: EnsembleTable) -> dict[tuple[str, int], EnsembleRow]:
    """Rows by name and cost."""
    return {(row.name, row.forwards): row for row in table.rows}


def test_mean_of_probabilities() -> None:
    """The module and the function give the log of the mean of softmax outputs."""
    members = [network() for _ in range(3)]
    x = data()[0][0]
    expected = torch.stack([member(x).softmax(1) for member in members]).mean(0).log()

    assert torch.allclose(Ensemble(members)(x), expected, atol=1e-6)
    logs = [member(x).log_softmax(1) for member in members]
    assert torch.allclose(mean_log_probabilities(logs), expected, atol=1e-6)


def test_scores_by_hand() -> None:
    """Error, likelihood, calibration error, Brier score and disagreement of two networks on three samples."""
    a = torch.tensor([[0.8, 0.2], [0.4, 0.6], [0.9, 0.1]], dtype=torch.float64).log()
    b = torch.tensor([[0.6, 0.4], [0.8, 0.2], [0.7, 0.3]], dtype=torch.float64).log()
    found = Predictions([a, b], torch.tensor([0, 1, 0]), [], torch.zeros(0)).score([0, 1])

    # The mean says .7, .6 and .8 for the first class; right, wrong, right.
    assert found.scores.error == pytest.approx(1 / 3)
    assert found.scores.nll == pytest.approx(-(math.log(0.7) + math.log(0.4) + math.log(0.8)) / 3)
    assert found.scores.brier == pytest.approx((2 * 0.3**2 + 2 * 0.6**2 + 2 * 0.2**2) / 3)
    assert found.scores.ece == pytest.approx((0.3 + 0.6 + 0.2) / 3)  # three bins
    assert found.disagreement == pytest.approx(1 / 3)
    assert found.samples["error"].tolist() == [0, 1, 0]
    assert (found.forwards, found.temperature, found.calibrated) == (2, None, None)
    assert found.selection == found.scores.nll


def test_identical_members_are_one() -> None:
    """An ensemble of copies scores as one network does, and never disagrees."""
    one = states(1)
    single, several = (score_ensemble(network(), one * count, evaluation()) for count in (1, 4))

    assert several.disagreement == 0
    for what in ("error", "nll", "ece", "brier"):
        assert getattr(several.scores, what) == pytest.approx(getattr(single.scores, what), abs=1e-12)
        assert getattr(several.calibrated, what) == pytest.approx(getattr(single.calibrated, what), abs=1e-12)


def test_temperature_is_fitted_on_calibration_data() -> None:
    """Fitted on the data themselves it can only help; fitted elsewhere it is that of elsewhere."""
    members = states(3)
    own = score_ensemble(network(), members, evaluation(calibration=data()))
    other = score_ensemble(network(), members, evaluation())
    again = score_ensemble(network(), members, evaluation(batches=data(1)))

    assert own.calibrated is not None
    assert own.calibrated.nll <= own.scores.nll + 1e-12
    assert other.temperature == again.temperature != own.temperature
    assert other.selection == pytest.approx(again.scores.nll)
    few = score_ensemble(network(), members, evaluation(calibration_samples=1))
    assert few.temperature == score_ensemble(network(), members, evaluation(calibration=data(1)[:1])).temperature


def test_aligning_leaves_the_vertices_alone() -> None:
    """Reordering units changes no row of vertices beyond rounding, but the barycentre."""
    vertices = states(3)
    symmetry = discover(network(), (INPUT,))
    moved = [symmetry.random(seed).apply(state) for seed, state in enumerate(vertices)]
    plain, reordered = (rows(ensemble_table(network(), nets, evaluation())) for nets in (vertices, moved))

    for name, forwards in (("single, mean", 1), ("single, best", 1), ("vertices", 2), ("vertices", 3)):
        for what in ("error", "nll", "ece", "brier", "disagreement", "calibrated_nll", "equivalent"):
            assert getattr(plain[name, forwards], what) == pytest.approx(
                getattr(reordered[name, forwards], what), abs=1e-5
            )
    assert plain["barycentre", 1].nll != pytest.approx(reordered["barycentre", 1].nll, abs=1e-4)


def test_rows_of_the_table() -> None:
    """Vertices at every number, the barycentre, points at all budgets, spread points beyond, and what was given."""
    given = {"snapshots": states(3), "one": states(1)}
    table = ensemble_table(network(), states(3), evaluation(), contenders=given, unaligned=states(3))

    assert [(row.name, row.forwards, row.draws) for row in table.rows] == [
        ("single, mean", 1, 3),
        ("single, best", 1, 1),
        ("vertices", 2, 3),
        ("vertices", 3, 1),
        ("barycentre", 1, 1),
        *[("simplex points", forwards, 8 // forwards) for forwards in (1, 2, 4, 8)],
        ("spread points", 4, 1),
        ("naive barycentre", 1, 1),
        *[("snapshots", forwards, 1) for forwards in (1, 2, 3)],
        ("one", 1, 1),
    ]
    assert table.count == 70
    assert [(row.forwards, row.measure) for row in table.comparisons] == [
        (forwards, measure) for forwards in (1, 2) for measure in ("error", "nll", "calibrated nll")
    ]


def test_rows_are_scores_of_their_networks() -> None:
    """Each row is what `score_ensemble` says of its networks, means over choices of vertices."""
    vertices, given = states(3), states(2)
    plan = evaluation()
    found = rows(ensemble_table(network(), vertices, plan, contenders={"given": given}, unaligned=given))
    singles = [score_ensemble(network(), [state], plan) for state in vertices]
    pairs = [score_ensemble(network(), [vertices[i], vertices[j]], plan) for i, j in ((0, 1), (0, 2), (1, 2))]

    assert found["single, mean", 1].error == pytest.approx(np.mean([one.scores.error for one in singles]))
    assert found["single, best", 1].nll == pytest.approx(min(singles, key=lambda one: one.selection).scores.nll)
    for what in ("error", "nll", "ece", "brier"):
        assert getattr(found["vertices", 2], what) == pytest.approx(np.mean([getattr(p.scores, what) for p in pairs]))
    for name, members in (
        ("barycentre", [merge(vertices)]),
        ("naive barycentre", [merge(given)]),
        ("given", given),
    ):
        row, expected = found[name, len(members)], score_ensemble(network(), members, plan)
        assert (row.nll, row.calibrated_nll) == pytest.approx((expected.scores.nll, expected.calibrated.nll))
        assert row.disagreement == expected.disagreement
    spread = [*vertices, merge(vertices[:2])]
    assert found["spread points", 4].nll == pytest.approx(score_ensemble(network(), spread, plan).scores.nll)


def test_statistics_of_points_between_networks() -> None:
    """The barycentre's BatchNorm statistics are re-estimated; vertices and given networks keep theirs."""
    vertices = states(2, norm=True)
    for state in vertices:
        state["1.running_mean"] += 1
    plan = evaluation(temperature=False)
    found = rows(ensemble_table(network(norm=True), vertices, plan, contenders={"given": vertices}))
    soup = network(norm=True)
    soup.load_state_dict(merge(vertices))
    reestimate_batchnorm(soup, data(1), classify)

    expected = score_ensemble(network(norm=True), [soup.state_dict()], plan)
    assert found["barycentre", 1].nll == pytest.approx(expected.scores.nll, rel=1e-5)
    assert found["given", 2].nll == found["vertices", 2].nll
    kept = rows(ensemble_table(network(norm=True), vertices, evaluation(temperature=False, batchnorm="keep")))
    assert kept["barycentre", 1].nll != pytest.approx(expected.scores.nll, rel=1e-3)
    assert found["barycentre", 1].calibrated_nll is None


def spoiled(size: float) -> list[State]:
    """Two networks on either side of a trained one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        good = cyclic(network(), network(), data(2, (20,) * 20), classify, cycles=1, epochs=30, rates=(0.5, 0.01))
        noise = {name: size * torch.randn_like(tensor) for name, tensor in good.snapshots[0].items()}
    return [
        {name: tensor + sign * noise[name] for name, tensor in good.snapshots[0].items()} for sign in (1, -1)
    ]  # fmt: skip


def test_null_is_rejected_where_it_is_wrong() -> None:
    """Between two spoiled copies of a good network the points are better than the ends, and the table says so."""
    table = ensemble_table(network(), spoiled(1.0), evaluation(batches=data(3, (400,))), budgets=(1, 2))

    assert not table.null_holds
    assert table.barycentre_gives_most
    assert any(line.startswith("Simplex points beat the vertices at 1 forward in nll: -") for line in table.statement())
    assert any("the barycentre gives most of the vertex ensemble's gain" in line for line in table.statement())


def test_null_stands_where_points_are_bad() -> None:
    """Between networks that are not aligned the points are worse, and so is the barycentre."""
    one = spoiled(0.0)[0]
    other = {name: tensor.flip(0) if name.startswith("0") else tensor for name, tensor in one.items()}
    other["2.weight"] = one["2.weight"].flip(1)
    wobbled = [{n: t + 0.3 * torch.randn_like(t) for n, t in state.items()} for state in (one, other)]
    table = ensemble_table(network(), wobbled, evaluation(batches=data(3, (400,))), budgets=(1, 2))

    assert table.null_holds
    assert not table.barycentre_gives_most
    assert table.statement()[0] == "Simplex points do not beat the vertices at equal forwards."
    assert "worse than one network" in " ".join(table.statement())


def test_paired_intervals() -> None:
    """The interval of a difference is about 1.96 standard errors of the paired difference either side of it."""
    generator = np.random.default_rng(0)
    left = generator.normal(size=4000)
    right = left + generator.normal(0.1, 0.5, size=4000)
    row = compare(("left", "right"), 2, {"nll": left}, {"nll": right}, seed=0)[0]

    error = (left - right).std() / math.sqrt(4000)
    assert row.difference == pytest.approx((left - right).mean())
    assert (row.low, row.high) == pytest.approx(
        (row.difference - 1.96 * error, row.difference + 1.96 * error), abs=0.2 * error
    )


def test_share_of_the_gain() -> None:
    """The share is 1 for the ensemble itself and 0 for one network; without a gain there is none."""
    generator = np.random.default_rng(0)
    single = {"nll": generator.uniform(1, 2, 500), "error": np.ones(500)}
    ensemble = {"nll": single["nll"] - 1, "error": np.ones(500)}
    half = {"nll": single["nll"] - 0.5, "error": np.ones(500)}

    assert recovered(single, ensemble, ensemble, 0) == {"nll": pytest.approx((1, 1, 1))}
    assert recovered(single, single, ensemble, 0) == {"nll": pytest.approx((0, 0, 0))}
    assert recovered(single, half, ensemble, 0)["nll"] == pytest.approx((0.5, 0.5, 0.5))


def test_equivalent_number_of_networks() -> None:
    """Between whole numbers it lies on the straight line; 0 beyond one network, infinite beyond all."""
    curve = [1.0, 0.6, 0.5]

    assert [_equivalent(nll, curve) for nll in (1.0, 0.8, 0.6, 0.55, 0.5)] == pytest.approx([1, 1.5, 2, 2.5, 3])
    assert _equivalent(1.1, curve) == 0
    assert _equivalent(0.4, curve) == math.inf


def test_table_is_saved_and_the_same_again(tmp_path: Path) -> None:
    """The same seed gives the same table, which is read back as it was saved; another one draws other points."""
    vertices, plan = states(2), evaluation()
    table = ensemble_table(network(), vertices, plan, budgets=(1, 2))
    table.save(tmp_path / "ensemble.json")

    assert ensemble_table(network(), vertices, plan, budgets=(1, 2)) == table
    assert EnsembleTable.load(tmp_path / "ensemble.json") == table
    assert ensemble_table(network(), vertices, plan, budgets=(1, 2), seed=1) != table


def test_many_vertices_are_sampled() -> None:
    """Of more than 20 choices of vertices, 20 are taken."""
    table = ensemble_table(network(), states(6), evaluation(temperature=False), budgets=(3,))

    assert rows(table)["vertices", 3].draws == 20
    assert rows(table)["vertices", 2].draws == 15
    drawn = _choices(40, 20, np.random.default_rng(0))
    assert len({frozenset(chosen) for chosen in drawn if len(set(chosen)) == 20}) == 20


def test_rate_rises_and_falls() -> None:
    """A cycle begins and ends at the lower rate, with the higher one in its middle."""
    assert [_rate(done, (0.5, 0.1)) for done in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx([0.1, 0.3, 0.5, 0.3, 0.1])


def test_cycles_by_hand() -> None:
    """One cycle is SGD with momentum at those rates, in train mode."""
    start, batches = network(norm=True), data(0, (10, 12))
    found = cyclic(network(norm=True), start, batches, classify, cycles=1, epochs=2, rates=(0.2, 0.1), weight_decay=0.1)

    model = copy.deepcopy(start)
    speed = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for step, batch in enumerate(batches * 2):
        sums = classify(model, batch)
        grads = torch.autograd.grad(sums["loss"] / sums["count"], list(model.parameters()))
        with torch.no_grad():
            for (name, tensor), grad in zip(model.named_parameters(), grads, strict=True):
                speed[name] = 0.9 * speed[name] + grad + 0.1 * tensor
                tensor.sub_(_rate((step + 0.5) / 4, (0.2, 0.1)) * speed[name])
    assert found.complete
    for name, tensor in model.state_dict().items():
        assert torch.allclose(found.snapshots[0][name], tensor, atol=1e-6)


def test_cycles_can_be_taken_up_again() -> None:
    """Three cycles are one and two more from its snapshot, the seed moved on, to the last bit, with dropout."""
    model = nn.Sequential(network(), nn.Dropout(0.5))
    before = copy.deepcopy(model.state_dict())
    whole = cyclic(model, before, data, classify, cycles=3, epochs=1, seed=5)
    first = cyclic(model, before, data, classify, cycles=1, epochs=1, seed=5)
    rest = cyclic(model, first.snapshots[0], data, classify, cycles=2, epochs=1, seed=6)

    for one, other in zip(whole.snapshots, (*first.snapshots, *rest.snapshots), strict=True):
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert whole.losses == (*first.losses, *rest.losses)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_interrupted_cycles_keep_snapshots() -> None:
    """Ctrl-C in the second cycle leaves the first one's snapshot."""
    calls = []

    def stop(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        calls.append(batch)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return classify(model, batch)

    found = cyclic(network(), network(), data(), stop, cycles=4, epochs=2)
    assert (len(found.snapshots), len(found.losses), found.complete) == (1, 1, False)


def test_average_of_snapshots() -> None:
    """It is the mean of the parameters, with BatchNorm's statistics re-estimated."""
    snapshots = states(3, norm=True)
    found = snapshot_average(network(norm=True), snapshots, evaluation())
    model = network(norm=True)
    model.load_state_dict(merge(snapshots))
    reestimate_batchnorm(model, data(1), classify)

    for name, tensor in model.state_dict().items():
        assert torch.allclose(found[name], tensor, atol=1e-6)
