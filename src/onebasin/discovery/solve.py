"""From a tape to a symmetry: apply the rules, decide the restrictions, read off the groups.

1. **Interpret.** Every live operation's rule relates the axes of its arguments and results (`axes.py`).
2. **Decide.** Two atoms *accompany* each other in an index set if both occur in it. The **context** of X is what
   accompanies it in every index set: all tensors of the tape and all sets that operations mix. X may have its own
   permutation for every index of its context, and only of it. A restriction of X to a segment of A may therefore stand
   if A is in the context of X; otherwise X inside the segment is X. Unions shrink contexts, so this is repeated until
   nothing changes.
3. **Read off.** Free leaves that occur in parameters are the groups, nested in their contexts.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onebasin.discovery.axes import Atom, Axes, Link, Product, Restriction, find, offsets, resolve
from onebasin.discovery.rules import Call, Dims, find_rule, unknown
from onebasin.discovery.tape import Op, Tape, Value, values_in

IndexSet = Sequence[Product]


@dataclass(slots=True)
class Solution:
    """The axes of every parameter, after all operations have had their say.

    Attributes:
        axes: the algebra, with its record of unions.
        parameters: the dimensions of every parameter that was reached, by name.
        places: the tensor and axis that an atom was made for.
        contexts: for every leaf, the atoms that accompany it everywhere.
        cases: for an atom that differs between the segments of another one: that one, and the atom in each segment.
        first_use: for every parameter's name the number of the operation that used it first.
        unknown: operations without a rule.
    """

    axes: Axes
    parameters: dict[str, Dims] = field(default_factory=dict)
    places: dict[Atom, tuple[str, int]] = field(default_factory=dict)
    contexts: dict[Atom, frozenset[Atom]] = field(default_factory=dict)
    cases: dict[Atom, tuple[Atom, list[tuple[int, int, Atom]]]] = field(default_factory=dict)
    first_use: dict[str, int] = field(default_factory=dict)
    unknown: list[Op] = field(default_factory=list)


def solve(tapes: Sequence[Tape]) -> Solution:
    """Relate all axes of the parameters seen on the tapes (one for every mode the model was run in)."""
    solution = Solution(Axes())
    shared: dict[str, Dims] = {}
    index_sets: list[IndexSet] = []
    for tape in tapes:
        index_sets.extend(_interpret(tape, solution, shared))
    _decide(solution, index_sets)
    return solution


def _interpret(tape: Tape, solution: Solution, shared: dict[str, Dims]) -> list[IndexSet]:
    """Apply every live operation's rule; returns the index sets of its tensors and operations."""
    axes = solution.axes
    table: dict[Value, Dims] = {}
    live = tape.live()
    overwritten = {value.owner for op in live for value in op.written}
    mixed: list[IndexSet] = []
    for number, op in enumerate(live):
        axes.op = op
        for value in (*values_in(op.arguments), *op.written):
            if value not in table:
                table[value] = _first_seen(value, solution, shared, overwritten)
                if value.kind == "parameter":
                    solution.first_use.setdefault(value.name, number)
        _apply_rule(Call(op, axes, table, mixed, overwritten), solution)
    axes.op = None
    for value in tape.outputs:
        for product in table.setdefault(value, _first_seen(value, solution, shared, overwritten)):
            axes.pin(product, "an output of the model")
    solution.parameters.update(
        (name, table[value]) for name, value in tape.parameters.items() if value in table and value.kind == "parameter"
    )
    return [*table.values(), *mixed]


def _apply_rule(call: Call, solution: Solution) -> None:
    found = find_rule(call.op.name, call.op.func)
    if found is None:
        solution.unknown.append(call.op)
        found = unknown
    for value, dims in zip(call.op.results, found(call), strict=False):
        if value is not None and value in call.table:
            # Written in place: what is written moves together with what was there.
            call.table[value] = [call.axes.unify(old, new) for old, new in zip(call.table[value], dims, strict=True)]
        elif value is not None:
            call.table[value] = dims


def _first_seen(value: Value, solution: Solution, shared: dict[str, Dims], overwritten: set[Value]) -> Dims:
    axes = solution.axes
    if value.kind == "parameter":
        if value.name not in shared:
            shared[value.name] = [axes.atom(size) for size in value.shape]
            for axis, product in enumerate(shared[value.name]):
                solution.places.update((atom, (value.name, axis)) for atom in product)
        return shared[value.name]
    if value.kind == "constant":
        varies = value.varies or (True,) * len(value.shape)
        return [
            axes.fixed(size, "a constant of the model") if differs
            else axes.atom(size) if value in overwritten
            else axes.uniform(size)
            for size, differs in zip(value.shape, varies, strict=True)
        ]  # fmt: skip
    return [axes.fixed(size, "an input of the model") for size in value.shape]


def _decide(solution: Solution, index_sets: Sequence[IndexSet]) -> None:
    """Unify what a restriction relates unless the context allows it to differ; repeat until nothing changes."""
    axes = solution.axes
    while True:
        before = axes.changes
        pairs = [(r, pair) for r in axes.restrictions for pair in axes.aligned(r.whole, r.part)]
        contexts = _contexts(index_sets, solution)
        for restriction, (whole, part) in pairs:
            axes.op = restriction.op
            if find(whole).factors is None:  # Opened by an earlier pair: its factors come in the next round.
                _decide_pair(solution, contexts, restriction, find(whole), part)
        if axes.changes == before:
            solution.contexts = contexts
            axes.op = None
            return


