"""One tensor of every model, looked at a chunk at a time: what methods ask of it, and how their rules are carried out.

Arithmetic is done in float64 and rounded once to the dtype of the result. Up to eight models of bfloat16 or eight-bit
floats, whose result is no longer than that, are added up in float32 instead: with shares c_m the error before the one
rounding is at most (models + 1) 2^-24 sum |c_m x_m|, 2^-15 of the step of bfloat16 at that size, so that the result is
the correctly rounded one unless the exact sum lies that close to the middle between two neighbours.

Chunks are short enough to stay in the cache, and sums are taken in an order that does not depend on the number of
threads. Memory is that of a few chunks, whatever the tensor's size.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from onebasin.checkpoint import check_finite
from onebasin.merging.rule import Chunk, Rule, Shares

CHUNK = 1 << 16
"""Entries in a chunk: a few such rows fit the cache."""
SUMMED = 1 << 15
"""Entries in a chunk while products are summed: torch works with one thread on so many, always in the same order."""
COUNTED = 1 << 18
"""Entries in a chunk while magnitudes are counted, which costs 2^16 additions a chunk."""
FEW = 8
SHORT = frozenset(
    {torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz}
)
"""Dtypes whose numbers have so few digits that float32 adds a few of them up well enough."""
INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
DIGIT = 16


@dataclass(frozen=True)
class Stack:
    """One tensor of every model, and of the base, flat; complex ones as pairs of real numbers.

    Attributes:
        name: of the tensor.
        rows: `[n]` a model; views of the models' own memory, not to be written to.
        base: `[n]`, of the base; None where there is none.
        dtype: of the result.
        labels: what to call the models, and the base last, in errors.
        infinity: whether infinities may pass.
    """

    name: str
    rows: tuple[Tensor, ...]
    base: Tensor | None
    dtype: torch.dtype
    labels: tuple[str, ...] = ()
    infinity: bool = True
    wide: torch.dtype = field(init=False)

    def __post_init__(self) -> None:
        """Choose the dtype to calculate in."""
        short = {row.dtype for row in self.all} | {self.dtype} <= SHORT
        object.__setattr__(self, "wide", torch.float32 if short and len(self.rows) <= FEW else torch.float64)

    @classmethod
    def of(
        cls,
        name: str,
        tensors: Sequence[Tensor],
        base: Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
        labels: Sequence[str] = (),
        infinity: bool = True,
    ) -> "Stack":
        """Stack tensors of any shape; the result is in `dtype`, or that of the first."""
        rows = tuple(flat(tensor) for tensor in tensors)
        wanted = rows[0].dtype if dtype is None else dtype
        return cls(name, rows, None if base is None else flat(base), wanted, tuple(labels), infinity)

    @property
    def all(self) -> tuple[Tensor, ...]:
        """The rows and the base."""
        return self.rows if self.base is None else (*self.rows, self.base)

    def windows(self, size: int = CHUNK) -> Iterator[tuple[int, list[Tensor]]]:
        """Position and views of `size` entries of the rows and the base, one chunk after the other."""
        if not self.rows[0].is_cpu:
            size = max(size, 1 << 24)  # on other devices it is the number of calls that costs
        for start in range(0, len(self.rows[0]), size):
            yield start, [row[start : start + size] for row in self.all]

    def inner_products(self) -> list[list[float]]:
        """The inner product of every two models, of products in float32 or longer that are summed in float64."""
        count = len(self.rows)
        sums = [[0.0] * count for _ in range(count)]
        for _, views in self.windows(SUMMED):
            rows = [view.to(self.wide) for view in views[:count]]
            for i in range(count):
                for j in range(i, count):
                    sums[i][j] += float(torch.sum(rows[i] * rows[j], dtype=torch.float64))
        return [[sums[min(i, j)][max(i, j)] for j in range(count)] for i in range(count)]

    def limit(self, model: int, share: float) -> float:
        """The magnitude that a difference of a model from the base must exceed to be among the largest.

        Args:
            model: its number, from 0.
            share: of the entries that are to exceed it, from 0 to 1.

        Returns:
            The number before the k-th largest magnitude, k being the share of the number of entries, rounded down but
            at least 1; infinity where the share or the number of entries is 0, and 0 where all are among the largest.
            Magnitudes are those of differences taken in the dtype that is calculated in.
        """
        n = len(self.rows[model])
        rank = max(1, math.floor(share * n)) if share > 0 else 0
        if rank == 0 or n == 0:
            return math.inf
        if rank == n:
            return 0.0
        integer = INTEGERS[self.wide]
        # Magnitudes are ordered as their bits are: find the digits of the wanted one, 16 bits at a time, by counting.
        prefix = 0
        for shift in range(8 * integer.itemsize - DIGIT, -1, -DIGIT):
            counts = torch.zeros(1 << DIGIT, dtype=torch.int64)
            for bits in self._magnitudes(model, integer):
                top = shift + DIGIT == 8 * integer.itemsize
                here = bits if top else bits[(bits >> (shift + DIGIT)) == prefix] & ((1 << (shift + DIGIT)) - 1)
                counts += torch.bincount(here >> shift, minlength=1 << DIGIT).cpu()
            above = counts.flip(0).cumsum(0)
            digit = int(torch.searchsorted(above, rank))
            rank -= int(above[digit - 1]) if digit else 0
            prefix = prefix << DIGIT | ((1 << DIGIT) - 1 - digit)
        return float(torch.tensor(max(0, prefix - 1), dtype=integer).view(self.wide))

    def _magnitudes(self, model: int, integer: torch.dtype) -> Iterator[Tensor]:
        """The differences of a model from the base without their signs, read as integers."""
        for _, views in self.windows(COUNTED):
            delta = views[model].to(self.wide, copy=True)
            yield (delta if self.base is None else delta.sub_(views[-1].to(self.wide))).abs_().view(integer)

    def draw(self, model: int, seed: int, share: float, chunk: Chunk) -> Tensor:
        """Choose entries at random: bool `[entries of the chunk]`, each true with the probability `share`.

        Whether an entry is chosen depends on the seed, the tensor's name, the model's number and the entry's position
        alone: its 32 bits come from the counter-based generator Philox (Salmon et al., 2011), keyed by the first three.
        """
        key = hashlib.sha256(f"{seed}\0{model}\0{self.name}".encode()).digest()[:16]
        # A step of the counter gives four numbers of 64 bits, that is eight entries.
        steps, skip = divmod(chunk.start, 8)
        stop = skip + len(chunk.rows[0])
        counter = np.array([steps, 0, 0, 0], dtype=np.uint64)
        generator = np.random.Philox(counter=counter, key=np.frombuffer(key, dtype="<u8").astype(np.uint64))
        words = generator.random_raw(-(-stop // 2)).astype("<u8", copy=False).view("<u4")[skip:stop]
        return torch.from_numpy(words < round(share * 2**32)).to(chunk.rows[0].device)

    def examine(self, position: int, row: Tensor) -> None:
        """Refuse NaN, and infinity where that may not pass.

        Args:
            position: the number of the model; the base comes last.
            row: entries of it.

        Raises:
            MismatchError: if there is one; bad entries are counted in the whole tensor.
        """
        if not _finite(row):
            label = self.labels[position] if self.labels else f"model {position + 1}"
            check_finite({self.name: self.all[position]}, label, infinity=self.infinity)


def _finite(row: Tensor) -> bool:
    """Whether all entries are finite, in one pass: their sum is not if one is not.

    Finite entries whose sum is not finite count as not finite.
    """
    return math.isfinite(float(row.sum()))


def flat(tensor: Tensor) -> Tensor:
    """A tensor as `[n]`, without gradients; complex numbers as two real ones. A view where that is possible."""
    tensor = tensor.detach()
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).reshape(-1)


def combine(stack: Stack, rule: Rule, like: Tensor) -> Tensor:
    """Carry out a rule.

    Args:
        stack: the tensors.
        rule: what a method made of them.
        like: gives shape, device and whether the result is complex; its dtype where that is the stack's.

    Returns:
        a new tensor in the stack's dtype.

    Raises:
        MismatchError: if a tensor holds NaN, or infinity where that may not pass.
    """
    merged = torch.empty(stack.rows[0].shape, dtype=stack.dtype, device=like.device)
    for start, part in combined(stack, rule):
        merged[start : start + len(part)] = part
    return torch.view_as_complex(merged.reshape(*like.shape, 2)) if like.is_complex() else merged.reshape(like.shape)


def combined(stack: Stack, rule: Rule) -> Iterator[tuple[int, Tensor]]:
    """Carry out a rule chunk by chunk.

    Entries on which all models (and the base) agree are kept bit by bit wherever the rule says so in exact arithmetic,
    so that the infinities of a mask survive.

    Yields:
        position and merged entries, `[n]` in the stack's dtype.

    Raises:
        MismatchError: if a tensor holds NaN, or infinity where that may not pass.
    """
    if not isinstance(rule, Shares):
        yield from _by_entry(stack, rule)
        return
    shares = (*rule.models, *([] if stack.base is None else [rule.base]))
    used = [k for k, share in enumerate(shares) if share != 0]
    keeping = abs(math.fsum(shares) - 1) <= len(shares) * 2**-50 * max(1.0, *map(abs, shares))
    # With shares from 0 to 1, float32 is so much finer than the result that rounding it gives an agreed number back.
    exact = stack.wide == torch.float32 and min(shares) >= 0
    for start, views in stack.windows():
        rows = [(views[k].to(stack.wide, copy=True), shares[k]) for k in used]
        total = rows[0][0].mul_(rows[0][1]) if rows else torch.zeros_like(views[0], dtype=stack.wide)
        for row, share in rows[1:]:
            total.add_(row, alpha=share)
        finite = _finite(total) and len(used) == len(views)
        if not finite:  # then an entry of a row may be not finite, or a row has not been looked at
            for k, view in enumerate(views):
                stack.examine(k, view.to(stack.wide))
        result = round_once(total, stack.dtype)
        if used and keeping and not (exact and finite):
            result = _keep_agreed(result, [views[k] for k in used])
        yield start, result


def _by_entry(stack: Stack, rule: Callable[[Chunk], Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Carry out a rule that is a function of entries, which keeps what is agreed on and finite by itself."""
    count = len(stack.rows)
    for start, views in stack.windows():
        rows = [view.to(stack.wide, copy=True) for view in views]
        finite = [_finite(row) for row in rows]
        for k in (k for k, good in enumerate(finite) if not good):
            stack.examine(k, rows[k])
        result = round_once(rule(Chunk(start, rows[:count], rows[count] if len(rows) > count else None)), stack.dtype)
        yield start, result if all(finite) else _keep_agreed(result, views)


def _keep_agreed(result: Tensor, views: Sequence[Tensor]) -> Tensor:
    """The result with those entries put back on which all views agree."""
    agree = torch.ones_like(result, dtype=torch.bool)
    for other in views[1:]:
        agree &= other == views[0]
    return torch.where(agree, views[0].to(result.dtype), result)


def round_once(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A float64 tensor in a shorter dtype, rounded to the nearest.

    PyTorch goes from float64 to half precision by way of float32, which rounds twice. Rounding to odd on the way makes
    the second rounding exact: the last bit of the float32 is set wherever something was cut off (Boldo and Melquiond,
    2008).
    """
    if tensor.dtype != torch.float64 or dtype.itemsize >= torch.float32.itemsize:
        return tensor.to(dtype)
    near = tensor.to(torch.float32)
    low = torch.where(near.double().abs() > tensor.abs(), torch.nextafter(near, torch.zeros_like(near)), near)
    cut_off = (low.double() != tensor) & tensor.isfinite()
    return (low.view(torch.int32) | cut_off.int()).view(torch.float32).to(dtype)
