"""One model instance runs several networks in turn: their tensors are written into it and its own put back."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source, load_params, tied_names
from onebasin.correction.trace import Run, watch
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluate, check_shapes

Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class Networks:
    """A merged network and its parents, all in the coordinates of the first.

    Attributes:
        model: runs any of them; its tensors are written to, and put back by `hosting`.
        merged: new tensors, complete.
        parents: tensors by name.
        shares: one number a parent; they sum to 1.
        tied: names that are one tensor in the model.
    """

    model: nn.Module
    merged: dict[str, Tensor]
    parents: tuple[Params, ...]
    shares: tuple[float, ...]
    tied: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(
        cls, model: nn.Module, merged: Source, parents: Sequence[Source], weights: Sequence[float] | None
    ) -> "Networks":
        """Load and check them.

        Raises:
            MismatchError: if a tensor is missing or has another shape than in the model.
            OptionError: if there is no parent, or the weights do not fit.
        """
        if not parents:
            raise OptionError("parents", expected="at least one network", found="none", remedy="pass those merged")
        given = [1.0] * len(parents) if weights is None else [float(weight) for weight in weights]
        if len(given) != len(parents) or not 0 < sum(given) < math.inf or not all(map(math.isfinite, given)):
            raise OptionError(
                "weights",
                expected=f"{len(parents)} numbers with a positive sum",
                found=str(weights),
                remedy="pass one weight a parent",
            )
        complete = _complete(model, merged, "merged")
        tied = tied_names(model.state_dict())
        held = {name: tensor.detach().clone() for name, tensor in complete.items()}
        held |= {name: held[row[0]] for row in tied for name in row}
        rows = tuple(_complete(model, parent, f"parent {n}") for n, parent in enumerate(parents, start=1))
        return cls(model, held, rows, tuple(weight / sum(given) for weight in given), tied)

    def change(self, tensors: Params) -> None:
        """Replace tensors of the merged network; names tied to them follow."""
        for name, tensor in tensors.items():
            row = next((row for row in self.tied if name in row), (name,))
            self.merged.update(dict.fromkeys(row, tensor))


def _complete(model: nn.Module, source: Source, label: str) -> Params:
    """The tensors of a network under the names of the model; counters that are missing are the model's."""
    params, state = load_params(source), model.state_dict()
    check_shapes(state, params, label)
    taken: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name not in params:
            taken[name] = tensor.clone()
            continue
        # What shares the model's memory would change when another network is written there.
        value = params[name].detach()
        own = tensor.numel() and value.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
        taken[name] = value.clone() if own else value
    return taken


@contextmanager
def hosting(model: nn.Module) -> Iterator[None]:
    """Put a model's tensors back after a block that writes to them."""
    saved = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    try:
        yield
    finally:
        write(model, saved)


def write(model: nn.Module, params: Params) -> None:
    """Copy tensors into a model by name; names the model does not have are left out."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in params:
                tensor.copy_(params[name])


@dataclass(frozen=True)
class Data:
    """Batches to measure on.

    Attributes:
        runs: each runs a model on one batch.
        counts: the samples of each.
        first: the number of the first among all batches, from 1.
    """

    runs: tuple[Run, ...]
    counts: tuple[int, ...]
    first: int = 1

    @property
    def samples(self) -> int:
        """The samples of all batches."""
        return sum(self.counts)


def read_batches(model: nn.Module, batches: Iterable[object], evaluate: Evaluate, samples: int | None) -> Data:
    """Keep batches until there are at least so many samples; a model is run on each to count them.

    Raises:
        OptionError: if there is no sample, or `samples` is below 1.
    """
    if samples is not None and samples < 1:
        raise OptionError("samples", expected="1 or more", found=str(samples), remedy="raise it or pass None")
    runs: list[Run] = []
    counts: list[int] = []
    for batch in batches:
        run = _run(evaluate, batch)
        sums = watch(model, run, {}, stop=False)
        runs.append(run)
        counts.append(int(sums["count"]) if isinstance(sums, Mapping) and "count" in sums else 0)
        if samples is not None and sum(counts) >= samples:
            break
    if sum(counts) < 1:
        raise OptionError(
            "batches",
            expected="at least one sample, counted by evaluate",
            found="none",
            remedy="pass data, and return `count`",
        )
    return Data(tuple(runs), tuple(counts))


def _run(evaluate: Evaluate, batch: object) -> Callable[[nn.Module], object]:
    return lambda model: evaluate(model, batch)
