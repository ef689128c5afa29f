"""Operations that only rearrange axes: reshape, transpose, broadcast, cut and join."""

from collections.abc import Sequence
from math import prod

from onebasin.discovery.axes import INSIDE, Axes, Product, is_pinned, is_uniform, resolve, size_of
from onebasin.discovery.rules.base import Call, Dims, rule, unknown


@rule("view", "_unsafe_view", "_reshape_alias", positions="kept")
def view(c: Call) -> Sequence[Dims]:
    """The same entries in the same order: factors are regrouped, an atom is split where a boundary falls inside."""
    return [regroup(c.axes, c.dims("self"), c.shape())]


def regroup(axes: Axes, dims: Dims, sizes: Sequence[int]) -> Dims:
    """Distribute the factors of `dims` over new dimensions of the given sizes."""
    if 0 in sizes:
        return [axes.fixed(size, "an empty tensor") for size in sizes]
    rest: Product = tuple(atom for product in dims for atom in resolve(product))
    regrouped: Dims = []
    for position, size in enumerate(sizes):
        halves = axes.split_product(rest, size)
        if halves is None:
            return [*regrouped, *_pinned_until_sync(axes, rest, sizes[position:])]
        regrouped.append(halves[0])
        rest = halves[1]
    return regrouped


def _pinned_until_sync(axes: Axes, rest: Product, sizes: Sequence[int]) -> Dims:
    """Pin up to the next boundary that the old and the new dimensions share, and go on behind it."""
    reason = "a reshape that cuts across blocks"
    old, ends = 1, {}
    for count, atom in enumerate(rest, start=1):
        old *= atom.size
        ends[old] = count
    stop = next(stop for stop in range(1, len(sizes) + 1) if prod(sizes[:stop]) in ends)
    count = ends[prod(sizes[:stop])]
    axes.pin(rest[:count], reason)
    return [*(axes.fixed(size, reason) for size in sizes[:stop]), *regroup(axes, [rest[count:]], sizes[stop:])]


@rule("as_strided")
def as_strided(c: Call) -> Sequence[Dims]:
    """Another view of the memory: followed where it is the same one, up to the strides of dimensions of size 1."""
    value, size, stride = c["self"], tuple(c["size"]), c["stride"]
    steps = zip(size, stride, value.strides, strict=False)
    if size == value.shape and all(n == 1 or new == old for n, new, old in steps) and not c["storage_offset"]:
        return [c.dims("self")]
    return unknown(c)


@rule("permute", positions="kept")
def permute(c: Call) -> Sequence[Dims]:
    """Dimensions in another order."""
    dims = c.dims("self")
    return [[dims[position] for position in c["dims"]]]


@rule("transpose", "t", positions="kept")
def transpose(c: Call) -> Sequence[Dims]:
    """Two dimensions exchanged."""
    dims = c.dims("self")
    if c["dim0"] is None:
        return [dims[::-1]]
    first, second = c.axis("dim0"), c.axis("dim1")
    dims[first], dims[second] = dims[second], dims[first]
    return [dims]


@rule("unsqueeze", positions="kept")
def unsqueeze(c: Call) -> Sequence[Dims]:
    """A new dimension of size 1."""
    dims = c.dims("self")
    dims.insert(c["dim"] % (len(dims) + 1), ())
    return [dims]


@rule("squeeze", positions="kept")
def squeeze(c: Call) -> Sequence[Dims]:
    """Dimensions of size 1 removed."""
    dims = c.dims("self")
    named = c["dim"]
    chosen = range(len(dims)) if named is None else [named] if isinstance(named, int) else named
    gone = {position % max(1, len(dims)) for position in chosen}
    return [[d for position, d in enumerate(dims) if position not in gone or size_of(d) > 1]]


@rule("expand", positions="kept")
def expand(c: Call) -> Sequence[Dims]:
    """Dimensions of size 1 repeated: nothing depends on the copy's number."""
    dims, shape = c.dims("self"), c.shape()
    dims = [()] * (len(shape) - len(dims)) + dims
    return [[c.axes.uniform(n) if size_of(d) != n else d for d, n in zip(dims, shape, strict=True)]]


@rule("repeat", positions="kept")
def repeat(c: Call) -> Sequence[Dims]:
    """Whole copies one after the other."""
    dims, repeats = c.dims("self"), c["repeats"]
    dims = [()] * (len(repeats) - len(dims)) + dims
    return [[(*c.axes.uniform(n), *d) for d, n in zip(dims, repeats, strict=True)]]


@rule("slice", positions="kept")
def narrow(c: Call) -> Sequence[Dims]:
    """A range of indices of one dimension."""
    dims, position = c.dims("self"), c.axis()
    size, step = size_of(dims[position]), c["step"] or 1
    start, stop, _ = slice(c["start"], c["end"]).indices(size)
    if step != 1:
        return [c.transformed(dims, [position], "every so many positions are picked")]
    return [cut(c, dims, position, [(start, max(start, stop))])[0]]


