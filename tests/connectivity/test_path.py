"""The straight line between two networks: measured as by hand, with the model put back afterwards."""

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onebasin as ob
from onebasin import PathProfile, Progress, reestimate_batchnorm, save_checkpoint
from onebasin.errors import MismatchError, OptionError

State = dict[str, Tensor]
Sums = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]


def profile_path(model: nn.Module, a: object, b: object, **given: object) -> PathProfile:
    """A profile with all options in one row."""
    own = {name: given.pop(name) for name in ("lams", "refine", "seed", "progress") if name in given}
    return ob.profile_path(model, a, b, ob.Evaluation(**given), **own)


def classify(model: nn.Module, batch: object) -> Sums:
    """Sums over a batch of inputs and labels, with a check that the model is measured as it should be."""
    x, y = batch
    out = model(x)
    assert not out.requires_grad
    loss = nn.functional.cross_entropy(out, y, reduction="sum")
    return {"loss": loss, "count": torch.tensor(len(y)), "correct": (out.argmax(1) == y).sum()}


def regress(model: nn.Module, batch: object) -> Sums:
    """A sum of squares, and no count of correct answers."""
    return {"loss": (model(batch) ** 2).sum(), "count": torch.tensor(len(batch))}


def network() -> nn.Module:
    """A small classifier with BatchNorm, dropout, a frozen layer in eval mode, and an integer buffer."""
    model = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3, dtype=torch.float32)
    )
    model.register_buffer("steps", torch.tensor(int(torch.randint(100, ()))))
    model[1].eval()
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    return model


def weights(model: nn.Module) -> State:
    """A copy of the tensors of a model."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def batches() -> list[Batch]:
    """Batches of unequal sizes."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(n, 4, generator=generator), torch.randint(3, (n,), generator=generator)) for n in (16, 5, 9)
    ]  # fmt: skip


def between(a: State, b: State, lam: float) -> State:
    """The point of the line, in float64 and rounded; integers from `a`."""
    return {
        name: ((1 - lam) * a[name].double() + lam * b[name].double()).to(a[name].dtype)
        if a[name].is_floating_point()
        else a[name].clone()
        for name in a
    }


def by_hand(state: State, *, reestimate: Sequence[Batch] = ()) -> tuple[float, float]:
    """Mean loss and error of a state of `network`, all samples counting alike."""
    model = network()
    model.load_state_dict(state)
    if reestimate:
        reestimate_batchnorm(model, reestimate, classify_loosely)
    model.eval()
    x, y = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    with torch.no_grad():
        out = model(x)
    return float(nn.functional.cross_entropy(out, y)), float((out.argmax(1) != y).double().mean())


def classify_loosely(model: nn.Module, batch: object) -> Sums:
    """Only what the statistics need."""
    x, _ = batch
    model(x)
    return {"count": torch.tensor(len(x))}


def ends() -> tuple[State, State]:
    """Two networks."""
    return weights(network()), weights(network())


