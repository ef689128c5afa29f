"""Make one network out of several that lie in the same coordinates."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from onebasin.checkpoint import Source, check_finite, load_params, tied_names
from onebasin.errors import MismatchError, OptionError
from onebasin.merging.average import lerp, mean

__all__ = ["METHODS", "merge"]

METHODS = {"mean": mean, "lerp": lerp}
"""The merge methods by name; each combines one tensor of every model, given normalised weights."""


def merge(
    models: Sequence[Source],
    method: str = "mean",
    weights: Sequence[float] | None = None,
) -> dict[str, Tensor]:
    """Combine networks of one architecture, tensor by tensor.

    The networks should be in the same coordinates: apply a matching to all but the first before.

    Args:
        models: modules, state dicts or checkpoints' paths; the first gives names, order and dtypes.
        method: `"mean"`, the weighted average of any number; `"lerp"`, the line through two, `(1 - lam) a + lam b`.
        weights: for `mean` one number a model (None: equal), divided by their sum; for `lerp` the single number lam
            (None: 0.5), 0 for the first model and 1 for the second.

    Returns:
        new tensors; averages are taken in float64 and rounded once to the dtype of the first model. Integer and boolean
        tensors, which cannot be averaged, are those of the first model. Tied tensors stay tied.

    Raises:
        OptionError: if the method is unknown, or the weights do not fit the method and the number of models.
        MismatchError: if a tensor is missing, has another shape or dtype, or holds NaN.
    """
    if method not in METHODS:
        raise OptionError("method", expected=" or ".join(METHODS), found=repr(method), remedy="choose one of them")
    shares = _shares(method, len(models), weights)
    loaded = [load_params(model) for model in models]
    labels = [str(m) if isinstance(m, str | Path) else f"model {n}" for n, m in enumerate(models, start=1)]
    first = loaded[0]
    for params, label in zip(loaded, labels, strict=True):
        _same_tensors(first, params, labels[0], label)
        check_finite(params, label, infinity=True)
    rows_of_ties = [{name: row for row in tied_names(params) for name in row} for params in loaded]
    merged: dict[str, Tensor] = {}
    for name, tensor in first.items():
        # Names that are one tensor in every model are one tensor in the result.
        twins = (n for n in rows_of_ties[0].get(name, ()) if n in merged)
        twin = next((n for n in twins if all(n in ties.get(name, ()) for ties in rows_of_ties)), None)
        if twin is not None:
            merged[name] = merged[twin]
        elif tensor.is_floating_point() or tensor.is_complex():
            merged[name] = METHODS[method]([params[name] for params in loaded], shares)
        else:
            merged[name] = tensor.clone()
    return merged


def _shares(method: str, count: int, weights: Sequence[float] | None) -> list[float]:
    if count == 0:
        raise OptionError("models", expected="at least one model", found="none", remedy="pass the models to merge")
    if method == "lerp":
        lam = [0.5] if weights is None else list(weights)
        if count != 2 or len(lam) != 1:  # noqa: PLR2004 - a line has two ends
            raise OptionError(
                "weights",
                expected="two models and one number lam for lerp",
                found=f"{count} models and {len(lam)} numbers",
                remedy="use mean for other counts",
            )
        if not math.isfinite(lam[0]):
            raise OptionError(
                "weights", expected="a finite lam", found=str(lam[0]), remedy="pass 0 for the first model"
            )
        return [1 - lam[0], lam[0]]
    shares = [1.0] * count if weights is None else list(weights)
    total = sum(shares)
    if len(shares) != count or not 0 < total < math.inf:
        raise OptionError(
            "weights",
            expected=f"{count} numbers with a positive sum",
            found=str(weights),
            remedy="pass one weight a model",
        )
    return [share / total for share in shares]


def _same_tensors(first: Mapping[str, Tensor], other: Mapping[str, Tensor], label: str, other_label: str) -> None:
    for name in [*first, *other]:
        missing = label if name not in first else other_label if name not in other else ""
        if missing:
            raise MismatchError(
                f"{missing}: {name}", expected="a tensor of this name", found="none", remedy="merge one architecture"
            )
        a, b = first[name], other[name]
        for what, mine, theirs in (("shape", tuple(a.shape), tuple(b.shape)), ("dtype", a.dtype, b.dtype)):
            if mine != theirs:
                raise MismatchError(
                    f"{other_label}: {name}",
                    expected=f"{what} {mine}, as in {label}",
                    found=f"{what} {theirs}",
                    remedy="merge checkpoints of one architecture and one dtype",
                )