@rule("select", positions="kept")
def select(c: Call) -> Sequence[Dims]:
    """One index of one dimension, which disappears."""
    dims, position = c.dims("self"), c.axis()
    index = c["index"] % size_of(dims[position])
    chosen = cut(c, dims, position, [(index, index + 1)])[0]
    return [chosen[:position] + chosen[position + 1 :]]


@rule("unbind", positions="kept")
def unbind(c: Call) -> Sequence[Dims]:
    """Every index of one dimension, which disappears."""
    dims, position = c.dims("self"), c.axis()
    chosen = cut(c, dims, position, [(i, i + 1) for i in range(size_of(dims[position]))])
    return [d[:position] + d[position + 1 :] for d in chosen]


@rule("split", "split_with_sizes", positions="kept")
def split(c: Call) -> Sequence[Dims]:
    """Consecutive ranges of one dimension."""
    dims, position = c.dims("self"), c.axis()
    start, ranges = 0, []
    for i in range(len(c.op.results)):
        stop = start + c.shape(i)[position]
        ranges.append((start, stop))
        start = stop
    return cut(c, dims, position, ranges)


def cut(c: Call, dims: Dims, position: int, ranges: Sequence[tuple[int, int]]) -> list[Dims]:
    """The dimensions of slices of one dimension, one for every range of its indices."""
    product = dims[position]
    size = size_of(product)
    if ranges == [(0, size)]:
        return [dims]
    # A sum of single indices holds no leaf and cannot move either, but what stands beside it may differ between them.
    stays = is_pinned(product) and not any(atom.segments for atom in resolve(product))
    if stays or is_uniform(product) or any(start == stop for start, stop in ranges):
        reason = "a slice of positions that cannot move"
        others = [d for p, d in enumerate(dims) if p != position]
        c.mixes(*others)
        fresh = c.axes.uniform if is_uniform(product) else lambda n: c.axes.fixed(n, reason)
        return [[*dims[:position], fresh(stop - start), *dims[position + 1 :]] for start, stop in ranges]
    bounds = sorted({0, size, *(bound for pair in ranges for bound in pair)})
    made = c.axes.cut(product, bounds)
    before, after = dims[:position], dims[position + 1 :]
    if made is None:
        c.mixes(*before, *after)
        return [[*before, c.axes.fixed(stop - start, INSIDE), *after] for start, stop in ranges]
    return [
        [
            *(made.inside(d, start, stop) for d in before),
            made.between(start, stop),
            *(made.inside(d, start, stop) for d in after),
        ]
        for start, stop in ranges
    ]


@rule("cat", "stack", positions="kept")
def join(c: Call) -> Sequence[Dims]:
    """Tensors one after the other along a dimension, or along a new one."""
    rows = [c.table[value] for value in c["tensors"]]
    rank = max(len(row) for row in rows)
    rows = [row for row in rows if len(row) == rank]  # cat skips tensors of shape (0,), whatever the others are.
    if c.op.name == "aten::stack":
        position = c["dim"] % (rank + 1)
        rows = [[*row[:position], (), *row[position:]] for row in rows]
    else:
        position = c["dim"] % rank
    return [concatenate(c, rows, position)]


def concatenate(c: Call, rows: Sequence[Dims], position: int) -> Dims:
    """The dimensions of a concatenation along `position`."""
    if len(rows) == 1:
        return list(rows[0])
    total = c.axes.concat([row[position] for row in rows])
    joined: Dims = []
    for p in range(len(rows[0])):
        if p == position:
            joined.append(total)
            continue
        products = [resolve(row[p]) for row in rows]
        if all(product == products[0] for product in products):
            joined.append(products[0])
            continue
        whole, start = c.axes.atom(size_of(products[0])), 0
        for row, product in zip(rows, products, strict=True):
            stop = start + size_of(row[position])
            c.axes.restrict(whole, product, total[0], start, stop)
            start = stop
        joined.append(whole)
    return joined


@rule("constant_pad_nd")
def pad(c: Call) -> Sequence[Dims]:
    """Constant entries put before and after, or, where negative, entries taken away."""
    dims, amounts = c.dims("self"), c["pad"]
    for k in range(len(amounts) // 2):
        before, after = amounts[2 * k], amounts[2 * k + 1]
        position = len(dims) - 1 - k
        size = size_of(dims[position])
        if before < 0 or after < 0:
            dims = cut(c, dims, position, [(max(0, -before), size - max(0, -after))])[0]
        rows = [
            [c.axes.uniform(n if p == position else size_of(d)) for p, d in enumerate(dims)] if n else None
            for n in (max(0, before), max(0, after))
        ]
        dims = concatenate(c, [row for row in (rows[0], dims, rows[1]) if row is not None], position)
    return [dims]
