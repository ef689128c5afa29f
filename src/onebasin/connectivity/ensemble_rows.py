"""Make the table of ensembles: which networks are run for which row, and what they score."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from onebasin.checkpoint import Source
from onebasin.connectivity.comparison import Values, compare, recovered
from onebasin.connectivity.ensemble import EnsembleScore, Predictions, predictions
from onebasin.connectivity.ensemble_result import EnsembleRow, EnsembleTable
from onebasin.connectivity.linearity import vertices
from onebasin.connectivity.measure import TOGETHER, states_of
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation
from onebasin.progress import Progress, Report, silent

SINGLE, BEST, VERTICES, BARYCENTRE = "single, mean", "single, best", "vertices", "barycentre"
SIMPLEX, SPREAD, NAIVE = "simplex points", "spread points", "naive barycentre"
OWN = (SINGLE, BEST, VERTICES, BARYCENTRE, SIMPLEX, SPREAD, NAIVE)
BUDGETS = (1, 2, 4, 8)
_MOST_SUBSETS = 20


class _Entry(NamedTuple):
    """Ensembles of one kind and cost, whose figures are averaged: positions of their networks."""

    name: str
    forwards: int
    members: list[tuple[int, ...]]


def ensemble_table(
    model: nn.Module,
    networks: Sequence[Source],
    evaluation: Evaluation,
    *,
    budgets: Sequence[int] = BUDGETS,
    contenders: Mapping[str, Sequence[Source]] | None = None,
    unaligned: Sequence[Source] | None = None,
    seed: int = 0,
    progress: Report = silent,
) -> EnsembleTable:
    """Compare ensembles at equal forward cost.

    There is always the vertex ensemble (the deep ensemble), which aligning does not change: its rows are means over all
    choices of that many vertices, or 20 of them. Beside it: one network (the mean of all, and the one that is best on
    the calibration data); the barycentre; uniform points of the simplex, means over disjoint draws; and, for more
    forwards than vertices, points that are spread the most: all vertices, then the barycentres of edges, triangles and
    so on. Members that are not vertices or points of theirs are given: points of complexes, ESPRO samples, snapshots of
    FGE, their average (SWA), a star's centre.

    Args:
        model: of the architecture of all; left as it is.
        networks: the vertices, two or more, in the same coordinates: apply matchings first.
        evaluation: its `predict` and the data; with `temperature`, calibration data that no network has seen; what
            becomes of BatchNorm's statistics in points between networks (vertices and given networks keep theirs).
        budgets: numbers of forwards.
        contenders: further ensembles by name, each as its networks, the first of which are taken at lower costs.
        unaligned: the networks before they were aligned, for their barycentre as a control.
        seed: of the points and the intervals.
        progress: called after every few networks.

    Raises:
        OptionError: if there are fewer than two networks, a budget is below 1, a contender is empty or has a row's
            name, the evaluation does not predict, or there are no data.
        MismatchError: if a network does not fit the model.
    """
    given = contenders or {}
    _check(networks, budgets, given)
    sizes = sorted(set(budgets))
    span, kept = Span(model, networks), dataclasses.replace(evaluation, batchnorm="keep")
    inner = _inner_points(len(networks), sizes[-1], np.random.default_rng(seed))
    parts = [_predicted(span, vertices(len(span)), kept, progress, VERTICES)]
    parts += [_predicted(span, points, evaluation, progress, name) for name, points in inner.items()]
    entries = _simplex_entries(len(networks), sizes, {name: len(points) for name, points in inner.items()}, seed)
    if unaligned is not None:
        entries.append(_Entry(NAIVE, 1, [(sum(len(part.rows) for part in parts),)]))
        mean = [1 / len(unaligned)] * len(unaligned)
        parts.append(_predicted(Span(model, unaligned), [mean], evaluation, progress, NAIVE))
    for name, members in given.items():
        first = sum(len(part.rows) for part in parts)
        costs = {size for size in sizes if size <= len(members)} | {min(len(members), sizes[-1])}
        entries += [_Entry(name, size, [tuple(range(first, first + size))]) for size in sorted(costs)]
        parts.append(_predicted(Span(model, members), vertices(len(members)), kept, progress, name))
    return _table(entries, _joined(parts), len(networks), evaluation.batchnorm, seed)


def _check(networks: Sequence[Source], budgets: Sequence[int], contenders: Mapping[str, Sequence[Source]]) -> None:
    if len(networks) < 2:  # noqa: PLR2004 - an ensemble
        raise OptionError("networks", expected="two or more", found=str(len(networks)), remedy="pass them in a list")
    if not budgets or min(budgets) < 1:
        raise OptionError(
            "budgets", expected="numbers of forwards from 1", found=str(list(budgets)), remedy="try 1, 2, 4, 8"
        )
    for name, members in contenders.items():
        if name in OWN:
            raise OptionError(
                f"contender {name}", expected="a name of its own", found="one of the table's", remedy="choose another"
            )
        if not members:
            raise OptionError(
                f"contender {name}", expected="at least one network", found="none", remedy="leave it out or add some"
            )


def _inner_points(count: int, most: int, generator: np.random.Generator) -> dict[str, list[list[float]]]:
    """Points of the simplex that are no vertices: its barycentre, uniform ones, and barycentres of faces.

    Uniform: exponential variables divided by their sum, the Dirichlet distribution with all parameters 1.
    """
    uniform = generator.dirichlet([1.0] * count, size=most).tolist()
    faces = itertools.chain.from_iterable(combinations(range(count), size) for size in range(2, count + 1))
    first = itertools.islice(faces, max(0, most - count))
    spread = [[1 / len(face) if k in face else 0.0 for k in range(count)] for face in first]
    return {BARYCENTRE: [[1 / count] * count], SIMPLEX: uniform, SPREAD: spread}


def _simplex_entries(count: int, budgets: Sequence[int], inner: Mapping[str, int], seed: int) -> list[_Entry]:
    """The ensembles of vertices and inner points: vertices come first, then the points in the order given."""
    simplex = count + inner[BARYCENTRE]
    spread = simplex + inner[SIMPLEX]
    generator = np.random.default_rng(seed)
    entries = []
    for size in range(1, count + 1):
        chosen = _choices(count, size, generator)
        entries.append(_Entry(VERTICES if size > 1 else SINGLE, size, chosen))
    entries.append(_Entry(BARYCENTRE, 1, [(count,)]))
    for size in budgets:
        draws = [tuple(range(k, k + size)) for k in range(simplex, spread - size + 1, size)]
        entries.append(_Entry(SIMPLEX, size, draws))
    entries += [
        _Entry(SPREAD, size, [(*range(count), *range(spread, spread + size - count))])
        for size in budgets
        if count < size <= count + inner[SPREAD]
    ]
    return entries


def _choices(count: int, size: int, generator: np.random.Generator) -> list[tuple[int, ...]]:
    """All choices of some vertices, or different ones drawn by chance where there are too many."""
    if math.comb(count, size) <= _MOST_SUBSETS or size == 1:
        return list(combinations(range(count), size))
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < _MOST_SUBSETS:
        drawn.add(tuple(sorted(generator.choice(count, size, replace=False).tolist())))
    return sorted(drawn)


def _predicted(
    span: Span, points: Sequence[Sequence[float]], evaluation: Evaluation, progress: Report, name: str
) -> Predictions:
    """What points predict; five at a time share the passes over the data."""
    parts = []
    for start in range(0, len(points), TOGETHER):
        chosen = points[start : start + TOGETHER]
        parts.append(predictions(span, states_of(span, chosen, evaluation), evaluation))
        progress(Progress(name, start + len(chosen), len(points)))
    return _joined(parts)


def _joined(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of one set of data in a row."""
    some = [part for part in parts if part.rows]
    return Predictions(
        [row for part in some for row in part.rows],
        some[0].labels if some else torch.zeros(0),
        [row for part in some for row in part.calibration],
        some[0].calibration_labels if some else torch.zeros(0),
    )


