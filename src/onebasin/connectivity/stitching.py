"""Two networks compared at a layer: one's features in the other's tail, CKA, and angles between subspaces."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.connectivity.features import LayerFigures, Reader, as_rows, hooked, module_of, reading
from onebasin.connectivity.measure import State, states_of
from onebasin.connectivity.span import Span
from onebasin.errors import MismatchError, OptionError
from onebasin.evaluation import Evaluation, positive
from onebasin.progress import Progress, Report, silent

_LEAST = 4
"""Samples that the unbiased estimate of HSIC needs."""


@dataclass(frozen=True)
class Stitching:
    """What one network's features are worth to the other's remaining layers.

    Attributes:
        layers: at which the networks were stitched, in the order they run.
        loss: the mean loss a sample of each stitched network.
        error: the share of wrong answers, 0 to 1; empty where correct answers are not counted.
        tail: loss and error of the network whose tail it is, by itself; the error None where it is not counted.
        share: of a's features in what is injected.
        count: samples.
    """

    layers: tuple[str, ...]
    loss: tuple[float, ...]
    error: tuple[float, ...]
    tail: tuple[float, float | None]
    share: float
    count: int

    def to_json(self) -> dict[str, object]:
        """The JSON form: one list a column."""
        return {
            "count": self.count,
            "share": self.share,
            "tail": list(self.tail),
            "layers": list(self.layers),
            "loss": list(self.loss),
            "error": list(self.error),
        }


def stitch(
    model: nn.Module,
    a: Source,
    b: Source,
    evaluation: Evaluation,
    *,
    layers: Sequence[str] | None = None,
    share: float = 1.0,
    samples: int | None = None,
    progress: Report = silent,
) -> Stitching:
    """Put features of `a` in the place of `b`'s at one layer, and measure what the rest of `b` makes of them.

    Nothing is trained between the two. At a layer that not all paths go through, such as one beside a shortcut, the
    rest of `b` goes on to see its own features too.

    Args:
        model: of the architecture of both; left as it is.
        a: gives features.
        b: gives the tail.
        evaluation: the loss, the data, and what becomes of BatchNorm's statistics; `predict` is not used.
        layers: names of modules; None takes all of `feature_layers`.
        share: of a's features in what is injected, the rest are b's own: 1/2 injects the mean, as the stitching of
            Cross-Task Linearity does.
        samples: to run, at least; None takes all.
        progress: called after every layer of a batch.

    Raises:
        OptionError: if `share` is not finite, or the data, the evaluation, `layers` or `samples` cannot work.
        MismatchError: if a network does not fit the model.
    """
    if not math.isfinite(share):
        raise OptionError("share", expected="a finite number", found=str(share), remedy="try 1")
    span = Span(model, [a, b])
    with reading(span, evaluation, layers) as reader:
        states = states_of(span, [(1, 0), (0, 1)], evaluation)
        found = _stitched(reader, states, share, samples, progress)
    own = found.pop("")
    count = positive(own["count"])
    names = tuple(found)
    counted = "correct" in own
    return Stitching(
        names,
        tuple(found[name]["loss"] / count for name in names),
        tuple(1 - found[name]["correct"] / count for name in names) if counted else (),
        (own["loss"] / count, 1 - own["correct"] / count if counted else None),
        share,
        int(count),
    )


def _stitched(
    reader: Reader, states: Sequence[State], share: float, samples: int | None, progress: Report
) -> dict[str, dict[str, float]]:
    """Sums of the evaluation by layer; under "" those of the tail by itself."""
    if samples is not None and samples < 1:
        raise OptionError("samples", expected="1 or more", found=str(samples), remedy="raise it or pass None")
    totals: dict[str, dict[str, float]] = {"": {}}
    parts: list[list[str]] | None = None
    for batch in reader.evaluation.data():
        parts = parts or reader.plan(states[0], batch, len(states))
        _run(reader, states[1], batch, {}, totals[""])
        for part in parts:
            features = [reader.read(state, batch, part)[0] for state in states]
            for layer in (name for name in part if all(name in row for row in features)):
                given, own = (row[layer].output for row in features)
                injected = given if share == 1 else share * given + (1 - share) * own
                _run(reader, states[1], batch, {layer: injected}, totals.setdefault(layer, {}))
                progress(Progress("stitching", int(totals[layer]["count"]), samples, layer))
        if samples is not None and totals[""]["count"] >= samples:
            break
    if parts is None:
        raise OptionError("batches", expected="at least one batch", found="none", remedy="pass data to evaluate on")
    return totals


def _run(reader: Reader, state: State, batch: object, features: Mapping[str, Tensor], totals: dict[str, float]) -> None:
    """Add the sums of an evaluation in which layers give other features than their own."""

    def replace(layer: str, _: object, output: object) -> object:
        return _replaced(output, features[layer]) if layer in features else None

    model = reader.runner.model
    names = {module_of(layer) for layer in features}
    with torch.no_grad(), hooked(model, names, replace) if names else nullcontext():
        for name, value in reader.runner.sums(reader.evaluation.evaluate, state, batch).items():
            totals[name] = totals.get(name, 0.0) + float(value)


def _replaced(output: object, feature: Tensor) -> object:
    """An output with its first tensor replaced."""
    if isinstance(output, tuple | list):
        return type(output)([_replaced(output[0], feature), *output[1:]])
    return feature.clone()


def feature_similarity(
    model: nn.Module,
    a: Source,
    b: Source,
    evaluation: Evaluation,
    *,
    layers: Sequence[str] | None = None,
    samples: int | None = None,
    top: int = 5,
    progress: Report = silent,
) -> LayerFigures:
    """Linear CKA of two networks at every layer, and the angles between their leading feature subspaces.

    CKA does not see the order of units, nor any rotation of them; the angles do.

    Args:
        model: of the architecture of both; left as it is.
        a: the first network.
        b: the second one, in the same coordinates if the angles are to mean anything.
        evaluation: what runs a network on a batch, the data, and what becomes of BatchNorm's statistics.
        layers: names of modules; None takes all of `feature_layers`.
        samples: to run, at least; None takes all.
        top: directions of a subspace; fewer where a layer has fewer numbers or the first batch fewer samples.
        progress: called after every layer of a batch.

    Returns:
        figures `cka`: unbiased HSIC (Song et al. 2012, equation 5) summed over batches before the ratio is taken
        (Nguyen et al. 2021), so that memory does not grow with the data and the value hardly depends on the size of
        batches; batches of fewer than 4 samples are left out. `angle`: the mean of `principal_angles` on the first
        batch, radians.

    Raises:
        OptionError: if `top` is below 1, no batch has 4 samples, or the data, `layers` or `samples` cannot work.
        MismatchError: if a network does not fit the model.
    """
    if top < 1:
        raise OptionError("top", expected="1 or more", found=str(top), remedy="raise it")
    span = Span(model, [a, b])
    sums: dict[str, list[float]] = {}
    angles: dict[str, float] = {}
    counts: dict[str, int] = {}
    with reading(span, evaluation, layers) as reader:
        states = states_of(span, [(1, 0), (0, 1)], evaluation)
        for layer, taken, count in reader.stream(states, samples):
            x, y = (as_rows(one.output) for one in taken)
            if layer not in angles:
                angles[layer] = float(principal_angles(x, y, min(top, *x.shape)).mean())
            if len(x) >= _LEAST:
                kept = sums.setdefault(layer, [0.0] * 3)
                for k, value in enumerate(_hsics(x, y)):
                    kept[k] += value
            counts[layer] = counts.get(layer, 0) + count
            progress(Progress("similarity", counts[layer], samples, layer))
    if not sums:
        raise OptionError("batches", expected="4 samples or more in one", found="fewer", remedy="make batches larger")
    names = tuple(sums)
    found = {"cka": tuple(_cka(sums[name]) for name in names), "angle": tuple(angles[name] for name in names)}
    return LayerFigures(names, found, max(counts.values()))


def cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019), with the unbiased estimate of HSIC.

    Args:
        x: features of n samples, `[n, ...]`.
        y: others of the same samples; as many numbers or not.

    Returns:
        1 where one is the other rotated, scaled or shifted; about 0, possibly below, where they have nothing in common.

    Raises:
        MismatchError: if they are not of the same 4 samples or more.
    """
    if len(x) != len(y) or len(x) < _LEAST:
        raise MismatchError(
            "features",
            expected="the same samples in both, 4 or more",
            found=f"{len(x)} and {len(y)}",
            remedy="run both networks on one batch",
        )
    return _cka(_hsics(as_rows(x), as_rows(y)))


