"""What the layers of networks take and give, batch by batch, found by hooks on any model."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from onebasin.connectivity.measure import MEMORY
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation, Params, Runner
from onebasin.modes import in_mode

REPEATS = (nn.Identity, nn.Flatten, nn.Unflatten, _DropoutNd)
"""Layers that, in eval mode, give what they take."""

Hook = Callable[[str, tuple[object, ...], object], object]
"""From a layer's name, its inputs and its output to what replaces the output, or None."""


class Taken(NamedTuple):
    """What one run of a layer took and gave.

    Attributes:
        inputs: the first of its inputs; None where it is no tensor, or was not asked for.
        output: its output, or the first of several.
    """

    inputs: Tensor | None
    output: Tensor


@dataclass(frozen=True)
class LayerFigures:
    """Figures of layers.

    Attributes:
        layers: in the order they run.
        figures: one number a layer, by the name of the figure.
        samples: that were run.
    """

    layers: tuple[str, ...]
    figures: Mapping[str, tuple[float, ...]]
    samples: int

    def to_json(self) -> dict[str, object]:
        """The JSON form: one list a column."""
        columns = {name: list(row) for name, row in self.figures.items()}
        return {"samples": self.samples, "layers": list(self.layers), **columns}


def feature_layers(model: nn.Module) -> tuple[str, ...]:
    """The layers whose features are looked at unless others are named, in the order of the model.

    Those without layers inside them, or with parameters of their own; but not those that give what they take.
    """
    return tuple(
        name
        for name, module in model.named_modules()
        if not isinstance(module, REPEATS)
        and (not any(True for _ in module.children()) or any(True for _ in module.parameters(recurse=False)))
    )


