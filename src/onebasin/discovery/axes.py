"""The algebra of axes: what each axis of each tensor on the tape is made of, refined as the operations demand.

A **product** is a tuple of atoms, outermost first; size 1 is the empty product. An **atom** is one of

* a leaf: `size` exchangeable indices until proven otherwise; *pinned* once something tells them apart; *uniform* when
  the values do not depend on them (a broadcast axis), so that it may meet any axis without tying it;
* a product of smaller atoms, after a reshape has split it;
* a sum: consecutive segments, each a product, after a slice or a concatenation has cut it.

`unify` makes two products move together, splitting and cutting until both have the same structure; where no common
structure exists both are pinned, which is always sound. Atoms are refined in place, so that every tensor that holds an
atom sees the refinement: the algebra is a union-find whose nodes can be opened.

**Restrictions.** Slicing axis A of a tensor leaves its other axes X as they were, but only *inside one segment of A*:
X may be permuted differently in each segment (queries, keys and values cut out of one projection) if X never occurs
without A, and must not otherwise. Which of the two holds is known only at the end, so that a slice gives fresh atoms
and notes the restriction for `onebasin.discovery.solve`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from onebasin.discovery.tape import Op

Product = tuple["Atom", ...]

INSIDE = "a slice begins or ends inside a block"


@dataclass(frozen=True, slots=True)
class Pin:
    """Why indices cannot be exchanged: a reason, and the operation that demands it."""

    reason: str
    op: Op | None = None

    def __str__(self) -> str:
        """The reason in words, with the place."""
        return f"{self.reason}: {self.op}" if self.op is not None else self.reason


class Atom:
    """A set of indices; see the module's text. Compare atoms by identity after `find`."""

    __slots__ = ("factors", "number", "parent", "pin", "segments", "size", "uniform")

    def __init__(self, size: int, number: int, *, pin: Pin | None = None, uniform: bool = False) -> None:
        self.size = size
        self.number = number
        self.pin = pin
        self.uniform = uniform
        self.parent: Atom | None = None
        self.factors: Product | None = None
        self.segments: tuple[Product, ...] | None = None

    def __repr__(self) -> str:
        """Number, size and kind, for debugging."""
        kind = "+" if self.segments else "!" if self.pin else "~" if self.uniform else ""
        return f"<{self.number}:{self.size}{kind}>"


@dataclass(frozen=True, slots=True)
class Restriction:
    """`part` is `whole` inside the segment `start..stop` of the sum `along`."""

    whole: Product
    part: Product
    along: Atom
    start: int
    stop: int
    op: Op | None


@dataclass(frozen=True, slots=True)
class Link:
    """Two atoms became one, or `b` became part of `a`; and the operation that made it so."""

    a: Atom
    b: Atom
    is_part: bool
    op: Op | None


def find(atom: Atom) -> Atom:
    """The atom that stands for `atom` now."""
    while atom.parent is not None:
        if atom.parent.parent is not None:
            atom.parent = atom.parent.parent
        atom = atom.parent
    return atom


def resolve(product: Sequence[Atom]) -> Product:
    """The product in terms of leaves and sums."""
    resolved: list[Atom] = []
    for given in product:
        atom = find(given)
        if atom.factors is not None:
            resolved.extend(resolve(atom.factors))
        else:
            resolved.append(atom)
    return tuple(resolved)


def size_of(product: Sequence[Atom]) -> int:
    """The number of indices of a product."""
    return prod(atom.size for atom in product)


def is_uniform(product: Sequence[Atom]) -> bool:
    """Whether the values depend on none of the atoms; the empty product is uniform."""
    return all(atom.uniform for atom in resolve(product))


def is_pinned(product: Sequence[Atom]) -> bool:
    """Whether every leaf is pinned."""
    return all(
        all(is_pinned(segment) for segment in atom.segments) if atom.segments is not None else atom.pin is not None
        for atom in resolve(product)
    )


def offsets(atom: Atom) -> list[int]:
    """The positions at which the segments of a sum begin, and its end."""
    bounds = [0]
    for segment in atom.segments or ():
        bounds.append(bounds[-1] + size_of(segment))
    return bounds


