"""The loss of a task at averages of networks, and its gradient with respect to the averaged weights."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from onebasin.errors import OptionError
from onebasin.matching.problem import scored_parts, tied
from onebasin.modes import in_mode
from onebasin.symmetry import Matching, Symmetry

Batches = Iterable[object] | Callable[[], Iterable[object]]
"""Batches that can be gone through more than once, or a function that gives them afresh, shuffled if it likes."""
Evaluate = Callable[[nn.Module, object], dict[str, Tensor]]
"""Runs a model on one batch and returns sums over it: at least `loss`, which can be differentiated, and `count`."""
State = Mapping[str, Tensor]
"""Tensors by name."""


class TaskLoss:
    """The loss of a task at averages of networks; the model that runs them keeps its own tensors.

    Args:
        model: gives its code, and where and in which dtype the averages are computed.
        evaluate: the loss of a model on a batch.
        networks: state dicts that fit the symmetry.
        symmetry: fits the model.

    Attributes:
        states: the networks' tensors in the model's dtypes, on its devices, tied ones under one name.
        names: those that carry information about the groups and can be learned from.
    """

    def __init__(self, model: nn.Module, evaluate: Evaluate, networks: Sequence[State], symmetry: Symmetry) -> None:
        # Under one of their names only, tied tensors stay tied when they are replaced.
        self._own = {n: t.detach() for n, t in (*model.named_parameters(), *model.named_buffers())}
        self._runner = _Runner(model, evaluate)
        self.states = tuple(
            {
                name: (params[name] if name in params else tied(symmetry, params, name)).detach().to(own)
                for name, own in self._own.items()
                if name in params or any(name in row and not params.keys().isdisjoint(row) for row in symmetry.tied)
            }
            for params in networks
        )
        self.names = tuple(n for n in scored_parts(symmetry, self.states[0]) if self._own[n].is_floating_point())

    def moved(self, matchings: Sequence[Matching]) -> list[State]:
        """The networks in the coordinates of the first.

        Args:
            matchings: one for every network but the first.
        """
        return [self.states[0], *(m.apply(state) for m, state in zip(matchings, self.states[1:], strict=True))]

    def gradients(self, states: Sequence[State], shares: Sequence[float], batch: object) -> State:
        """The gradient of the mean loss of an average with respect to its tensors of `names`.

        Raises:
            OptionError: if the loss is not finite or cannot be differentiated.
        """
        average = self._average(states, shares)
        leaves = {name: average[name].requires_grad_() for name in self.names}
        sums = self._sums(average, batch)
        if not sums["loss"].requires_grad:
            raise OptionError(
                "evaluate",
                expected="a `loss` that can be differentiated",
                found="one that cannot",
                remedy="return it without detach, item or no_grad",
            )
        found = torch.autograd.grad(
            sums["loss"] / sums["count"], list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        return dict(zip(leaves, found, strict=True))

    def mean(self, states: Sequence[State], shares: Sequence[float], batches: Iterable[object]) -> float:
        """The mean loss of an average over many batches.

        Raises:
            OptionError: if there is no batch, or the loss is not finite.
        """
        total = count = 0.0
        with torch.no_grad():
            for batch in batches:
                # BatchNorm writes to its statistics: every batch gets tensors of its own.
                sums = self._sums(self._average(states, shares), batch)
                total, count = total + float(sums["loss"]), count + float(sums["count"])
        if not count > 0:
            raise OptionError("batches", expected="at least one sample", found="none", remedy="pass data to learn from")
        return total / count

    def _average(self, states: Sequence[State], shares: Sequence[float]) -> dict[str, Tensor]:
        """New tensors under the model's names; integers are those of the first network."""
        average = {}
        for name, own in self._own.items():
            rows = [state[name] for state in states if name in state]
            if own.is_floating_point() and rows:
                wide = torch.promote_types(own.dtype, torch.float32)
                total = rows[0].to(wide) * shares[0]
                for row, share in zip(rows[1:], shares[1:], strict=True):
                    total += row.to(wide) * share
                average[name] = total.to(own.dtype)
            else:
                average[name] = (rows[0] if rows else own).clone()
        return average

    def _sums(self, average: State, batch: object) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = functional_call(
            self._runner, {f"model.{name}": tensor for name, tensor in average.items()}, (batch,)
        )
        for name in ("loss", "count"):
            if name not in sums:
                raise OptionError(
                    "evaluate",
                    expected=f"sums over a batch with `{name}`",
                    found=", ".join(sums) or "none",
                    remedy=f"return `{name}`",
                )
        if not torch.isfinite(torch.as_tensor(sums["loss"])):
            raise OptionError(
                "evaluate",
                expected="a finite loss",
                found=str(float(sums["loss"])),
                remedy="look for NaN in the data, or overflow",
            )
        return sums


class _Runner(nn.Module):
    """Evaluation as a module, so that the model's tensors can be replaced while it runs."""

    def __init__(self, model: nn.Module, evaluate: Evaluate) -> None:
        super().__init__()
        self.model = model
        self.evaluate = evaluate

    def forward(self, batch: object) -> dict[str, Tensor]:
        return self.evaluate(self.model, batch)


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Run a block in eval mode, but with BatchNorm taking the statistics of each batch.

    Those of an average are not the average of its parents' (see `onebasin.merging.reestimate_batchnorm`), and change
    with every step.
    """
    with in_mode(model, train=False):
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.training = True
        yield


def repeatable(batches: Batches, label: str) -> Callable[[], Iterable[object]]:
    """A function that goes through the batches from the beginning; those of an iterator are kept.

    Raises:
        OptionError: if they are no batches.
    """
    if callable(batches):
        return batches
    if not isinstance(batches, Iterable):
        raise OptionError(label, expected="batches", found=type(batches).__name__, remedy="pass a list or a function")
    kept = list(batches) if isinstance(batches, Iterator) else batches
    return lambda: kept
