"""What a rule sees and returns, and the table that rules enter themselves into."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from onebasin.discovery.axes import Axes, Product, is_pinned, resolve, size_of
from onebasin.discovery.tape import Op, Value, values_in
from onebasin.discovery.ties import Ties

Dims = list[Product]
"""What every dimension of one tensor is made of."""

Rule = Callable[["Call"], Sequence[Dims]]
"""Relates the axes of an operation's arguments and returns the dimensions of its results, in order."""

RULES: dict[str, Rule] = {}
"""One rule for every operation, by its name without overload and trailing underscore, such as `aten::add`."""

KEEPS_POSITIONS: set[str] = set()
"""Operations that hand on numbers which are positions of an axis as they are."""

USES_POSITIONS: set[str] = set()
"""Operations whose rule says what becomes of such numbers; every other one pins the axis they point into."""


def rule(*names: str, positions: str = "refused") -> Callable[[Rule], Rule]:
    """Enter a function into the table as the rule of the named ATen operations.

    Args:
        names: without `aten::`, overload and trailing underscore.
        positions: what the operations do with numbers that are positions of an axis, such as those of the largest
            entries: `refused` (computed with, the axis is pinned), `kept` or `used`.
    """

    def enter(function: Rule) -> Rule:
        full = [f"aten::{name}" for name in names]
        RULES.update(dict.fromkeys(full, function))
        {"kept": KEEPS_POSITIONS, "used": USES_POSITIONS, "refused": set[str]()}[positions].update(full)
        return function

    return enter


@dataclass(frozen=True, slots=True)
class Lookup:
    """Rows of an axis were chosen by numbers.

    Attributes:
        numbers: the tensor of numbers.
        places: its dimensions: for each of their indices the number tells one row.
        rows: the axis that is pointed into.
        beside: the axes that the chosen rows bring along.
    """

    numbers: Value
    places: Sequence[Product]
    rows: Product
    beside: Sequence[Product]


def find_rule(name: str, func: Any) -> Rule | None:
    """The rule of an operation; in-place variants share the rule, pointwise operations share one for all."""
    found = RULES.get(name) or RULES.get(name.removesuffix("_"))
    if found is None and torch.Tag.pointwise in func.tags and torch.Tag.nondeterministic_seeded not in func.tags:
        return RULES["aten::add"]
    return found


@dataclass(eq=False, slots=True)
class Call:
    """One operation as its rule sees it.

    Attributes:
        op: the recorded operation.
        axes: the algebra.
        table: the dimensions of every value so far.
        mixed: index sets that the operation brings together, for `onebasin.discovery.solve`.
        overwritten: values whose memory is written to later: what is uniform when made need not stay so.
        lookups: rows chosen by numbers, for `onebasin.discovery.solve`.
        pointed: for integer values, the axis whose positions they are.
        ties: which values may hold equal entries.
    """

    op: Op
    axes: Axes
    table: dict[Value, Dims]
    mixed: list[Sequence[Product]]
    overwritten: set[Value] = field(default_factory=set)
    lookups: list[Lookup] = field(default_factory=list)
    pointed: dict[Value, Product] = field(default_factory=dict)
    ties: Ties = field(default_factory=Ties)

    def __getitem__(self, name: str) -> Any:
        """An argument by its name in the schema, tensors as values."""
        return self.op.arguments.get(name)

    def dims(self, name: str) -> Dims:
        """The dimensions of a tensor argument."""
        return list(self.table[self.op.arguments[name]])

    def values(self) -> list[Value]:
        """The tensors among the arguments, those in lists included."""
        return list(values_in(self.op.arguments))

    def shape(self, result: int = 0) -> tuple[int, ...]:
        """The shape of a result."""
        value = self.op.results[result]
        return value.shape if value is not None else ()

    def axis(self, name: str = "dim", of: str = "self") -> int:
        """An argument that names a dimension, counted from the front."""
        return int(self[name]) % max(1, len(self.dims(of)))

    def mixes(self, *products: Product) -> None:
        """Note that the operation treats these indices together, for all values of those left out.

        An index that passes through while another one is summed over, shifted or compared along must be permuted alike
        for all values of that other one, even where input and output both carry it.
        """
        self.mixed.append(products)

    def look_up(self, numbers: Value, rows: Product, beside: Sequence[Product]) -> None:
        """Note that `numbers` choose rows of an axis.

        Numbers that point into an axis make that axis and this one move together; others pin it.
        """
        reason = "entries are chosen by number"
        pointed = self.pointed.get(numbers)
        if pointed is None:
            self.axes.pin(rows, reason)
            self.pointed[numbers] = rows
        elif size_of(pointed) == size_of(rows):
            self.axes.unify(pointed, rows)
        else:
            self.axes.pin(pointed, reason)
            self.axes.pin(rows, reason)
        self.lookups.append(Lookup(numbers, list(self.table[numbers]), rows, list(beside)))

    def pinned(self, result: int, reason: str) -> Dims:
        """Fresh pinned dimensions for a result."""
        return [self.axes.fixed(size, reason) for size in self.shape(result)]

    def constant(self, result: int = 0) -> Dims:
        """Dimensions for a result that holds one number everywhere."""
        value = self.op.results[result]
        if value is not None and value.owner in self.overwritten:
            return [self.axes.atom(size) for size in value.shape]
        return [self.axes.uniform(size) for size in self.shape(result)]

    def broadcast(self, operands: Iterable[Dims]) -> Dims:
        """The dimensions of operands aligned from the last one, size 1 stretched; equal positions move together."""
        rows = list(operands)
        rank = max((len(row) for row in rows), default=0)
        joined: Dims = [()] * rank
        for row in rows:
            for position, product in enumerate(row, start=rank - len(row)):
                if size_of(product) > 1:
                    here = joined[position]
                    joined[position] = self.axes.unify(here, product) if here else resolve(product)
        return joined

    def drop(self, dims: Dims, chosen: Iterable[int], reason: str) -> Dims:
        """Pin the chosen dimensions; the others, which pass through unaltered, are returned."""
        gone = set(chosen)
        for position in gone:
            self.axes.pin(dims[position], reason)
        kept = [product for position, product in enumerate(dims) if position not in gone]
        self.mixes(*kept)
        return kept

    def transformed(self, dims: Dims, chosen: Iterable[int], reason: str, result: int = 0) -> Dims:
        """Pin the chosen dimensions, replaced by fresh pinned ones of the result's sizes; the others pass through."""
        gone = set(chosen)
        self.drop(dims, gone, reason)
        return [
            self.axes.fixed(self.shape(result)[position], reason) if position in gone else product
            for position, product in enumerate(dims)
        ]

    def split(self, product: Product, outer: int, reason: str) -> tuple[Product, Product]:
        """A product as outer times inner; pinned where its structure forbids it."""
        halves = self.axes.split_product(product, outer)
        if halves is not None:
            return halves
        self.axes.pin(product, reason)
        return self.axes.fixed(outer, reason), self.axes.fixed(size_of(product) // outer, reason)

    def is_pinned(self, product: Product) -> bool:
        """Whether nothing in the product can move."""
        return is_pinned(product)


def unknown(c: Call) -> Sequence[Dims]:
    """No rule: everything the operation touches stays where it is."""
    reason = "an operation without a rule"
    for value in c.values():
        for product in c.table[value]:
            c.axes.pin(product, reason)
    return [c.pinned(i, reason) if isinstance(r, Value) else [] for i, r in enumerate(c.op.results)]
