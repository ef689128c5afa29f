"""All corrections by name, and the choice among them by what is available."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from onebasin.checkpoint import Source
from onebasin.correction.batchnorm import Evaluate, batchnorm_layers, reestimate_batchnorm
from onebasin.correction.datafree import calibrate_biases, rescale_from_weights
from onebasin.correction.hosting import Networks, hosting, write
from onebasin.correction.refit import refit
from onebasin.correction.repair import repair, rescale
from onebasin.correction.result import Correction
from onebasin.correction.trace import watch
from onebasin.errors import OptionError
from onebasin.progress import Report, silent


@dataclass(frozen=True)
class Method:
    """A correction.

    Attributes:
        apply: the function. With data it takes `(model, merged, parents, batches, evaluate, weights, samples)`, without
            `(model, merged, parents, args, kwargs, weights)`; options of its own are named.
        data: whether it needs unlabeled data.
        says: what it does, in a few words.
    """

    apply: Callable[..., Correction]
    data: bool
    says: str


def restore_batchnorm(
    model: nn.Module,
    merged: Source,
    parents: Sequence[Source],
    batches: Iterable[object],
    evaluate: Evaluate,
    weights: Sequence[float] | None = None,
    samples: int | None = 2000,
    *,
    progress: Report = silent,
) -> Correction:
    """Re-estimate BatchNorm's running statistics, as `reestimate_batchnorm` does, and return new tensors.

    Arguments and errors are those of `repair`; the parents are not looked at beyond their shapes.
    """
    started = time.perf_counter()
    networks = Networks.of(model, merged, parents, weights)
    with hosting(model):
        write(model, networks.merged)
        used = reestimate_batchnorm(model, batches, evaluate, samples, progress=progress)
        changed = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    notes = (f"{used} samples" if used else "the model has no BatchNorm: nothing was changed",)
    return Correction(networks.merged | changed, "batchnorm", notes, time.perf_counter() - started)


METHODS: Mapping[str, Method] = {
    "rescale_from_weights": Method(rescale_from_weights, data=False, says="weights as long as their parents'"),
    "calibrate_biases": Method(calibrate_biases, data=False, says="biases that fade with depth"),
    "batchnorm": Method(restore_batchnorm, data=True, says="BatchNorm statistics from data"),
    "rescale": Method(rescale, data=True, says="spread of every unit as in the parents"),
    "repair": Method(repair, data=True, says="mean and spread of every unit as in the parents"),
    "repair_closed": Method(partial(repair, form="closed"), data=True, says="the same, predicted from the parents"),
    "refit": Method(refit, data=True, says="layerwise least squares towards the parents' average"),
}
"""The corrections by name."""


def correct(
    model: nn.Module,
    merged: Source,
    parents: Sequence[Source],
    batches: Iterable[object] | None = None,
    evaluate: Evaluate | None = None,
    *,
    method: str = "auto",
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    validation: Iterable[object] | None = None,
    weights: Sequence[float] | None = None,
    samples: int | None = 2000,
    progress: Report = silent,
) -> Correction:
    """Correct a merged network with what is at hand.

    Args:
        model: of the networks' architecture; runs them, and is left as it was.
        merged: the network to correct, a module, tensors by name or a path.
        parents: those it was made of, in its coordinates (apply a matching first).
        batches: unlabeled data, as `evaluate` takes it; None where there is none.
        evaluate: runs a model on one batch; needed with data.
        method: a name of `METHODS`, or `"auto"`: with labels (`validation`) all are tried, the merged network as it is
            among them, and the one with the most `correct` answers is taken (the least `loss` where none are counted);
            with unlabeled data `refit`; with nothing `rescale_from_weights`.
        args: positional inputs of one forward pass, for methods that need no data.
        kwargs: named inputs.
        validation: batches with labels that none of the networks was trained on.
        weights: one number a parent (None: equal), divided by their sum.
        samples: of `batches`, at least so many are used; None uses all.
        progress: called after every layer.

    Returns:
        the corrected network; its notes say what was chosen and why.

    Raises:
        OptionError: if the method is unknown, or needs data that is not there.
        MismatchError: if a network does not fit the model.
    """
    if method not in {"auto", *METHODS}:
        raise OptionError(
            "method", expected=" or ".join(["auto", *METHODS]), found=repr(method), remedy="choose one of them"
        )
    kept = None if batches is None else list(batches)
    needs_data = METHODS[method].data if method != "auto" else validation is not None or kept is not None
    if needs_data and (kept is None or evaluate is None):
        raise OptionError(
            "batches",
            expected=f"batches and evaluate, which {method} needs",
            found="none" if kept is None else "no evaluate",
            remedy="pass both, or choose a method that needs no data",
        )

    def apply(name: str) -> Correction:
        row = METHODS[name]
        if row.data:
            return row.apply(model, merged, parents, kept, evaluate, weights, samples, progress=progress)
        given: tuple[Sequence[object], Mapping[str, object] | None] = (args, kwargs)
        if not (args or kwargs) and kept and evaluate is not None:
            given = _inputs_of(model, evaluate, kept[0])
        return row.apply(model, merged, parents, *given, weights)

    if method != "auto":
        return apply(method)
    if validation is not None and evaluate is not None:
        return _best(model, merged, parents, weights, apply, list(validation), evaluate)
    name = "rescale_from_weights" if kept is None else "refit"
    found = apply(name)
    why = f"{name}, because there is {'no data' if kept is None else 'unlabeled data and no validation'}"
    return replace(found, notes=(why, *found.notes))


def _best(
    model: nn.Module,
    merged: Source,
    parents: Sequence[Source],
    weights: Sequence[float] | None,
    apply: Callable[[str], Correction],
    validation: Sequence[object],
    evaluate: Evaluate,
) -> Correction:
    """The correction with the best figure on labeled data, the merged network itself included."""
    started = time.perf_counter()
    untouched = Correction(Networks.of(model, merged, parents, weights).merged, "none")
    tried = [untouched]
    tried += [apply(name) for name in METHODS if name != "batchnorm" or batchnorm_layers(model)]
    figures = []
    with hosting(model):
        for found in tried:
            write(model, found.params)
            figures.append(_figure(model, validation, evaluate))
    best = max(range(len(tried)), key=lambda number: figures[number])
    shown = ", ".join(f"{found.method} {figure:.4f}" for found, figure in zip(tried, figures, strict=True))
    notes = (f"{tried[best].method}, the best on the validation batches: {shown}", *tried[best].notes)
    return replace(tried[best], notes=notes, seconds=time.perf_counter() - started)


def _figure(model: nn.Module, batches: Sequence[object], evaluate: Evaluate) -> float:
    """The share of correct answers; minus the mean loss where none are counted."""
    sums: dict[str, float] = {}
    for batch in batches:
        for name, value in _sums(model, evaluate, batch).items():
            sums[name] = sums.get(name, 0.0) + value
    count = max(sums.get("count", 0.0), 1.0)
    return sums["correct"] / count if "correct" in sums else -sums.get("loss", 0.0) / count


def _sums(model: nn.Module, evaluate: Evaluate, batch: object) -> dict[str, float]:
    found = watch(model, lambda network: evaluate(network, batch), {}, stop=False)
    return {name: float(value) for name, value in found.items()} if isinstance(found, Mapping) else {}


def _inputs_of(model: nn.Module, evaluate: Evaluate, batch: object) -> tuple[tuple[object, ...], Mapping[str, object]]:
    """The inputs with which `evaluate` runs the model on a batch."""
    seen: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def note(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        seen.append((args, kwargs))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        _sums(model, evaluate, batch)
    finally:
        handle.remove()
    return seen[0] if seen else ((), {})
