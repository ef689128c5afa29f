"""Re-estimate BatchNorm's running statistics: those of an average are not the average of those of its parents."""

import itertools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from onebasin.errors import OptionError
from onebasin.progress import Progress, Report, silent

Evaluate = Callable[[nn.Module, object], dict[str, Tensor]]
"""Runs a model on one batch and returns sums over it, at least `loss` and `count`."""


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
        OptionError: if there are BatchNorm layers and no batches, or `samples` is below 1.
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
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    used = 0
    try:
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # PyTorch's word for a cumulative average.
            layer.training = True
        with torch.no_grad():
            for batch in itertools.chain([first], rest):
                used += int(evaluate(model, batch)["count"])
                progress(Progress("re-estimating BatchNorm", used, samples))
                if samples is not None and used >= samples:
                    break
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, training in modes:
            module.training = training
    return used