@pytest.mark.parametrize("batchnorm", ["keep", "reestimate"])
@pytest.mark.parametrize("lams", [(0, 1), (0.0, 0.1, 0.5, 0.75, 1.0), (0, 0.5, 0.5, 1)])
def test_points_are_those_of_the_line(lams: tuple[float, ...], batchnorm: str) -> None:
    """Loss and error of every point are those of the interpolated network, its statistics kept or estimated again."""
    a, b = ends()
    profile = profile_path(network(), a, b, evaluate=classify, batches=batches(), lams=lams, batchnorm=batchnorm)

    expected = [by_hand(between(a, b, lam), reestimate=batches() if batchnorm == "reestimate" else ()) for lam in lams]
    assert profile.lams == lams
    np.testing.assert_allclose(profile.loss, [loss for loss, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(profile.error, [error for _, error in expected], atol=1e-12)
    assert (profile.count, profile.batchnorm, profile.complete) == (30, batchnorm, True)
    assert profile.seconds["total"] > 0


def test_ends_are_the_networks_themselves() -> None:
    """At the ends, with statistics kept, the loss is to the last bit that of the two networks."""
    a, b = ends()
    profile = profile_path(network(), a, b, evaluate=classify, batches=batches(), lams=3, batchnorm="keep")
    for value, state in ((profile.loss[0], a), (profile.loss[-1], b)):
        model = network().eval()
        model.load_state_dict(state)
        with torch.no_grad():
            assert value == sum(float(classify(model, batch)["loss"]) for batch in batches()) / 30


def test_calibration_takes_its_own_data() -> None:
    """Statistics come from the calibration batches, and from no more of them than asked for."""
    a, b = ends()
    apart = [(x + 3, y) for x, y in batches()]
    taken: list[int] = []

    def counting(model: nn.Module, batch: object) -> Sums:
        taken.append(len(batch[1]))
        return classify(model, batch)

    for samples, used in ((None, apart), (16, apart[:1]), (17, apart[:2])):
        profile = profile_path(
            network(),
            a,
            b,
            evaluate=counting,
            batches=batches(),
            lams=2,
            calibration=apart,
            calibration_samples=samples,
        )
        assert profile.loss[0] == pytest.approx(by_hand(a, reestimate=used)[0], rel=1e-5)
    # Every batch is read once for both points.
    twice = [16, 16, 5, 5, 9, 9]
    assert taken == 2 * twice + [16, 16] + twice + [16, 16, 5, 5] + twice


@pytest.mark.parametrize("batchnorm", ["keep", "reestimate"])
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_model_is_put_back(error: type[BaseException] | None, batchnorm: str) -> None:
    """Weights, statistics, modes and momenta of the model are as before, whether the work ends, fails or is stopped."""
    model, calls = network().train(), []
    model[1].eval()
    before, modes = weights(model), [module.training for module in model.modules()]

    def evaluate(module: nn.Module, batch: object) -> Sums:
        calls.append(batch)
        if error is not None and len(calls) == 8:
            raise error
        return classify(module, batch)

    def run() -> PathProfile:
        return profile_path(model, *ends(), evaluate=evaluate, batches=batches(), lams=4, batchnorm=batchnorm)

    if error is RuntimeError:
        with pytest.raises(RuntimeError):
            run()
    else:
        assert run().complete is (error is None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert model[1].momentum == 0.1
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_interrupted_work_is_kept(tmp_path: Path) -> None:
    """Interrupted after two points, the profile holds these two, says so, has no barrier, and is saved as such."""
    a, b = ends()

    def interrupt(report: Progress) -> None:
        if report.done == 2:
            raise KeyboardInterrupt

    profile = profile_path(network(), a, b, evaluate=classify, batches=batches(), lams=5, progress=interrupt)
    full = profile_path(network(), a, b, evaluate=classify, batches=batches(), lams=5)

    assert not profile.complete
    assert (profile.lams, profile.loss, profile.error) == (full.lams[:2], full.loss[:2], full.error[:2])
    for barrier in (profile.loss_barrier, profile.error_barrier):
        with pytest.raises(OptionError, match="expected a complete path, found an interrupted one"):
            barrier()
    profile.save(tmp_path / "path.json")
    assert PathProfile.load(tmp_path / "path.json") == PathProfile(
        profile.lams, profile.loss, profile.error, 30, "reestimate", complete=False
    )
    assert profile.to_json()["barriers"] == {}


def test_interrupted_before_the_first_point() -> None:
    """Interrupted at once, the profile is empty."""

    def stop(_: nn.Module, __: object) -> Sums:
        raise KeyboardInterrupt

    profile = profile_path(network(), *ends(), evaluate=stop, batches=batches(), lams=5)

    assert (profile.lams, profile.loss, profile.error, profile.count, profile.complete) == ((), (), (), 0, False)
    with pytest.raises(OptionError, match="interrupted"):
        profile.loss_barrier()


@pytest.mark.parametrize("kind", ["list", "generator", "iterator", "function", "class"])
def test_batches_of_any_kind(kind: str) -> None:
    """Lists, generators, functions that make them, and objects that can be gone through again give the same."""

    class Loader:
        def __iter__(self) -> Iterator[Batch]:
            return iter(batches())

    kinds: dict[str, object] = {
        "list": batches(),
        "generator": (batch for batch in batches()),
        "iterator": iter(batches()),
        "function": lambda: iter(batches()),
        "class": Loader(),
    }
    a, b = ends()
    profile = profile_path(network(), a, b, evaluate=classify, batches=kinds[kind], lams=3)
    expected = profile_path(network(), a, b, evaluate=classify, batches=batches(), lams=3)

    assert (profile.loss, profile.error, profile.count) == (expected.loss, expected.error, 30)


def test_without_correct_answers_there_is_no_error() -> None:
    """An evaluation that counts no correct answers gives losses, and an error to whom asks for errors."""
    model = nn.Linear(3, 2)
    profile = profile_path(
        model, weights(nn.Linear(3, 2)), weights(model), evaluate=regress, batches=[torch.ones(4, 3)]
    )

    assert len(profile.loss) == len(profile.lams) == 25
    assert profile.error == ()
    assert profile.loss_barrier() <= 0  # the loss is convex along the line
    with pytest.raises(OptionError, match="expected an evaluation that returns `correct`"):
        profile.error_barrier()


def test_points_are_reported() -> None:
    """One report a point, with its place and loss."""
    reports: list[Progress] = []
    profile = profile_path(network(), *ends(), evaluate=classify, batches=batches(), lams=3, progress=reports.append)

    assert [(report.stage, report.done, report.total) for report in reports] == [("path", k, 3) for k in (1, 2, 3)]
    assert [report.detail for report in reports] == [
        f"lam {lam:.2f} loss {loss:.4g}" for lam, loss in zip(profile.lams, profile.loss, strict=True)
    ]


@pytest.mark.parametrize("kind", ["module", "path", "no counter", "double"])
def test_ends_of_any_kind(kind: str, tmp_path: Path) -> None:
    """Modules, files, tensors without BatchNorm's counter and of another dtype give what state dicts give."""
    one, other = network(), network()
    a, b = weights(one), weights(other)
    expected = profile_path(network(), a, b, evaluate=classify, batches=batches(), lams=3, batchnorm="keep")
    save_checkpoint(a, tmp_path / "a.safetensors")
    save_checkpoint(b, tmp_path / "b.pt")
    kinds: dict[str, tuple[object, object]] = {
        "module": (one, other),
        "path": (str(tmp_path / "a.safetensors"), tmp_path / "b.pt"),
        "no counter": tuple({n: t for n, t in s.items() if "num_batches" not in n} for s in (a, b)),
        "double": tuple({n: t.double() for n, t in s.items()} for s in (a, b)),
    }
    profile = profile_path(network(), *kinds[kind], evaluate=classify, batches=batches(), lams=3, batchnorm="keep")

    assert profile.loss == expected.loss
    assert all(torch.equal(tensor, a[name]) for name, tensor in one.state_dict().items())


def test_integers_on_the_line_are_those_of_the_first() -> None:
    """Integer buffers of every point are those of `a`, and tied weights are written once and stay tied."""

    class Tied(nn.Module):
        def __init__(self, steps: int) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
            self.two.weight = self.one.weight
            self.register_buffer("steps", torch.tensor(steps))

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x))

    model, one, other = Tied(1), Tied(2), Tied(3)
    seen: list[int] = []

    def evaluate(module: nn.Module, batch: object) -> Sums:
        assert isinstance(module, Tied)
        seen.append(int(module.steps))
        assert module.one.weight is module.two.weight
        return regress(module, batch)

    x = torch.randn(5, 3)
    profile = profile_path(model, one, other, evaluate=evaluate, batches=[x], lams=3)

    assert seen == [2, 2, 2]
    model.load_state_dict(between(weights(one), weights(other), 0.5))
    with torch.no_grad():
        assert profile.loss[1] == pytest.approx(float(regress(model, x)["loss"]) / 5, rel=1e-5)


@pytest.mark.parametrize("as_end", ["a", "b"])
@pytest.mark.parametrize("kind", ["module", "state dict"])
def test_the_model_itself_may_be_an_end(kind: str, as_end: str) -> None:
    """The model that is measured on may be one of the ends, and gives what a copy of it gives."""
    model, other = network(), weights(network())
    end: object = model if kind == "module" else model.state_dict()
    given = {"a": (end, other), "b": (other, end)}[as_end]
    expected = profile_path(network(), *copy.deepcopy(given), evaluate=classify, batches=batches(), lams=5)
    profile = profile_path(model, *given, evaluate=classify, batches=batches(), lams=5)

    assert profile.loss == expected.loss


def test_infinities_that_both_ends_share_are_kept() -> None:
    """A causal mask of minus infinity, saved as a buffer, is the same at every point."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

        def forward(self, x: Tensor) -> Tensor:
            return (self.linear(x) + self.mask).softmax(1)

    profile = profile_path(
        Masked(), weights(Masked()), weights(Masked()), evaluate=regress, batches=[torch.ones(2, 2)], lams=3
    )

    assert profile.loss == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float16], ids=str)
def test_the_line_has_the_precision_of_the_model(dtype: torch.dtype) -> None:
    """Complex weights lie on the line, too, and of half precision checkpoints the model gets its own precision."""
    wide = torch.complex64 if dtype.is_complex else torch.float32
    a, b = ({"weight": torch.tensor([[1.0, x]], dtype=dtype)} for x in (1.0, 1.0 + 2**-10))
    model, seen = nn.Linear(2, 1, bias=False, dtype=wide), []

    def evaluate(module: nn.Module, _: object) -> Sums:
        seen.append(module.state_dict()["weight"].clone())
        return {"loss": torch.tensor(0.0), "count": torch.tensor(1)}

    profile_path(model, a, b, evaluate=evaluate, batches=[0], lams=[0, 0.25, 1])

    assert seen[1].tolist() == [[1.0, 1.0 + 2**-12]]


@pytest.mark.parametrize(
    ("lams", "points"),
    [(2, (0, 1)), (5, (0, 0.25, 0.5, 0.75, 1)), ([0, 1], (0, 1)), (np.linspace(0, 1, 3), (0, 0.5, 1))],
)
def test_points_may_be_counted_or_given(lams: int | Sequence[float], points: tuple[float, ...]) -> None:
    """A number gives so many points at equal distances, ends included; a sequence gives the points."""
    model = nn.Linear(2, 1)
    profile = profile_path(
        model, weights(model), weights(model), evaluate=regress, batches=[torch.ones(2, 2)], lams=lams
    )

    assert profile.lams == points
    assert all(type(lam) is float for lam in profile.lams)


Change = Callable[[State], State]


def lacking(name: str) -> Change:
    """A state without one tensor."""
    return lambda state: {n: t for n, t in state.items() if n != name}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(
            ({"lams": lams}, "^lams: expected a number of points from 2, or points ascending from 0 to 1, found")
            for lams in (1, 0, -3, True, [], [0], [0, 0.5], [0.5, 1], [0, 0.7, 0.3, 1], [0, 2, 1], [1, 0])
        ),
        ({"batchnorm": "reset"}, "^batchnorm: expected reestimate or keep or repair, found 'reset'"),
        ({"batches": []}, "^batches: expected at least one batch"),
        ({"batches": [], "batchnorm": "keep"}, "^batches: expected at least one batch"),
        ({"batches": 3}, "^batches: expected batches, found int"),
        ({"calibration": 3}, "^calibration: expected batches, found int"),
        ({"calibration": []}, "^batches: expected at least one batch"),
        ({"calibration_samples": 0}, "^samples: expected 1 or more"),
        ({"evaluate": lambda *_: {"count": 1}}, "^evaluate: expected sums over a batch with `loss`, found count"),
        (
            {"evaluate": lambda *_: {"loss": 1}, "batchnorm": "keep"},
            "^evaluate: expected sums over a batch with `count`, found loss",
        ),
    ],
)
def test_options_that_cannot_work(options: dict[str, object], message: str) -> None:
    """Points, data and evaluations that cannot be used are refused by name."""
    model = network()
    before = weights(model)
    with pytest.raises(OptionError, match=message):
        profile_path(model, *ends(), **({"evaluate": classify, "batches": batches()} | options))

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("change_a", "change_b", "message"),
    [
        (lacking("0.weight"), dict, r"^a: 0.weight: expected shape \(6, 4\), as in the model, found no such tensor"),
        (dict, lacking("1.running_var"), "^b: 1.running_var: .* found no such tensor"),
        (dict, lacking("steps"), "^b: steps: .* found no such tensor"),
        (dict, lambda s: s | {"4.bias": torch.zeros(4)}, r"^b: 4.bias: expected shape \(3,\).*found shape \(4,\)"),
    ],
)
def test_ends_that_do_not_fit(change_a: Change, change_b: Change, message: str) -> None:
    """A tensor that is missing or has another shape is named with the end it is of."""
    a, b = ends()
    with pytest.raises(MismatchError, match=message):
        profile_path(network(), change_a(a), change_b(b), evaluate=classify, batches=batches())


def test_extra_tensors_are_noticed() -> None:
    """A tensor that the model does not have is an error, too."""
    a, b = ends()
    with pytest.raises(MismatchError, match="extra"):
        profile_path(network(), a | {"extra": torch.ones(1)}, b, evaluate=classify, batches=batches(), lams=2)


def nothing(_: nn.Module, __: object) -> Sums:
    """An evaluation of no samples."""
    return {"loss": torch.tensor(0.0), "count": torch.tensor(0)}


@pytest.mark.parametrize(
    ("options", "subject"),
    [({"evaluate": nothing}, "batches|evaluate"), ({"lams": 0.5}, "lams"), ({"lams": [0, float("nan"), 1]}, "lams")],
)
def test_more_options_that_cannot_work(options: dict[str, object], subject: str) -> None:
    """Neither are batches without samples, a fraction of a point, or a point that is no number."""
    model = nn.Linear(2, 1)
    given = {"evaluate": regress, "batches": [torch.ones(2, 2)]} | options
    with pytest.raises(OptionError, match=subject):
        profile_path(model, weights(model), weights(model), **given)
