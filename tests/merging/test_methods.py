"""Every merge method against the equations of its paper, and the laws that all obey."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from merging import papers
from onebasin import Symmetry, match, merge
from onebasin.merging import METHODS
from onebasin.merging.arithmetic import breadcrumbs, dare_linear, dare_ties, task_arithmetic, ties
from onebasin.merging.average import lerp, mean, slerp
from onebasin.merging.rule import Chunk, Shares
from onebasin.merging.stack import CHUNK, Stack, combined
from strategies import identical

FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
BASED = [name for name, method in METHODS.items() if method.needs_base]
MANY = [name for name, method in METHODS.items() if method.count is None]


def distinct(count: int, rows: int) -> st.SearchStrategy[np.ndarray]:
    """Rows of numbers whose differences from the last row all have different magnitudes, so that no two are tied."""

    def spread(drawn: tuple[np.ndarray, Sequence[int]]) -> np.ndarray:
        base, order = drawn
        steps = np.resize(np.asarray(order, dtype=float), (rows - 1, count)) + np.arange(rows - 1)[:, None] / rows + 0.1
        signs = np.where(np.resize(np.asarray(order), (rows - 1, count)) * 7 % 3 == 0, -1, 1)
        return np.vstack([base + steps * signs * np.arange(1, rows)[:, None], base])

    return st.tuples(
        arrays(np.float64, count, elements=st.floats(-4, 4)), st.permutations(range(count * (rows - 1)))
    ).map(spread)


def tensors(rows: np.ndarray, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """A tensor a row."""
    return [torch.from_numpy(row.copy()).to(dtype) for row in rows]


def close(found: Tensor, expected: Sequence[float]) -> bool:
    """Whether float64 results agree to rounding."""
    return bool(np.allclose(found.double().numpy(), expected, rtol=1e-12, atol=1e-12))


weights_of_three = arrays(np.float64, 3, elements=st.floats(0.1, 3))
scales = st.floats(-2, 2)


@given(distinct(12, 3), st.floats(-0.5, 1.5))
def test_slerp_follows_the_arc(rows: np.ndarray, lam: float) -> None:
    """Spherical interpolation is that of the paper wherever the two tensors have an angle."""
    a, b = rows[:2]
    if abs(a @ b) <= 0.999 * np.linalg.norm(a) * np.linalg.norm(b):
        assert close(slerp(tensors(rows[:2]), lam=lam), papers.arc(a.tolist(), b.tolist(), lam))


def test_slerp_of_perpendicular_vectors_by_hand() -> None:
    """Half way between (3, 0) and (0, 3) lies (3, 3) / sqrt(2), as long as they are; parallel ones are on the line."""
    a, b = torch.tensor([3.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 3.0], dtype=torch.float64)

    assert close(slerp([a, b], lam=0.5), [3 / math.sqrt(2)] * 2)
    assert close(slerp([a, 2 * a], lam=0.25), [3.75, 0.0])
    assert close(slerp([a, -a], lam=0.25), [1.5, 0.0])
    assert close(slerp([a, 0 * a], lam=0.25), [2.25, 0.0])


@given(distinct(9, 4), arrays(np.float64, 3, elements=st.floats(-2, 2)), scales)
def test_task_arithmetic_adds_task_vectors(rows: np.ndarray, weights: np.ndarray, scale: float) -> None:
    """The base plus the scaled sum of weighted differences, negative weights included."""
    *models, base = rows.tolist()
    found = task_arithmetic(tensors(rows[:3]), tensors(rows[3:])[0], weights=weights.tolist(), scale=scale)

    assert close(found, papers.added(base, models, weights.tolist(), scale))


@settings(max_examples=40)
@given(distinct(10, 4), weights_of_three, st.lists(st.floats(0, 1), min_size=3, max_size=3), scales, st.booleans())
def test_ties_follows_the_paper(
    rows: np.ndarray, weights: np.ndarray, density: list[float], scale: float, count: bool
) -> None:
    """Trimming, election and disjoint mean are those of the paper, with either election."""
    *models, base = rows.tolist()
    keep = [max(1, math.floor(share * 10)) if share > 0 else 0 for share in density]
    deltas = [papers.trimmed(base, model, k) for model, k in zip(models, keep, strict=True)]
    for normalize in (True, False):
        found = ties(
            tensors(rows[:3]),
            tensors(rows[3:])[0],
            weights=weights.tolist(),
            density=density,
            scale=scale,
            normalize=normalize,
            sign="frequency" if count else "total",
        )
        expected = papers.elected(base, deltas, weights.tolist(), scale, normalize=normalize, count=count)
        assert close(found, expected)


def test_ties_by_hand() -> None:
    """Two models that agree on one entry, clash on the next, and of whose small entries nothing is left."""
    base = torch.zeros(4, dtype=torch.float64)
    a = torch.tensor([4.0, 3.0, 0.5, 0.1], dtype=torch.float64)
    b = torch.tensor([2.0, -5.0, 0.2, 0.3], dtype=torch.float64)

    assert ties([a, b], base, density=[0.5]).tolist() == [3.0, -5.0, 0.0, 0.0]
    assert ties([a, b], base, density=[0.5], normalize=False).tolist() == [6.0, -5.0, 0.0, 0.0]
    assert ties([a, b], base, density=[0.5], sign="frequency").tolist() == [3.0, 3.0, 0.0, 0.0]  # a draw is positive
    assert ties([a, b], base, density=[0.5, 0.25], scale=2.0).tolist() == [8.0, -10.0, 0.0, 0.0]


@settings(max_examples=50)
@given(distinct(20, 3), st.floats(0, 1), st.floats(0, 1))
def test_breadcrumbs_keep_the_middle(rows: np.ndarray, density: float, gamma: float) -> None:
    """The largest entries go, then the smallest until the density is reached; one model's rest is added to the base."""
    *models, base = rows.tolist()
    found = breadcrumbs(tensors(rows[:1]), tensors(rows[2:])[0], density=[density], gamma=[gamma])
    top = min(gamma, 1 - density)
    skip = max(1, math.floor(top * 20)) if top > 0 else 0
    last = min(1.0, density + gamma)
    keep = (max(1, math.floor(last * 20)) if last > 0 else 0) - skip

    assert close(found, [z + d for z, d in zip(base, papers.trimmed(base, models[0], keep, skip), strict=True)])


