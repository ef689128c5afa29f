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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from onebasin.discovery.axes import Atom, Axes, Link, Product, Restriction, find, offsets, resolve
from onebasin.discovery.contexts import Case, Contexts, IndexSet, Option, contexts_of, nested
from onebasin.discovery.rules import KEEPS_POSITIONS, USES_POSITIONS, Call, Dims, Lookup, find_rule, unknown
from onebasin.discovery.tape import Op, Tape, Value, record, values_in
from onebasin.discovery.ties import Ties
from onebasin.errors import DiscoveryError
from onebasin.modes import in_mode


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
        lookups: rows of an axis that were chosen by numbers.
        unknown: operations without a rule.
        values: the dimensions of everything a live operation touched, for each tape.
    """

    axes: Axes
    parameters: dict[str, Dims] = field(default_factory=dict)
    places: dict[Atom, tuple[str, int]] = field(default_factory=dict)
    contexts: Contexts = field(default_factory=dict)
    cases: dict[Atom, Case] = field(default_factory=dict)
    first_use: dict[str, int] = field(default_factory=dict)
    lookups: list[Lookup] = field(default_factory=list)
    unknown: list[Op] = field(default_factory=list)
    values: list[dict[Value, Dims]] = field(default_factory=list)


def knows(name: str, func: Any) -> bool:
    """Whether there is a rule for an operation, given its name and overload."""
    return find_rule(name, func) is not None


def record_modes(model: nn.Module, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[list[Tape], str]:
    """Record what a model does in eval mode and, where that does not reach all its parameters, in train mode.

    Auxiliary heads and the like run in training only; what they share with the rest must move together, too.

    Returns:
        one tape or two, and why parameters that none of them reaches cannot move.

    Raises:
        DiscoveryError: if the model does not run on the inputs in eval mode.
    """
    with in_mode(model, train=False):
        tape = record(model, args, kwargs, knows)
    unreached = "not used by the forward pass on the example inputs"
    reached = {value for op in tape.live() for value in values_in(op.arguments)}
    if all(value in reached for value in tape.parameters.values() if value.kind == "parameter"):
        return [tape], unreached
    try:
        with in_mode(model, train=True):
            return [tape, record(model, args, kwargs, knows)], unreached
    except DiscoveryError as error:
        return [tape], f"{unreached} in eval mode; in train mode {error.found}"


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
    pointed: dict[Value, Product] = {}
    ties = Ties()
    for number, op in enumerate(live):
        axes.op = op
        for value in (*values_in(op.arguments), *op.written):
            if value not in table:
                table[value] = _first_seen(value, solution, shared, overwritten)
                if value.kind == "parameter":
                    solution.first_use.setdefault(value.name, number)
        _apply_rule(Call(op, axes, table, mixed, overwritten, solution.lookups, pointed, ties), solution)
    axes.op = None
    for value in tape.outputs:
        for product in table.setdefault(value, _first_seen(value, solution, shared, overwritten)):
            axes.pin(product, "an output of the model")
    solution.values.append(table)
    solution.parameters.update(
        (name, table[value]) for name, value in tape.parameters.items() if value in table and value.kind == "parameter"
    )
    return [*table.values(), *mixed]


def _apply_rule(call: Call, solution: Solution) -> None:
    found = find_rule(call.op.name, call.op.func)
    if found is None:
        solution.unknown.append(call.op)
        found = unknown
    _follow_positions(call)
    call.ties.follow(call.op)
    for value, dims in zip(call.op.results, found(call), strict=False):
        if value is not None and value in call.table:
            # Written in place: what is written moves together with what was there.
            call.table[value] = [call.axes.unify(old, new) for old, new in zip(call.table[value], dims, strict=True)]
        elif value is not None:
            call.table[value] = dims


def _follow_positions(call: Call) -> None:
    """Numbers that are positions of an axis are handed on, left to the rule, or pin the axis."""
    numbers = [value for value in call.values() if not value.dtype.is_floating_point]
    products = [call.pointed[value] for value in numbers if value in call.pointed]
    name = call.op.name
    if not products or name in USES_POSITIONS:
        return
    results = [value for value in call.op.results if value is not None]
    whole = all(not value.dtype.is_floating_point and value.dtype != torch.bool for value in results)
    if name in KEEPS_POSITIONS and whole and len(products) == len(numbers):
        for product in products[1:]:
            call.axes.unify(products[0], product)
        call.pointed.update((value, products[0]) for value in results)
        return
    for product in products:
        call.axes.pin(product, "its positions are numbers that something is computed with")


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
        contexts = contexts_of(index_sets, solution.cases, solution.lookups)
        for restriction, (whole, part) in pairs:
            axes.op = restriction.op
            if find(whole).factors is None:  # Opened by an earlier pair: its factors come in the next round.
                _decide_pair(solution, contexts, restriction, find(whole), part)
        if axes.changes == before:
            solution.contexts = contexts
            axes.op = None
            return


def _decide_pair(solution: Solution, contexts: Contexts, restriction: Restriction, whole: Atom, part: Atom) -> None:
    axes, along = solution.axes, find(restriction.along)
    known = solution.cases.get(whole)
    if known is not None and find(known.along) is not along:
        axes.unify((whole,), (part,))  # It differs along one sum already, and can be a case of one only.
        return
    stands = (
        along.segments is not None
        and whole.segments is None
        and whole.pin is None
        and along in contexts.get(whole, frozenset())
        and _same_axis_everywhere(solution, whole, along)
    )
    if not stands:
        solution.cases.pop(whole, None)
        for option in known.options if known is not None else ():
            axes.unify((whole,), (option.atom,))
        axes.unify((whole,), (part,))
        return
    options = _options(solution, whole, along)
    for option in options:
        if restriction.start < option.stop and option.start < restriction.stop:
            axes.unify((option.atom,), (part,))
    if len({resolve((option.atom,)) for option in options}) == 1:
        del solution.cases[whole]
        axes.unify((whole,), (options[0].atom,))


def _options(solution: Solution, whole: Atom, along: Atom) -> list[Option]:
    """One atom for every segment of `along`, made afresh where the segments have changed."""
    axes, bounds, known = solution.axes, offsets(along), solution.cases.get(whole)
    if known is not None and known.along is along and [option.start for option in known.options] == bounds[:-1]:
        return known.options
    options = [Option(start, stop, axes.atom(whole.size)[0]) for start, stop in itertools.pairwise(bounds)]
    for option in options:
        for old in known.options if known is not None else ():
            if option.start < old.stop and old.start < option.stop:
                axes.unify((option.atom,), (old.atom,))
    solution.cases[whole] = Case(along, options)
    axes.links.extend(Link(whole, option.atom, is_part=True, op=axes.op) for option in options)
    return options


def _same_axis_everywhere(solution: Solution, whole: Atom, along: Atom) -> bool:
    """Whether a layout can say it: in every parameter, `whole` stands behind `along` on one axis."""
    for dims in solution.parameters.values():
        for product in dims:
            atoms = list(nested(product))
            if whole in atoms and along not in atoms[: atoms.index(whole)]:
                return False
    return True
