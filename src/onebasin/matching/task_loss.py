"""The loss of a task at averages of networks, and its gradient with respect to the averaged weights."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from onebasin.errors import OptionError
from onebasin.evaluation import Evaluate, Params, Runner
from onebasin.matching.problem import scored_parts, tied
from onebasin.symmetry import Matching, Symmetry


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

    def __init__(self, model: nn.Module, evaluate: Evaluate, networks: Sequence[Params], symmetry: Symmetry) -> None:
        self._runner = Runner(model)
        self._evaluate = evaluate
        self._own = self._runner.own
        self.states = tuple(
            {
                name: (params[name] if name in params else tied(symmetry, params, name)).detach().to(own)
                for name, own in self._own.items()
                if name in params or any(name in row and not params.keys().isdisjoint(row) for row in symmetry.tied)
            }
            for params in networks
        )
        self.names = tuple(n for n in scored_parts(symmetry, self.states[0]) if self._own[n].is_floating_point())

    def moved(self, matchings: Sequence[Matching]) -> list[Params]:
        """The networks in the coordinates of the first.

        Args:
            matchings: one for every network but the first.
        """
        return [self.states[0], *(m.apply(state) for m, state in zip(matchings, self.states[1:], strict=True))]

    def gradients(self, states: Sequence[Params], shares: Sequence[float], batch: object) -> Params:
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

    def mean(self, states: Sequence[Params], shares: Sequence[float], batches: Iterable[object]) -> float:
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

    def _average(self, states: Sequence[Params], shares: Sequence[float]) -> dict[str, Tensor]:
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

    def _sums(self, average: Params, batch: object) -> dict[str, Tensor]:
        sums = self._runner.sums(self._evaluate, average, batch)
        if not torch.isfinite(torch.as_tensor(sums["loss"])):
            raise OptionError(
                "evaluate",
                expected="a finite loss",
                found=str(float(sums["loss"])),
                remedy="look for NaN in the data, or overflow",
            )
        return sums
