"""Operations in which numbers choose entries: the axis they point into stays, the axes beside it pass."""

from collections.abc import Sequence

import torch

from onebasin.discovery.axes import Product, is_uniform, size_of
from onebasin.discovery.rules.base import Call, Dims, rule
from onebasin.discovery.tape import Value

CHOSEN = "entries are chosen by number"


@rule("embedding", positions="used")
def embedding(c: Call) -> Sequence[Dims]:
    """Rows chosen by numbers that come from elsewhere."""
    rows, width = c.dims("weight")
    c.look_up(c["indices"], rows, [width])
    return [[*c.dims("indices"), width]]


@rule("index_select", positions="used")
def index_select(c: Call) -> Sequence[Dims]:
    """Positions of one axis, chosen by a list of numbers."""
    dims, position = c.dims("self"), c.axis()
    rows = dims[position]
    dims[position : position + 1] = c.dims("index") or [()]
    c.look_up(c["index"], rows, [d for p, d in enumerate(dims) if p != position])
    return [dims]


@rule("index", positions="used")
def index(c: Call) -> Sequence[Dims]:
    """Entries chosen by numbers or by a mask along some axes."""
    numbers, kept, at = _indexed(c, c.shape())
    return [[*kept[:at], *numbers, *kept[at:]]]


@rule("index_put", positions="used")
def index_put(c: Call) -> Sequence[Dims]:
    """Values written to entries chosen by numbers or by a mask."""
    numbers, kept, at = _indexed(c, ())
    written = c.broadcast([[*kept[:at], *numbers, *kept[at:]], c.dims("values")])
    passing = iter([*written[:at], *written[at + len(numbers) :]])
    chosen = _chosen(c["indices"])
    return [[_told_apart(c, d) if p in chosen else next(passing) for p, d in enumerate(c.dims("self"))]]


def _is_mask(given: Value) -> bool:
    return given.dtype in (torch.bool, torch.uint8)


def _chosen(indices: Sequence[Value | None]) -> list[int]:
    """The axes that are pointed into; a mask points into as many as it has."""
    chosen: list[int] = []
    position = 0
    for given in indices:
        width = len(given.shape) if given is not None and _is_mask(given) else 1
        if given is not None:
            chosen.extend(range(position, position + width))
        position += width
    return chosen


def _indexed(c: Call, shape: Sequence[int]) -> tuple[Dims, Dims, int]:
    """The dimensions of `self[indices]`: those of the numbers, those that pass, and where the former are put in.

    The numbers' own dimensions take the place of the axes they point into where those are neighbours, else they come
    first. How many entries a mask lets through is only known when it runs: they are one dimension, in an order of its
    own, whose size is read off the result's `shape`, if there is one.
    """
    dims, given = c.dims("self"), [value for value in c["indices"] if value is not None]
    chosen = _chosen(c["indices"])
    kept = [product for p, product in enumerate(dims) if p not in chosen]
    at = chosen[0] if chosen == list(range(chosen[0], chosen[0] + len(chosen))) else 0
    masks = [value for value in given if _is_mask(value)]
    if len(given) == 1 and not masks:
        c.look_up(given[0], dims[chosen[0]], kept)
        return list(c.table[given[0]]), kept, at
    c.drop(dims, chosen, CHOSEN)
    for product in (*(c.pointed.get(value, ()) for value in given), *(d for mask in masks for d in c.table[mask])):
        c.axes.pin(product, CHOSEN)
    if masks:
        return [c.axes.fixed(shape[at] if len(shape) == len(kept) + 1 else 1, CHOSEN)], kept, at
    return c.broadcast(c.table[value] for value in given), kept, at


@rule("gather", positions="used")
def gather(c: Call) -> Sequence[Dims]:
    """Along one axis every entry is chosen by a number of its own."""
    position = c.axis()
    joined = _beside(c, [c.dims("self"), c.dims("index")], position)
    joined[position] = c.dims("index")[position]
    return [joined]


@rule("scatter", "scatter_add", "scatter_reduce", positions="used")
def scatter(c: Call) -> Sequence[Dims]:
    """Along one axis every entry is written to a number of its own."""
    dims, position = c.dims("self"), c.axis()
    rows = [dims, *(c.dims(name) for name in ("index", "src") if c[name] is not None)]
    joined = _beside(c, rows, position)
    for row in rows[1:]:
        c.axes.pin(row[position], CHOSEN)
    return [joined]


def _aim(c: Call, product: Product) -> Product:
    """The axis that the numbers point into: the one they are positions of, if they are, else it stays."""
    pointed = c.pointed.get(c["index"])
    if pointed is not None and size_of(pointed) == size_of(product):
        return c.axes.unify(pointed, product)
    for target in (product, pointed or ()):
        c.axes.pin(target, CHOSEN)
    return _told_apart(c, product)


def _told_apart(c: Call, product: Product) -> Product:
    """The product, or a pinned one where it was uniform and no longer is: some of its entries were written to."""
    return c.axes.fixed(size_of(product), CHOSEN) if is_uniform(product) else product


def _beside(c: Call, rows: Sequence[Dims], position: int) -> Dims:
    """Pin the axis that is pointed into; those beside it move together where they have one size, else they stay."""
    joined: Dims = []
    for p, products in enumerate(zip(*rows, strict=True)):
        if p == position:
            joined.append(_aim(c, products[0]))
            continue
        if len({size_of(product) for product in products}) > 1:
            for product in products:
                c.axes.pin(product, "only the first of its indices take part")
            joined.append(c.axes.fixed(min(map(size_of, products)), "only the first of its indices take part"))
            continue
        both: Product = products[0]
        for product in products[1:]:
            both = c.axes.unify(both, product)
        joined.append(both)
    c.mixes(*(product for p, product in enumerate(joined) if p != position))
    return joined


@rule("index_add", "index_copy")
def index_add(c: Call) -> Sequence[Dims]:
    """Slices written to positions of one axis, chosen by a list of numbers."""
    dims, source, position = c.dims("self"), c.dims("source"), c.axis()
    c.drop(dims, [position], CHOSEN)
    for product in (source[position], *c.dims("index")):
        c.axes.pin(product, CHOSEN)
    return [
        [
            _told_apart(c, old) if p == position else c.axes.unify(old, new)
            for p, (old, new) in enumerate(zip(dims, source, strict=True))
        ]
    ]


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
