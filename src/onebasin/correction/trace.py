"""Watch the operations of a forward pass: number them, see which values flow where, read operands, and stop early.

Operations are numbered in the order in which they are performed. The same model performs the same ones for every batch,
so that what was planned on one batch is found again, by its number, on all others.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from onebasin.errors import OptionError
from onebasin.modes import in_mode

Run = Callable[[nn.Module], object]
"""Runs a model once, on inputs of its own."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor among the arguments of an operation: the number of its value."""

    value: int


@dataclass(frozen=True, slots=True)
class Node:
    """One operation.

    Attributes:
        number: its place in the order.
        func: the ATen overload.
        args: positional arguments, tensors replaced by `Ref`.
        kwargs: named arguments, likewise.
        reads: the values among the arguments, in order.
        results: the values it returned; None where it returned something other than a tensor.
    """

    number: int
    func: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    reads: tuple[int, ...]
    results: tuple[int | None, ...]

    @property
    def name(self) -> str:
        """The operation's name without its overload, such as `aten::add`."""
        return str(self.func._schema.name)  # noqa: SLF001 - the schema has no public accessor


@dataclass(slots=True)
class Trace:
    """All operations of one forward pass.

    Attributes:
        nodes: in order.
        shapes: of every value.
        state: for the values that are tensors of the state dict, their name (the first, where several are tied).
        memory: for every value, the number of the memory it lies in: views and what is written in place share it.
    """

    nodes: list[Node] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    state: dict[int, str] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)

    def readers(self) -> dict[int, list[Node]]:
        """The operations that read each value."""
        found: dict[int, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.reads):
                found.setdefault(value, []).append(node)
        return found


def record(model: nn.Module, run: Run) -> Trace:
    """Record one forward pass in eval mode, without gradients."""
    recorder = _Recorder(model)
    with _evaluating(model), recorder:
        run(model)
    return recorder.trace


Watcher = Callable[[Any, tuple[Any, ...], Any], Any]
"""Sees an operation, its arguments and its result, and returns the result to go on with."""


def watch(model: nn.Module, run: Run, watchers: Mapping[int, tuple[Any, Watcher]], *, stop: bool = True) -> object:
    """Run a model and call the watchers of some operations by their number.

    Args:
        model: run in eval mode, without gradients.
        run: runs it once.
        watchers: for a number, the operation expected there and who watches it.
        stop: end the pass after the last watched operation.

    Returns:
        what `run` returns; None where the pass was stopped.

    Raises:
        OptionError: if another operation comes at a number: the model does not do the same for every batch.
    """
    mode = _Watch(watchers, max(watchers, default=-1) if stop else None)
    with _evaluating(model), mode:
        try:
            result = run(model)
        except _Stop:
            return None
    if mode.last < max(watchers, default=-1):
        raise _irregular(f"{mode.last + 1} operations")
    return result


class _Stop(BaseException):
    """Ends a forward pass through code of the user, which may catch every Exception."""


def _irregular(found: str) -> OptionError:
    return OptionError(
        "model",
        expected="the same operations for every batch",
        found=f"other ones on some batch: {found}",
        remedy="use a method that needs no watching, such as BatchNorm re-estimation",
    )


class _Watch(TorchDispatchMode):
    def __init__(self, watchers: Mapping[int, tuple[Any, Watcher]], stop: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watchers = watchers
        self._stop = stop
        self.last = -1

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **kwargs or {})
        self.last += 1
        if self.last in self._watchers:
            expected, watcher = self._watchers[self.last]
            if func is not expected:
                raise _irregular(f"{func} for {expected}")
            result = watcher(func, args, result)
        if self.last == self._stop:
            raise _Stop
        return result


class _Recorder(TorchDispatchMode):
    """Writes every operation down; knows tensors by identity while they live."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self._values: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._storage_count = 0
        for name, tensor in model.state_dict(keep_vars=True).items():
            if tensor not in self._values:
                self.trace.state[self._new(tensor, None)] = name

    def _new(self, tensor: Tensor, memory: int | None) -> int:
        value = len(self.trace.shapes)
        if memory is None:
            memory = self._storage_count
            self._storage_count += 1
        self._values[tensor] = value
        self.trace.shapes.append(tuple(tensor.shape))
        self.trace.memory.append(memory)
        return value

    def _value(self, tensor: Tensor) -> int:
        value = self._values.get(tensor)
        return self._new(tensor, None) if value is None else int(value)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        noted = tree_map(lambda leaf: Ref(self._value(leaf)) if isinstance(leaf, Tensor) else leaf, (args, kwargs))
        reads = tuple(self._value(tensor) for tensor in given)
        outputs = func(*args, **kwargs)
        shared = {_address(tensor): self.trace.memory[value] for tensor, value in zip(given, reads, strict=True)}
        results = []
        for output in outputs if isinstance(outputs, list | tuple) else (outputs,):
            memory = shared.get(_address(output)) if isinstance(output, Tensor) else None
            results.append(self._new(output, memory) if isinstance(output, Tensor) else None)
        self.trace.nodes.append(Node(len(self.trace.nodes), func, noted[0], noted[1], reads, tuple(results)))
        return outputs


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - also told apart where the memory is empty


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, and attention written out rather than as one opaque operation."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with in_mode(model, train=False), torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
