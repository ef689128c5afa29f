"""State dicts to write and read, and what it means that two are the same."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from hypothesis import strategies as st
from torch import Tensor

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool)

# Every way in which a checkpoint is stored: the name to save under, and the bytes in a shard.
FORMATS = [
    *((f"model{suffix}", None) for suffix in (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt")),
    ("model.safetensors", 24),
    ("pytorch_model.bin", 24),
]


def random_tensor(shape: list[int], dtype: torch.dtype, seed: int) -> Tensor:
    """A tensor of random bits: NaN, infinities, minus zero and subnormal numbers occur."""
    count = torch.Size(shape).numel() * dtype.itemsize
    bits = torch.randint(256, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return (bits & 1).to(torch.bool).reshape(shape) if dtype == torch.bool else bits.view(dtype).reshape(shape)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """A small tensor: a scalar, empty, transposed, or a part of a larger one."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    tensor = random_tensor(shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 1000)))
    layout = draw(st.sampled_from(["plain", "transposed", "part"]))
    if layout == "transposed":
        return tensor.permute(tuple(reversed(range(tensor.ndim))))
    return torch.stack([tensor, tensor, tensor])[1] if layout == "part" else tensor


@st.composite
def states(draw: st.DrawFn) -> dict[str, Tensor]:
    """A state dict of one to six names, some of which may share a tensor."""
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True))
    pool = draw(st.lists(tensors(), min_size=1, max_size=6))
    return {name: draw(st.sampled_from(pool)) for name in names}


def small_state() -> dict[str, Tensor]:
    """Four tensors of 16, 8, 12 and 8 bytes, not in alphabetical order."""
    return {
        "layer.weight": torch.arange(4.0).reshape(2, 2),
        "layer.bias": torch.tensor([0.5, -0.5]),
        "head.weight": torch.tensor([1, 2, 3, 4, 5, 6], dtype=torch.bfloat16),
        "counter": torch.tensor(7),
    }


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors agree in dtype, shape and every bit."""
    bits = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Fail unless both have the same names in the same order, and the same tensors."""
    assert list(found) == list(expected)
    assert [name for name in expected if not same(found[name], expected[name])] == []


def expected_ties(state: Mapping[str, Tensor]) -> tuple[tuple[str, ...], ...]:
    """Rows of names that hold the same object; empty tensors have no memory to share."""
    rows: dict[int, list[str]] = {}
    for name, tensor in state.items():
        if tensor.numel() > 0:
            rows.setdefault(id(tensor), []).append(name)
    return tuple(tuple(row) for row in rows.values() if len(row) > 1)


@contextmanager
def unprivileged() -> Iterator[None]:
    """A block in which permissions count: root, whom none stops, is nobody for that time."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
