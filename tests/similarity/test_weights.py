"""Weight similarity against NumPy's sums of products, and which tensors count."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onebasin import AxisGroup, Symmetry
from onebasin.matching.problem import scored_parts
from onebasin.similarity import dot, inner_products
from strategies import SEEDS, moving, normal, symmetries, written

SHAPES = st.lists(st.integers(1, 4), max_size=4)


@given(SHAPES, st.data(), SEEDS)
def test_inner_products_are_sums_of_products(shape: list[int], data: st.DataObject, seed: int) -> None:
    """Entry [i, j] is the sum of a at i times b at j, slices numbered by the dimensions in the order given."""
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(2, *shape))
    dims = data.draw(st.permutations(range(len(shape))).flatmap(lambda p: st.integers(0, len(p)).map(lambda k: p[:k])))
    letters = "abcd"[: len(shape)]
    ours = "".join(letters[dim] for dim in dims)
    theirs = "".join(letter.upper() if letter in ours else letter for letter in letters)
    expected = np.einsum(f"{letters},{theirs}->{ours}{ours.upper()}", a, b)
    m = int(np.prod([shape[dim] for dim in dims]))
    found = inner_products(torch.from_numpy(np.array(a)), torch.from_numpy(np.array(b)), dims)

    assert found.dtype is torch.float64
    np.testing.assert_allclose(found.numpy(), expected.reshape(m, m), rtol=1e-12, atol=1e-12)


def test_the_order_of_dimensions_is_that_of_the_slices() -> None:
    """Written by hand: with the outer dimension last in memory, slices still count it first."""
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    b = torch.zeros(3, 2)
    b[2, 1] = 1.0

    assert inner_products(a, b, (1, 0))[:, 5].tolist() == [1, 3, 5, 2, 4, 6]
    assert inner_products(a, b, (0, 1))[:, 5].tolist() == [1, 2, 3, 4, 5, 6]
    assert inner_products(a, b, (0,)).tolist() == [[0, 0, 2], [0, 0, 4], [0, 0, 6]]
    assert inner_products(a, b, (1,)).tolist() == [[0, 5], [0, 6]]
    assert inner_products(a, b, ()).tolist() == [[6]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_strided_views_and_dtypes(dtype: torch.dtype) -> None:
    """Views that are not contiguous give what copies give, in the dtype they hold, and stay as they are."""
    base = torch.randn(6, 5, 4, dtype=dtype)
    a, b = base[::2].mT, base[1::2].mT
    copies = a.clone(), b.clone()
    found = inner_products(a, b, (2, 0))

    assert found.dtype is dtype
    torch.testing.assert_close(found, inner_products(*copies, (2, 0)))
    assert torch.equal(a, copies[0])
    assert torch.equal(b, copies[1])


def test_dot_is_a_sum_in_float64() -> None:
    """Long sums of float32 products lose nothing, whatever the strides."""
    a, b = torch.randn(2, 300, 700, generator=torch.Generator().manual_seed(0))

    assert dot(a.T, b.T) == pytest.approx(float((a.double() * b.double()).sum()), rel=1e-13)
    assert dot(torch.zeros(0), torch.zeros(0)) == 0


def test_nothing_to_sum_over_is_zero() -> None:
    """Slices without entries have the inner product 0."""
    assert inner_products(torch.zeros(3, 0), torch.zeros(3, 0), (0,)).tolist() == [[0, 0, 0]] * 3


S = written(
    [AxisGroup("h", 3), AxisGroup("u", 2, ("h",))],
    {"w": "h*u + 2,4", "mean": "h*u", "plain": "5", "s": "", "v": "h", "again": "h", "third": "h"},
    tied=(("v", "again", "third"),),
    buffers=frozenset({"mean", "plain"}),
)


@pytest.mark.parametrize(
    ("absent", "expected"),
    [((), ["w", "v"]), (("v",), ["w", "again"]), (("v", "again"), ["w", "third"]), (("w",), ["v"])],
)
def test_what_counts(absent: tuple[str, ...], expected: list[str]) -> None:
    """Buffers and tensors that cannot move are left out, and of tied names the first there is stands for all."""
    state = {name: tensor for name, tensor in normal(S, 0).items() if name not in absent}
    found = scored_parts(S, state)

    assert list(found) == expected
    assert all(found[name] == S.parts(name) for name in found)


@given(symmetries(), SEEDS)
def test_every_entry_that_moves_counts_once(symmetry: Symmetry, seed: int) -> None:
    """Counted over all scored parts with a group, the entries of a tensor are those whose place depends on groups."""
    for name, parts in scored_parts(symmetry, normal(symmetry, seed)).items():
        counts = torch.zeros(symmetry.shape(name), dtype=torch.int64)
        for part in parts:
            if any(isinstance(factor, str) for factor in part.factors):
                part.view(counts).add_(1)
        assert np.array_equal(counts.numpy(), moving(symmetry, name).astype(int))
        assert sum(int(np.prod(part.sizes)) for part in parts) == counts.numel()
