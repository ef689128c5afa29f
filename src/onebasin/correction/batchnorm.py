"""Re-estimate BatchNorm's running statistics: those of an average are not the average of those of its parents."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from onebasin.errors import OptionError
from onebasin.evaluation import Evaluate
from onebasin.modes import in_mode
from onebasin.progress import Progress, Report, silent

_END = object()


def batchnorm_layers(model: nn.Module) -> list[_BatchNorm]:
    """The layers of a model that keep running statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]


def reestimate_batchnorm(
    model: nn.Module,
    batches: Iterable[object],
    evaluate: Evaluate,
    samples: int | None = None,
    *,
    progress: Report = silent,
) -> int:
    """Replace running means and variances by their cumulative averages over batches, in place.

    Only BatchNorm layers run in train mode, so that dropout stays off. Momentum and every module's mode are restored,
    also when interrupted.

    Args:
        model: its BatchNorm buffers are modified; a model without BatchNorm is left alone.
        batches: as `evaluate` takes them; unlabeled data is enough if `evaluate` does not look at labels.
        evaluate: runs the model on one batch; `count` in its result says how many samples it held.
        samples: stop after at least so many samples; None uses all batches.
        progress: called after every batch.

    Returns:
        the number of samples used; 0 for a model without BatchNorm.

    Raises:
        OptionError: if there are BatchNorm layers and no batches, `samples` is below 1, or what reaches a layer is not
            finite.
    """
    layers = batchnorm_layers(model)
    if not layers:
        return 0
    if samples is not None and samples < 1:
        raise OptionError("samples", expected="1 or more", found=str(samples), remedy="raise it or pass None")
    rest = iter(batches)
    first = next(rest, _END)
    if first is _END:
        raise OptionError("batches", expected="at least one batch", found="none", remedy="pass data to estimate from")
    used = 0
    with cumulative(model):
        for layer in layers:
            layer.reset_running_stats()
        with torch.no_grad():
            for batch in itertools.chain([first], rest):
                used += int(evaluate(model, batch)["count"])
                progress(Progress("re-estimating BatchNorm", used, samples))
                if samples is not None and used >= samples:
                    break
    _check(model)
    return used


def _check(model: nn.Module) -> None:
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")) and not bool(buffer.isfinite().all()):
            raise OptionError(
                "batches",
                expected="finite values in every layer",
                found=f"NaN or infinity at {name}",
                remedy="look for them in the data and in the network",
            )


@contextmanager
def cumulative(model: nn.Module) -> Iterator[None]:
    """Run a block in eval mode, but with BatchNorm averaging what it sees into its statistics, all batches alike.

    Momentum and every module's mode are restored, also when interrupted.
    """
    layers = batchnorm_layers(model)
    momenta = [layer.momentum for layer in layers]
    with in_mode(model, train=False):
        try:
            for layer in layers:
                layer.momentum = None  # PyTorch's word for a cumulative average.
                layer.training = True
            yield
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
