"""Streaming moments against NumPy's, however the samples are split, shuffled among processes and merged."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from onebasin.similarity import moments
from onebasin.similarity.moments import CrossMoments
from strategies import SEEDS

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def _pair(m: int, s: int, seed: int, offset: float = 0.0) -> Pair:
    """Two related sets of `m` units, their means `offset` times as far from zero as they are wide."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=(m, s))
    a, b = (shared + generator.normal(size=(m, s)) + offset * generator.normal(size=(m, 1)) for _ in range(2))
    return a, b


def _gathered(pair: Pair, bounds: list[int], dtype: torch.dtype = torch.float64) -> CrossMoments:
    found = CrossMoments(len(pair[0]))
    edges = [0, *sorted(bounds), pair[0].shape[1]]
    for start, stop in itertools.pairwise(edges):
        found.update(*(torch.from_numpy(x[:, start:stop].copy()).to(dtype) for x in pair))
    return found


def _check(found: CrossMoments, pair: Pair, tolerance: float) -> None:
    a, b = pair
    m, scale = len(a), np.outer(a.std(1, ddof=1), b.std(1, ddof=1))
    np.testing.assert_allclose(found.covariance().numpy() / scale, np.cov(a, b)[:m, m:] / scale, atol=tolerance)
    np.testing.assert_allclose(found.correlation().numpy(), np.corrcoef(a, b)[:m, m:], atol=tolerance)
    for mean, std, x in ((found.mean_a, found.std_a, a), (found.mean_b, found.std_b, b)):
        np.testing.assert_allclose(mean.numpy(), x.mean(1), rtol=tolerance, atol=tolerance * float(x.std()))
        np.testing.assert_allclose(std.numpy(), x.std(1, ddof=1), rtol=tolerance)
    assert found.count == a.shape[1]


@given(st.integers(1, 6), st.integers(2, 60), st.data(), SEEDS)
def test_any_split_gives_what_numpy_gives(m: int, s: int, data: st.DataObject, seed: int) -> None:
    """Means, deviations, covariance and correlation are those of all samples at once, whatever the batches."""
    pair = _pair(m, s, seed)
    bounds = data.draw(st.lists(st.integers(0, s), max_size=6))

    _check(_gathered(pair, bounds), pair, 1e-11)


@given(st.integers(1, 5), st.lists(st.integers(0, 9), min_size=1, max_size=5), st.randoms(), SEEDS)
def test_any_order_of_merging_gives_what_numpy_gives(m: int, lengths: list[int], draw: object, seed: int) -> None:
    """Shards of any length, empty ones among them, are merged in any order and as any tree."""
    pair = _pair(m, sum(lengths) + 2, seed)
    edges = np.cumsum([0, *lengths, 2])
    shards = [
        _gathered((pair[0][:, start:stop], pair[1][:, start:stop]), []) for start, stop in itertools.pairwise(edges)
    ]
    while len(shards) > 1:
        draw.shuffle(shards)
        before = shards[0].data()
        shards.append(shards[0].merge(shards[1]))
        assert all(np.array_equal(shards[0].data()[name], value) for name, value in before.items())
        del shards[:2]

    _check(shards[0], pair, 1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_short_dtypes_are_summed_in_long_ones(dtype: torch.dtype) -> None:
    """Against NumPy on the very numbers that were given, the error is that of float32 products."""
    pair = _pair(7, 3000, 0)
    rounded = tuple(torch.from_numpy(x).to(dtype).double().numpy() for x in pair)

    _check(_gathered((rounded[0], rounded[1]), [100, 2000], dtype), (rounded[0], rounded[1]), 3e-6)


def test_means_far_from_zero_cost_no_precision() -> None:
    """With float32 units ten thousand times as far from zero as they are wide, the correlation is right to 1e-5."""
    pair = _pair(5, 4000, 1, offset=1e4)
    rounded = tuple(torch.from_numpy(x).float().double().numpy() for x in pair)

    found = _gathered((rounded[0], rounded[1]), [1000, 1500], torch.float32)

    np.testing.assert_allclose(found.correlation().numpy(), np.corrcoef(*rounded)[:5, 5:], atol=1e-5)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few samples are worked on at a time, the result is the same."""
    pair = _pair(4, 500, 2)
    whole = _gathered(pair, [])
    monkeypatch.setattr(moments, "LEAST", 7)
    monkeypatch.setattr(moments, "CHUNK", 1)

    parts = _gathered(pair, [])

    torch.testing.assert_close(parts.covariance(), whole.covariance(), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(parts.std_a, whole.std_a, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_units_that_never_change_score_nothing(dtype: torch.dtype, value: float) -> None:
    """A constant unit, of whatever value, has deviation 0 and correlation 0 with all others, and is never NaN."""
    x = torch.randn(3, 50, dtype=dtype)
    x[1] = value
    found = CrossMoments(3)
    for batch in x.split([7, 1, 42], 1):
        found.update(batch, batch)

    assert found.std_a[1] == 0
    assert found.mean_a[1] == torch.tensor(value, dtype=dtype).double()
    assert found.correlation()[1].tolist() == [0, 0, 0]
    assert found.correlation()[:, 1].tolist() == [0, 0, 0]
    torch.testing.assert_close(found.correlation().diagonal()[::2], torch.ones(2, dtype=torch.float64))
    assert found.correlation().abs().max() <= 1


@pytest.mark.parametrize("samples", [0, 1])
def test_too_few_samples_are_no_similarity(samples: int) -> None:
    """Without samples, and with a single one, everything is zero."""
    found = CrossMoments(2)
    found.update(torch.ones(2, samples), torch.ones(2, samples))

    assert found.count == samples
    for matrix in (found.covariance(), found.correlation()):
        assert matrix.tolist() == [[0, 0], [0, 0]]
    assert found.std_b.tolist() == [0, 0]


def test_what_is_exported_is_read_back() -> None:
    """Plain arrays hold all that is known: the moments made from them go on as if nothing had happened."""
    pair, more = _pair(3, 20, 3), _pair(3, 10, 4)
    found = _gathered(pair, [])
    again = CrossMoments.from_data(found.data())
    for half in (found, again):
        half.update(*(torch.from_numpy(x) for x in more))

    assert all(isinstance(value, int | np.ndarray) for value in found.data().values())
    assert all(np.array_equal(again.data()[name], value) for name, value in found.data().items())
    _check(again, tuple(np.concatenate(both, 1) for both in zip(pair, more, strict=True)), 1e-11)


def test_strided_views_are_read_as_they_are() -> None:
    """Transposed and sliced views give what their copies give, and stay as they are."""
    base = torch.randn(40, 6, dtype=torch.float64)
    a, b = base[::2, :3].T, base[1::2, 3:].T
    copy = base.clone()
    found, expected = CrossMoments(3), CrossMoments(3)
    found.update(a, b)
    expected.update(a.contiguous(), b.contiguous())

    torch.testing.assert_close(found.covariance(), expected.covariance(), rtol=1e-13, atol=1e-14)
    assert torch.equal(base, copy)
    assert found.covariance().dtype is torch.float64
    assert repr(found) == "CrossMoments(3 units, 20 samples)"