def _decide_pair(
    solution: Solution, contexts: Mapping[Atom, frozenset[Atom]], restriction: Restriction, whole: Atom, part: Atom
) -> None:
    axes, along = solution.axes, find(restriction.along)
    stands = (
        along.segments is not None
        and whole.segments is None
        and whole.pin is None
        and along in contexts.get(whole, frozenset())
        and _same_axis_everywhere(solution, whole, along)
    )
    if not stands:
        _, options = solution.cases.pop(whole, (None, []))
        for _, _, option in options:
            axes.unify((whole,), (option,))
        axes.unify((whole,), (part,))
        return
    bounds = offsets(along)
    known = solution.cases.get(whole)
    if known is not None and known[0] is along and [b for b, _, _ in known[1]] == bounds[:-1]:
        options = known[1]
    else:
        options = [(b, e, axes.atom(whole.size)[0]) for b, e in itertools.pairwise(bounds)]
        for start, stop, option in options:
            for begin, end, old in known[1] if known is not None else ():
                if start < end and begin < stop:
                    axes.unify((option,), (old,))
        solution.cases[whole] = (along, options)
        axes.links.extend(Link(whole, option, is_part=True, op=axes.op) for _, _, option in options)
    for start, stop, option in options:
        if restriction.start < stop and start < restriction.stop:
            axes.unify((option,), (part,))
    if len({resolve((option,)) for _, _, option in options}) == 1:
        del solution.cases[whole]
        axes.unify((whole,), (options[0][2],))


def _same_axis_everywhere(solution: Solution, whole: Atom, along: Atom) -> bool:
    """Whether a layout can say it: in every parameter, `whole` stands behind `along` on one axis."""
    for dims in solution.parameters.values():
        for product in dims:
            atoms = list(_nested(product))
            if whole in atoms and along not in atoms[: atoms.index(whole)]:
                return False
    return True


def _nested(product: Product) -> Iterator[Atom]:
    for atom in resolve(product):
        yield atom
        for segment in atom.segments or ():
            yield from _nested(segment)


def _contexts(index_sets: Sequence[IndexSet], solution: Solution) -> dict[Atom, frozenset[Atom]]:
    contexts: dict[Atom, frozenset[Atom]] = {}

    def note(products: IndexSet, around: tuple[Atom, ...], elsewhere: frozenset[Atom]) -> None:
        rows = [[atom for atom in resolve(product) if not atom.uniform] for product in products]
        inside = [frozenset(_inside_segments(row)) for row in rows]
        here = (*around, *itertools.chain.from_iterable(rows))
        # An atom that may occur a second time is a second index over the same set: which one is meant is not clear.
        doubtful = elsewhere.union(*inside)
        once = frozenset(atom for atom, times in Counter(here).items() if times == 1 and atom not in doubtful)
        for number, atom in ((n, atom) for n, row in enumerate(rows) for atom in row):
            others = once - {atom}
            contexts[atom] = contexts[atom] & others if atom in contexts else others
            for segment in atom.segments or ():
                note([segment], here, elsewhere.union(*(inner for n, inner in enumerate(inside) if n != number)))
            along = next((find(case[0]) for case in [solution.cases.get(atom)] if case is not None), None)
            if along is None or along not in once:
                continue
            for (start, _), segment in zip(_spans(along), along.segments or (), strict=True):
                company = {*decided(solution, tuple(once), along, start), *resolve(segment)} - doubtful
                for leaf in decided(solution, (atom,), along, start):
                    contexts[leaf] = contexts.get(leaf, frozenset(company)) & (company - {leaf})

    for index_set in index_sets:
        note(index_set, (), frozenset())
    return contexts


def _inside_segments(row: Sequence[Atom]) -> Iterator[Atom]:
    for segment in itertools.chain.from_iterable(atom.segments or () for atom in row):
        yield from _nested(segment)


def leaves(solution: Solution, product: Product) -> Iterator[tuple[Atom, ...]]:
    """A product multiplied out: one row of leaves for every choice of segments, cases decided."""
    atoms = resolve(product)
    for position, atom in enumerate(atoms):
        if atom.segments is None:
            continue
        for (start, _), segment in zip(_spans(atom), atom.segments, strict=True):
            yield from leaves(
                solution, (*atoms[:position], *segment, *decided(solution, atoms[position + 1 :], atom, start))
            )
        return
    yield atoms


def decided(solution: Solution, product: Product, along: Atom, start: int) -> Product:
    """What a product is in the segment of `along` that begins at `start`."""
    atoms: list[Atom] = []
    for atom in resolve(product):
        case = solution.cases.get(atom)
        if case is None or find(case[0]) is not find(along):
            atoms.append(atom)
        else:
            atoms.extend(next(resolve((option,)) for begin, end, option in case[1] if begin <= start < end))
    return tuple(atoms)


def depends(solution: Solution, atom: Atom, along: Atom) -> bool:
    """Whether `atom` differs between the segments of `along`."""
    case = solution.cases.get(find(atom))
    return case is not None and find(case[0]) is find(along)


def _spans(atom: Atom) -> list[tuple[int, int]]:
    return list(itertools.pairwise(offsets(atom)))
