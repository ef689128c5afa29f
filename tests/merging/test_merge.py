"""Merging: averages in float64, rounded once, exact where exactness can be had."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from onebasin import merge, save_checkpoint
from onebasin.errors import MismatchError, OptionError
from strategies import identical, same

State = dict[str, Tensor]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

each_float = pytest.mark.parametrize("dtype", FLOATS, ids=str)


def state(seed: int, dtype: torch.dtype = torch.float32) -> State:
    """Tensors of one dtype and an integer one."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {"w": torch.randn(4, 3, generator=generator), "b": torch.randn(4, generator=generator)}
    return {name: t.to(dtype) for name, t in drawn.items()} | {
        "steps": torch.tensor(seed),
        "s": torch.tensor(0.5 + seed),
    }


def single(values: np.ndarray, dtype: torch.dtype = torch.float64) -> State:
    """A model of one tensor, in which -0 has become 0."""
    return {"w": torch.from_numpy(values.copy()).to(dtype) + 0}


def vectors(*, rows: int) -> st.SearchStrategy[np.ndarray]:
    """A few numbers for each of several models."""
    return arrays(np.float64, (rows, 4), elements=st.floats(-1e4, 1e4))


@given(vectors(rows=1), st.sampled_from(FLOATS), st.integers(2, 4), st.sampled_from(["mean", "lerp"]))
def test_equal_networks_give_themselves(values: np.ndarray, dtype: torch.dtype, count: int, method: str) -> None:
    """Where all models agree, so does the result, bit by bit."""
    a = single(values[0], dtype)

    assert same(merge([a] * (2 if method == "lerp" else count), method), a)


@pytest.mark.parametrize("value", [-0.0, math.inf, -math.inf])
def test_equal_special_values_are_kept(value: float) -> None:
    """So it does where they agree on -0, or on the infinities of a causal mask."""
    a = {"mask": torch.tensor([1.0, value])}

    assert same(merge([a, a]), a)
    assert same(merge([a, a], "lerp"), a)


