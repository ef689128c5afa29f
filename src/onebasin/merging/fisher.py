"""Fisher-weighted averaging (Matena and Raffel, 2022): each parameter counts as much as the loss depends on it."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from onebasin.checkpoint import specs
from onebasin.errors import MismatchError
from onebasin.evaluation import Evaluate
from onebasin.merging.average import normalized
from onebasin.merging.loading import at_most, singles
from onebasin.merging.network import merge
from onebasin.merging.rule import Chunk
from onebasin.merging.stack import Stack, combine


def fisher_merge(
    models: Sequence[Mapping[str, Tensor]],
    fishers: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float] | None = None,
) -> dict[str, Tensor]:
    """Average every entry with its Fisher information as its weight.

    theta = sum over m of w_m F_m theta_m / sum over m of w_m F_m (equation 2 of the paper). Entries whose information
    is zero in all models get the weighted mean.

    Args:
        models: tensors by name; networks in the same coordinates.
        fishers: for every model, the diagonal of its Fisher information by the names of the parameters, in their
            shapes and not negative; tensors that it lacks get the weighted mean.
        weights: a number a model, relative to each other; None: equal.

    Returns:
        new tensors in the dtypes of the first model, added up in float64.

    Raises:
        OptionError: if the weights do not fit.
        MismatchError: if tensors do not fit each other, or hold NaN.
    """
    count = len(models)
    shares = normalized([1.0] * count if weights is None or len(weights) == 1 else list(weights))
    merged = merge(models, "mean", shares)
    shapes = {name: spec.shape for name, spec in specs(merged).items()}
    for number, fisher in enumerate(fishers, start=1):
        for name, tensor in fisher.items():
            if shapes.get(name) != tuple(tensor.shape):
                raise MismatchError(
                    f"fisher {number}: {name}",
                    expected=f"the shape of the model's tensor, {shapes.get(name, 'of which there is none')}",
                    found=f"shape {tuple(tensor.shape)}",
                    remedy="estimate it on the same model",
                )

    def rule(chunk: Chunk) -> Tensor:
        rows, information = chunk.rows[:count], chunk.rows[count:]
        parts = [share * row for share, row in zip(shares, information, strict=True)]
        total = sum(parts[1:], parts[0])
        plain = sum((share * row for share, row in zip(shares, rows, strict=True)), torch.zeros_like(total))
        weighted = sum((part * row for part, row in zip(parts, rows, strict=True)), torch.zeros_like(total))
        return torch.where(total > 0, weighted / total, plain)

    for name in merged:
        if all(name in fisher for fisher in fishers):
            rows = [model[name] for model in models]
            stack = Stack.of(name, [*rows, *(fisher[name] for fisher in fishers)], dtype=merged[name].dtype)
            # Agreement is not for `combined` to see: the rows of the information differ.
            agree = torch.stack([row == rows[0] for row in rows]).all(dim=0)
            merged[name] = torch.where(agree, rows[0], combine(stack, rule, merged[name]))
    return merged


def estimate_fisher(
    model: nn.Module, batches: Iterable[object], evaluate: Evaluate, samples: int = 1000
) -> dict[str, Tensor]:
    """The diagonal of the empirical Fisher information: the mean square of the loss's gradient at single samples.

    Args:
        model: in the mode it is to be looked at in; its gradients are left as they were.
        batches: as `evaluate` takes them. Tensors of one length are taken apart into samples (see
            `onebasin.merging.loading.singles`); of other batches the gradient is that of the whole batch.
        evaluate: gives `loss`, which can be differentiated.
        samples: to look at, at most.

    Returns:
        float64 by the names of the parameters, in their shapes.

    Raises:
        OptionError: there is no batch, or `samples` is below 1.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    seen = 0
    for sample in (one for batch in at_most(batches, samples) for one in singles(batch)):
        loss = evaluate(model, sample)["loss"]
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(found, gradients, strict=True):
            if gradient is not None:
                found[name] += gradient.double().square()
        seen += 1
        if seen >= samples:
            break
    return {name: total / seen for name, total in found.items()}
