"""Which tensors two networks can be compared by: those computed from the inputs, with entries in the inputs' order.

A router sorts tokens by expert, a mask lets some of them through: row 5 is then one token in one network and another in
the next. Where such rows are joined with a tensor in the order of the inputs they have come home.
"""

import torch

from onebasin.discovery.rules import find_rule, lookup
from onebasin.discovery.tape import Op, Tape, Value, values_in

_SORTS = frozenset({"aten::sort", "aten::topk"})
_LOOKUPS = frozenset({lookup.index, lookup.index_select, lookup.gather, lookup.embedding})


def from_inputs(tape: Tape) -> set[Value]:
    """The values that depend on the inputs."""
    found: set[Value] = set()
    for op in tape.live():
        if any(value.kind == "input" or value in found for value in values_in(op.arguments)):
            found.update(value for value in (*op.results, *op.written) if value is not None)
    return found


def disordered(tape: Tape) -> set[Value]:
    """The owners of memory whose entries were put in order, or chosen, by numbers that depend on the weights."""
    learned = {value for value in tape.parameters.values() if value.kind == "parameter"}
    lost: set[Value] = set()
    for op in tape.live():
        given = list(values_in(op.arguments))
        results = [value for value in (*op.results, *op.written) if value is not None]
        if any(value in learned for value in given):
            learned.update(results)
        if _chooses(op, learned):
            lost.update(value.owner for value in results)
        elif any(value.owner in lost for value in given):
            for value in results:
                (lost.discard if _comes_home(op, value, given, lost) else lost.add)(value.owner)
    return lost


def _chooses(op: Op, learned: set[Value]) -> bool:
    """Whether the operation picks entries by numbers computed from the weights."""
    rule, given = find_rule(op.name, op.func), list(values_in(op.arguments))
    if op.name in _SORTS or (rule is None and torch.Tag.dynamic_output_shape in op.func.tags):
        return any(value in learned for value in given)
    return rule in _LOOKUPS and any(value in learned and not value.dtype.is_floating_point for value in given)


def _comes_home(op: Op, result: Value, given: list[Value], lost: set[Value]) -> bool:
    """Whether a tensor of the result's shape, in the order of the inputs, takes part; one overwritten does not."""
    return op.name.removesuffix("_") != "aten::copy" and any(
        value.shape == result.shape and value.owner not in lost and value.kind != "parameter" for value in given
    )
