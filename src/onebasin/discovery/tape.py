"""Run a model once and record the ATen operations it performs.

Fake tensors carry shapes only, so that a model of any size costs no memory and its weights are never copied. Where
control flow depends on values the recording is repeated on the real example inputs.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_map_only

from onebasin.discovery.follow import Follower, Knows
from onebasin.errors import DiscoveryError

_HERE = str(Path(__file__).parent)
_TORCH = str(Path(torch.__file__).parent)


@dataclass(eq=False, slots=True)
class Value:
    """A tensor the model has touched.

    Attributes:
        shape: its sizes.
        kind: `parameter` (anything in the state dict that is moved), `input`, `constant` or `result`.
        name: its name in the state dict, for parameters.
        varies: for constants, along which axes the values differ.
        memory: the value whose memory this one shares; None where it owns it.
        dtype: of its entries.
        strides: of its memory when it was first seen.
    """

    shape: tuple[int, ...]
    kind: str
    name: str = ""
    varies: tuple[bool, ...] = ()
    memory: "Value | None" = None
    dtype: torch.dtype = torch.float32
    strides: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, tensor: Tensor, kind: str, name: str = "", varies: tuple[bool, ...] = (), memory: "Value | None" = None
    ) -> "Value":
        """The value of a tensor."""
        return cls(tuple(tensor.shape), kind, name, varies, memory, tensor.dtype, tuple(tensor.stride()))

    @property
    def owner(self) -> "Value":
        """The value that owns the memory."""
        value = self
        while value.memory is not None:
            value = value.memory
        return value


@dataclass(eq=False, slots=True)
class Op:
    """One recorded operation.

    Attributes:
        func: the ATen overload.
        arguments: by the names of the schema, defaults filled in, tensors replaced by their values.
        results: the values it returned; None where it returned something else.
        written: arguments it wrote into.
        module: the module that was running, as named in the model.
        line: `file:line` of the user's code that asked for it.
    """

    func: Any
    arguments: Mapping[str, Any]
    results: tuple[Value | None, ...]
    written: tuple[Value, ...]
    module: str
    line: str

    @property
    def name(self) -> str:
        """The operation's name without its overload, such as `aten::add`."""
        return str(self.func._schema.name)  # noqa: SLF001 - the schema has no public accessor

    def __str__(self) -> str:
        """What happened and where, for people."""
        place = f" in {self.module}" if self.module else ""
        return f"{self.name.removeprefix('aten::')}{place} ({self.line})" if self.line else self.name


@dataclass(slots=True)
class Tape:
    """All operations of one forward pass, in order."""

    ops: list[Op] = field(default_factory=list)
    parameters: dict[str, Value] = field(default_factory=dict)
    outputs: list[Value] = field(default_factory=list)
    on_real_tensors: bool = False

    def live(self) -> list[Op]:
        """The operations the outputs depend on, in order: those whose memory is read later on the way to an output.

        What leaves as a Python number may come back in any way, and counts as an output.
        """
        needed = {value.owner for value in self.outputs}
        kept = []
        for op in reversed(self.ops):
            made = [value for value in (*op.results, *op.written) if value is not None]
            if not made or any(value.owner in needed for value in made):
                needed.update(value.owner for value in values_in(op.arguments))
                kept.append(op)
        return kept[::-1]


def values_in(arguments: object) -> Iterator[Value]:
    """Every value inside nested lists, tuples and mappings."""
    if isinstance(arguments, Value):
        yield arguments
    elif isinstance(arguments, Mapping):
        for item in arguments.values():
            yield from values_in(item)
    elif isinstance(arguments, list | tuple):
        for item in arguments:
            yield from values_in(item)


def record(model: nn.Module, args: Sequence[object], kwargs: Mapping[str, object], knows: Knows) -> Tape:
    """Record one forward pass of `model`, in the mode (train or eval) it is in.

    Args:
        model: not modified; buffers it writes to are restored.
        args: positional example inputs.
        kwargs: keyword example inputs.
        knows: whether there is a rule for an operation. Others are decomposed where PyTorch knows how.

    Raises:
        DiscoveryError: if the model does not run on the inputs.
    """
    try:
        with _quiet():
            return _record(model, args, kwargs, knows, FakeTensorMode(allow_non_fake_inputs=True))
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        # Values are asked for in many ways (item, numpy, a Python branch), and models rewrap what is raised then. The
        # second run decides: a model that fails on its real inputs, too, is reported with the real reason.
        reason = error
    try:
        return _record(model, args, kwargs, knows, None)
    except Exception as error:
        if isinstance(error, DiscoveryError):
            raise
        raise DiscoveryError(
            type(model).__name__,
            expected="a model that runs on the example inputs",
            found=f"{type(error).__name__}: {error}",
            remedy="pass the inputs that the model's forward takes as args and kwargs",
        ) from reason


def _record(
    model: nn.Module,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    knows: Knows,
    fake: FakeTensorMode | None,
) -> Tape:
    recorder = _Recorder(model, knows)
    with torch.no_grad(), ExitStack() as stack:
        stack.enter_context(restored_buffers(model))
        if fake is not None:
            args, kwargs = tree_map_only(Tensor, fake.from_tensor, (tuple(args), dict(kwargs)))
            stack.enter_context(fake)
        tree_map_only(Tensor, recorder.register_input, (args, kwargs))
        stack.enter_context(recorder.following(departures=fake is None))
        outputs = model(*args, **kwargs)
    recorder.tape.outputs = [recorder.value_of(tensor) for tensor in output_tensors(outputs)]
    recorder.tape.on_real_tensors = fake is None
    return recorder.tape