@given(vectors(rows=3), arrays(np.float64, 3, elements=st.floats(0.01, 10)))
def test_mean_is_the_weighted_average(values: np.ndarray, weights: np.ndarray) -> None:
    """The mean of several models is NumPy's weighted average, weights divided by their sum."""
    models = [single(row) for row in values]
    expected = np.average(values, axis=0, weights=weights)

    np.testing.assert_allclose(merge(models, weights=weights.tolist())["w"], expected, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(merge(models)["w"], values.mean(axis=0), rtol=1e-12, atol=1e-9)


@given(vectors(rows=3), st.permutations(range(3)), st.sampled_from(FLOATS))
def test_order_makes_no_difference(values: np.ndarray, order: Sequence[int], dtype: torch.dtype) -> None:
    """The mean in another order, weights with it, differs by no more than the last rounding."""
    models = [single(row, dtype) for row in values]
    weights = [1.0, 2.0, 5.0]
    mixed = merge([models[k] for k in order], weights=[weights[k] for k in order])["w"].double()
    scale = max(float(model["w"].double().abs().max()) for model in models)

    tolerance = 2 * torch.finfo(dtype).eps * scale + torch.finfo(dtype).tiny
    assert float((merge(models, weights=weights)["w"].double() - mixed).abs().max()) <= tolerance


@each_float
def test_weights_need_not_sum_to_one(dtype: torch.dtype) -> None:
    """Weights count relative to each other, and those of the models left out are zero."""
    a, b, c = (state(seed, dtype) for seed in range(3))

    assert same(merge([a, b], weights=[3, 1]), merge([a, b], weights=[0.75, 0.25]))
    assert same(merge([a, b], weights=[7, 7]), merge([a, b]))
    assert same(merge([a, b, c], weights=[1, 1, 0]), merge([a, b]))
    assert same(merge([a, b], weights=[2, 0]), a)
    assert same(merge([a]), a)


def test_the_whole_weight_on_one_model_gives_that_model() -> None:
    """With all weight on the second model, the result is the second model."""
    a, b = ({"w": torch.randn(100, dtype=torch.float64)} for _ in range(2))

    assert same(merge([a, b], weights=[0, 1]), b)


@given(vectors(rows=2), st.sampled_from(FLOATS))
def test_ends_of_the_line_are_exact(values: np.ndarray, dtype: torch.dtype) -> None:
    """At 0 and 1 the line is at its ends, bit by bit."""
    a, b = (single(row, dtype) for row in values)

    assert same(merge([a, b], "lerp", lam=0), a)
    assert same(merge([a, b], "lerp", lam=1), b)


@pytest.mark.parametrize("lam", [0.0, 0.2, 0.5, 0.9, 1.0, 1.5, -0.25])
def test_the_line_is_straight(lam: float) -> None:
    """The point at lam is (1 - lam) a + lam b, also beyond the ends."""
    a, b = state(0), state(1)
    out = merge([a, b], "lerp", lam=lam)

    for name in ("w", "b", "s"):
        expected = (1 - lam) * a[name].double() + lam * b[name].double()
        torch.testing.assert_close(out[name].double(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", FLOATS[:3], ids=str)
def test_rounding_happens_once(dtype: torch.dtype) -> None:
    """A sum of many tensors whose terms vanish one by one in low precision is right to the last bit."""
    small = torch.finfo(dtype).eps / 8  # lost if added to 1 one at a time
    models = [{"w": torch.tensor([1.0], dtype=dtype)}] + [{"w": torch.tensor([1.0 + k], dtype=dtype)} for k in (8, 16)]
    models += [{"w": torch.tensor([small], dtype=dtype)} for _ in range(64)]
    values = np.array([float(model["w"]) for model in models])

    expected = torch.tensor([math.fsum(values) / len(values)], dtype=torch.float64).to(dtype)
    torch.testing.assert_close(merge(models)["w"], expected, rtol=0, atol=0)


@each_float
def test_many_equal_networks_give_themselves(dtype: torch.dtype) -> None:
    """Seven equal models of a thousand numbers, whose sevenths do not add up to one, give themselves bit by bit."""
    a = {"w": torch.randn(1000).to(dtype)}

    assert same(merge([a] * 7), a)
    assert same(merge([a] * 3, weights=[0.1, 0.2, 0.7]), a)


@pytest.mark.parametrize("value", [math.inf, 1e300])
def test_models_without_weight_are_left_out(value: float) -> None:
    """A model with weight 0, and the other end of a line at 0 or 1, do not reach the result, however large."""
    a, b = ({"w": torch.tensor([x], dtype=torch.float64)} for x in (1.0, value))

    assert same(merge([a, b], weights=[2, 0]), a)
    assert same(merge([b, a, a], weights=[0, 1, 1]), a)
    assert same(merge([a, b], "lerp", lam=0), a)
    assert same(merge([b, a], "lerp", lam=1), a)


@pytest.mark.parametrize("position", [0, 1])
def test_broken_networks_are_refused(position: int) -> None:
    """A model that holds NaN is named with the tensor and the number of bad entries."""
    models = [state(0), state(1)]
    models[position]["w"][2, 1] = math.nan

    with pytest.raises(MismatchError, match=rf"^model {position + 1}: w: expected .*, found NaN.* in 1 of 12 entries"):
        merge(models)


@pytest.mark.parametrize("method", ["mean", "lerp"])
def test_float32_is_averaged_in_float64(method: str) -> None:
    """A thousand weighted averages of float32 numbers are all as near to those of float64 as float32 can be."""
    a, b = ({"w": torch.randn(1000)} for _ in range(2))
    out = merge([a, b], method, **({"lam": 0.3} if method == "lerp" else {"weights": [0.7, 0.3]}))

    exact = (0.7 * a["w"].double() + 0.3 * b["w"].double()).numpy()
    half_a_step = np.spacing(np.abs(exact).astype(np.float32)) / 2
    assert (np.abs(out["w"].double().numpy() - exact) <= half_a_step * (1 + 1e-6)).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("low", "lam", "to"), [(1.0, 0.5 + 2**-20, 1), (1.0 + 2**-10, 0.5 - 2**-20, 0)])
@pytest.mark.parametrize("method", ["mean", "lerp"])
def test_half_precision_is_rounded_from_float64(method: str, low: float, lam: float, to: int, sign: int) -> None:
    """A value beside the middle of two neighbours goes to the nearer, where by way of float32 it goes to the even."""
    ends = [sign * low, sign * (low + 2**-10)]
    a, b = ({"w": torch.tensor([x], dtype=torch.float16)} for x in ends)
    out = merge([a, b], method, **({"lam": lam} if method == "lerp" else {"weights": [1 - lam, lam]}))

    assert float(out["w"]) == float(np.float16((1 - lam) * ends[0] + lam * ends[1])) == ends[to]


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool], ids=str)
def test_what_cannot_be_averaged_is_the_first(dtype: torch.dtype) -> None:
    """Integers and truth values are those of the first model, in a tensor of their own."""
    a, b = ({"n": torch.tensor(values).to(dtype)} for values in ([1, 0, 3], [0, 1, 7]))
    out = merge([a, b])

    assert same(out, a)
    assert out["n"].data_ptr() != a["n"].data_ptr()


