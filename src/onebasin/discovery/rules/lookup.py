"""Operations in which numbers choose entries: the axis they point into stays, the axes beside it pass."""

from collections.abc import Sequence

import torch

from onebasin.discovery.axes import Product, size_of
from onebasin.discovery.rules.base import Call, Dims, rule
from onebasin.discovery.tape import Value

CHOSEN = "entries are chosen by number"


@rule("embedding")
def embedding(c: Call) -> Sequence[Dims]:
    """Rows chosen by numbers that come from elsewhere."""
    (width,) = c.drop(c.dims("weight"), [0], CHOSEN)
    return [[*c.dims("indices"), width]]


@rule("index_select")
def index_select(c: Call) -> Sequence[Dims]:
    """Positions of one axis, chosen by a list of numbers."""
    dims, position = c.dims("self"), c.axis()
    c.drop(dims, [position], CHOSEN)
    dims[position : position + 1] = c.dims("index") or [()]
    return [dims]


@rule("index", "_unsafe_index")
def index(c: Call) -> Sequence[Dims]:
    """Entries chosen by numbers or by a mask along some axes."""
    return [_indexed(c, c["indices"])[0]]


@rule("index_put", "_unsafe_index_put", "_index_put_impl")
def index_put(c: Call) -> Sequence[Dims]:
    """Values written to entries chosen by numbers or by a mask."""
    out, dims = _indexed(c, c["indices"])
    c.broadcast([out, c.dims("values")])
    return [dims]


def _indexed(c: Call, indices: Sequence[Value | None]) -> tuple[Dims, Dims]:
    """The dimensions of `self[indices]`, and those of `self`.

    The numbers' own dimensions take the place of the axes they point into where those are neighbours, else they come
    first. A mask points into as many axes as it has, and its own disappear in one of unknown order.
    """
    dims = c.dims("self")
    chosen: list[int] = []
    rows: list[Dims] = []
    position = 0
    for given in indices:
        if given is None:
            position += 1
            continue
        mask = given.dtype in (torch.bool, torch.uint8)
        width = len(given.shape) if mask else 1
        chosen.extend(range(position, position + width))
        position += width
        if mask:
            for product in c.table[given]:
                c.axes.pin(product, "entries are chosen by a mask")
        rows.append([()] if mask else c.table[given])
    kept = c.drop(dims, chosen, CHOSEN)
    numbers = c.broadcast(rows)
    if any(given is not None and given.dtype in (torch.bool, torch.uint8) for given in indices):
        # How many entries a mask lets through is only known when it runs.
        numbers = [c.axes.fixed(_masked_size(c, kept, chosen), "entries are chosen by a mask")]
    adjacent = chosen == list(range(chosen[0], chosen[0] + len(chosen))) if chosen else True
    at = chosen[0] if chosen and adjacent else 0
    return [*kept[:at], *numbers, *kept[at:]], dims


def _masked_size(c: Call, kept: Dims, chosen: Sequence[int]) -> int:
    shape = c.shape()
    if c.op.name.startswith("aten::index_put") or len(shape) != len(kept) + 1:
        return 1
    return shape[chosen[0] if chosen == list(range(chosen[0], chosen[0] + len(chosen))) else 0]


@rule("gather")
def gather(c: Call) -> Sequence[Dims]:
    """Along one axis every entry is chosen by a number of its own."""
    position = c.axis()
    joined = _beside(c, [c.dims("self"), c.dims("index")], position)
    joined[position] = c.dims("index")[position]
    return [joined]


@rule("scatter", "scatter_add", "scatter_reduce")
def scatter(c: Call) -> Sequence[Dims]:
    """Along one axis every entry is written to a number of its own."""
    dims, position = c.dims("self"), c.axis()
    rows = [dims, *(c.dims(name) for name in ("index", "src") if c[name] is not None)]
    _beside(c, rows, position)
    for row in rows:
        c.axes.pin(row[position], CHOSEN)
    return [dims]


def _beside(c: Call, rows: Sequence[Dims], position: int) -> Dims:
    """Pin the axis that is pointed into; those beside it move together where they have one size, else they stay."""
    c.axes.pin(rows[0][position], CHOSEN)
    joined: Dims = []
    for p, products in enumerate(zip(*rows, strict=True)):
        if p != position and len({size_of(product) for product in products}) > 1:
            for product in products:
                c.axes.pin(product, "only the first of its indices take part")
            joined.append(c.axes.fixed(min(map(size_of, products)), "only the first of its indices take part"))
            continue
        both: Product = products[0]
        for product in products[1:] if p != position else ():
            both = c.axes.unify(both, product)
        joined.append(both)
    c.mixes(*(product for p, product in enumerate(joined) if p != position))
    return joined


@rule("index_add", "index_copy")
def index_add(c: Call) -> Sequence[Dims]:
    """Slices written to positions of one axis, chosen by a list of numbers."""
    dims, source, position = c.dims("self"), c.dims("source"), c.axis()
    kept = c.drop(dims, [position], CHOSEN)
    c.axes.pin(source[position], CHOSEN)
    for product in c.dims("index"):
        c.axes.pin(product, CHOSEN)
    for old, new in zip(kept, (d for p, d in enumerate(source) if p != position), strict=True):
        c.axes.unify(old, new)
    return [dims]


@rule("unfold")
def unfold(c: Call) -> Sequence[Dims]:
    """Windows that slide along one axis; positions inside the window come last."""
    dims = c.dims("self")
    position = c["dimension"] % max(1, len(dims))
    reason = "positions under a window"
    c.drop(dims, [position], reason)
    dims[position] = c.axes.fixed(c.shape()[position], reason)
    return [[*dims, c.axes.fixed(c["size"], reason)]]


@rule("im2col")
def im2col(c: Call) -> Sequence[Dims]:
    """Windows of an image in columns: channels times positions inside the window."""
    *outer, channels, _, _ = c.dims("self")
    reason = "positions under a window"
    c.drop(c.dims("self"), [len(outer) + 1, len(outer) + 2], reason)
    inside = c.shape()[-2] // size_of(channels)
    return [[*outer, (*channels, *c.axes.fixed(inside, reason)), c.axes.fixed(c.shape()[-1], reason)]]


@rule("col2im")
def col2im(c: Call) -> Sequence[Dims]:
    """Columns of windows added up to an image."""
    *outer, columns, places = c.dims("self")
    reason = "positions under a window"
    channels, inside = c.split(columns, c.shape()[-3], reason)
    for product in (inside, places):
        c.axes.pin(product, reason)
    c.mixes(*outer, channels)
    return [[*outer, channels, *(c.axes.fixed(size, reason) for size in c.shape()[-2:])]]
