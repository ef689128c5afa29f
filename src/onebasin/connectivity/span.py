"""Several networks and every weighted sum of them: lines, curves and simplexes are ways to choose the weights."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.errors import OptionError
from onebasin.evaluation import Params, Runner, fitting, is_counter
from onebasin.merging.rule import Shares
from onebasin.merging.stack import Stack, combine


class Span:
    """Networks of one architecture, the vertices, and every weighted sum of them.

    Coordinates are the model's floating-point parameters. Buffers are summed with the same weights, so that the
    statistics of BatchNorm can be kept; they take no part in distances or volumes. Integers come from the first.

    Args:
        model: gives code, devices and dtypes; left as it is.
        sources: the networks, in the same coordinates: apply matchings first.
        labels: what to call them in errors; None: a, b for two, else model 1, model 2, ...

    Attributes:
        model: the same.
        runner: runs sums of the networks.
        vertices: tensors of each by the names of `runner.own`, in their own dtypes.
        parameters: the names of the coordinates.

    Raises:
        OptionError: if there is no network.
        MismatchError: if one does not fit the model.
    """

    def __init__(self, model: nn.Module, sources: Sequence[Source], labels: Sequence[str] | None = None) -> None:
        if not sources:
            raise OptionError("models", expected="at least one network", found="none", remedy="pass some")
        self.model = model
        self.runner = Runner(model)
        names = labels or (("a", "b") if len(sources) == 2 else [f"model {n + 1}" for n in range(len(sources))])  # noqa: PLR2004 - the ends of a line
        self.vertices = tuple(
            self._held(fitting(model, source, label)) for source, label in zip(sources, names, strict=True)
        )
        moving = {name for name, p in model.named_parameters() if p.is_floating_point() or p.is_complex()}
        self.parameters = tuple(name for name in self.runner.own if name in moving)

    def __len__(self) -> int:
        """How many vertices there are."""
        return len(self.vertices)

    def _held(self, params: Params) -> Params:
        held = {}
        for name, own in self.runner.own.items():
            if name in params:
                held[name] = params[name].detach().to(own.device)
            elif is_counter(name):
                held[name] = own.clone()
        return held

    def buffers(self, weights: Sequence[float]) -> dict[str, Tensor]:
        """New tensors of everything at a point but its coordinates."""
        moving = set(self.parameters)
        return self._sums(weights, [name for name in self.runner.own if name not in moving])

    def params(self, weights: Sequence[float]) -> dict[str, Tensor]:
        """New tensors of the point `sum of weights_i vertex_i`, ready for `runner`.

        Added up in float64 and rounded once to the model's dtypes; exactly a vertex where its weight is 1 and the
        others are 0. Entries on which all vertices agree stay as they are, infinite ones included.

        Args:
            weights: one number a vertex.

        Raises:
            OptionError: if there are not as many.
            MismatchError: if a vertex holds NaN.
        """
        return self._sums(weights, list(self.runner.own))

    def _sums(self, weights: Sequence[float], names: Sequence[str]) -> dict[str, Tensor]:
        if len(weights) != len(self.vertices):
            raise OptionError(
                "weights", expected=f"{len(self.vertices)} numbers", found=str(len(weights)), remedy="one a network"
            )
        shares = Shares(tuple(float(weight) for weight in weights))
        found = {}
        for name in names:
            own = self.runner.own[name]
            rows = [vertex[name] for vertex in self.vertices if name in vertex]
            if not rows:
                continue  # a buffer that no state dict holds
            if own.is_floating_point() or own.is_complex():
                stack = Stack.of(name, rows, dtype=own.dtype.to_real() if own.is_complex() else own.dtype)
                found[name] = combine(stack, shares, rows[0])
            else:
                found[name] = rows[0].clone()
        return found

    def matrix(self) -> Tensor:
        """The coordinates of all vertices, float64 `[vertices, numbers]`, complex ones as pairs of real numbers."""
        return torch.stack([torch.cat(list(self._flat(vertex))) for vertex in self.vertices])

    def unflatten(self, row: Tensor) -> dict[str, Tensor]:
        """Parameters out of a row of coordinates `[numbers]`: views of it in its dtype, in the model's shapes.

        Complex parameters are not supported.
        """
        found, start = {}, 0
        for name in self.parameters:
            shape = self.runner.own[name].shape
            found[name] = row[start : start + shape.numel()].view(shape)
            start += shape.numel()
        return found

    def _flat(self, vertex: Params) -> Iterator[Tensor]:
        for name in self.parameters:
            tensor = vertex[name]
            real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
            yield real.reshape(-1).to(torch.float64)