class _Recorder(Follower):
    """Writes every operation on the tape; knows tensors by identity."""

    def __init__(self, model: nn.Module, knows: Knows) -> None:
        super().__init__(model, knows)
        self.tape = Tape()
        self._values: dict[int, Value] = {}
        self._alive: list[Tensor] = []  # An identity is only meaningful while the tensor lives.
        for name, tensor in model.state_dict(keep_vars=True).items():
            value = self._values.get(id(tensor))
            if value is None:
                kind = "parameter" if tensor.is_floating_point() or tensor.is_complex() else "constant"
                varies = () if kind == "parameter" else _varies(tensor)
                value = Value.of(tensor, kind, name, varies)
                self._remember(tensor, value)
            self.tape.parameters[name] = value

    def _remember(self, tensor: Tensor, value: Value) -> Value:
        self._values[id(tensor)] = value
        self._alive.append(tensor)
        return value

    def register_input(self, tensor: Tensor) -> Tensor:
        """Note that a tensor comes from the user."""
        if id(tensor) not in self._values:
            self._remember(tensor, Value.of(tensor, "input"))
        return tensor

    def value_of(self, tensor: Tensor) -> Value:
        """The value of a tensor; one never seen before is a constant of the model."""
        value = self._values.get(id(tensor))
        if value is None:
            value = self._remember(tensor, Value.of(tensor, "constant", "", _varies(tensor)))
        return value

    def departed(self, tensor: Tensor) -> None:
        """Note an operation that reads the values."""
        arguments = {"self": self.value_of(tensor)}
        self.tape.ops.append(
            Op(torch.ops.aten._local_scalar_dense.default, arguments, (), (), self.module, _user_line())  # noqa: SLF001
        )

    def performed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        """Write an operation down."""
        schema = func._schema  # noqa: SLF001 - the schema has no public accessor
        arguments: dict[str, Any] = {}
        written, shared = [], {}
        for position, argument in enumerate(schema.arguments):
            given = args[position] if position < len(args) else kwargs.get(argument.name, argument.default_value)
            noted = arguments[argument.name] = _noted(given, self.value_of)
            if argument.alias_info is not None and isinstance(noted, Value):
                for label in argument.alias_info.before_set:
                    shared[label] = noted
                if argument.alias_info.is_write:
                    written.append(noted)
        results: list[Value | None] = []
        flat = outputs if isinstance(outputs, list | tuple) else (outputs,)
        for position, output in enumerate(flat):
            if not isinstance(output, Tensor):
                results.append(None)
                continue
            returned = schema.returns[min(position, len(schema.returns) - 1)]
            labels = returned.alias_info.before_set if returned.alias_info is not None else ()
            base = next((shared[label] for label in labels if label in shared), None)
            results.append(self._result(output, base, written))
        self.tape.ops.append(Op(func, arguments, tuple(results), tuple(written), self.module, _user_line()))

    def _result(self, output: Tensor, base: Value | None, written: list[Value]) -> Value:
        known = self._values.get(id(output))
        if known is not None:
            return known
        if base is not None and base in written:
            return self._remember(output, base)
        return self._remember(output, Value.of(output, "result", memory=base))


def _noted(given: Any, value_of: Callable[[Tensor], Value]) -> Any:
    if isinstance(given, Tensor):
        return value_of(given)
    if isinstance(given, list | tuple):
        return [_noted(item, value_of) for item in given]
    return given


def _varies(tensor: Tensor) -> tuple[bool, ...]:
    """Along which axes the values of a constant differ; all of them where the values are not known."""
    if tensor.is_meta or isinstance(tensor, FakeTensor):
        return (True,) * tensor.ndim
    with torch.utils._python_dispatch._disable_current_modes():  # noqa: SLF001 - real values behind fake tensors
        return tuple(
            tensor.numel() > 0 and not bool((tensor == tensor.narrow(axis, 0, 1)).all()) for axis in range(tensor.ndim)
        )


def output_tensors(outputs: object) -> Iterator[Tensor]:
    """The tensors in a model's output; where there are logits, they stand for all of it."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        chosen = [outputs["logits"]] if isinstance(outputs.get("logits"), Tensor) else outputs.values()
        for item in chosen:
            yield from output_tensors(item)
    elif isinstance(outputs, list | tuple | set):
        for item in outputs:
            yield from output_tensors(item)
    elif is_dataclass(outputs) and not isinstance(outputs, type):
        for item in fields(outputs):
            yield from output_tensors(getattr(outputs, item.name))


def _user_line() -> str:
    """`file:line` of the innermost frame of the model that does not belong to PyTorch; empty if all of them do."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - walking frames is what it is for
    while frame is not None:
        name = frame.f_code.co_filename
        if name == __file__ and frame.f_code.co_name == "_record":
            return ""
        if not name.startswith((_TORCH, _HERE)) and not name.startswith("<"):
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep PyTorch from logging the traceback of a fake operation that fails: it is tried again on real tensors."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


@contextmanager
def restored_buffers(model: nn.Module) -> Iterator[None]:
    """Put back what a forward pass writes to, or rebinds, in the model's buffers; some writes pass by fake tensors."""
    buffers = [(module, name, b) for module in model.modules() for name, b in module._buffers.items()]  # noqa: SLF001
    saved = [None if buffer is None else buffer.detach().clone() for _, _, buffer in buffers]
    try:
        yield
    finally:
        for (module, name, buffer), copy in zip(buffers, saved, strict=True):
            module._buffers[name] = buffer  # noqa: SLF001 - also undoes a rebinding to a fake tensor
            # One that is expanded cannot be written to, and one on the meta device holds nothing.
            if copy is not None and buffer is not None and not buffer.is_meta and not torch.equal(buffer, copy):
                with torch.no_grad():
                    buffer.copy_(copy)
