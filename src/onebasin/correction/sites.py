"""Find the linear layers of any model in the operations it performs: products and convolutions with a parameter.

A site is one operation `y = x W` whose W holds entries of one parameter, in whatever order views and copies brought them
there, together with what follows it immediately: a bias, a BatchNorm in eval mode, an addition to a residual stream, a
ReLU. Modules play no part, so that a site may come from `nn.Linear`, from attention's packed projections or from an
einsum over a bare parameter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from onebasin.correction.trace import Node, Ref, Trace

_COPIES = frozenset(f"aten::{name}" for name in ("clone", "contiguous", "detach", "alias", "lift_fresh", "_to_copy"))
_RESHAPES = frozenset(f"aten::{name}" for name in ("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze"))
_REORDERS = frozenset(f"aten::{name}" for name in ("permute", "transpose", "t", "roll", "flip"))
_PARTS = frozenset(f"aten::{name}" for name in ("slice", "select", "expand", "split", "split_with_sizes", "unbind"))
_MOVES = _COPIES | _RESHAPES | _REORDERS
"""Operations on one tensor whose result holds all its entries once, perhaps in another order."""

_PRODUCTS = {"aten::mm": (0, 1), "aten::bmm": (0, 1), "aten::addmm": (1, 2)}
_BIAS = {"aten::addmm": 0, "aten::convolution": 2}
_BATCHNORM = frozenset(
    {"aten::native_batch_norm", "aten::_native_batch_norm_legit_no_training", "aten::_native_batch_norm_legit"}
)
_RELU = frozenset({"aten::relu", "aten::relu_"})


@dataclass(frozen=True)
class Bias:
    """A parameter added to every row of a site's output.

    Attributes:
        name: in the state dict.
        entries: `[groups, out]` int64, the entry of the flattened parameter for every unit.
    """

    name: str
    entries: Tensor


@dataclass(frozen=True)
class Norm:
    """A BatchNorm that normalises a site's output unit by unit with running statistics.

    Attributes:
        mean: name of the running mean, `[units]`.
        variance: name of the running variance.
        weight: name of the gain; None where there is none.
        bias: name of the shift; None where there is none.
        eps: added to the variance.
    """

    mean: str
    variance: str
    weight: str | None
    bias: str | None
    eps: float


@dataclass(frozen=True)
class Convolution:
    """The geometry of a convolution, one number for each spatial dimension."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]


@dataclass(frozen=True)
class Site:
    """One linear layer as it is performed.

    Attributes:
        name: of the parameter, in the state dict.
        node: the operation.
        operand: which argument holds the inputs.
        flipped: whether the parameter is the left factor, so that rows and columns change places.
        entries: `[groups, in, out]` int64: where in the flattened parameter each weight lies.
        convolution: the geometry; None for a product.
        inputs: the value of the inputs.
        bias: what is added to the output; None where nothing is.
        norm: the BatchNorm that follows; None where none does.
        own: the operation after which the layer's own output is complete (the node itself, its bias or its norm).
        moves: the operations between `node` and `own` that move entries about.
        stream: the addition that joins the output to a residual stream; None where there is none.
        stream_moves: all operations between `node` and `stream` that move entries about.
        others: the values that are added to the output on the way to `stream`.
        relu: whether a ReLU, and nothing else, reads the result.
        depth: how many sites lie on the longest way to this one, itself included.
    """

    name: str
    node: Node
    operand: int
    flipped: bool
    entries: Tensor
    convolution: Convolution | None
    inputs: int
    bias: Bias | None
    norm: Norm | None
    own: Node
    moves: tuple[Node, ...]
    stream: Node | None = None
    stream_moves: tuple[Node, ...] = ()
    others: tuple[int, ...] = ()
    relu: bool = False
    depth: int = 0

    @property
    def end(self) -> Node:
        """The operation after which the target is complete: that of the stream, or the layer's own."""
        return self.stream or self.own

    @property
    def end_moves(self) -> tuple[Node, ...]:
        """The operations between `node` and `end` that move entries about."""
        return self.moves if self.stream is None else self.stream_moves


