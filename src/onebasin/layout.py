"""How one axis of a tensor is made of groups: the axis algebra every other module speaks.

An axis is a **concatenation of terms**, a term a **product of factors** (outermost first), a factor a group, a fixed
size, or again a concatenation in parentheses. People write it as text::

    hidden                        512 hidden units
    channels*49                   a flattened 7 x 7 feature map
    heads*qk + heads*qk + heads*v a fused query, key and value projection
    8 + stream + 8                a stream padded with constant channels on both sides
    heads*(qk + qk + v)           queries, keys and values interleaved head by head

Multiplying out gives **blocks**: strided grids of indices, one factor a dimension. A tensor whose axes all are layouts
falls apart into **parts**, one for every choice of a block on each axis; a part is a strided view in which every
dimension is one whole group or one fixed size. Permuting, scoring and counting only ever see parts.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from onebasin.errors import SymmetryError

_NUMBER = re.compile("[0-9]+")


@dataclass(frozen=True, slots=True)
class AxisGroup:
    """A set of `size` exchangeable things, such as the hidden units of a layer or the heads of an attention layer.

    Attributes:
        name: unique in its symmetry; any characters but white space and `+*()`, not only digits.
        size: how many things there are.
        inside: the groups this one is nested in, outermost first. A group inside others has one permutation for every
            combination of their members and moves with them (a wreath product): the units inside each head.
        fixed: the group itself never moves; it exists so that others can be nested in it (units inside heads that
            a constant tells apart).
    """

    name: str
    size: int
    inside: tuple[str, ...] = ()
    fixed: bool = False

    def __post_init__(self) -> None:
        """Reject names that the layout grammar could not read back, and sizes below one."""
        if not re.fullmatch(r"[^\s+*()]+", self.name) or _NUMBER.fullmatch(self.name):
            raise SymmetryError(
                f"group {self.name!r}",
                expected="a name without white space and +*(), and not only digits",
                found=repr(self.name),
                remedy="rename the group",
            )
        if self.size < 1:
            raise SymmetryError(
                f"group {self.name}",
                expected="a size of at least 1",
                found=str(self.size),
                remedy="remove the group or correct its size",
            )


@dataclass(frozen=True, slots=True)
class Block:
    """A strided grid of positions along one axis: position = offset + sum of index[k] * strides[k].

    Attributes:
        factors: one entry a dimension: a group's name, or a fixed size.
        sizes: the number of indices in each dimension.
        strides: the step along the axis for each dimension.
        offset: the first position.
    """

    factors: tuple[str | int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class AxisLayout:
    """What one axis is made of, in canonical form (see the module's text for the grammar).

    Attributes:
        terms: the concatenated terms; each a product of factors, outermost first. The empty product has size 1.
    """

    terms: tuple[tuple["Factor", ...], ...]

    @classmethod
    def of(cls, *terms: Sequence["Factor"]) -> "AxisLayout":
        """The canonical layout of a concatenation: parentheses opened where possible, fixed neighbours joined."""
        flat: list[tuple[Factor, ...]] = []
        for term in terms:
            product = _product(term)
            if len(product) == 1 and isinstance(product[0], AxisLayout):
                flat.extend(product[0].terms)
            else:
                flat.append(product)
        joined: list[tuple[Factor, ...]] = []
        for term in flat:
            size, last = _fixed(term), _fixed(joined[-1]) if joined else None
            if size is not None and last is not None:
                joined[-1] = _product((last + size,))
            else:
                joined.append(term)
        return cls(tuple(joined))

    @classmethod
    def parse(cls, text: str) -> "AxisLayout":
        """Read a layout from text such as `"heads*d + 16"`.

        Raises:
            SymmetryError: if the text does not follow the grammar.
        """
        tokens = re.findall(r"[+*()]|[^\s+*()]+", text)
        try:
            layout, rest = _parse_sum(tokens)
            if rest:
                raise IndexError
        except IndexError:
            raise SymmetryError(
                f"layout {text!r}",
                expected="terms joined by +, each a product of groups and sizes such as heads*64 + 16",
                found=text,
                remedy="correct the layout",
            ) from None
        return layout

    def __str__(self) -> str:
        """The text that `parse` reads back."""
        return " + ".join(
            "*".join(f"({factor})" if isinstance(factor, AxisLayout) else str(factor) for factor in term) or "1"
            for term in self.terms
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups on this axis, each once, in order."""
        names: dict[str, None] = {}
        for factor in itertools.chain.from_iterable(self.terms):
            if isinstance(factor, AxisLayout):
                names.update(dict.fromkeys(factor.groups))
            elif isinstance(factor, str):
                names[factor] = None
        return tuple(names)

    def size(self, sizes: Mapping[str, int]) -> int:
        """The length of the axis, given the size of every group."""
        return sum(math.prod(_size(factor, sizes) for factor in term) for term in self.terms)

    def blocks(self, sizes: Mapping[str, int]) -> Iterator[Block]:
        """The layout multiplied out: blocks that together cover every position once."""
        offset = 0
        for term in self.terms:
            yield from _expand(term, sizes, offset)
            offset += math.prod(_size(factor, sizes) for factor in term)


@dataclass(frozen=True)
class Part:
    """A strided view of one tensor in which every dimension is one whole group or one fixed size.

    Attributes:
        tensor: the tensor's name.
        blocks: the block chosen on each axis of the tensor.
    """

    tensor: str
    blocks: tuple[Block, ...]

    @cached_property
    def factors(self) -> tuple[str | int, ...]:
        """A group's name or a fixed size for every dimension of the view."""
        return tuple(factor for block in self.blocks for factor in block.factors)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The shape of the view."""
        return tuple(size for block in self.blocks for size in block.sizes)

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The tensor's axis on which every dimension of the view lies."""
        return tuple(axis for axis, block in enumerate(self.blocks) for _ in block.factors)

    def view(self, tensor: Tensor) -> Tensor:
        """The part of `tensor` as a view of shape `sizes`; writing to it writes to `tensor`."""
        strides = [step * s for step, block in zip(tensor.stride(), self.blocks, strict=True) for s in block.strides]
        offset = sum(step * block.offset for step, block in zip(tensor.stride(), self.blocks, strict=True))
        return torch.as_strided(tensor, self.sizes, strides, tensor.storage_offset() + offset)

    def sliced(self, dims: Sequence[int], count: int) -> "Part":
        """The part that `count` slices along `dims` are: their number first, then all other dimensions in order."""
        blocks = [Block((count,), (count,), (1,), 0)]
        first = 0
        for block in self.blocks:
            kept = [k for k in range(len(block.factors)) if first + k not in dims]
            first += len(block.factors)
            factors = tuple(block.factors[k] for k in kept)
            sizes, strides = (tuple(row[k] for k in kept) for row in (block.sizes, block.strides))
            blocks.append(Block(factors, sizes, strides, block.offset))
        return Part(self.tensor, tuple(blocks))

    def context(self, dim: int, inside: Sequence[str]) -> tuple[int, ...]:
        """The dimensions that tell which permutation of a nested group applies at dimension `dim`.

        A group the dimension is nested in is looked for on the same axis, nearest outside first; then anywhere.

        Raises:
            SymmetryError: if one of `inside` is not in this part, or stands in several places.
        """
        dims = []
        for name in inside:
            here = [d for d in range(dim) if self.factors[d] == name and self.axes[d] == self.axes[dim]]
            there = [d for d, factor in enumerate(self.factors) if factor == name]
            found = here[-1:] or there
            if len(found) != 1:
                raise SymmetryError(
                    f"{self.tensor}:{self.axes[dim]}",
                    expected=f"group {self.factors[dim]} together with one {name}, which it is nested in",
                    found=f"{len(found)} of {name} in this part of the tensor",
                    remedy=f"write {name} outside {self.factors[dim]} in the layout, or do not nest the group",
                )
            dims.append(found[0])
        return tuple(dims)


Factor = int | str | AxisLayout
"""A fixed size, a group's name, or a concatenation in parentheses."""


def parts(tensor: str, layouts: Sequence[AxisLayout], sizes: Mapping[str, int]) -> list[Part]:
    """All parts of a tensor, given the layout of each axis and the size of every group."""
    return [Part(tensor, blocks) for blocks in itertools.product(*(layout.blocks(sizes) for layout in layouts))]


def _product(term: Sequence["Factor"]) -> tuple["Factor", ...]:
    factors: list[Factor] = []
    for given in term:
        opened = given.terms[0] if isinstance(given, AxisLayout) and len(given.terms) == 1 else (given,)
        for factor in opened:
            if isinstance(factor, int) and factors and isinstance(factors[-1], int):
                factors[-1] *= factor
            else:
                factors.append(factor)
    return tuple(factor for factor in factors if factor != 1)


def _fixed(term: Sequence["Factor"]) -> int | None:
    if all(isinstance(factor, int) for factor in term):
        return math.prod(factor for factor in term if isinstance(factor, int))
    return None


def _size(factor: "Factor", sizes: Mapping[str, int]) -> int:
    if isinstance(factor, int):
        return factor
    return sizes[factor] if isinstance(factor, str) else factor.size(sizes)


def _expand(term: Sequence["Factor"], sizes: Mapping[str, int], offset: int) -> Iterator[Block]:
    if not term:
        yield Block((), (), (), offset)
        return
    first, rest = term[0], term[1:]
    inner = math.prod(_size(factor, sizes) for factor in rest)
    if isinstance(first, AxisLayout):
        outers = [
            Block(b.factors, b.sizes, tuple(s * inner for s in b.strides), b.offset * inner)
            for b in first.blocks(sizes)
        ]
    else:
        outers = [Block((first,), (_size(first, sizes),), (inner,), 0)]
    for outer in outers:
        for tail in _expand(rest, sizes, 0):
            yield Block(
                outer.factors + tail.factors,
                outer.sizes + tail.sizes,
                outer.strides + tail.strides,
                offset + outer.offset + tail.offset,
            )


def _parse_sum(tokens: list[str]) -> tuple[AxisLayout, list[str]]:
    """A recursive descent over the grammar; an IndexError says the tokens do not fit it."""
    terms = []
    while True:
        term: list[Factor] = []
        while True:
            head, tokens = tokens[0], tokens[1:]
            if head == "(":
                inner, tokens = _parse_sum(tokens)
                if tokens[0] != ")":
                    raise IndexError
                term.append(inner)
                tokens = tokens[1:]
            elif head in "+*)":
                raise IndexError
            else:
                term.append(int(head) if _NUMBER.fullmatch(head) else head)
            if not tokens or tokens[0] != "*":
                break
            tokens = tokens[1:]
        terms.append(term)
        if not tokens or tokens[0] != "+":
            return AxisLayout.of(*terms), tokens
        tokens = tokens[1:]