@given(distinct(40, 3), arrays(np.float64, 2, elements=st.floats(0.2, 2)), st.floats(0.1, 1), scales, st.booleans())
def test_dare_drops_and_rescales(
    rows: np.ndarray, weights: np.ndarray, density: float, scale: float, rescale: bool
) -> None:
    """Given what was drawn, both methods do to the rest what the papers say."""
    a, b, base = tensors(rows)
    options = {"weights": weights.tolist(), "density": [density], "scale": scale, "rescale": rescale, "seed": 3}
    found = {"dare_linear": dare_linear([a, b], base, **options), "dare_ties": dare_ties([a, b], base, **options)}
    for name, merged in found.items():
        stack, chunk = Stack.of(name, [a, b], base), Chunk(0, [a, b], base)
        drawn = [stack.draw(model, 3, density, chunk).numpy() for model in range(2)]
        height = 1 / density if rescale else 1.0
        deltas = [(np.where(kept, height * (row - rows[2]), 0.0)) for kept, row in zip(drawn, rows[:2], strict=True)]
        expected = (
            rows[2] + scale * sum(w * d for w, d in zip(weights, deltas, strict=True))
            if name == "dare_linear"
            else papers.elected(rows[2].tolist(), deltas, weights.tolist(), scale, normalize=False)
        )
        assert close(merged, expected)


def test_draws_have_their_probability() -> None:
    """Of a million entries a share of 0.3 is kept, to five standard deviations; 0 keeps none and 1 keeps all."""
    n = 10**6
    row = torch.empty(n)
    stack = Stack.of("w", [row, row])
    share = {p: int(stack.draw(0, 1, p, Chunk(0, [row])).sum()) for p in (0.0, 0.3, 1.0)}

    assert share[0.0] == 0
    assert abs(share[0.3] - 0.3 * n) < 5 * math.sqrt(0.21 * n)
    assert share[1.0] == n


