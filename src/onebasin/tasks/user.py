"""Tasks written by users: plain functions in a Python file or module.

    def build_model() -> torch.nn.Module: ...
    def example_inputs() -> tuple: ...                      # positional inputs for one forward pass
    def batches(split: str) -> Iterable: ...                # "train" | "val" | "test"; any batch type
    def evaluate(model, batch) -> dict[str, Tensor]: ...    # sums over the batch: at least "loss" and "count"
    def predict(model, batch) -> tuple[Tensor, Tensor]: ... # logits [n, classes], labels [n]: for ensembles

Only `build_model` must be there; each of the others is missed when it is first needed. A function that needs the folder
of the data has a parameter named `data_root` and gets it as a keyword, a `Path`; any of them may have one. Where no
folder was named the parameter's default holds, and without a default the call is an error.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType

import torch
from torch import Tensor, nn

from onebasin.errors import TaskError
from onebasin.evaluation import Predict
from onebasin.tasks.builtin import IMAGE_SETS
from onebasin.tasks.protocol import check_split


@dataclass(frozen=True, slots=True)
class _Role:
    """What one of the functions is called with, returns and is needed for."""

    call: str
    arguments: int
    returns: str
    purpose: str


_ROLES = {
    "build_model": _Role("build_model()", 0, "a torch.nn.Module", "to build the network"),
    "example_inputs": _Role(
        "example_inputs()", 0, "a tuple of positional inputs", "to run the network once and find its symmetries"
    ),
    "batches": _Role("batches(split)", 1, "an iterable of one or more batches", "to read data"),
    "evaluate": _Role(
        "evaluate(model, batch)", 2, "a dict of scalar sums with 'loss' and 'count'", "to measure loss on data"
    ),
    "predict": _Role(
        "predict(model, batch)", 2, "logits [n, classes] and labels [n]", "to score ensembles and calibration"
    ),
}
_REQUIRED_SUMS = ("loss", "count")
_NO_MORE_BATCHES = object()


class UserTask:
    """A task out of a user's functions, checked at load and at every call.

    Args:
        name: short name.
        spec: what `load_task` needs to make this task again in another process.
        source: the file, or the module where it has no file, for messages.
        functions: those of the functions that exist, by name.
        data_root: passed to the functions that have a parameter of that name.

    Raises:
        TaskError: `build_model` is missing, or a function cannot be called as the protocol says.
    """

    def __init__(
        self,
        name: str,
        *,
        spec: str,
        source: str,
        functions: Mapping[str, Callable[..., object]],
        data_root: Path | None,
    ) -> None:
        self.name = name
        self.data_root = data_root
        self._spec = spec
        self._source = source
        self._functions = functions
        self._function("build_model")
        self._data_root_parameters = {key: self._check_signature(key) for key in functions}

    def __reduce__(self) -> tuple[Callable[[str, Path | None], "UserTask"], tuple[str, Path | None]]:
        """Travel to other processes by name: they load the file again."""
        return (load_user_task, (self._spec, self.data_root))

    def __repr__(self) -> str:
        """Show where the task comes from."""
        return f"UserTask({self._source!r})"

    def build_model(self) -> nn.Module:
        """Call the user's `build_model`.

        Raises:
            TaskError: it returns something else than a module.
        """
        model = self._call("build_model")
        if not isinstance(model, nn.Module):
            raise self._wrong("build_model", _kind(model), "return the module itself")
        return model

    def example_inputs(self) -> tuple[object, ...]:
        """Call the user's `example_inputs`.

        Raises:
            TaskError: it is missing or returns something else than a tuple.
        """
        inputs = self._call("example_inputs")
        if not isinstance(inputs, tuple):
            raise self._wrong("example_inputs", _kind(inputs), "return a tuple, (x,) for one input")
        return inputs

    def batches(self, split: str) -> Iterable[object]:
        """Give the batches of a split; the user's `batches` is called at each iteration.

        Raises:
            TaskError: the split is unknown or the function is missing; on iteration, it returns nothing to iterate.
        """
        check_split(split, self._source)
        self._function("batches")
        return _UserBatches(self, split)

    def evaluate(self, model: nn.Module, batch: object) -> dict[str, Tensor]:
        """Call the user's `evaluate`; plain numbers become float64 scalars.

        Raises:
            TaskError: it is missing, does not return a dict, lacks `"loss"` or `"count"`, or a value is not a scalar.
        """
        sums = self._call("evaluate", model, batch)
        if not isinstance(sums, Mapping):
            raise self._wrong("evaluate", _kind(sums), "return such a dict")
        absent = [key for key in _REQUIRED_SUMS if key not in sums]
        if absent:
            raise self._wrong("evaluate", f"no {' and no '.join(map(repr, absent))}", "add the sums over the batch")
        return {str(key): self._scalar(str(key), value) for key, value in sums.items()}

    @property
    def predict(self) -> Predict | None:
        """The user's `predict`, where there is one.

        Called, it raises TaskError unless it returns logits `[n, classes]` and labels `[n]`.
        """
        return self._predicted if "predict" in self._functions else None

    def _predicted(self, model: nn.Module, batch: object) -> tuple[Tensor, Tensor]:
        match self._call("predict", model, batch):
            case (Tensor(ndim=2) as logits, Tensor(ndim=1) as labels) if len(logits) == len(labels):
                return logits, labels
            case other:
                raise self._wrong("predict", _kind(other), "return such a pair of tensors")

    def iterate(self, split: str) -> Iterator[object]:
        """Call the user's `batches` once and yield what it gives."""
        found = self._call("batches", split)
        if not isinstance(found, Iterable):
            raise self._wrong("batches", _kind(found), "return a list, a generator or a DataLoader")
        with self._noted("batches"):
            iterator = iter(found)
        count = 0
        while True:
            with self._noted("batches"):
                batch = next(iterator, _NO_MORE_BATCHES)
            if batch is _NO_MORE_BATCHES:
                break
            count += 1
            yield batch
        if count == 0:
            raise self._wrong("batches", f"none for split {split!r}", "yield the data of every split")

    def _scalar(self, key: str, value: object) -> Tensor:
        if isinstance(value, int | float):
            return torch.tensor(value, dtype=torch.float64)
        if isinstance(value, Tensor) and value.ndim == 0:
            return value
        raise self._wrong("evaluate", f"{_kind(value)} for {key!r}", "sum over the batch")

    def _function(self, name: str) -> Callable[..., object]:
        if name in self._functions:
            return self._functions[name]
        role = _ROLES[name]
        raise TaskError(
            self._source,
            expected=f"a function {role.call} that returns {role.returns}, {role.purpose}",
            found=f"no {name}",
            remedy=f"define {name} in that file",
        )

    def _check_signature(self, name: str) -> inspect.Parameter | None:
        """Check that the function can be called, and give its parameter `data_root`."""
        role = _ROLES[name]
        try:
            signature = inspect.signature(self._functions[name])
        except ValueError:
            return None  # a compiled callable tells nothing about its parameters: calling it will show
        parameter = signature.parameters.get("data_root")
        keywords = {"data_root": self.data_root} if parameter is not None else {}
        try:
            signature.bind(*range(role.arguments), **keywords)
        except TypeError as error:
            raise TaskError(
                f"{self._source}: {name}",
                expected=f"a function called as {role.call}",
                found=f"{name}{signature} ({error})",
                remedy="change its parameters; besides these only data_root is passed",
            ) from error
        return parameter

    def _call(self, name: str, *arguments: object) -> object:
        function = self._function(name)
        parameter = self._data_root_parameters[name]
        keywords = {"data_root": self.data_root} if parameter is not None and self.data_root is not None else {}
        if parameter is not None and parameter.default is inspect.Parameter.empty and self.data_root is None:
            raise TaskError(
                f"{self._source}: {name}", expected="a data root", found="none", remedy="name the folder of the data"
            )
        with self._noted(name):
            return function(*arguments, **keywords)

    def _noted(self, name: str) -> "_Noted":
        return _Noted(f"while running {name} of the task {self._source}")

    def _wrong(self, name: str, found: str, remedy: str) -> TaskError:
        role = _ROLES[name]
        return TaskError(f"{self._source}: {role.call}", expected=role.returns, found=found, remedy=remedy)


