"""One rule for every ATen operation, in families; importing this package fills the table.

A rule is a function from a `Call` to the dimensions of the results. It may unify axes, split and cut them, pin them
with a reason, and note which indices the operation mixes. To add an operation write one function, or add its name to
a family's list, and one row to `tests/operations.py`.
"""

from onebasin.discovery.rules import contract, lookup, pointwise, reduce, structure
from onebasin.discovery.rules.base import KEEPS_POSITIONS, RULES, USES_POSITIONS, Call, Dims, Lookup, find_rule, unknown

__all__ = [
    "KEEPS_POSITIONS",
    "RULES",
    "USES_POSITIONS",
    "Call",
    "Dims",
    "Lookup",
    "contract",
    "find_rule",
    "lookup",
    "pointwise",
    "reduce",
    "structure",
    "unknown",
]
