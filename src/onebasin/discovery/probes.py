"""Where the members of every axis group show themselves while a model runs, and how to watch them there.

Every tensor that a rule has seen is equivariant: with the weights moved by a member of the symmetry group, its axes
move as their atoms say. A tensor is a **probe** of a group if it carries that group, all groups around it, and no other
group that moves; its other dimensions are samples, in one order for all networks. This is the law of a probe: with x
the tensor read as `[*context, n, samples]`, p the group's permutation, and c' the place in the context that the
permutations around the group put at c,

    x(moved weights)[c, i] = x(weights)[c', p[c, i]].

Of all such tensors the one with the most samples is taken, and the last of these in the order of the data flow: after
an activation function rather than before, before pooling, the last state of a residual stream.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from onebasin.discovery.fit import fit, renamed
from onebasin.discovery.follow import Follower
from onebasin.discovery.groups import Reader, read_symmetry
from onebasin.discovery.order import disordered, from_inputs
from onebasin.discovery.rules import KEEPS_POSITIONS, RULES, find_rule
from onebasin.discovery.solve import knows, record_modes, solve
from onebasin.discovery.tape import Op, Tape
from onebasin.errors import MismatchError
from onebasin.layout import AxisLayout, parts
from onebasin.symmetry import Symmetry

# What only rearranges entries has been seen before; but recurrent layers join their steps, and nothing else does.
_JOINS = frozenset({"aten::cat", "aten::stack"})
# Products of stacks of matrices fold the batch into the stack: seen from a batch of one it is not there.
_FOLDS = frozenset({"aten::bmm", "aten::baddbmm"})
_MAKES_CONSTANTS = RULES["aten::empty"]


@dataclass(frozen=True, slots=True)
class Place:
    """A result of an operation, such that it is found again in every forward pass of the model.

    Attributes:
        module: the module that runs the operation, as named in the model; empty for the model itself.
        operation: its name, such as `aten::relu`.
        number: which of that module's operations of this name it is in one forward pass, from 0.
        times: how many there are in one forward pass.
        result: which of the operation's results.
    """

    module: str
    operation: str
    number: int
    times: int
    result: int


@dataclass(frozen=True)
class Probe:
    """A tensor of the forward pass that carries a group, and how to read it.

    Attributes:
        group: the group's name.
        inside: the groups around it, outermost first.
        place: where the tensor appears.
        layouts: what each of its axes is made of. An axis without a group has any size.
        sizes: the size of every group in the layouts.
        part: which part of the tensor to read, counted as by `onebasin.layout.parts`.
        samples: for each member, on the example inputs.
        fused: whether attention is left as one operation.
    """

    group: str
    inside: tuple[str, ...]
    place: Place
    layouts: tuple[AxisLayout, ...]
    sizes: Mapping[str, int]
    part: int
    samples: int
    fused: bool

    @property
    def members(self) -> int:
        """The size of the group times those of the groups around it."""
        return prod(self.sizes[name] for name in (*self.inside, self.group))

    def read(self, tensor: Tensor) -> Tensor:
        """The tensor as `[members, samples]`, members counted row by row as in `[*context, n]`.

        Args:
            tensor: the result found at `place`, for inputs of any batch size and length.

        Returns:
            a view where possible, of any stride.

        Raises:
            MismatchError: if the tensor has another number of axes, or an axis with groups has another size.
        """
        axes = [
            layout if layout.groups else AxisLayout.of((size,))
            for layout, size in zip(self.layouts, tensor.shape, strict=False)
        ]
        expected = tuple(layout.size(self.sizes) for layout in axes)
        if len(self.layouts) != tensor.ndim or expected != tuple(tensor.shape):
            raise MismatchError(
                f"group {self.group}",
                expected=f"activations laid out as {', '.join(str(layout) for layout in axes)}",
                found=f"shape {tuple(tensor.shape)}",
                remedy="pass example inputs shaped like the data, with a batch of two or more",
            )
        part = parts(self.group, axes, self.sizes)[self.part]
        first = [part.factors.index(name) for name in (*self.inside, self.group)]
        rest = [dim for dim in range(len(part.sizes)) if dim not in first]
        samples = prod(part.sizes[dim] for dim in rest)
        return part.view(tensor).permute([*first, *rest]).reshape(self.members, samples)


def find_probes(
    model: nn.Module, symmetry: Symmetry, args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None
) -> dict[str, Probe]:
    """Find for every group of a symmetry a tensor of the forward pass that carries it.

    The model is recorded as by `onebasin.discover`, in eval mode, with attention written out so that its scores show
    the heads.

    Args:
        model: any module; not modified.
        symmetry: as discovered on the model, or from a file, or a part of it: groups may be left out or tied.
        args: positional inputs of one forward pass; a batch of two or more.
        kwargs: keyword inputs of one forward pass.

    Returns:
        probes by group, in the order of the symmetry. Missing are fixed groups, and those that no single tensor
        carries without others beside them.

    Raises:
        DiscoveryError: if the model does not run on the inputs.
        MismatchError: if the symmetry is not one of the model.
    """
    symmetry.check(model.state_dict(), type(model).__name__)
    try:
        candidates = list(_candidates(model, symmetry, args, dict(kwargs or {}), fused=False))
    except MismatchError:
        # Scores of positions against positions may hide that positions can move; fused attention does not show them.
        candidates = list(_candidates(model, symmetry, args, dict(kwargs or {}), fused=True))
    found: dict[str, Probe] = {}
    for probe in candidates:
        if probe.group not in found or _worth(probe) >= _worth(found[probe.group]):
            found[probe.group] = probe
    return {name: found[name] for name in symmetry.groups if name in found}


def _worth(probe: Probe) -> tuple[bool, int]:
    return probe.place.operation not in _FOLDS, probe.samples


def _candidates(
    model: nn.Module, symmetry: Symmetry, args: Sequence[object], kwargs: Mapping[str, object], *, fused: bool
) -> Iterator[Probe]:
    """Everything that carries one group of a symmetry and no other, in the order of the data flow."""
    with _attention(fused=fused):
        tapes, unreached = record_modes(model, args, kwargs)
    solution = solve(tapes)
    names = fit(read_symmetry(model, solution, tapes[0], unreached), symmetry, type(model).__name__)
    reader = Reader.of(solution)
    sizes = {group.name: group.size for group in reader.groups.values()}
    for op, place in _places(tapes[0]):
        value = op.results[place.result]
        layouts = reader.layouts(solution.values[0][value]) if value in solution.values[0] else None
        given = tuple(renamed(layout, names, sizes) for layout in layouts or ())
        yield from _readings(place, given, symmetry, fused=fused)


def _attention(*, fused: bool) -> AbstractContextManager[None]:
    """Attention as one operation, of which there are many kinds, or as the products and the softmax it consists of."""
    return nullcontext() if fused else sdpa_kernel(SDPBackend.MATH)


def _places(tape: Tape) -> Iterator[tuple[Op, Place]]:
    """The results that can be probes by what they are: numbers computed from the inputs, in the inputs' order."""
    live, usable = set(tape.live()), from_inputs(tape) - disordered(tape)
    times = Counter((op.module, op.name) for op in tape.ops)
    seen = Counter[tuple[str, str]]()
    for op in tape.ops:
        number = seen[op.module, op.name]
        seen[op.module, op.name] += 1
        rearranges = op.name in KEEPS_POSITIONS - _JOINS
        if op not in live or rearranges or find_rule(op.name, op.func) is _MAKES_CONSTANTS:
            continue
        for result, value in enumerate(op.results):
            if value in usable and value.memory is None and value.dtype.is_floating_point:
                yield op, Place(op.module, op.name, number, times[op.module, op.name], result)


