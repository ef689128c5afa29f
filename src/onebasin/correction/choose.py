"""All corrections by name, and the choice among them by what is available."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from onebasin.checkpoint import Source
from onebasin.correction.batchnorm import batchnorm_layers, reestimate_batchnorm
from onebasin.correction.datafree import calibrate_biases, rescale_from_weights
from onebasin.correction.hosting import Networks, hosting, write
from onebasin.correction.refit import refit
from onebasin.correction.repair import repair, rescale
from onebasin.correction.result import Correction
from onebasin.correction.trace import watch
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluate
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
    notes = (f"re-estimated on {used} samples" if used else "the model has no BatchNorm: nothing was changed",)
    return Correction(networks.merged | changed, "batchnorm", notes, time.perf_counter() - started)


METHODS: Mapping[str, Method] = {
    "rescale_from_weights": Method(rescale_from_weights, data=False, says="weights as long as their parents'"),
    "calibrate_biases": Method(calibrate_biases, data=False, says="biases that fade with depth"),
    "batchnorm": Method(restore_batchnorm, data=True, says="BatchNorm statistics from data"),
    "rescale": Method(rescale, data=True, says="spread of every unit as in the parents"),
    "repair": Method(repair, data=True, says="mean and spread of every unit as in the parents"),
    "repair_closed": Method(partial(repair, form="closed"), data=True, says="the same, predicted from the parents"),
    "refit": Method(refit, data=True, says="layerwise least squares towards the parents' average"),
    "refit_mixture": Method(
        partial(refit, outputs="probabilities"), data=True, says="the same, the outputs towards the average probability"
    ),
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
    """Correct a merged network.

    Args:
        model: of the networks' architecture; runs them, and is left as it was.
        merged: the network to correct.
        parents: those it was made of, in its coordinates (apply a matching first).
        batches: unlabeled data, as `evaluate` takes it.
        evaluate: runs a model on one batch.
        method: a name of `METHODS`, or `"auto"`: with labels the best of all on them, no correction included (most
            `correct`, or least `loss`); with unlabeled data `refit`; with neither `rescale_from_weights`.
        args: positional inputs of a forward pass, for methods that need no data.
        kwargs: named ones.
        validation: batches with labels, which none of the networks was trained on.
        weights: one number a parent (None: equal), divided by their sum.
        samples: of `batches`; None uses all.
        progress: called after every layer.

    Returns:
        the corrected network; its notes say what was chosen and why.

    Raises:
        OptionError: if the method is unknown, or needs data that is not there.
        MismatchError: if a network does not fit the model.
    """
    if method not in {"auto", *METHODS}:
        names = " or ".join(["auto", *METHODS])
        raise OptionError("method", expected=names, found=repr(method), remedy="choose one of them")
    needs_data = METHODS[method].data if method != "auto" else validation is not None or batches is not None
    if needs_data and (batches is None or evaluate is None):
        raise _no_data(method, "none" if batches is None else "no evaluate")
    kept = list(batches) if isinstance(batches, Iterator) else batches
    work = _Work((model, merged, parents), kept, evaluate, args, kwargs, weights, samples, progress)
    if method != "auto":
        return work.apply(method)
    if validation is not None:
        return work.best(list(validation))
    name, why = (
        ("refit", "unlabeled data and no validation") if kept is not None else ("rescale_from_weights", "no data")
    )
    return _noted(work.apply(name), f"{name}, because there is {why}")


def _no_data(method: str, found: str) -> OptionError:
    return OptionError(
        "batches",
        expected=f"batches and evaluate, which {method} needs",
        found=found,
        remedy="pass both, or choose a method that needs no data",
    )


def _noted(found: Correction, note: str) -> Correction:
    return replace(found, notes=(note, *found.notes))


@dataclass(frozen=True)
class _Work:
    """What `correct` was given."""

    networks: tuple[nn.Module, Source, Sequence[Source]]
    batches: Iterable[object] | None
    evaluate: Evaluate | None
    args: Sequence[object]
    kwargs: Mapping[str, object] | None
    weights: Sequence[float] | None
    samples: int | None
    progress: Report

    def apply(self, name: str) -> Correction:
        """One correction by name."""
        row = METHODS[name]
        if row.data:
            data = (self.batches, self.evaluate, self.weights, self.samples)
            found = row.apply(*self.networks, *data, progress=self.progress)
        else:
            found = row.apply(*self.networks, *self._inputs(), self.weights)
        return replace(found, method=name)

    def best(self, validation: Sequence[object]) -> Correction:
        """The correction with the best figure on labeled data, the merged network itself included."""
        started = time.perf_counter()
        model, merged, parents = self.networks
        tried = [Correction(Networks.of(model, merged, parents, self.weights).merged, "none")]
        tried += [self.apply(name) for name in METHODS if name != "batchnorm" or batchnorm_layers(model)]
        figures = []
        with hosting(model):
            for found in tried:
                write(model, found.params)
                figures.append(_figure(model, validation, self.evaluate))
        best = tried[max(range(len(tried)), key=lambda number: figures[number])]
        shown = ", ".join(f"{found.method} {figure:.4f}" for found, figure in zip(tried, figures, strict=True))
        best = replace(best, seconds=time.perf_counter() - started)
        return _noted(best, f"{best.method}, the best on the validation batches: {shown}")

    def _inputs(self) -> tuple[Sequence[object], Mapping[str, object] | None]:
        """The inputs given, or those with which `evaluate` runs the model on the first batch."""
        if self.args or self.kwargs or self.batches is None:
            return self.args, self.kwargs
        seen: list[tuple[Sequence[object], Mapping[str, object]]] = []

        def note(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            seen.append((args, kwargs))

        handle = self.networks[0].register_forward_pre_hook(note, with_kwargs=True)
        try:
            _sums(self.networks[0], self.evaluate, next(iter(self.batches)))
        finally:
            handle.remove()
        return seen[0] if seen else ((), {})


def _figure(model: nn.Module, batches: Sequence[object], evaluate: Evaluate | None) -> float:
    """The share of correct answers; minus the mean loss where none are counted."""
    sums: dict[str, float] = {}
    for batch in batches:
        for name, value in _sums(model, evaluate, batch).items():
            sums[name] = sums.get(name, 0.0) + value
    count = max(sums.get("count", 0.0), 1.0)
    return sums["correct"] / count if "correct" in sums else -sums.get("loss", 0.0) / count


def _sums(model: nn.Module, evaluate: Evaluate | None, batch: object) -> dict[str, float]:
    def run(network: nn.Module) -> object:
        return None if evaluate is None else evaluate(network, batch)

    found = watch(model, run, {}, stop=False)
    return {name: float(value) for name, value in found.items()} if isinstance(found, Mapping) else {}
