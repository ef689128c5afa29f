"""What is said about averaging networks is true of networks for which the answer is known."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import onebasin as ob
from onebasin import Evaluation, Matching
from onebasin.connectivity import Preflight, preflight
from onebasin.connectivity.advice import output_linearity
from onebasin.connectivity.span import Span
from onebasin.connectivity.verdict import ALIGN, AS_THEY_ARE, CORRECT, ENSEMBLE, Average, Line, Pair
from onebasin.tasks import classification_logits, classification_sums

State = dict[str, Tensor]
WIDTH = 6


def network(seed: int) -> nn.Module:
    """A narrow network of two hidden layers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))


def points(seed: int, count: int = 400) -> tuple[Tensor, Tensor]:
    """Points of a square, and which of the two colours of a 2 x 2 chequerboard they lie on."""
    x = 2 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) - 1
    return x, (x[:, 0] * x[:, 1] > 0).long()


@functools.cache
def trained(seed: int) -> State:
    """A network that has learned the chequerboard."""
    model, (x, y) = network(seed), points(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@functools.cache
def symmetry() -> ob.Symmetry:
    """Of the architecture."""
    return ob.discover(network(0), (torch.zeros(3, 2),))


def noisy(state: State, seed: int) -> State:
    """A copy with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    return {n: t + 1e-3 * torch.randn(t.shape, generator=generator) for n, t in state.items()}


EVALUATION = Evaluation(classification_sums, [points(1)], classification_logits, "keep")


def ask(*networks: State, **options: object) -> Preflight:
    """The answer about some networks, called a, b, ..."""
    return preflight(network(9), networks, symmetry(), EVALUATION, names="abcdef"[: len(networks)], **options)


def test_networks_are_good_enough_to_have_barriers() -> None:
    """The networks of these tests have learned what there is to learn."""
    model = network(0)
    for seed in (0, 1):
        model.load_state_dict(trained(seed))
        x, y = points(1)
        assert float((model(x).argmax(1) == y).float().mean()) > 0.95


def test_reordered_copies_are_to_be_aligned() -> None:
    """Copies of one network in different coordinates have a barrier, and none once aligned."""
    a = trained(0)
    answer = ask(a, symmetry().random(1).apply(a), symmetry().random(2).apply(a))

    for pair in answer.pairs:
        assert pair.suggestion == ALIGN
        assert pair.raw.error_barrier > 0.1
        assert pair.aligned.loss_barrier == pytest.approx(0, abs=1e-6)
        assert abs(pair.aligned_features) < 1e-6 < pair.raw_features
        assert pair.corrected is None
    assert answer.clusters == (("a", "b", "c"),)
    assert answer.sentence == "a, b and c: align, then average; the average of all 3 is as good as they are."
    (average,) = answer.averages
    assert (average.networks, average.suggestion, average.good) == (("a", "b", "c"), ALIGN, True)
    assert average.loss == pytest.approx(average.networks_loss, rel=1e-6)


def test_copies_with_noise_are_to_be_averaged_as_they_are() -> None:
    """Children of one network that barely moved need no alignment."""
    answer = ask(trained(0), noisy(trained(0), 1), noisy(trained(0), 2))

    assert [pair.suggestion for pair in answer.pairs] == [AS_THEY_ARE] * 3
    assert answer.suggestion("abc") == AS_THEY_ARE
    assert all(pair.raw_features < 1e-4 for pair in answer.pairs)


def test_unrelated_networks_are_not_to_be_averaged() -> None:
    """Narrow networks that learned by themselves have a barrier whatever is done, and form no cluster."""
    answer = ask(trained(0), trained(1))

    assert [pair.suggestion for pair in answer.pairs] == [ENSEMBLE]
    assert answer.pairs[0].corrected.error_barrier > 0.01
    assert answer.clusters == (("a",), ("b",))
    assert answer.sentence == "None of a and b may be averaged with another: ensemble them instead."


def test_children_of_two_parents_fall_in_two_clusters() -> None:
    """Pairs that may be averaged join networks; those of another parent are left outside."""
    answer = ask(trained(0), noisy(trained(1), 1), noisy(trained(0), 1), trained(1), noisy(trained(0), 2))

    assert answer.clusters == (("a", "c", "e"), ("b", "d"))
    assert "a, c and e: average as they are; the average of all 3 is as good as they are. b and d: " in answer.sentence


def test_finished_pairs_are_not_measured_again(tmp_path: Path) -> None:
    """Going on after Ctrl-C evaluates what was missing only, and gives the same answer."""
    calls: list[int] = []

    def counting(model: nn.Module, batch: object) -> tuple[Tensor, Tensor]:
        calls.append(1)
        return classification_logits(model, batch)

    networks = [trained(0), noisy(trained(0), 1), noisy(trained(0), 2)]
    evaluation = replace(EVALUATION, predict=counting)
    saved: list[Path] = []

    def save(pair: Pair) -> None:
        saved.append(tmp_path / f"{pair.a}{pair.b}.json")
        pair.save(saved[-1])
        if len(saved) == 2:
            raise KeyboardInterrupt

    half = preflight(network(9), networks, symmetry(), evaluation, names="abc", after_pair=save)
    first = len(calls)
    whole = preflight(
        network(9), networks, symmetry(), evaluation, names="abc", done=[Pair.load(path) for path in saved]
    )

    assert not half.complete
    group = 4  # the average of all, and every network
    assert 2 * (len(calls) - group - first) == first
    assert whole == ask(*networks)


def test_answer_survives_its_file(tmp_path: Path) -> None:
    """What is loaded is what was saved."""
    answer = ask(trained(0), noisy(trained(0), 1), trained(1))
    answer.save(tmp_path / "connect.json")

    assert Preflight.load(tmp_path / "connect.json") == answer


def test_own_search_is_used() -> None:
    """A search of the caller's finds the matchings: one that leaves all in place makes aligning worthless."""
    a = trained(0)
    moved = symmetry().random(1).apply(a)

    def stay(_: object, __: object) -> Matching:
        return symmetry().identity()

    answer = ask(a, moved, align=stay)
    assert answer.pairs[0].aligned == answer.pairs[0].raw


def test_outputs_of_linear_networks_are_linear() -> None:
    """For a linear model the average's outputs are the average of the outputs; for opposite outputs they are far."""
    model = nn.Linear(3, 2)
    batch = (torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(50, dtype=torch.long))
    evaluation = Evaluation(classification_sums, [batch], classification_logits, "keep")
    assert output_linearity(Span(model, [nn.Linear(3, 2), nn.Linear(3, 2)]), evaluation) == pytest.approx(0, abs=1e-6)
    assert output_linearity(Span(model, [model]), replace(evaluation, predict=None)) is None

    class Square(nn.Module):
        """Squares its one parameter, less 2."""

        def __init__(self, value: float) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor(value))

        def forward(self, x: Tensor) -> Tensor:
            """The same output for every input."""
            return (self.w**2 - 2) * torch.ones(len(x), 2)

    # Outputs are 2 at both networks and -2 at their average.
    found = output_linearity(Span(Square(0.0), [Square(2.0), Square(-2.0)]), evaluation)
    assert found == pytest.approx(2)