def test_complex_tensors_are_averaged() -> None:
    """Complex numbers can be averaged, and are."""
    assert merge([{"w": torch.tensor([1j])}, {"w": torch.tensor([3j])}])["w"].tolist() == [2j]


def test_names_order_and_dtypes_are_those_of_the_first() -> None:
    """The result looks like the first model, scalars and empty tensors included, whatever order the others have."""
    a = state(0) | {"none": torch.zeros(0, 3), "half": torch.zeros(2).half()}
    b = dict(reversed(state(1).items())) | {"half": torch.ones(2).half(), "none": torch.zeros(0, 3)}
    out = merge([a, b])

    assert list(out) == list(a)
    assert [(t.dtype, t.shape) for t in out.values()] == [(t.dtype, t.shape) for t in a.values()]
    assert out["half"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("method", ["mean", "lerp"])
def test_tied_tensors_stay_tied(method: str) -> None:
    """What is one tensor in every model is one in the result, and what is tied in one model only is not."""

    def tied(seed: int, *, half: bool = False) -> State:
        w = torch.randn(2, generator=torch.Generator().manual_seed(seed))
        return {"a": w, "b": w, "c": w.clone() if half else w}

    out = merge([tied(0), tied(1, half=True)], method)
    assert out["a"] is out["b"]
    assert out["c"] is not out["a"]
    assert torch.equal(out["c"], out["a"])


def test_views_of_one_storage_are_not_tied() -> None:
    """Tensors that share storage but are different windows of it, or cross-tied, are merged each on its own."""
    base, other = torch.arange(6.0), torch.arange(6.0) * 10
    a = {"x": base[:3], "y": base[3:], "z": base[::2], "s": base[:4].view(2, 2), "t": base[:4].view(2, 2).t()}
    b = {"x": other[3:], "y": other[:3], "z": other[::2], "s": other[:4].view(2, 2), "t": other[:4].view(2, 2).t()}
    expected = {name: (a[name].double() + b[name].double()).div(2).float() for name in a}

    assert same(merge([a, b]), expected)


class Fresh(Mapping[str, Tensor]):
    """Tensors that are made when asked for and kept by nobody, as a reader of large files does."""

    def __init__(self, tensors: State) -> None:
        self.tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name].clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def test_tensors_made_on_demand_are_not_mixed_up() -> None:
    """Models that make their tensors when asked give what the same tensors in memory give."""
    for size in (2, 64, 300):
        for dtype in (torch.float32, torch.float64, torch.int64):
            models = [{f"w{k}": (torch.randn(size, size) * 9).to(dtype) for k in range(40)} for _ in range(2)]
            assert same(merge([Fresh(models[0])]), merge(models[:1]))
            assert same(merge([Fresh(model) for model in models]), merge(models))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_files_and_modules_are_taken(suffix: str, tmp_path: Path) -> None:
    """Files and modules give what their state dicts give, tensors of one shape not mixed up."""
    models = [nn.Sequential(*(nn.Linear(5, 5) for _ in range(12)), nn.BatchNorm1d(5)) for _ in range(2)]
    states = [dict(model.state_dict()) for model in models]
    for number, tensors in enumerate(states):
        save_checkpoint(tensors, tmp_path / f"{number}{suffix}")
    expected = merge(states)

    assert same(merge([tmp_path / f"0{suffix}", str(tmp_path / f"1{suffix}")]), expected)
    assert same(merge(models), expected)
    models[0].load_state_dict(expected)


@pytest.mark.parametrize(("method", "count"), [("mean", 2), ("mean", 3), ("lerp", 2)])
def test_inputs_are_untouched_and_shared_by_nothing(method: str, count: int) -> None:
    """No model is written to, and writing to the result does not reach one."""
    models = [state(seed, torch.float64) for seed in range(count)]
    for tensor in merge(models, method).values():
        tensor.fill_(7)

    assert all(same(model, state(seed, torch.float64)) for seed, model in enumerate(models))


