"""What it takes to run networks on data: the words for data and losses, and one model that runs many networks."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from onebasin.checkpoint import Checkpoint, Source, load_params
from onebasin.errors import MismatchError, OptionError
from onebasin.modes import in_mode

Batches = Iterable[object] | Callable[[], Iterable[object]]
"""Batches that can be gone through more than once, or a function that gives them afresh, shuffled if it likes."""
Evaluate = Callable[[nn.Module, object], dict[str, Tensor]]
"""Runs a model on one batch and returns sums over it: at least `loss`, which can be differentiated, and `count`."""
Predict = Callable[[nn.Module, object], tuple[Tensor, Tensor]]
"""Runs a classifier on one batch and returns logits `[n, classes]` and labels, int64 `[n]`."""
Params = Mapping[str, Tensor]
"""Tensors by name."""
BATCHNORM = ("reestimate", "keep", "repair")
T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """How networks are measured: on what, by what, and what becomes of BatchNorm's statistics.

    Attributes:
        evaluate: `evaluate(model, batch)` returns sums over the batch: `loss`, `count` and, for errors, `correct`.
        batches: the data to measure on.
        predict: `predict(model, batch)` returns logits `[n, classes]` and labels `[n]`. Where it is given it is run in
            place of `evaluate`: the loss is the mean cross-entropy in nats, every sample is known by itself, and
            calibration error and Brier score are measured, too.
        batchnorm: `"reestimate"` BatchNorm's running statistics at every point, `"keep"` those between the networks, or
            `"repair"`: the mean and spread of every unit become those of the networks, weighted (Jordan et al. 2023),
            also in models without BatchNorm.
        calibration: the data to estimate statistics and temperatures from, no labels needed for the first; None takes
            `batches`.
        calibration_samples: how many of their samples, at least; None takes all.
        temperature: whether to divide logits by the temperature that gives the least loss on `calibration`, at every
            point, for a calibrated loss beside the plain one; needs `predict`.

    Raises:
        OptionError: if an option is unknown or lacks what it needs, or the batches are none.
    """

    evaluate: Evaluate
    batches: Batches
    predict: Predict | None = None
    batchnorm: str = "reestimate"
    calibration: Batches | None = None
    calibration_samples: int | None = None
    temperature: bool = False

    def __post_init__(self) -> None:
        """Check the options; batches of an iterator are kept."""
        if self.batchnorm not in BATCHNORM:
            expected = " or ".join(BATCHNORM)
            raise OptionError("batchnorm", expected=expected, found=repr(self.batchnorm), remedy="choose one")
        if self.temperature and self.predict is None:
            raise OptionError(
                "temperature", expected="a `predict` that gives logits", found="none", remedy="pass it, or leave it out"
            )
        object.__setattr__(self, "batches", repeatable(self.batches, "batches"))
        given = self.batches if self.calibration is None else repeatable(self.calibration, "calibration")
        object.__setattr__(self, "calibration", given)

    def data(self) -> Iterable[object]:
        """The data to measure on, from the beginning."""
        return repeatable(self.batches, "batches")()

    def calibrating(self) -> Iterable[object]:
        """The data to estimate from, from the beginning."""
        return repeatable(self.batches if self.calibration is None else self.calibration, "calibration")()


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


class Runner:
    """Runs networks of one architecture on batches, through one model that keeps its own tensors.

    Args:
        model: gives its code, and devices and dtypes.

    Attributes:
        own: the model's parameters and buffers, tied ones under one of their names only: so they stay tied when they
            are replaced.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.own = {n: t.detach() for n, t in (*model.named_parameters(), *model.named_buffers())}
        self._inner = _Inner(model)

    def call(self, function: Callable[[nn.Module, object], T], params: Params, batch: object) -> T:
        """`function(model, batch)` while the model has these tensors; buffers that it writes to are written to there.

        Args:
            function: an evaluation, a prediction, or anything else that runs a model.
            params: tensors by the names of `own`.
            batch: passed on.
        """
        replaced = {f"model.{name}": tensor for name, tensor in params.items()}
        found: T = functional_call(self._inner, replaced, (function, batch))
        return found

    def sums(self, evaluate: Evaluate, params: Params, batch: object) -> dict[str, Tensor]:
        """The sums of an evaluation of one batch.

        Raises:
            OptionError: if `loss` or `count` is missing.
        """
        return required(self.call(evaluate, params, batch))


class _Inner(nn.Module):
    """A call as a module, so that the model's tensors can be replaced while it runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[nn.Module, object], T], batch: object) -> T:
        return function(self.model, batch)


def required(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sums over a batch that have what every evaluation needs.

    Raises:
        OptionError: if `loss` or `count` is missing.
    """
    for name in ("loss", "count"):
        if name not in sums:
            raise OptionError(
                "evaluate",
                expected=f"sums over a batch with `{name}`",
                found=", ".join(sums) or "none",
                remedy=f"return `{name}`",
            )
    return sums


def positive(count: float) -> float:
    """A number of samples.

    Raises:
        OptionError: if it is zero.
    """
    if not 0 < count < math.inf:
        raise OptionError(
            "evaluate", expected="a positive `count`", found=f"{count:g}", remedy="return the number of samples"
        )
    return count


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Run a block in eval mode, but with BatchNorm taking the statistics of each batch.

    Those of an average are not the average of its parents' (see `onebasin.correction.reestimate_batchnorm`), and change
    with every step.
    """
    with in_mode(model, train=False):
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.training = True
        yield


def fitting(model: nn.Module, source: Source, label: str) -> Params:
    """The tensors of a network of a model's architecture; BatchNorm's counters may be missing.

    Tensors that the model itself holds are copied, so that it may be written to; those of a file are read when they are
    asked for.

    Raises:
        MismatchError: if a tensor is missing, has another shape than in the model, or is not in the model.
    """
    params = load_params(source)
    state = model.state_dict()
    for name in params:
        if name not in state:
            raise MismatchError(
                f"{label}: {name}",
                expected="only tensors that the model has",
                found="another one",
                remedy="pass a checkpoint of the model's architecture",
            )
    check_shapes(state, params, label)
    if isinstance(params, Checkpoint):
        return params
    own = {tensor.untyped_storage().data_ptr() for tensor in state.values() if tensor.numel()}
    return {n: t.clone() if t.numel() and t.untyped_storage().data_ptr() in own else t for n, t in params.items()}


def check_shapes(state: Params, params: Params, label: str) -> None:
    """Look whether a network has all tensors of a model, in their shapes; BatchNorm's counters may be missing.

    Args:
        state: of the model.
        params: of the network; further tensors are not looked at.
        label: what to call the network in errors.

    Raises:
        MismatchError: if a tensor is missing or has another shape than in the model.
    """
    for name, tensor in state.items():
        found = tuple(params[name].shape) if name in params else None
        if found == tuple(tensor.shape) or (found is None and is_counter(name)):
            continue
        raise MismatchError(
            f"{label}: {name}",
            expected=f"shape {tuple(tensor.shape)}, as in the model",
            found="no such tensor" if found is None else f"shape {found}",
            remedy="pass a checkpoint of the model's architecture",
        )


def is_counter(name: str) -> bool:
    """Whether a tensor is BatchNorm's counter of batches, which checkpoints from before torch 0.4.1 lack."""
    return name.endswith("num_batches_tracked")
