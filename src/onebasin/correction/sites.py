"""Find the linear layers of any model in the operations it performs: products and convolutions with a parameter.

A site is one operation `y = x W` whose W holds entries of one parameter, in whatever order views and copies brought
them there, together with what follows it immediately: a bias, a BatchNorm in eval mode, an addition to a residual
stream, a ReLU. Modules play no part, so that a site may come from `nn.Linear`, from attention's packed projections or
from an einsum over a bare parameter.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from onebasin.correction.moves import find_origins, move, moves_all
from onebasin.correction.order import ordered
from onebasin.correction.site import Bias, Convolution, Norm, Plan, Site
from onebasin.correction.trace import Node, Ref, Trace

_PRODUCTS = {"aten::mm": (0, 1), "aten::bmm": (0, 1), "aten::addmm": (1, 2)}
_BIAS = {"aten::addmm": 0, "aten::convolution": 2}
_ADD = frozenset({"aten::add", "aten::add_"})
_RELU = frozenset({"aten::relu", "aten::relu_"})
_BATCHNORM = frozenset({"aten::native_batch_norm", "aten::_native_batch_norm_legit_no_training"})
_MATRIX = 2


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
        if site.bias:
            uses.setdefault(site.bias.name, []).append(site.bias.entries.flatten())
    joined = {name: torch.cat(parts) for name, parts in uses.items()}
    why = {name: "used several times" for name, entries in joined.items() if len(entries.unique()) < len(entries)}
    why |= {name: f"also used by {user}" for name, user in finder.elsewhere.items()}
    skipped = dict(finder.skipped)
    for site in found:
        if site.bias and site.bias.name in why:
            skipped[site.name] = f"its bias {site.bias.name} is {why[site.bias.name]}"
        if site.name in why:
            skipped[site.name] = f"it is {why[site.name]}"
    loose = [(node, *names) for node in trace.nodes if (names := finder.loose_norm(node)) is not None]
    return ordered(trace, [site for site in found if site.name not in skipped], loose, skipped)


class _Finder:
    """Reads sites off the operations.

    Attributes:
        skipped: for parameters of products and convolutions that are no sites, the reason.
        elsewhere: for parameters that anything else reads, what does.
    """

    def __init__(self, trace: Trace) -> None:
        self.skipped: dict[str, str] = {}
        self.elsewhere: dict[str, str] = {}
        self._trace = trace
        self._readers = trace.readers()
        self._origins = find_origins(trace)
        self._claimed: set[tuple[int, str]] = set()

    def site(self, node: Node) -> Site | None:
        """The site that an operation is; None where it is none. Notes every other use of a parameter."""
        found = self._product(node) if node.name in _PRODUCTS else self._convolution(node)
        if found is not None:
            self._claimed.add((node.number, found.name))
            found = self._checked(found)
        for value in node.reads:
            origin = self._origins.get(value)
            moved = bool(node.results) and all(r in self._origins for r in node.results if r is not None)
            if origin is not None and not moved and (node.number, origin.name) not in self._claimed:
                self.elsewhere.setdefault(origin.name, f"{node.name} (operation {node.number})")
        return None if found is None else self._followed(found)

    def loose_norm(self, node: Node) -> tuple[str, str] | None:
        """The running mean and variance of a BatchNorm that belongs to no site."""
        if node.name not in _BATCHNORM or (node.number, "") in self._claimed:
            return None
        norm = self._norm(node)
        return None if norm is None else (norm.mean, norm.variance)

    def _value(self, argument: object) -> int:
        return argument.value if isinstance(argument, Ref) else -1

    def _product(self, node: Node) -> Site | None:
        left, right = (self._value(node.args[position]) for position in _PRODUCTS[node.name])
        flipped = left in self._origins
        if flipped == (right in self._origins):
            return None
        origin = self._origins[left if flipped else right]
        entries = origin.entries.transpose(-1, -2) if flipped else origin.entries
        if entries.ndim == _MATRIX:
            entries = entries[None]
        elif bool((entries == entries[:1]).all()):
            entries = entries[:1]  # Members of a batch that share their weights are one group.
        operand = _PRODUCTS[node.name][1 if flipped else 0]
        inputs = right if flipped else left
        return Site(origin.name, node, operand, flipped, entries, None, inputs, None, None, node, ())

    def _convolution(self, node: Node) -> Site | None:
        if node.name != "aten::convolution":
            return None
        inputs, weight = self._value(node.args[0]), self._value(node.args[1])
        if weight not in self._origins or inputs in self._origins:
            return None
        origin, groups = self._origins[weight], int(node.args[8])
        out, kernel = origin.entries.shape[0], tuple(origin.entries.shape[2:])
        if node.args[6]:
            self.skipped[origin.name] = "transposed convolutions are not supported"
        entries = origin.entries.reshape(groups, out // groups, -1).transpose(1, 2).contiguous()
        rows = (tuple(node.args[k]) for k in (3, 4, 5))
        shape = Convolution(kernel, *(row * len(kernel) if len(row) == 1 else row for row in rows))
        return Site(origin.name, node, 0, False, entries, shape, inputs, None, None, node, ())  # noqa: FBT003 - a field

    def _checked(self, site: Site) -> Site | None:
        """The site with the bias that is an argument of its operation; None where it cannot be corrected."""
        if len(site.entries.unique()) < site.entries.numel():
            self.skipped[site.name] = "one of its entries stands in several places"
        position = _BIAS.get(site.node.name)
        argument = None if position is None else site.node.args[position]
        if argument is not None:
            origin = self._origins.get(self._value(argument))
            plain = all(site.node.kwargs.get(factor, 1) == 1 for factor in ("alpha", "beta"))
            if origin is None or not plain or origin.entries.unique().numel() != site.units:
                self.skipped[site.name] = "what is added to it is no bias of the model with one entry a unit"
            else:
                self._claimed.add((site.node.number, origin.name))
                site = replace(site, bias=Bias(origin.name, origin.entries.reshape(site.sizes[0], site.sizes[2])))
        return None if site.name in self.skipped else site

    def _followed(self, site: Site) -> Site:
        """The site with its bias, norm, residual stream and ReLU, as far as they follow it immediately."""
        value, moves = site.node.results[0], list[Node]()
        while value is not None:
            readers = self._readers.get(value, [])
            if readers and all(reader.name in _RELU for reader in readers):
                return replace(site, relu=True)
            if any(reader.name == "aten::_log_softmax" for reader in readers):
                return replace(site, logits=True)
            if len(readers) != 1:
                return site
            node = readers[0]
            if moves_all(node):
                moves.append(node)
            else:
                further = self._normed(site, node, value, moves) or self._added(site, node, value, moves)
                if further is None:
                    return site
                site = further
            value = node.results[0]
        return site

    def _normed(self, site: Site, node: Node, value: int, moves: Sequence[Node]) -> Site | None:
        if node.name not in _BATCHNORM or self._value(node.args[0]) != value or site.stream or site.norm:
            return None
        norm, units = self._norm(node), self._unit_numbers(site, moves)
        if norm is None or units.shape[1] != site.units:
            return None
        if not bool((units.movedim(1, -1) == torch.arange(site.units)).all()):
            return None
        names = (norm.mean, norm.variance, norm.weight, norm.bias, "")
        self._claimed |= {(node.number, name) for name in names if name is not None}
        return replace(site, norm=norm, own=node, moves=tuple(moves))

    def _norm(self, node: Node) -> Norm | None:
        """The BatchNorm an operation is, where it normalises by running statistics of the model."""
        running = node.name.endswith("no_training") or node.args[5] is False
        names = [self._trace.state.get(self._value(argument)) for argument in node.args[1:5]]
        foreign = any(n is None and argument is not None for n, argument in zip(names, node.args[1:5], strict=True))
        gain, shift, mean, variance = names
        if not running or foreign or mean is None or variance is None:
            return None
        return Norm(mean, variance, gain, shift, float(node.args[-1]))

    def _added(self, site: Site, node: Node, value: int, moves: Sequence[Node]) -> Site | None:
        if node.name not in _ADD or len(node.reads) != 2 or node.kwargs.get("alpha", 1) != 1:  # noqa: PLR2004 - two terms
            return None
        other = node.reads[1] if node.reads[0] == value else node.reads[0]
        if other in self._origins:
            bias = self._outer_bias(site, node, other, moves)
            if bias is None or site.stream or site.bias or site.norm:
                return None
            self._claimed.add((node.number, bias.name))
            return replace(site, bias=bias, own=node, moves=tuple(moves))
        if other == value or self._trace.shapes[other] != self._trace.shapes[value]:
            return None
        return replace(site, stream=node, stream_moves=tuple(moves), others=(*site.others, other))

    def _outer_bias(self, site: Site, node: Node, other: int, moves: Sequence[Node]) -> Bias | None:
        """The parameter added by an operation that follows, if every unit gets one entry of its own."""
        origin, units = self._origins[other], self._unit_numbers(site, moves)
        shape = self._trace.shapes[node.results[0] or 0]
        if tuple(units.shape) != shape:
            return None
        spread = origin.entries.expand(shape).reshape(-1)
        entries = torch.full((site.units,), -1)
        entries[units.reshape(-1)] = spread
        if not torch.equal(entries[units.reshape(-1)], spread) or len(entries.unique()) < site.units:
            return None
        return Bias(origin.name, entries.reshape(site.sizes[0], site.sizes[2]))

    def _unit_numbers(self, site: Site, moves: Sequence[Node]) -> Tensor:
        """The number of the unit (group first) at every place of the output, after some operations moved it."""
        shape = self._trace.shapes[site.node.results[0] or 0]
        groups, _, out = site.sizes
        if site.convolution:
            numbers = torch.arange(site.units).reshape(-1, *(1,) * len(site.convolution.kernel))
        else:
            numbers = torch.arange(site.units).reshape(groups, *((out, 1) if site.flipped else (1, out)))
            numbers = numbers[0] if len(shape) == _MATRIX else numbers
        numbers = numbers.expand(shape)
        for node in moves:
            numbers = move(node, node.args, numbers)
        return numbers
