"""Operations that treat every entry alike, constants, and random numbers."""

from collections.abc import Sequence

from onebasin.discovery.axes import size_of
from onebasin.discovery.rules.base import Call, Dims, rule


@rule(
    "add", "copy", "masked_fill", "native_dropout", "where", "_prelu_kernel",
)  # fmt: skip
def pointwise(c: Call) -> Sequence[Dims]:
    """Entry by entry: dimensions at one position move together."""
    joined = c.broadcast(c.table[value] for value in c.values())
    return [joined[len(joined) - len(c.shape(i)) :] for i in range(len(c.op.results))]


@rule("clone", "alias", "detach", "_to_copy", "lift_fresh", "lift_fresh_copy", positions="kept")
def same(c: Call) -> Sequence[Dims]:
    """The same entries in other memory, perhaps of another dtype."""
    return [c.dims("self")]


@rule("eq", "ne", positions="used")
def compare(c: Call) -> Sequence[Dims]:
    """Entry by entry; two positions of one axis may be compared, as when a one-hot code is made."""
    pointed = [c.pointed[value] for value in c.values() if value in c.pointed]
    if len(pointed) == 2 and size_of(pointed[0]) == size_of(pointed[1]):  # noqa: PLR2004 - both sides
        c.axes.unify(*pointed)
    else:
        for product in pointed:
            c.axes.pin(product, "its positions are compared with numbers")
    return pointwise(c)


@rule("bernoulli")
def noise(c: Call) -> Sequence[Dims]:
    """Independent random entries, as in dropout: the same in distribution however they are ordered."""
    return [c.dims("self")]


@rule(
    "zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones",
    "new_full", "new_empty", "scalar_tensor",
)  # fmt: skip
def constant(c: Call) -> Sequence[Dims]:
    """One number everywhere: tells nothing apart, ties nothing."""
    return [c.constant()]


@rule("fill", "zero")
def fill(c: Call) -> Sequence[Dims]:
    """Overwritten with one number; the axes stay what they are."""
    return [c.dims("self")]


@rule("arange", positions="used")
def count(c: Call) -> Sequence[Dims]:
    """The positions of a new axis, one after the other."""
    (value,) = c.op.results
    if value is None or value.dtype.is_floating_point or (c["start"] or 0) != 0 or (c["step"] or 1) != 1:
        return [c.pinned(0, "numbered positions")]
    dims = [c.axes.atom(size) for size in c.shape()]
    if dims[0]:
        c.pointed[value] = dims[0]
    return [dims]


@rule("linspace", "eye", "tril_indices", "triu_indices", "logspace")
def enumerated(c: Call) -> Sequence[Dims]:
    """Numbers that differ from index to index."""
    return [c.pinned(0, "numbered positions")]


@rule("_local_scalar_dense", "equal")
def leaves(c: Call) -> Sequence[Dims]:
    """A Python number made from tensors: what happens to it cannot be followed."""
    for value in c.values():
        for product in c.table[value]:
            c.axes.pin(product, "its values become a Python number")
    return []
