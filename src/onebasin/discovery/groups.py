"""Read the groups, layouts and pins off a solution and give them names that people recognise."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import nn

from onebasin.discovery.axes import Atom, Product, is_pinned, resolve
from onebasin.discovery.contexts import decided, depends, leaves
from onebasin.discovery.explain import Trace
from onebasin.discovery.rules import Dims
from onebasin.discovery.solve import Solution
from onebasin.discovery.tape import Tape
from onebasin.layout import AxisGroup, AxisLayout, Factor
from onebasin.symmetry import AxisRef, Symmetry


@dataclass(slots=True)
class Reader:
    """The groups of a solution and their names; reads layouts of axes.

    Attributes:
        solution: the solved axes.
        chains: from the first atom of a group to all its atoms.
        inner: atoms that are not the first of their group.
        groups: from the first atom of a group to the group.
        beside: what stands beside a leaf in every parameter.
        held: every leaf that occurs in a parameter, which has the same size whatever the inputs are.
    """

    solution: Solution
    chains: dict[Atom, tuple[Atom, ...]] = field(default_factory=dict)
    inner: set[Atom] = field(default_factory=set)
    groups: dict[Atom, AxisGroup] = field(default_factory=dict)
    beside: dict[Atom, frozenset[Atom]] = field(default_factory=dict)
    held: frozenset[Atom] = frozenset()

    @classmethod
    def of(cls, solution: Solution) -> "Reader":
        """Find the groups and name them after the tensors that produce them."""
        reader = cls(solution)
        order = sorted(solution.parameters, key=lambda name: solution.first_use.get(name, len(solution.first_use)))
        free = _free_leaves(solution, order)
        reader.beside = _beside(solution)
        reader.held = frozenset(atom for _, _, row in _rows(solution, order) for atom in row)
        _chain(reader, free)
        _name_groups(reader, free)
        return reader

    def layouts(self, dims: Dims) -> tuple[AxisLayout, ...] | None:
        """The layout of every axis of a tensor on the tape, which moves as its layouts say.

        Axes that carry groups have a size of their own. Any other axis is one fixed size, that of the example inputs.

        Returns:
            None where it is not known how the tensor moves, or where groups share an axis with what may have another
            size for other inputs (heads folded into the batch).
        """
        for product in dims:
            rows = list(leaves(self.solution.cases, product))
            grouped = any(atom in self.groups for row in rows for atom in row)
            if not all(self._is_known(row) and (not grouped or self.held.issuperset(row)) for row in rows):
                return None
        return tuple(_emit(self, product) for product in dims)

    def _is_known(self, row: tuple[Atom, ...]) -> bool:
        """Whether every leaf stays, or is one of a whole group: neither undecided, nor split from its group."""
        following: list[Atom] = []
        for atom in row:
            if following:
                if atom is not following.pop(0):
                    return False
            elif atom in self.groups:
                following = list(self.chains.get(atom, ())[1:])
            elif atom.pin is None and not atom.uniform:
                return False
        return not following


def read_symmetry(model: nn.Module, solution: Solution, tape: Tape, unreached: str) -> Symmetry:
    """The symmetry that a solution stands for.

    Args:
        model: gives the names of buffers.
        solution: the solved axes.
        tape: gives the names and shapes of everything in the state dict.
        unreached: the reason to give for parameters that no operation used.
    """
    reader = Reader.of(solution)
    layouts: dict[str, tuple[AxisLayout, ...]] = {}
    pins: dict[AxisRef, str] = {}
    names: dict[int, list[str]] = {}
    for name, value in tape.parameters.items():
        names.setdefault(id(value), []).append(name)
        dims = solution.parameters.get(value.name)
        if dims is None:
            layouts[name] = tuple(AxisLayout.of((size,)) for size in value.shape)
            reason = unreached if value.dtype.is_floating_point else "not a floating-point tensor"
            pins.update({AxisRef(name, axis): reason for axis, size in enumerate(value.shape) if size > 1})
            continue
        layouts[name] = tuple(_emit(reader, product) for product in dims)
        for axis, product in enumerate(dims):
            why = _first_pin(solution, product)
            if why is not None:
                pins[AxisRef(name, axis)] = why
    buffers = frozenset(
        name for name, buffer in model.named_buffers(remove_duplicate=False)
        if name in layouts and buffer.is_floating_point()
    )  # fmt: skip
    tied = tuple(tuple(row) for row in names.values() if len(row) > 1)
    groups = {group.name: group for group in reader.groups.values()}
    trace = Trace.of(
        solution,
        {name: len(axes) for name, axes in layouts.items()},
        {(ref.tensor, ref.axis): reason for ref, reason in pins.items()},
        tied,
    )
    return Symmetry(groups, layouts, pins, tied, buffers, trace)


def _rows(solution: Solution, names: list[str]) -> Iterator[tuple[str, int, tuple[Atom, ...]]]:
    for name in names:
        for axis, product in enumerate(solution.parameters[name]):
            for row in leaves(solution.cases, product):
                yield name, axis, row


def _beside(solution: Solution) -> dict[Atom, frozenset[Atom]]:
    """What stands beside every leaf in all parameters, so that a layout can name it: on its axis or on another one."""
    found: dict[Atom, frozenset[Atom]] = {}
    for dims in solution.parameters.values():
        axes = [[frozenset(row) for row in leaves(solution.cases, product)] for product in dims]
        certain = [frozenset.intersection(*rows) for rows in axes]
        for axis, rows in enumerate(axes):
            others = frozenset[Atom]().union(*(atoms for n, atoms in enumerate(certain) if n != axis))
            for row in rows:
                for atom in row:
                    company = row | others
                    found[atom] = found[atom] & company if atom in found else company
    return found


def _free_leaves(solution: Solution, names: list[str]) -> dict[Atom, str]:
    """Every leaf that can move, in the order of the data flow, with the tensor it is named after.

    That is the first tensor of two or more dimensions that has it: the one that produces it.
    """
    found: dict[Atom, str] = {}
    matrix: dict[Atom, str] = {}
    for name, _, row in _rows(solution, names):
        for atom in row:
            if atom.pin is None and not atom.uniform:
                found.setdefault(atom, name)
                if len(solution.parameters[name]) > 1:
                    matrix.setdefault(atom, name)
    return found | matrix


def _chain(reader: Reader, free: Mapping[Atom, str]) -> None:
    """Join neighbours that never occur apart: heads and units split by a reshape and never used separately."""
    contexts = reader.solution.contexts
    following: dict[Atom, set[Atom | None]] = {atom: set() for atom in free}
    preceding: dict[Atom, set[Atom | None]] = {atom: set() for atom in free}
    for _, _, row in _rows(reader.solution, list(reader.solution.parameters)):
        for before, after in zip((None, *row), (*row, None), strict=True):
            if before in following:
                following[before].add(after)
            if after in preceding:
                preceding[after].add(before)

    def next_in_chain(atom: Atom) -> Atom | None:
        if len(following[atom]) != 1:
            return None
        (other,) = following[atom]
        if other is None or other not in free or preceding[other] != {atom}:
            return None
        return other if atom in contexts[other] and other in contexts[atom] else None

    for atom in free:
        chain = [atom]
        while (other := next_in_chain(chain[-1])) is not None and other not in chain:
            chain.append(other)
        reader.chains[atom] = tuple(chain)
        reader.inner.update(chain[1:])


def _name_groups(reader: Reader, free: Mapping[Atom, str]) -> None:
    taken = set[str]()
    heads = {atom: place for atom, place in free.items() if atom not in reader.inner}
    around = {atom: _surroundings(reader, atom, heads) for atom in heads}
    fixed = {outer: heads[atom] for atom in heads for outer in around[atom] if outer.pin is not None}
    # A pair that is each other's context can be nested one way only: the one seen first is outside.
    rank = {atom: number for number, atom in enumerate((*fixed, *heads))}
    for atom in heads:
        around[atom] = [
            outer for outer in around[atom] if atom not in around.get(outer, ()) or rank[outer] < rank[atom]
        ]
    for atom in sorted((*fixed, *heads), key=lambda a: len(around.get(a, ()))):
        inside = sorted(around.get(atom, ()), key=lambda outer: (len(around.get(outer, ())), rank[outer]))
        name = _unique(_base_name((fixed | heads)[atom], atom, inside), taken)
        size = 1
        for link in reader.chains.get(atom, (atom,)):
            size *= link.size
        reader.groups[atom] = AxisGroup(
            name, size, tuple(reader.groups[outer].name for outer in inside), fixed=atom.pin is not None
        )
    order = {atom: number for number, atom in enumerate((*heads, *fixed))}
    reader.groups = dict(sorted(reader.groups.items(), key=lambda item: order[item[0]]))


def _surroundings(reader: Reader, atom: Atom, heads: Mapping[Atom, object]) -> list[Atom]:
    """The groups, moving or fixed, that a group is nested in: the leaves of its context that occur in parameters."""
    context: frozenset[Atom] = frozenset.intersection(
        reader.beside[atom], *(reader.solution.contexts[a] for a in reader.chains[atom])
    )
    return sorted(
        (other for other in context if other in heads or (other.pin is not None and other.segments is None)),
        key=lambda other: other.number,
    )


def _base_name(tensor: str, atom: Atom, inside: list[Atom]) -> str:
    stem = re.sub(r"[._]weight$", "", tensor)
    stem = tensor if stem.isdigit() or not stem else stem
    if atom.pin is not None:
        return f"{stem}.fixed"
    return f"{stem}.units" if inside else stem


def _unique(name: str, taken: set[str]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}.{number}"
    taken.add(candidate)
    return candidate


def _emit(reader: Reader, product: Product) -> AxisLayout:
    factors: list[Factor] = []
    atoms = resolve(product)
    for position, atom in enumerate(atoms):
        if atom.segments is None:
            if atom not in reader.inner:
                factors.append(reader.groups[atom].name if atom in reader.groups else atom.size)
            continue
        rest = atoms[position + 1 :]
        together = any(depends(reader.solution.cases, other, atom) for other in rest)
        start, terms = 0, []
        for segment in atom.segments:
            tail = decided(reader.solution.cases, rest, atom, start) if together else ()
            terms.append((_emit(reader, (*segment, *tail)),))
            start += _size(segment)
        factors.append(AxisLayout.of(*terms))
        if together:
            break
    return AxisLayout.of(tuple(factors))


def _size(product: Product) -> int:
    size = 1
    for atom in product:
        size *= atom.size
    return size


def _first_pin(solution: Solution, product: Product) -> str | None:
    if is_pinned(product) and not resolve(product):
        return None
    for row in leaves(solution.cases, product):
        for atom in row:
            if atom.pin is not None:
                return str(atom.pin)
            if atom.uniform:
                return "a constant along this axis"
    return None
