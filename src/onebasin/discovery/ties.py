"""Which tensors may hold equal entries: between those a ranking decides by position, which no permutation respects."""

from dataclasses import dataclass, field

from onebasin.discovery.tape import Op, Value, values_in

# After a product with weights no two entries are equal but by coincidence, and these operations leave it at that.
_SPREADS = frozenset({"mm", "addmm", "bmm", "baddbmm", "convolution"})
_KEEPS_SPREAD = frozenset(
    {"_softmax", "_log_softmax", "sigmoid", "exp", "_to_copy", "view", "_unsafe_view", "clone", "add", "div"}
)
# Unless what is multiplied is exactly zero, as it may be where it was cut off or filled in.
_CUTS_OFF = frozenset(
    {"masked_fill", "where", "index_put", "constant_pad_nd", "scatter", "zeros", "zeros_like", "new_zeros", "fill"}
    | {"zero", "relu", "clamp", "clamp_min", "threshold", "hardtanh", "native_dropout", "bernoulli", "round", "sign"}
    | {"sub", "rsub", "neg"}  # a difference of equals
    | {"eq", "ne", "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or", "isnan"}  # masks
)


@dataclass(slots=True)
class Ties:
    """What is known about equal entries, operation by operation.

    Attributes:
        untied: values of which no two entries are equal, but by a coincidence of probability zero.
        cut_off: owners of memory in which whole slices may be exactly zero.
    """

    untied: set[Value] = field(default_factory=set)
    cut_off: set[Value] = field(default_factory=set)

    def follow(self, op: Op) -> None:
        """Take in the next operation."""
        name = op.name.removeprefix("aten::").removesuffix("_")
        results = [value for value in op.results if value is not None]
        given = list(values_in(op.arguments))
        zero = [value.owner in self.cut_off for value in given]
        shifted = name == "addmm" or op.arguments.get("bias") is not None
        vanishes = name in _CUTS_OFF or (all(zero) if name == "add" else any(zero) and not shifted)
        if vanishes and (zero or name in _CUTS_OFF):
            self.cut_off.update(value.owner for value in (*results, *op.written))
        elif name in _SPREADS or (name in _KEEPS_SPREAD and any(value in self.untied for value in given)):
            self.untied.update(results)