@dataclass(frozen=True, slots=True)
class _UserBatches:
    """What `UserTask.batches` returns: each iteration calls the user's function anew."""

    task: UserTask
    split: str

    def __iter__(self) -> Iterator[object]:
        return self.task.iterate(self.split)


def load_user_task(spec: str, data_root: Path | None) -> UserTask:
    """Load a user's task from a file (a path ending in `.py`) or an importable module (`package.module`).

    The folder of a file is appended to `sys.path`, so that it can import its neighbours.

    Args:
        spec: path or module name.
        data_root: passed to the functions that have a parameter of that name.

    Returns:
        The task, with the signatures of its functions checked.

    Raises:
        TaskError: no such file or module, or its functions do not follow the protocol.
        Exception: whatever the file itself raises, with a note that names it.
    """
    if spec.endswith(".py"):
        path = Path(spec).expanduser().resolve()
        module, name, source, spec = _run_file(path), path.stem, str(path), str(path)
    else:
        module, name = _import_module(spec), spec
        source = module.__file__ or spec
    present = {key: getattr(module, key) for key in _ROLES if hasattr(module, key)}
    for key, value in present.items():
        if not callable(value):
            raise TaskError(
                f"{source}: {key}", expected="a function", found=_kind(value), remedy=f"define {_ROLES[key].call}"
            )
    return UserTask(name, spec=spec, source=source, functions=present, data_root=data_root)


def _run_file(path: Path) -> ModuleType:
    # Two files of the same name in different folders are different modules.
    name = f"onebasin_task_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise TaskError(
            str(path),
            expected="a Python file with the functions of a task",
            found="no such file",
            remedy="check the path",
        )
    module = importlib.util.module_from_spec(spec)
    # At the end, so that a neighbour can never take the place of an installed module.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    with ExitStack() as undo, _Noted(f"while loading the task {path}"):
        sys.modules[name] = module  # dataclasses and pickle look the module of a class up there
        undo.callback(sys.modules.pop, name, None)
        spec.loader.exec_module(module)
        undo.pop_all()
    return module


def _import_module(name: str) -> ModuleType:
    unknown = TaskError(
        name,
        expected=f"one of {', '.join(IMAGE_SETS)}, a path ending in .py, or an importable module",
        found="none of these",
        remedy="check the spelling",
    )
    if not all(part.isidentifier() for part in name.split(".")):
        raise unknown
    try:
        with _Noted(f"while importing the task {name}"):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only the module asked for, or a package it is in, is our business; its own failed imports are the user's.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise unknown from error
        raise


@dataclass(frozen=True, slots=True)
class _Noted:
    """Adds a note to an exception that passes through a `with` block, and lets it pass."""

    note: str

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.note)


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    return f"a value of type {type(value).__name__}" if value is not None else "None"
