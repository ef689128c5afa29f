"""Follow a forward pass operation by operation: the one way in which models are recorded and watched.

A `TorchDispatchMode` sees what is left below autograd, where composite operations have already fallen apart.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Knows = Callable[[str, Any], bool]
"""Whether there is a rule for an operation, given its name and overload."""


class Follower(TorchDispatchMode):
    """Sees a forward pass operation by operation, below autograd, in terms of operations that have a rule.

    Whoever follows a model this way, on fake tensors or on real ones, sees the same operations in the same modules and
    in the same order.
    """

    def __init__(self, model: nn.Module, knows: Knows) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._knows = knows
        self._modules: list[str] = []
        self._names = {id(module): name for name, module in model.named_modules()}
        self._libraries = [enabled() for enabled, _ in _LIBRARIES]

    @contextmanager
    def following(self, *, departures: bool) -> Iterator[None]:
        """Follow what runs inside, without gradients, every layer fallen apart into the same operations everywhere.

        Args:
            departures: whether values that leave PyTorch unseen are to be noticed; fake tensors have none.
        """
        with torch.no_grad(), _unfused(), _Calls(self, departures=departures), self._watching_modules(), self:
            yield

    @property
    def module(self) -> str:
        """The module that is running, as named in the model; empty for the model itself."""
        return self._modules[-1] if self._modules else ""

    @contextmanager
    def _watching_modules(self) -> Iterator[None]:
        def enter(module: nn.Module, _: object) -> None:
            self._modules.append(self._names.get(id(module), type(module).__name__))

        def leave(*_: object) -> None:
            if self._modules:  # None where the model was entered before it was watched.
                self._modules.pop()

        before = nn.modules.module.register_module_forward_pre_hook(enter)
        after = nn.modules.module.register_module_forward_hook(leave, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def performed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        """Called after every operation with its arguments and what it returned."""

    def departed(self, tensor: Tensor) -> None:
        """Called where a tensor's values are read by something that cannot be followed."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._knows(func._schema.name, func):  # noqa: SLF001 - the schema has no public accessor
            decomposed = self._decomposed(func, args, kwargs)
            if decomposed is not NotImplemented:
                return decomposed
        with _libraries(self._libraries):
            outputs = func(*args, **kwargs)
        self.performed(func, args, kwargs, outputs)
        return outputs

    def _decomposed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self:
            result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
            # Imported here: it takes a second, and only unusual models need it.
            from torch._decomp import decomposition_table  # noqa: PLC0415

            decomposition = decomposition_table.get(func)
            return NotImplemented if decomposition is None else decomposition(*args, **kwargs)


class _Calls(TorchFunctionMode):
    """Sees to what happens above the operations: values that leave PyTorch unseen, and checks of values.

    `one_hot` looks at its numbers to refuse those out of range; the comparison it stands for does not.
    """

    _DEPARTURES = frozenset(
        {
            torch.Tensor.numpy,
            torch.Tensor.tolist,
            torch.Tensor.__array__,
            torch.Tensor.__dlpack__,
            torch.Tensor.data_ptr,
            torch.Tensor.untyped_storage,
        }
    )

    def __init__(self, follower: Follower, *, departures: bool) -> None:
        super().__init__()
        self._follower = follower
        self._departures = self._DEPARTURES if departures else frozenset[Any]()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self._departures:
            self._follower.departed(args[0])
        if func is functional.one_hot and len(args) + len(kwargs or {}) > 1:
            numbers, classes = args if len(args) > 1 else (args[0], (kwargs or {}).get("num_classes", -1))
            if classes > 0:
                return (numbers.unsqueeze(-1) == torch.arange(classes, device=numbers.device)).long()
        return func(*args, **kwargs or {})


# How PyTorch is told whether to use oneDNN and cuDNN; their public switches warn about other flags, or set more.
_LIBRARIES = (
    (torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled),  # noqa: SLF001
    (torch._C._get_cudnn_enabled, torch._C._set_cudnn_enabled),  # noqa: SLF001
)


@contextmanager
def _libraries(enabled: Sequence[bool]) -> Iterator[None]:
    """Switch oneDNN and cuDNN on or off."""
    before = [get() for get, _ in _LIBRARIES]
    for (_, switch), value in zip(_LIBRARIES, enabled, strict=True):
        switch(value)
    try:
        yield
    finally:
        for (_, switch), value in zip(_LIBRARIES, before, strict=True):
            switch(value)


@contextmanager
def _unfused() -> Iterator[None]:
    """Switch off what makes one opaque operation of a layer: attention's fast path, recurrent layers of libraries.

    The libraries serve inside the operations that are left.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _libraries([False] * len(_LIBRARIES)):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