@dataclass(frozen=True)
class Plan:
    """The sites of a model.

    Attributes:
        sites: in an order in which they can be corrected one after another.
        needs: for every site, the positions (bits) of the sites that what it reads depends on.
        skipped: for every parameter that a matrix product or convolution uses but that is no site, the reason.
    """

    sites: tuple[Site, ...]
    needs: tuple[int, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Origin:
    """A value that holds entries of one tensor of the state dict, and which."""

    name: str
    entries: Tensor


def find_sites(trace: Trace) -> Plan:
    """The linear layers of a recorded forward pass.

    A parameter that is used several times, or in any other way as well, is left out: what suits one use would harm the
    other.
    """
    finder = _Finder(trace)
    found = [site for node in trace.nodes if (site := finder.site(node)) is not None]
    uses: dict[str, list[Tensor]] = {}
    for site in found:
        uses.setdefault(site.name, []).append(site.entries.flatten())
    skipped = dict(finder.skipped)
    for name, parts in uses.items():
        entries = torch.cat(parts)
        if len(entries.unique()) < len(entries):
            skipped[name] = "it is used several times"
        elif name in finder.elsewhere:
            skipped[name] = f"it is also used by {finder.elsewhere[name]}"
    kept = [site for site in found if site.name not in skipped]
    for site in kept:
        entries = [other.bias.entries.flatten() for other in kept if other.bias and site.bias and
                   other.bias.name == site.bias.name]
        if site.bias and (site.bias.name in finder.elsewhere or len(torch.cat(entries).unique()) < sum(map(len, entries))):
            skipped[site.name] = f"its bias {site.bias.name} is used several times"
    return _ordered(trace, [site for site in kept if site.name not in skipped], skipped)


class _Finder:
    """Reads sites off the operations."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._readers = trace.readers()
        self._origins = _origins(trace)
        self.skipped: dict[str, str] = {}
        self._claimed: set[tuple[int, str]] = set()
        self._sites: list[tuple[Node, str]] = []
        self.elsewhere: dict[str, str] = {}

    def site(self, node: Node) -> Site | None:
        """The site that an operation is; None where it is none. Notes every other use of a parameter."""
        read = self._read(node)
        for value in node.reads:
            origin = self._origins.get(value)
            if origin is None or (node.number, origin.name) in self._claimed or node.results and self._moved(node):
                continue
            self.elsewhere.setdefault(origin.name, f"{node.name} (operation {node.number})")
        return read

    def _moved(self, node: Node) -> bool:
        return all(result in self._origins for result in node.results if result is not None)

    def _read(self, node: Node) -> Site | None:
        if node.name in _PRODUCTS:
            left, right = (self._value(node.args[position]) for position in _PRODUCTS[node.name])
            flipped = left in self._origins
            if flipped == (right in self._origins):
                return None
            operand = _PRODUCTS[node.name][1 if flipped else 0]
            weight, inputs = (left, right) if flipped else (right, left)
            origin, entries = self._origins[weight], self._origins[weight].entries
            entries = entries.transpose(-1, -2) if flipped else entries
            entries = _groups(entries)
            convolution, units = None, entries.shape[0] * entries.shape[2]
        elif node.name == "aten::convolution":
            weight, inputs, operand, flipped = self._value(node.args[1]), self._value(node.args[0]), 0, False
            if weight not in self._origins or inputs in self._origins:
                return None
            origin = self._origins[weight]
            if node.args[6]:
                self.skipped[origin.name] = "transposed convolutions are not refitted"
                self._claimed.add((node.number, origin.name))
                return None
            entries, convolution = _convolution(node, origin.entries)
            units = entries.shape[0] * entries.shape[2]
        else:
            return None
        self._claimed.add((node.number, origin.name))
        if len(entries.unique()) < entries.numel():
            self.skipped[origin.name] = "one of its entries stands in several places of the product"
            return None
        bias = self._inner_bias(node, entries, units)
        if bias is None and node.name in _BIAS and node.args[_BIAS[node.name]] is not None:
            self.skipped[origin.name] = "what is added to the product is no bias of the model, one entry a unit"
            return None
        return self._followed(
            Site(origin.name, node, operand, flipped, entries, convolution, inputs, bias, None, node, ())
        )

    def _value(self, argument: Any) -> int:
        return argument.value if isinstance(argument, Ref) else -1

    def _inner_bias(self, node: Node, entries: Tensor, units: int) -> Bias | None:
        """The bias that is an argument of the operation itself."""
        position = _BIAS.get(node.name)
        if position is None or node.args[position] is None or any(node.kwargs.get(k, 1) != 1 for k in ("alpha", "beta")):
            return None
        origin = self._origins.get(self._value(node.args[position]))
        if origin is None or origin.entries.numel() != units:
            return None
        self._claimed.add((node.number, origin.name))
        return Bias(origin.name, origin.entries.reshape(entries.shape[0], entries.shape[2]))

    def _followed(self, site: Site) -> Site:
        """The site with its bias, norm, residual stream and ReLU, as far as they follow it immediately."""
        value, moves = site.node.results[0], []
        while value is not None:
            readers = self._readers.get(value, [])
            if readers and all(reader.name in _RELU for reader in readers):
                return replace(site, relu=True)
            if len(readers) != 1:
                return site
            node = readers[0]
            if node.name in _MOVES and len(node.reads) == 1:
                moves.append(node)
            elif (norm := self._norm(node, value, site, moves)) is not None and site.stream is None and not site.norm:
                site = replace(site, norm=norm, own=node, moves=tuple(moves))
            elif node.name in ("aten::add", "aten::add_") and len(node.reads) == 2 and not node.kwargs.get("alpha"):  # noqa: PLR2004
                other = next((v for v in node.reads if v != value), value)
                bias = self._outer_bias(site, node, other, moves)
                if bias is not None and site.stream is None and not (site.bias or site.norm):
                    self._claimed.add((node.number, bias.name))
                    site = replace(site, bias=bias, own=node, moves=tuple(moves))
                elif other in self._origins or self._trace.shapes[other] != self._trace.shapes[value] or other == value:
                    return site
                else:
                    site = replace(site, stream=node, stream_moves=tuple(moves), others=(*site.others, other))
            else:
                return site
            value = node.results[0]
        return site

    def _outer_bias(self, site: Site, node: Node, other: int, moves: Sequence[Node]) -> Bias | None:
        """The parameter added by an operation that follows, if every unit gets one entry of its own."""
        origin = self._origins.get(other)
        if origin is None or node.results[0] is None:
            return None
        shape = self._trace.shapes[node.results[0]]
        units = _unit_numbers(site, moves, self._trace).reshape(-1)
        spread = origin.entries.broadcast_to(shape).reshape(-1) if _fits(origin.entries.shape, shape) else None
        if spread is None or len(spread) != len(units):
            return None
        count = site.entries.shape[0] * site.entries.shape[2]
        entries = torch.full((count,), -1)
        entries[units] = spread
        if not torch.equal(entries[units], spread) or len(entries.unique()) < count or int(entries.min()) < 0:
            return None
        return Bias(origin.name, entries.reshape(site.entries.shape[0], site.entries.shape[2]))

    def _norm(self, node: Node, value: int, site: Site, moves: Sequence[Node]) -> Norm | None:
        """The BatchNorm an operation is, where it normalises the site's units by running statistics of the model."""
        if node.name not in _BATCHNORM or self._value(node.args[0]) != value:
            return None
        legit = node.name.endswith("no_training")
        names = [self._trace.state.get(self._value(argument)) for argument in node.args[1:5]]
        gain, shift, mean, variance = names
        if mean is None or variance is None or not (legit or node.args[5] is False):
            return None
        if any(name is None and argument is not None for name, argument in zip(names, node.args[1:5], strict=True)):
            return None
        units = _unit_numbers(site, moves, self._trace)
        count = site.entries.shape[0] * site.entries.shape[2]
        if units.ndim < 2 or units.shape[1] != count or not (units.movedim(1, -1) == torch.arange(count)).all():  # noqa: PLR2004
            return None
        for name in filter(None, names):
            self._claimed.add((node.number, name))
        return Norm(mean, variance, gain, shift, float(node.args[-1]))


def _origins(trace: Trace) -> dict[int, _Origin]:
    """Every value that holds entries of one tensor of the state dict, in whatever order."""
    found = {
        value: _Origin(name, torch.arange(_size(trace.shapes[value])).reshape(trace.shapes[value]))
        for value, name in trace.state.items()
    }
    for node in trace.nodes:
        if node.name in _MOVES | _PARTS and len(node.reads) == 1 and node.reads[0] in found:
            source = found[node.reads[0]]
            moved = move(node, node.args, source.entries)
            for value, part in zip(node.results, moved if isinstance(moved, list | tuple) else (moved,), strict=True):
                if value is not None:
                    found[value] = _Origin(source.name, part)
    return found


def move(node: Node, args: Sequence[Any], tensor: Tensor) -> Any:
    """What an operation that only moves entries makes of another tensor.

    Args:
        node: the operation.
        args: its arguments, here or for another batch; the first is replaced.
        tensor: of the shape of the first argument.
    """
    if node.name in _COPIES:
        return tensor
    if node.name in ("aten::view", "aten::_unsafe_view", "aten::_reshape_alias"):
        return tensor.reshape(args[1])
    return node.func(tensor, *args[1:], **node.kwargs)


def keeps_order(node: Node) -> bool:
    """Whether an operation that moves entries leaves them in their order."""
    return node.name in _COPIES | _RESHAPES


def _groups(entries: Tensor) -> Tensor:
    """`[groups, in, out]`; members of a batch that share their weights are one group."""
    if entries.ndim == 2:  # noqa: PLR2004 - a matrix
        return entries[None]
    return entries[:1] if bool((entries == entries[:1]).all()) else entries


def _convolution(node: Node, entries: Tensor) -> tuple[Tensor, Convolution]:
    groups = int(node.args[8])
    out, kernel = entries.shape[0], tuple(entries.shape[2:])
    n = len(kernel)
    stride, padding, dilation = (tuple(node.args[k]) for k in (3, 4, 5))
    flat = entries.reshape(groups, out // groups, -1).transpose(1, 2).contiguous()
    return flat, Convolution(
        kernel, *(row * n if len(row) == 1 else row for row in (stride, padding, dilation))
    )


def _unit_numbers(site: Site, moves: Sequence[Node], trace: Trace) -> Tensor:
    """The number of the unit (group first) at every place of the output, after some operations moved it."""
    shape = trace.shapes[site.node.results[0] or 0]
    groups, out = site.entries.shape[0], site.entries.shape[2]
    if site.convolution:
        numbers = torch.arange(groups * out).reshape(1, -1, *(1,) * len(site.convolution.kernel))
    else:
        numbers = torch.arange(groups * out).reshape(groups, *((out, 1) if site.flipped else (1, out)))
        numbers = numbers[0] if len(shape) == 2 else numbers  # noqa: PLR2004 - a matrix
    numbers = numbers.expand(shape)
    for node in moves:
        numbers = move(node, node.args, numbers)
    return numbers


def _fits(shape: Sequence[int], into: Sequence[int]) -> bool:
    return len(shape) <= len(into) and all(n in (1, m) for n, m in zip(shape[::-1], into[::-1], strict=False))


def _size(shape: Sequence[int]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def _ordered(trace: Trace, sites: Sequence[Site], skipped: Mapping[str, str]) -> Plan:
    """Put sites into an order for correction, and say what each depends on.

    Where two sites feed one addition, only the later one can make up for the other's error. The one with more inputs
    has more to make up with, so the smaller one (the 1x1 convolution of a shortcut) is moved before it.
    """
    number_of = {site.node.number: position for position, site in enumerate(sites)}
    depends, depth = _dependencies(trace, number_of)
    bits = [depends.get(site.inputs, 0) for site in sites]
    order = list(range(len(sites)))
    for late in range(len(sites)):
        for early in order[: order.index(late)]:
            joined = sites[late].stream is not None and sites[late].stream is sites[early].stream
            smaller = sites[late].entries.shape[1] < sites[early].entries.shape[1]
            before = sum(1 << position for position in order[: order.index(early)])
            if joined and smaller and not bits[late] & ~before:
                order.remove(late)
                order.insert(order.index(early), late)
                break
    rank = {position: place for place, position in enumerate(order)}
    kept, needs = [], []
    for place, position in enumerate(order):
        site = replace(sites[position], depth=depth[position])
        others = [depends.get(value, 0) for value in site.others]
        if any(rank[p] >= place for bit in others for p in _positions(bit)):
            # What is added is not settled yet: aim at the layer's own output.
            site = replace(site, stream=None, stream_moves=(), others=(), relu=False)
            others = []
        read = bits[position]
        for bit in others:
            read |= bit
        kept.append(site)
        needs.append(sum(1 << rank[p] for p in _positions(read)))
    return Plan(tuple(kept), tuple(needs), skipped)


def _positions(bits: int) -> list[int]:
    return [position for position in range(bits.bit_length()) if bits >> position & 1]


def _dependencies(trace: Trace, number_of: Mapping[int, int]) -> tuple[dict[int, int], dict[int, int]]:
    """For every value the sites it depends on, as bits; for every site how many lie on the longest way to it.

    What is written in place reaches every view of the same memory.
    """
    bits: dict[int, int] = {}
    levels: dict[int, int] = {}
    written: dict[int, int] = {}
    depth: dict[int, int] = {}
    for node in trace.nodes:
        found, level = 0, 0
        for value in node.reads:
            found |= bits.get(value, 0) | written.get(trace.memory[value], 0)
            level = max(level, levels.get(value, 0))
        if node.number in number_of:
            position = number_of[node.number]
            found |= 1 << position
            level += 1
            depth[position] = level
        writes = node.func._schema.is_mutable  # noqa: SLF001 - the schema has no public accessor
        for value in (*node.results, *(node.reads[:1] if writes else ())):
            if value is not None:
                bits[value] = bits.get(value, 0) | found
                levels[value] = max(level, levels.get(value, 0))
                if writes:
                    written[trace.memory[value]] = written.get(trace.memory[value], 0) | found
    return bits, depth