def test_draws_depend_on_seed_name_model_and_position_alone() -> None:
    """However a tensor is cut, the same entries are drawn; another seed, name or model draws others."""
    row = torch.empty(1000)
    draw = Stack.of("w", [row, row]).draw
    whole = draw(0, 1, 0.5, Chunk(0, [row]))
    for cuts in ([0, 1000], [0, 1, 2, 8, 17, 500, 999, 1000], [0, 333, 1000]):
        pieces = [draw(0, 1, 0.5, Chunk(s, [row[s:e]])) for s, e in itertools.pairwise(cuts)]
        assert torch.equal(torch.cat(pieces), whole)
    others = [draw(1, 1, 0.5, Chunk(0, [row])), draw(0, 2, 0.5, Chunk(0, [row]))]
    others.append(Stack.of("v", [row, row]).draw(0, 1, 0.5, Chunk(0, [row])))
    assert all(400 < int((other != whole).sum()) < 600 for other in others)


def test_draws_are_those_of_every_machine() -> None:
    """The first entries drawn for a seed are written down, so that results stay the same between versions."""
    row = torch.empty(16)
    drawn = Stack.of("layer.weight", [row]).draw(0, 0, 0.5, Chunk(0, [row])).int().tolist()

    assert drawn == EXPECTED_DRAW


EXPECTED_DRAW = [0, 1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0]


@given(
    arrays(np.float64, 30, elements=st.floats(-1e3, 1e3) | st.sampled_from([0.0, 1.0, -1.0])),
    st.floats(0, 1),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
def test_thresholds_are_those_of_sorting(values: np.ndarray, share: float, dtype: torch.dtype) -> None:
    """The k-th largest magnitude is found by counting digits as by sorting, ties and zeros included."""
    row = torch.from_numpy(values.copy()).to(dtype)
    found = Stack.of("w", [row], torch.zeros(30, dtype=dtype)).limit(0, share)
    rank = max(1, math.floor(share * 30)) if share > 0 else 0
    magnitudes = sorted(row.double().abs().tolist(), reverse=True)
    wanted = [x for x in magnitudes if x > 0 and rank > 0 and x >= magnitudes[rank - 1]]

    assert [x for x in magnitudes if x > found] == wanted


def sample(dtype: torch.dtype, count: int = 3, size: int = 40_000) -> list[Tensor]:
    """Tensors of weights' size, longer than a chunk, of which some entries agree."""
    rows = [torch.randn(size, generator=torch.Generator().manual_seed(k)) * 0.02 for k in range(count)]
    for row in rows[1:]:
        row[:100] = rows[0][:100]
    return [row.to(dtype) for row in rows]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", list(METHODS))
def test_equal_networks_give_themselves(name: str, dtype: torch.dtype) -> None:
    """Models (and a base) that are equal give themselves bit by bit, infinities and both zeros included."""
    method = METHODS[name]
    a = sample(dtype, 1)[0]
    a[:4] = torch.tensor([math.inf, -math.inf, 0.0, -0.0])
    merged = method([a] * (method.count or 3), a if method.needs_base else None)

    assert identical(merged, a)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", BASED)
def test_models_that_are_the_base_give_the_base(name: str, dtype: torch.dtype) -> None:
    """A weight or scale of zero gives the base, bit by bit."""
    a, b, base = sample(dtype)

    assert identical(METHODS[name]([a, b], base, weights=[0.0]), base)
    assert identical(METHODS[name]([a, b], base, scale=0.0), base)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("task_arithmetic", {}),
        ("ties", {"density": [1.0]}),
        ("dare_linear", {"density": [1.0]}),
        ("dare_ties", {"density": [1.0]}),
        ("breadcrumbs", {"density": [1.0], "gamma": [0.0]}),
    ],
)
def test_one_model_kept_whole_gives_itself(name: str, options: dict[str, list[float]], dtype: torch.dtype) -> None:
    """One model of weight 1 of which nothing is dropped gives its very numbers, far from the base as they may be."""
    a, base = sample(dtype, 2)
    a[:200] *= 1e-6
    base[200:400] *= 1e-6

    assert torch.equal(METHODS[name]([a], base, **options), a)