@contextmanager
def hooked(model: nn.Module, names: Collection[str], hook: Hook, *, inputs: bool = False) -> Iterator[None]:
    """Run a block with a hook after each run of some layers; a second run of a layer is called `name#2`.

    Args:
        model: has the layers.
        names: of modules.
        hook: called after each run.
        inputs: whether to give it copies of the inputs, as they were before the layer ran and perhaps wrote to them;
            otherwise it gets none.
    """
    modules = dict(model.named_modules())
    runs: Counter[str] = Counter()
    given: dict[str, tuple[object, ...]] = {}

    def before(name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        def keep(_: nn.Module, parts: tuple[object, ...]) -> None:
            given[name] = tuple(part.clone() if isinstance(part, Tensor) else part for part in parts)

        return keep

    def after(name: str) -> Callable[[nn.Module, tuple[object, ...], object], object]:
        def tell(_: nn.Module, __: tuple[object, ...], output: object) -> object:
            runs[name] += 1
            return hook(name if runs[name] == 1 else f"{name}#{runs[name]}", given.pop(name, ()), output)

        return tell

    handles = []
    try:
        for name in names:
            if inputs:
                handles.append(modules[name].register_forward_pre_hook(before(name)))
            handles.append(modules[name].register_forward_hook(after(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(output: object) -> Tensor | None:
    """A tensor of real numbers with at least one axis: the output, or the first of several."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if isinstance(output, Tensor) and output.is_floating_point() and output.ndim:
        return output.detach()
    return None


def module_of(layer: str) -> str:
    """The module that a run of a layer belongs to."""
    return layer.partition("#")[0]


class Reader:
    """Reads the features of networks of one architecture.

    Args:
        runner: of the model.
        evaluation: what runs a network on a batch.
        layers: names of modules; None takes `feature_layers`.
        inputs: whether to read what layers take, too.

    Raises:
        OptionError: if the model has no module of a name.
    """

    def __init__(
        self, runner: Runner, evaluation: Evaluation, layers: Sequence[str] | None, *, inputs: bool = False
    ) -> None:
        self.runner, self.evaluation, self.inputs = runner, evaluation, inputs
        known = dict(runner.model.named_modules())
        for layer in layers or ():
            if layer not in known:
                raise OptionError(
                    f"layer {layer}", expected="a module of the model", found="none", remedy="see named_modules()"
                )
        self.names = feature_layers(runner.model) if layers is None else tuple(layers)

    def read(self, params: Params, batch: object, layers: Collection[str]) -> tuple[dict[str, Taken], int]:
        """What these layers took and gave while a network ran on a batch, copied; and the samples of the batch.

        Args:
            params: of the network.
            batch: passed on.
            layers: as `plan` names them.
        """
        found: dict[str, Taken] = {}

        def keep(layer: str, inputs: tuple[object, ...], output: object) -> None:
            feature = first_tensor(output)
            if layer in layers and feature is not None:
                found[layer] = Taken(first_tensor(inputs), feature.clone())

        return found, self._run(params, batch, {module_of(layer) for layer in layers}, keep)

    def _run(self, params: Params, batch: object, names: Collection[str], hook: Hook) -> int:
        with hooked(self.runner.model, names, hook, inputs=self.inputs), torch.no_grad():
            return int(self.runner.sums(self.evaluation.evaluate, params, batch)["count"])

    def plan(self, params: Params, batch: object, networks: int) -> list[list[str]]:
        """The layers that give features, in the order they run, in parts whose features fit in memory together.

        Raises:
            OptionError: if no layer gives features.
        """
        sizes: dict[str, int] = {}

        def note(layer: str, inputs: tuple[object, ...], output: object) -> None:
            feature, given = first_tensor(output), first_tensor(inputs)
            if feature is not None:
                sizes[layer] = networks * sum(t.numel() * t.element_size() for t in (feature, given) if t is not None)

        self._run(params, batch, self.names, note)
        if not sizes:
            raise OptionError(
                "layers", expected="layers that give tensors", found="none that ran", remedy="name other modules"
            )
        parts: list[list[str]] = []
        room = 0
        for layer, size in sizes.items():
            if size > room:
                parts.append([])
                room = MEMORY
            parts[-1].append(layer)
            room -= size
        return parts

    def stream(self, states: Sequence[Params], samples: int | None = None) -> Iterator[tuple[str, list[Taken], int]]:
        """Every layer's features in all networks, batch by batch.

        At most 1 GiB of them is held at a time, or those of one layer; where all do not fit, a batch is run again.

        Args:
            states: the networks.
            samples: stop after at least so many; None takes all.

        Yields:
            the layer, what it took and gave in each network, and the samples of the batch.

        Raises:
            OptionError: if there are no batches, `samples` is below 1, or no layer gives features.
        """
        if samples is not None and samples < 1:
            raise OptionError("samples", expected="1 or more", found=str(samples), remedy="raise it or pass None")
        seen, parts = 0, None
        for batch in self.evaluation.data():
            parts = parts or self.plan(states[0], batch, len(states))
            count = 0
            for part in parts:
                rows, counts = zip(*(self.read(state, batch, part) for state in states), strict=True)
                count = counts[0]
                for layer in part:
                    if all(layer in row for row in rows):
                        yield layer, [row[layer] for row in rows], count
            seen += count
            if samples is not None and seen >= samples:
                break
        if parts is None:
            raise OptionError("batches", expected="at least one batch", found="none", remedy="pass data to run on")


@contextmanager
def reading(
    span: Span, evaluation: Evaluation, layers: Sequence[str] | None, *, inputs: bool = False
) -> Iterator[Reader]:
    """A reader for a block, with the model in eval mode."""
    with in_mode(span.model, train=False):
        yield Reader(span.runner, evaluation, layers, inputs=inputs)


def as_rows(feature: Tensor) -> Tensor:
    """Features as float64 `[samples, numbers]`, axis 0 counting samples."""
    return feature.to(torch.float64).reshape(len(feature), -1)


def distances_of_lengths(x: Tensor, y: Tensor, apart: Tensor) -> Tensor:
    """1 - cos of angles, out of the lengths of both sides and of their difference.

    1 - cos is 0 for one direction, 1 for right angles and 2 for opposite directions. Two rows of zeros agree; the angle
    of one of them with another row counts as a right one. |x - y|^2 = (|x| - |y|)^2 + 2 |x| |y| (1 - cos): unlike a
    cosine, this keeps the digits of small angles.

    Args:
        x: `[n]`.
        y: `[n]`.
        apart: `[n]`, |x - y|.

    Returns:
        `[n]`.
    """
    both = 2 * x * y
    distances = ((apart.square() - (x - y).square()) / both.clamp(min=torch.finfo(x.dtype).tiny)).clamp(0, 2)
    return torch.where(both > 0, distances, ((x == 0) != (y == 0)).to(x.dtype))
