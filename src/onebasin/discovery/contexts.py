"""Which atoms accompany which: the context in which a permutation may differ from index to index.

An atom's context is what accompanies it in every index set. Sums are looked into: a leaf inside a segment is
accompanied by the rest of its segment, and by what stands beside the sum. An atom that differs between the segments of
another one is a **case** of it.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from onebasin.discovery.axes import Atom, Product, find, offsets, resolve
from onebasin.discovery.rules import Lookup

IndexSet = Sequence[Product]
"""Products whose indices an operation or a tensor brings together."""

Contexts = dict[Atom, frozenset[Atom]]
"""For every atom what accompanies it everywhere."""


class Option(NamedTuple):
    """What an atom is in one segment of the sum it depends on."""

    start: int
    stop: int
    atom: Atom


class Case(NamedTuple):
    """An atom that differs between the segments of a sum."""

    along: Atom
    options: list[Option]


Cases = Mapping[Atom, Case]


def contexts_of(index_sets: Sequence[IndexSet], cases: Cases, lookups: Sequence[Lookup]) -> Contexts:
    """The context of every atom."""
    collector = _Collector(cases, _carriers(lookups))
    for index_set in index_sets:
        collector.note(index_set, (), frozenset())
    told = {rows for _, rows in collector.carriers}
    for lookup in lookups:
        known = frozenset(resolve(lookup.rows)) in told
        collector.note([lookup.rows, *lookup.beside] if known else lookup.beside, (), frozenset())
    return collector.contexts


class _Collector:
    """Intersects the company of every atom over all index sets."""

    def __init__(self, cases: Cases, carriers: Sequence[tuple[frozenset[Atom], frozenset[Atom]]]) -> None:
        self.contexts: Contexts = {}
        self.carriers = carriers
        self._cases = cases

    def note(self, products: IndexSet, around: tuple[Atom, ...], elsewhere: frozenset[Atom]) -> None:
        """Take an index set in.

        Args:
            products: its dimensions.
            around: atoms of the segments and dimensions that these products lie inside of.
            elsewhere: atoms that may occur in other dimensions, too.
        """
        rows = [[atom for atom in resolve(product) if not atom.uniform] for product in products]
        inside = [frozenset(_inside_segments(row)) for row in rows]
        here = (*around, *itertools.chain.from_iterable(rows))
        # An atom that may occur a second time is a second index over the same set: which one is meant is not clear.
        doubtful = elsewhere.union(*inside)
        once = frozenset(atom for atom, times in Counter(here).items() if times == 1 and atom not in doubtful)
        for places, told in self.carriers:
            if places <= once and not told & set(here):
                once |= told
        for number, row in enumerate(rows):
            beyond = elsewhere.union(*(inner for n, inner in enumerate(inside) if n != number))
            for atom in row:
                self._meet(atom, once)
                for segment in atom.segments or ():
                    self.note([segment], here, beyond)
                self._note_case(atom, once, doubtful)

    def _note_case(self, atom: Atom, once: frozenset[Atom], doubtful: frozenset[Atom]) -> None:
        case = self._cases.get(atom)
        along = find(case.along) if case is not None else None
        if along is None or along not in once:
            return
        for (start, _), segment in zip(_spans(along), along.segments or (), strict=True):
            company = {*decided(self._cases, tuple(once), along, start), *resolve(segment)} - doubtful
            for leaf in decided(self._cases, (atom,), along, start):
                self._meet(leaf, frozenset(company))

    def _meet(self, atom: Atom, company: frozenset[Atom]) -> None:
        others = company - {atom}
        self.contexts[atom] = self.contexts[atom] & others if atom in self.contexts else others


def _carriers(lookups: Sequence[Lookup]) -> list[tuple[frozenset[Atom], frozenset[Atom]]]:
    """Indices that tell the row of an axis: where all of them are, the axis is as good as there.

    Only if it is clear which row they tell: not if the same indices count the rows themselves, nor if other numbers
    with some of the same indices point into the same axis.
    """
    places = [frozenset(atom for product in lookup.places for atom in resolve(product)) for lookup in lookups]
    rows = [frozenset(resolve(lookup.rows)) for lookup in lookups]
    clear = []
    for i, lookup in enumerate(lookups):
        rivals = [j for j in range(len(lookups)) if rows[j] & rows[i]]
        if places[i] and all(
            not places[j] & rows[i] and (lookups[j].numbers is lookup.numbers or not places[j] & places[i])
            for j in rivals
        ):
            clear.append((places[i], rows[i]))
    return list(dict.fromkeys(clear))


def nested(product: Product) -> Iterator[Atom]:
    """All atoms of a product, those inside the segments of sums included."""
    for atom in resolve(product):
        yield atom
        for segment in atom.segments or ():
            yield from nested(segment)


def _inside_segments(row: Sequence[Atom]) -> Iterator[Atom]:
    for segment in itertools.chain.from_iterable(atom.segments or () for atom in row):
        yield from nested(segment)


def leaves(cases: Cases, product: Product) -> Iterator[tuple[Atom, ...]]:
    """A product multiplied out: one row of leaves for every choice of segments, cases decided."""
    atoms = resolve(product)
    for position, atom in enumerate(atoms):
        if atom.segments is None:
            continue
        for (start, _), segment in zip(_spans(atom), atom.segments, strict=True):
            yield from leaves(cases, (*atoms[:position], *segment, *decided(cases, atoms[position + 1 :], atom, start)))
        return
    yield atoms


def decided(cases: Cases, product: Product, along: Atom, start: int) -> Product:
    """What a product is in the segment of `along` that begins at `start`."""
    atoms: list[Atom] = []
    for atom in resolve(product):
        if depends(cases, atom, along):
            atoms.extend(next(resolve((o.atom,)) for o in cases[atom].options if o.start <= start < o.stop))
        else:
            atoms.append(atom)
    return tuple(atoms)


def depends(cases: Cases, atom: Atom, along: Atom) -> bool:
    """Whether `atom` differs between the segments of `along`."""
    case = cases.get(find(atom))
    return case is not None and find(case.along) is find(along)


def _spans(atom: Atom) -> list[tuple[int, int]]:
    return list(itertools.pairwise(offsets(atom)))