class Axes:
    """Makes atoms and relates them; remembers which operation asked for what.

    Attributes:
        restrictions: to be decided when all operations have had their say.
        links: everything that was tied or opened, in order; what `onebasin.discovery.explain` follows.
        pinned: the atoms that were pinned by themselves, not by what they were tied to.
        op: the operation at work.
    """

    def __init__(self) -> None:
        self.restrictions: list[Restriction] = []
        self.links: list[Link] = []
        self.pinned: dict[Atom, Pin] = {}
        self.op: Op | None = None
        self._united = 0
        self._count = 0
        self._tieable = 0

    @property
    def changes(self) -> int:
        """Grows whenever an atom that could be tied is made, or united with another."""
        return self._tieable + self._united

    def atom(self, size: int, *, pin: Pin | None = None, uniform: bool = False) -> Product:
        """A fresh leaf as a product: empty for size 1."""
        if size == 1:
            return ()
        self._count += 1
        self._tieable += not uniform
        return (Atom(size, self._count, pin=pin, uniform=uniform),)

    def fixed(self, size: int, reason: str) -> Product:
        """A fresh pinned leaf."""
        leaf = self.atom(size)
        self.pin(leaf, reason)
        return leaf

    def uniform(self, size: int) -> Product:
        """A fresh leaf on which the values do not depend."""
        return self.atom(size, uniform=True)

    def pin(self, product: Sequence[Atom], reason: str | Pin) -> None:
        """Pin every leaf that is neither pinned nor uniform."""
        pin = reason if isinstance(reason, Pin) else Pin(reason, self.op)
        for atom in resolve(product):
            if atom.segments is not None:
                for segment in atom.segments:
                    self.pin(segment, pin)
            elif atom.pin is None and not atom.uniform:
                atom.pin = self.pinned[atom] = pin

    def _inherit(self, product: Sequence[Atom], pin: Pin) -> None:
        """Pin what was tied to something pinned; the cause stays where it was."""
        for atom in resolve(product):
            if atom.segments is not None:
                for segment in atom.segments:
                    self._inherit(segment, pin)
            elif atom.pin is None:
                atom.pin = pin

    def unify(self, x: Sequence[Atom], y: Sequence[Atom]) -> Product:
        """Make two products of one size move together; pin both where they have no common structure.

        Returns:
            what an operation that mixes both yields: uniform only where both are.
        """
        joined = []
        for a, b in self.aligned(x, y):
            self._merge(a, b)
            joined.append(b if a.uniform else a)
        return tuple(joined) if size_of(joined) == size_of(x) else tuple(x)

    def aligned(self, x: Sequence[Atom], y: Sequence[Atom]) -> list[tuple[Atom, Atom]]:
        """Split two products of one size into atoms of the same sizes, pair by pair.

        Where that is impossible the rest of both is pinned and left out.
        """
        left, right = list(resolve(x)), list(resolve(y))
        pairs = []
        while left and right:
            a, b = left[0], right[0]
            if a.size == b.size:
                pairs.append((left.pop(0), right.pop(0)))
                continue
            bigger, smaller = (left, b) if a.size > b.size else (right, a)
            halves = self.split(bigger[0], smaller.size)
            if halves is None:
                reason = f"two readings of one axis that do not fit ({_shape(left)} and {_shape(right)})"
                self.pin(left, reason)
                self.pin(right, reason)
                return pairs
            bigger[:1] = [*resolve(halves[0]), *resolve(halves[1])]
        return pairs

    def split(self, atom: Atom, outer: int) -> tuple[Product, Product] | None:
        """Open an atom into an outer product of size `outer` and an inner one; None where its structure forbids it."""
        atom = find(atom)
        if outer in (1, atom.size):
            return ((), (atom,)) if outer == 1 else ((atom,), ())
        if atom.size % outer:
            return None
        inner = atom.size // outer
        if atom.segments is None:
            first = self.atom(outer, pin=atom.pin, uniform=atom.uniform)
            second = self.atom(inner, pin=atom.pin, uniform=atom.uniform)
            if not atom.uniform:
                atom.factors = (*first, *second)
                self._link_parts(atom, [atom.factors])
            return first, second
        if any(bound % inner for bound in offsets(atom)):
            return None
        # Segments (a, b, ...) of sizes divisible by `inner` are a sum of outer sizes times, inside each of its
        # segments, that segment's own inner part.
        pieces = [self.split_product(segment, size_of(segment) // inner) for segment in atom.segments]
        if any(piece is None for piece in pieces):
            return None
        known = [piece for piece in pieces if piece is not None]
        first = self.concat([piece[0] for piece in known])
        second = self.atom(inner)
        for (start, stop), piece in zip(_ranges([size_of(p[0]) for p in known]), known, strict=True):
            self.restrict(second, piece[1], find(first[0]), start, stop)
        atom.segments, atom.factors = None, (*first, *second)
        self._link_parts(atom, [atom.factors])
        return first, second

    def split_product(self, product: Sequence[Atom], outer: int) -> tuple[Product, Product] | None:
        """Open a product at the boundary after its first `outer` indices; None where its structure forbids it."""
        left: list[Atom] = []
        right = list(resolve(product))
        while outer > 1:
            atom = right.pop(0)
            if outer % atom.size == 0:
                left.append(atom)
                outer //= atom.size
                continue
            halves = self.split(atom, outer)
            if halves is None:
                return None
            return (*left, *resolve(halves[0])), (*resolve(halves[1]), *right)
        return tuple(left), tuple(right)

    def concat(self, segments: Sequence[Product]) -> Product:
        """The sum of segments; a segment that is itself a sum is opened.

        A uniform segment becomes a leaf of its own: beside other segments it is part of an axis that may be tied.
        """
        if len(segments) == 1:
            return resolve(segments[0])
        flat: list[Product] = []
        for segment in segments:
            resolved = tuple(
                leaf for atom in resolve(segment) for leaf in (self.atom(atom.size) if atom.uniform else (atom,))
            )
            if len(resolved) == 1 and resolved[0].segments is not None:
                flat.extend(resolved[0].segments)
            else:
                flat.append(resolved)
        total = self.atom(sum(size_of(segment) for segment in flat))
        total[0].segments = tuple(flat)
        self._link_parts(total[0], flat)
        return total

    def cut(self, product: Sequence[Atom], bounds: Sequence[int]) -> "Cut | None":
        """Make `bounds` (ascending, from 0 to the size) boundaries between segments of a product.

        Returns:
            the cut, which gives the segments and what other axes are inside them; None where a boundary falls inside a
            block, and the product is pinned.
        """
        head, *rest = resolve(product)
        inner = size_of(rest)
        if any(bound % inner for bound in bounds) or not self._refine(head, [bound // inner for bound in bounds]):
            self.pin(product, INSIDE)
            return None
        return Cut(self, head, tuple(rest))

    def _refine(self, atom: Atom, bounds: Sequence[int]) -> bool:
        """Make `bounds` boundaries of a sum's segments, turning a leaf into a sum; False where a block forbids it."""
        if atom.segments is None:
            atom.segments = tuple(self.atom(stop - start, pin=atom.pin) for start, stop in itertools.pairwise(bounds))
            self._link_parts(atom, atom.segments)
            return True
        segments: list[Product] = []
        ok = True
        for segment, (start, stop) in zip(atom.segments, _ranges([size_of(s) for s in atom.segments]), strict=True):
            inside = [bound - start for bound in bounds if start < bound < stop]
            if inside:
                edges = [0, *inside, stop - start]
                made = self.cut(segment, edges)
                ok = ok and made is not None
                pieces = [segment] if made is None else itertools.starmap(made.between, itertools.pairwise(edges))
                segments.extend(pieces)
            else:
                segments.append(segment)
        atom.segments = tuple(segments)
        self._link_parts(atom, segments)
        return ok

    def _link_parts(self, whole: Atom, parts: Sequence[Product]) -> None:
        self.links.extend(Link(whole, part, is_part=True, op=self.op) for product in parts for part in product)

    def restrict(self, whole: Product, part: Product, along: Atom, start: int, stop: int) -> None:
        """Note that `part` is `whole` inside `start..stop` of the sum `along`."""
        if whole and not is_uniform(part):
            self.restrictions.append(Restriction(whole, part, along, start, stop, self.op))

    def _merge(self, a: Atom, b: Atom) -> None:
        a, b = find(a), find(b)
        if a is b or a.uniform or b.uniform:
            return
        if a.factors is not None or b.factors is not None:
            self.unify((a,), (b,))
            return
        self._united += 1
        self.links.append(Link(a, b, is_part=False, op=self.op))
        if a.segments is not None and b.segments is not None:
            self._refine(a, offsets(b))
            self._refine(b, offsets(a))
            ours, theirs = a.segments, b.segments
            if offsets(a) != offsets(b):
                self.pin((a, b), "two ways to cut one axis that do not fit")
                return
            b.parent, b.segments = a, None
            for mine, other in zip(ours, theirs, strict=True):
                self.unify(mine, other)
            return
        keep, give = (b, a) if b.segments is not None else (a, b)
        give.parent = keep
        if give.pin is not None:
            self._inherit((keep,), give.pin)


@dataclass(frozen=True, slots=True)
class Cut:
    """An axis `along * rest` has been cut at boundaries of the sum `along`."""

    axes: Axes
    along: Atom
    rest: Product

    def between(self, start: int, stop: int) -> Product:
        """The indices `start..stop` of the axis, both boundaries of the cut."""
        inner = size_of(self.rest)
        begin, end = start // inner, stop // inner
        segments = find(self.along).segments or ()
        ranges = _ranges([size_of(segment) for segment in segments])
        chosen = [s for s, (first, last) in zip(segments, ranges, strict=True) if begin <= first and last <= end]
        return (*self.axes.concat(chosen), *self.inside(self.rest, start, stop))

    def inside(self, product: Product, start: int, stop: int) -> Product:
        """What another axis of the same tensor is inside `start..stop` of this one."""
        inner = size_of(self.rest)
        parts: list[Atom] = []
        for atom in resolve(product):
            if atom.uniform or is_pinned((atom,)):
                parts.append(atom)
                continue
            fresh = self.axes.atom(atom.size)
            self.axes.restrict((atom,), fresh, self.along, start // inner, stop // inner)
            parts.extend(fresh)
        return tuple(parts)


def _ranges(sizes: Sequence[int]) -> list[tuple[int, int]]:
    bounds = [0]
    for size in sizes:
        bounds.append(bounds[-1] + size)
    return list(itertools.pairwise(bounds))


def _shape(product: Sequence[Atom]) -> str:
    return "*".join(str(atom.size) for atom in product) or "1"