@pytest.mark.parametrize("case", ["one model", "parameters"])
def test_results_are_new_tensors(case: str) -> None:
    """The result of merging one model is a copy, and that of merging parameters lies outside autograd."""
    if case == "one model":
        a = {"w": torch.zeros(2, dtype=torch.float64)}
        assert merge([a])["w"] is not a["w"]
    else:
        assert not merge([{"w": nn.Parameter(torch.zeros(2))}] * 2)["w"].requires_grad


@pytest.mark.parametrize(
    ("count", "method", "options", "message"),
    [
        (0, "mean", {}, "^models: expected at least one model"),
        (0, "lerp", {}, "^models: expected at least one model"),
        (2, "median", {}, "^method: expected mean or lerp or slerp or .*, found 'median'"),
        (2, "mean", {"weights": [1, 2, 3]}, r"^weights: expected 2 numbers, found \[1, 2, 3\]"),
        (2, "mean", {"weights": [0, 0]}, "^weights: expected 2 numbers with a positive sum"),
        (2, "mean", {"weights": [1, -1]}, "^weights: .* positive sum"),
        (2, "mean", {"weights": [1, math.nan]}, "^weights: expected a finite number.*found nan"),
        (2, "mean", {"weights": [math.inf, 1]}, "^weights: expected a finite number.*found inf"),
        (2, "mean", {"weights": "1,1"}, "^weights: expected 2 numbers"),
        (2, "mean", {"wieghts": [1, 1]}, "^wieghts: expected a parameter of mean: .*write 'weights' if you mean that"),
        (2, "mean", {"normalize": 1}, "^normalize: expected true or false, found 1"),
        (3, "lerp", {}, "^models: expected 2 for lerp, found 3; use mean for other counts"),
        (1, "lerp", {}, "^models: expected 2 for lerp, found 1"),
        (2, "lerp", {"lam": math.nan}, "^lam: expected a finite number.*found nan"),
        (2, "lerp", {"lam": math.inf}, "^lam: .*found inf"),
        (2, "lerp", {"lam": True}, "^lam: .*found True"),
        (2, "lerp", {"weights": [0.5, 0.5]}, "^weights: expected a parameter of lerp: lam"),
        (2, "ties", {}, "^base: expected the common ancestor of the models for ties, found none"),
        (2, "mean", {"base": state(9)}, "^base: expected none, found one, which mean does not use"),
        (2, "ties", {"base": state(9), "density": 1.5}, "^density: expected a number from 0 to 1, found 1.5"),
        (2, "ties", {"base": state(9), "sign": "most"}, "^sign: expected total or frequency, found 'most'"),
        (2, "dare_ties", {"base": state(9), "seed": -1}, "^seed: expected a whole number from 0, found -1"),
    ],
)
def test_options_that_cannot_work(count: int, method: str, options: dict[str, object], message: str) -> None:
    """Unknown methods and parameters, and values that do not fit the models, are refused."""
    with pytest.raises(OptionError, match=message):
        merge([state(k) for k in range(count)], method, **options)


@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (1, {"b": None}, "^model 2: b: expected a tensor of this name, found none"),
        (2, {"extra": torch.zeros(1)}, "^model 1: extra: expected a tensor of this name, found none"),
        (1, {"w": torch.zeros(3, 4)}, r"^model 2: w: expected shape \(4, 3\), as in model 1.*found shape \(3, 4\)"),
        (
            2,
            {"w": torch.zeros(4, 3).half()},
            "^model 3: w: expected dtype torch.float32, as in model 1, found .*float16",
        ),
        (1, {"steps": torch.tensor(1.0)}, "^model 2: steps: expected dtype torch.int64"),
    ],
)
def test_models_that_do_not_fit(position: int, change: dict[str, Tensor | None], message: str) -> None:
    """A tensor that is missing, extra or of another shape or dtype is named with the model's number."""
    models = [state(k) for k in range(3)]
    models[position] = {name: tensor for name, tensor in (models[position] | change).items() if tensor is not None}

    with pytest.raises(MismatchError, match=message):
        merge(models)


def test_identical_tells_bits_apart() -> None:
    """The comparison of this suite sees the sign of a zero and the dtype."""
    zero = torch.zeros(1)

    assert not identical(zero, -zero)
    assert not identical(zero, zero.double())