def _readings(place: Place, layouts: tuple[AxisLayout, ...], symmetry: Symmetry, *, fused: bool) -> Iterator[Probe]:
    """The probes that a tensor is: for each of its parts at most one, of the innermost group."""
    names = {name for layout in layouts for name in layout.groups}
    sizes = {name: symmetry.groups[name].size for name in names}
    for number, part in enumerate(parts("", layouts, sizes) if names else ()):
        here = Counter(factor for factor in part.factors if isinstance(factor, str))
        moving = {name for name in here if not symmetry.groups[name].fixed}
        for name in moving:
            inside = symmetry.groups[name].inside
            chain = (*inside, name)
            if moving.issubset(chain) and all(here[other] == 1 for other in chain):
                samples = prod(part.sizes) // prod(sizes[other] for other in chain)
                yield Probe(name, inside, place, layouts, sizes, number, samples, fused)


@contextmanager
def watch(model: nn.Module, probes: Mapping[str, Probe], callback: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Hand on the activations of every group whenever the model runs inside the block.

    Gradients are off while the model runs, and attention and recurrent layers are written out.

    Args:
        model: the module whose calls are watched, in eval mode; its calls must run it as a whole.
        probes: as found on a model of this architecture, on the same kind of device.
        callback: called in the middle of the forward pass with a group's name and its activations `[members, samples]`,
            which may share memory with tensors of the model that it goes on to overwrite: copy what is kept.

    Raises:
        MismatchError: in the model's call, if its operations or shapes are others than on the example inputs.
    """
    watcher = _Watcher(model, probes, callback)
    hooks = (
        model.register_forward_pre_hook(watcher.begin),
        model.register_forward_hook(watcher.end, always_call=True),
    )
    try:
        yield
    finally:
        watcher.close()
        for hook in hooks:
            hook.remove()


class _Watcher(Follower):
    """Counts operations as the tape does, and hands on those at a probe's place."""

    def __init__(self, model: nn.Module, probes: Mapping[str, Probe], callback: Callable[[str, Tensor], None]) -> None:
        super().__init__(model, knows)
        self._callback = callback
        self._fused = any(probe.fused for probe in probes.values())
        self._wanted: dict[tuple[str, str], list[Probe]] = {}
        for probe in probes.values():
            self._wanted.setdefault((probe.place.module, probe.place.operation), []).append(probe)
        self._seen = Counter[tuple[str, str]]()
        self._depth = 0
        self._stack = ExitStack()

    def begin(self, *_: object) -> None:
        """The model is called."""
        self._depth += 1
        if self._depth == 1:
            self._seen.clear()
            self._stack.enter_context(_attention(fused=self._fused))
            self._stack.enter_context(self.following(departures=False))

    def close(self) -> None:
        """Stop following; a call that was interrupted from outside has not come to its end."""
        self._depth = 0
        self._stack.close()

    def end(self, _: nn.Module, __: object, outputs: object) -> None:
        """The model returns, or fails and has no outputs."""
        self._depth -= 1
        if self._depth == 0:
            self.close()
            for key, probes in self._wanted.items() if outputs is not None else ():
                self._check_times(probes[0], self._seen[key])

    @staticmethod
    def _check_times(probe: Probe, times: int) -> None:
        place = probe.place
        if times != place.times:
            raise MismatchError(
                f"group {probe.group}",
                expected=f"{place.operation.removeprefix('aten::')} {place.times} times in "
                f"{place.module or 'the model'}, as on the example inputs",
                found=f"{times} times",
                remedy="pass example inputs like the data, and batches of two or more samples",
            )

    def performed(self, func: Any, _: tuple[Any, ...], __: dict[str, Any], outputs: Any) -> None:
        """Hand on the results that are wanted."""
        key = (self.module, func._schema.name)  # noqa: SLF001 - the schema has no public accessor
        for probe in self._wanted.get(key, ()):
            if probe.place.number == self._seen[key]:
                flat = outputs if isinstance(outputs, list | tuple) else (outputs,)
                self._callback(probe.group, probe.read(flat[probe.place.result]))
        if key in self._wanted:
            self._seen[key] += 1