def _cka(hsics: Sequence[float]) -> float:
    both, first, second = hsics
    scale = first * second
    return both / math.sqrt(scale) if scale > 0 else math.nan


def _hsics(x: Tensor, y: Tensor) -> tuple[float, float, float]:
    """Unbiased HSIC of both, of x with itself and of y with itself."""
    K, L = (_centred_gram(rows - rows.mean(0)) for rows in (x, y))
    return float((K * L).sum()), float(K.square().sum()), float(L.square().sum())


def _centred_gram(x: Tensor) -> Tensor:
    """Inner products without the diagonal, centred so that <K, L> / (n (n - 3)) is HSIC's unbiased estimate.

    U-centring (Szekely and Rizzo 2014): off the diagonal K_ij - (row_i + row_j) / (n - 2) + sum / ((n - 1)(n - 2)).
    """
    K = x @ x.T
    n = len(K)
    K.fill_diagonal_(0)
    rows = K.sum(1) / (n - 2)
    K = K - rows[:, None] - rows[None] + rows.sum() / (n - 1)
    return K.fill_diagonal_(0)


def principal_angles(x: Tensor, y: Tensor, k: int = 5) -> Tensor:
    """The angles between the subspaces of the k leading right singular vectors of features.

    Small ones are read off sines and large ones off cosines, so that no digits are lost (Bjorck and Golub 1973).

    Args:
        x: features of n samples, `[n, numbers]`, not centred: with ReLU the first direction is mostly the mean.
        y: others, with as many numbers.
        k: directions, at most n and at most the numbers.

    Returns:
        `[k]`, ascending, radians from 0 to pi / 2, float64.

    Raises:
        MismatchError: if they have not as many numbers, or not k of them.
    """
    if x.shape[1:] != y.shape[1:] or k < 1 or k > min(*as_rows(x).shape, *as_rows(y).shape):
        raise MismatchError(
            "features",
            expected=f"as many numbers in both, and {k} or more of them and of samples",
            found=f"shapes {tuple(x.shape)} and {tuple(y.shape)}",
            remedy="run networks of one architecture, or lower k",
        )
    U, V = (torch.linalg.svd(as_rows(rows), full_matrices=False)[2][:k].T for rows in (x, y))
    cosines = torch.linalg.svdvals(U.T @ V).clamp(max=1)
    sines = torch.linalg.svdvals(V - U @ (U.T @ V)).clamp(max=1).flip(0)
    return torch.where(cosines**2 > 1 / 2, sines.asin(), cosines.acos())