def _table(entries: list[_Entry], found: Predictions, count: int, batchnorm: str, seed: int) -> EnsembleTable:
    scored: dict[tuple[str, int], list[EnsembleScore]] = {}
    for name, forwards, members in entries:
        scored[name, forwards] = [found.score(chosen) for chosen in members]
        if name == SINGLE:
            scored[BEST, 1] = [min(scored[SINGLE, 1], key=lambda score: score.selection)]
    samples = {key: _mean_samples(rows) for key, rows in scored.items()}
    measure = "calibrated nll" if found.calibration else "nll"
    vertex = [(SINGLE if size == 1 else VERTICES, size) for size in range(1, count + 1)]
    curve = [float(samples[key][measure].mean()) for key in vertex]
    rows = [_row(key, scores, curve, float(samples[key][measure].mean())) for key, scores in scored.items()]
    comparisons = [
        row
        for key in vertex
        if (SIMPLEX, key[1]) in samples
        for row in compare((SIMPLEX, key[0]), key[1], samples[SIMPLEX, key[1]], samples[key], seed)
    ]
    shares = recovered(samples[SINGLE, 1], samples[BARYCENTRE, 1], samples[vertex[-1]], seed)
    return EnsembleTable(tuple(rows), tuple(comparisons), shares, len(found.labels), batchnorm)


def _mean_samples(rows: Sequence[EnsembleScore]) -> dict[str, Values]:
    """What each sample contributes, the mean over ensembles of one kind."""
    return {name: np.mean([row.samples[name] for row in rows], axis=0) for name in rows[0].samples}


def _row(key: tuple[str, int], scored: Sequence[EnsembleScore], curve: Sequence[float], nll: float) -> EnsembleRow:
    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    name, forwards = key
    calibrated = [row.calibrated for row in scored if row.calibrated is not None]
    plain = [row.scores for row in scored]
    return EnsembleRow(
        name,
        forwards,
        **{what: sum(getattr(row, what) for row in plain) / len(plain) for what in ("error", "nll", "ece", "brier")},
        disagreement=sum(row.disagreement for row in scored) / len(scored),
        calibrated_nll=mean([row.nll for row in calibrated]),
        calibrated_ece=mean([row.ece for row in calibrated]),
        temperature=mean([row.temperature for row in scored]),
        equivalent=_equivalent(nll, curve),
        draws=len(scored),
    )


def _equivalent(nll: float, curve: Sequence[float]) -> float:
    """The number of networks, between whole ones, whose ensembles reach this; `curve` begins with one network."""
    lowest = np.minimum.accumulate(curve)
    if nll > lowest[0]:
        return 0.0
    if nll < lowest[-1]:
        return math.inf
    return float(np.interp(-nll, -lowest, np.arange(1, len(curve) + 1)))
