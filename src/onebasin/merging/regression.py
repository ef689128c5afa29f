"""RegMean (Jin et al., 2023): linear layers merged by least squares on their own inputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from onebasin.errors import MismatchError
from onebasin.evaluation import Evaluate
from onebasin.merging.average import normalized
from onebasin.merging.loading import at_most
from onebasin.merging.network import merge
from onebasin.merging.stack import round_once


def regmean_merge(
    models: Sequence[Mapping[str, Tensor]],
    grams: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float] | None = None,
    *,
    alpha: float = 0.9,
) -> dict[str, Tensor]:
    """Merge linear layers so that they answer every parent's inputs as that parent does, in the least squares sense.

    The minimiser of sum over m of w_m |(W - W_m) X_m|^2 is W = (sum of w_m W_m G_m) (sum of w_m G_m)^-1 with the Gram
    matrices G_m = X_m X_m^T, whose entries off the diagonal are multiplied by alpha (equation 2 and section 3.4 of the
    paper). It is taken as a step from the weighted mean, through a pseudo-inverse, so that directions that no input
    has stay at the mean. Everything else is the weighted mean.

    Args:
        models: tensors by name; networks in the same coordinates.
        grams: for every model, `[in, in]` by the name of the weight `[out, in]`.
        weights: a number a model, relative to each other; None: equal.
        alpha: from 0 to 1.

    Returns:
        new tensors in the dtypes of the first model, solved for in float64.

    Raises:
        OptionError: if the weights do not fit.
        MismatchError: if tensors do not fit each other, or hold NaN.
    """
    count = len(models)
    shares = normalized([1.0] * count if weights is None or len(weights) == 1 else list(weights))
    merged = merge(models, "mean", shares)
    for name in grams[0]:
        rows = [gram[name] for gram in grams if name in gram]
        width = merged[name].shape[1] if name in merged and merged[name].ndim == 2 else None  # noqa: PLR2004
        for number, gram in enumerate(rows, start=1):
            if len(rows) < count or tuple(gram.shape) != (width, width):
                raise MismatchError(
                    f"gram {number}: {name}",
                    expected=f"a matrix of shape ({width}, {width}) for every model",
                    found=f"shape {tuple(gram.shape)} for {len(rows)} of {count}",
                    remedy="collect it on the same model",
                )
        matrices = [alpha * gram + (1 - alpha) * gram.diag().diag() for gram in (row.double() for row in rows)]
        mean = merged[name].double()
        pull = sum(
            (s * (model[name].double() - mean) @ g for s, model, g in zip(shares, models, matrices, strict=True)),
            torch.zeros_like(mean),
        )
        total = sum((s * g for s, g in zip(shares, matrices, strict=True)), torch.zeros_like(matrices[0]))
        merged[name] = round_once(mean + pull @ torch.linalg.pinv(total, hermitian=True), merged[name].dtype)
    return merged


def gram_matrices(
    model: nn.Module, batches: Iterable[object], evaluate: Evaluate, samples: int = 1000
) -> dict[str, Tensor]:
    """The mean outer products of the inputs of every linear layer.

    Args:
        model: in the mode it is to be looked at in.
        batches: as `evaluate` takes them.
        evaluate: runs the model.
        samples: to look at; the batch that completes them is looked at whole.

    Returns:
        float64 `[in, in]` by the name of the weight, for layers that ran; a mean over samples and, in sequences, over
        positions.

    Raises:
        OptionError: there is no batch, or `samples` is below 1.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).double()
            sums[name] = sums[name] + x.T @ x if name in sums else x.T @ x
            counts[name] = counts.get(name, 0) + len(x)

        return see

    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    hooks = [m.register_forward_pre_hook(watch(f"{n}.weight" if n else "weight")) for n, m in layers.items()]
    try:
        with torch.no_grad():
            for batch in at_most(batches, samples):
                evaluate(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / counts[name] for name, total in sums.items()}