def line(error: float | None, loss: float = 0.0, interval: tuple[float, float] | None = None) -> Line:
    """A line with barriers."""
    return Line((0.0, 1.0), (0.0, 0.0), (), loss, interval if error is None else None, error, interval)


@pytest.mark.parametrize(
    ("raw", "aligned", "corrected", "suggestion"),
    [
        (line(0.01), line(0.5), None, AS_THEY_ARE),
        (line(0.011), line(0.01), None, ALIGN),
        (line(0.5), line(0.02), line(0.01), CORRECT),
        (line(0.5), line(0.02), line(0.02), ENSEMBLE),
        (line(0.5), line(0.02), None, ENSEMBLE),
        (line(None, 0.05), line(None, 1.0), None, AS_THEY_ARE),
        (line(None, 0.06), line(None, 0.05), None, ALIGN),
    ],
)
def test_least_that_helps_is_suggested(raw: Line, aligned: Line, corrected: Line | None, suggestion: str) -> None:
    """The limit is one point of error, or 0.05 of loss where errors are not counted, and belongs to the good side."""
    assert Pair("a", "b", raw, aligned, corrected).suggestion == suggestion


def test_intervals_across_the_limit_are_told() -> None:
    """Where the interval of a barrier holds the limit, the sentence asks for more data."""
    close, far = line(0.009, interval=(0.0, 0.02)), line(0.001, interval=(0.0, 0.005))

    assert "measure on more data" in Preflight(("a", "b"), (Pair("a", "b", close, close),)).sentence
    assert "more data" not in Preflight(("a", "b"), (Pair("a", "b", far, far),)).sentence


def test_of_a_group_whose_average_is_bad_the_best_pair_is_advised() -> None:
    """Good pairs do not make a good average: what is advised is what was measured."""
    good, better = line(0.005), line(0.0)
    pairs = (Pair("a", "b", good, good), Pair("a", "c", better, better), Pair("b", "c", good, good))
    whole = ("a", "b", "c")
    bad = Preflight(whole, pairs, (Average(whole, AS_THEY_ARE, 2.0, 1.0),))
    fixed = Preflight(whole, pairs, (Average(whole, CORRECT, 1.01, 1.0),))

    assert bad.advised(whole) == (("a", "c"), AS_THEY_ARE)
    assert bad.sentence == "a, b and c: pairs may be averaged, all 3 may not; best a and c: average as they are."
    assert fixed.advised(whole) == (whole, CORRECT)
    assert "the average of all 3 is as good as they are" in fixed.sentence


def test_the_average_of_a_group_is_that_of_the_networks() -> None:
    """The figures of a group are those of plain evaluations of the average and of every network."""
    networks = [trained(0), noisy(trained(0), 1), noisy(trained(0), 2)]
    (found,) = ask(*networks).averages
    model, (x, y) = network(9), points(1)

    def loss(state: State) -> float:
        model.load_state_dict(state)
        return float(nn.functional.cross_entropy(model(x), y).detach())

    assert found.loss == pytest.approx(loss(ob.merge(networks)), rel=1e-5)
    assert found.networks_loss == pytest.approx(sum(map(loss, networks)) / 3, rel=1e-5)


def test_chains_are_told() -> None:
    """Where two networks are joined by a third only, the sentence says that they themselves are far apart."""
    good, bad = line(0.0), line(0.5)
    pairs = (Pair("a", "b", good, good), Pair("b", "c", good, good), Pair("a", "c", bad, bad))
    answer = Preflight(("a", "b", "c"), pairs)

    assert answer.clusters == (("a", "b", "c"),)
    assert "not all pairs may be: a with c" in answer.sentence


def test_batches_of_an_iterator_are_kept() -> None:
    """Data that can be gone through once serve every pair."""

    def once() -> Iterator[object]:
        yield points(1)

    evaluation = Evaluation(classification_sums, once(), classification_logits, "keep")
    networks = [trained(0), noisy(trained(0), 1)]

    assert preflight(network(9), networks, symmetry(), evaluation, names="ab") == ask(*networks)