@pytest.mark.parametrize("name", [name for name in MANY if not name.startswith("dare")])
@given(st.permutations(range(3)))
def test_order_makes_no_difference(name: str, order: Sequence[int]) -> None:
    """Models in another order, weights with them, give the same result up to rounding."""
    *models, base = sample(torch.float64, 4, 200)
    options = {"weights": [1.0, 2.0, 0.5]}
    found = METHODS[name](models, base if METHODS[name].needs_base else None, **options)
    mixed = {"weights": [options["weights"][k] for k in order]}
    other = METHODS[name]([models[k] for k in order], base if METHODS[name].needs_base else None, **mixed)

    torch.testing.assert_close(found, other, rtol=1e-12, atol=1e-15)


def test_negated_task_vector_is_taken_away() -> None:
    """The base minus a task vector, and the task vector added back, is the base."""
    a, base = sample(torch.float64, 2)
    away = task_arithmetic([a], base, weights=[-1.0])

    torch.testing.assert_close(away, 2 * base - a, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(task_arithmetic([a, away], base), base, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", list(METHODS))
def test_float32_is_as_good_as_float64_for_bfloat16(name: str) -> None:
    """For bfloat16 the fast path gives the exact result, or its neighbour where the exact sum lies between the two."""
    method = METHODS[name]
    count = method.count or 3
    *models, base = sample(torch.bfloat16, count + 1, 200_000)
    keywords = method.settings({}, count).at("w", 1.0)
    found = []
    for wide, dtype in ((torch.float32, torch.bfloat16), (torch.float64, torch.float64)):
        stack = Stack.of("w", models, base if method.needs_base else None, dtype=dtype)
        assert stack.wide == wide
        found.append(torch.cat([part for _, part in combined(stack, method.build(stack, **keywords))]))
    fast, slow = found
    rounded = slow.to(torch.bfloat16)

    differ = fast != rounded
    middle = (fast[differ].double() + rounded[differ].double()) / 2
    largest = torch.stack([row[differ].double().abs() for row in [*models, base]]).amax(0)
    assert bool(((slow[differ] - middle).abs() <= 2**-20 * largest).all())
    assert float(differ.float().mean()) < 0.02  # thirds of numbers of eight digits often lie in the middle


@pytest.mark.parametrize("count", [2, 8])
def test_error_of_the_fast_path_is_bounded(count: int) -> None:
    """Sums in float32 lie within (models + 1) 2^-24 sum |c x| of the exact ones, as promised."""
    rows = sample(torch.bfloat16, count)
    shares = tuple(0.3 + 0.1 * k for k in range(count))
    terms = torch.stack([row.double() * share for row, share in zip(rows, shares, strict=True)])
    stack = Stack.of("w", rows)
    object.__setattr__(stack, "dtype", torch.float32)
    found = torch.cat([part for _, part in combined(stack, Shares(shares))]).double()

    assert stack.wide == torch.float32
    assert bool(((found - terms.sum(0)).abs() <= (count + 1) * 2**-24 * terms.abs().sum(0)).all())


@pytest.mark.parametrize("name", list(METHODS))
def test_results_do_not_depend_on_threads(name: str) -> None:
    """One thread and four give the same bits."""
    method = METHODS[name]
    *models, base = sample(torch.float32, (method.count or 3) + 1, 3 * CHUNK + 5)
    before, found = torch.get_num_threads(), []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        found.append(method(models, base if method.needs_base else None))
    torch.set_num_threads(before)

    assert identical(*found)


@pytest.mark.parametrize("name", list(METHODS))
def test_complex_and_empty_tensors(name: str) -> None:
    """Every method takes complex tensors, as pairs of numbers, and tensors without entries or dimensions."""
    method = METHODS[name]
    count = (method.count or 2) + method.needs_base
    for shape, dtype in (((2, 3), torch.complex64), ((0, 3), torch.float32), ((), torch.float32)):
        *models, base = [torch.randn(shape, dtype=dtype) for _ in range(count)] + ([] if method.needs_base else [None])
        merged = method(models, base)
        assert (merged.shape, merged.dtype) == (torch.Size(shape), dtype)


def test_weights_may_differ_between_layers() -> None:
    """A number along the depth and one by name reach the tensors they are meant for."""
    names = ["embed.weight", "layers.0.mlp.w", "layers.1.attn.w", "layers.2.mlp.w", "head.weight"]
    a, b = ({name: torch.full((2,), value) for name in names} for value in (0.0, 1.0))
    lam = [{"filter": "attn", "value": 0.25}, {"value": {"layers": [0, 0.4, 1.0]}}]

    merged = merge([a, b], "lerp", lam=lam)
    assert [float(merged[name][0]) for name in names] == pytest.approx([0.0, 0.0, 0.25, 1.0, 0.0])
    assert float(merge([a, b], "lerp", lam={"layers": [0, 0.4, 1.0]})["layers.1.attn.w"][0]) == pytest.approx(0.4)
    mixed = merge([a, b], "mean", weights=[1, [{"filter": "head", "value": 3}, {"value": 1}]])
    assert float(mixed["head.weight"][0]) == pytest.approx(0.75)
    assert float(mixed["embed.weight"][0]) == pytest.approx(0.5)


def test_result_may_have_another_dtype() -> None:
    """With a dtype models of several floating dtypes are merged, rounded once, and integers stay what they are."""
    a = {"w": torch.tensor([1.0, 3.0], dtype=torch.float32), "n": torch.tensor(3)}
    b = {"w": torch.tensor([2.0, 3.0], dtype=torch.bfloat16), "n": torch.tensor(4)}
    merged = merge([a, b], dtype=torch.float16)

    assert merged["w"].dtype == torch.float16
    assert merged["w"].tolist() == [1.5, 3.0]
    assert merged["n"].tolist() == 3


def test_arrays_give_arrays() -> None:
    """NumPy arrays in give NumPy arrays out, read-only ones included, with the values that tensors give."""
    rows = sample(torch.float32, 3)
    a, b, base = ({"w": row.numpy().copy(), "n": np.array(3)} for row in rows)
    a["w"].setflags(write=False)
    merged = merge([a, b], "ties", base=base)

    assert isinstance(merged["w"], np.ndarray)
    assert isinstance(merged["n"], np.ndarray)
    expected = ties(rows[:2], rows[2])
    assert np.array_equal(merged["w"], expected.numpy())


def test_arrays_are_matched_and_merged_by_a_symmetry_alone() -> None:
    """With a symmetry written down, arrays need no module: a reordered network is matched, moved back and merged."""
    groups = {"h": {"size": 6}}
    layouts = {"w": ["h", "4"], "v": ["2", "h"]}
    symmetry = Symmetry.from_json({"format": "onebasin-symmetry/1", "groups": groups, "tensors": layouts}, "s.json")
    generator = np.random.default_rng(0)
    a = {"w": generator.normal(size=(6, 4)), "v": generator.normal(size=(2, 6))}
    b = symmetry.random(1).apply(a)
    moved = match(a, b, symmetry).apply(b)

    assert isinstance(b["w"], np.ndarray)
    assert not np.array_equal(b["w"], a["w"])
    assert all(np.array_equal(array, a[name]) for name, array in merge([a, moved]).items())


def test_methods_can_be_called_on_tensors() -> None:
    """Each method is a function of tensors and keywords, which it checks."""
    a, b = torch.zeros(2), torch.ones(2)

    assert lerp([a, b], lam=0.25).tolist() == [0.25, 0.25]
    assert mean([a, b, b]).tolist() == pytest.approx([2 / 3, 2 / 3])
    with pytest.raises(ValueError, match="lam: expected a finite number"):
        lerp([a, b], lam=math.nan)
