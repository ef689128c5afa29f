"""Ensembles compared sample by sample, with intervals by what the sample of the data leaves open."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onebasin.connectivity.path import RESAMPLES

Values = NDArray[np.float64]
Samples = Mapping[str, Values]
"""What every sample contributes, `[n]`, by the name of the measure."""
_AT_ONCE = 100
_BOUNDS = (2.5, 97.5)
_NOTHING = 1e-12


@dataclass(frozen=True)
class Comparison:
    """Two ensembles of equal cost.

    Attributes:
        left: the one.
        right: the other.
        forwards: of both.
        measure: `error` (a share, 0 to 1), `nll` or `calibrated nll` (nats).
        difference: left less right, below 0 where left is better.
        low: of the 95 % interval: percentiles of 1,000 bootstrap samples of the data, the same ones for both sides.
        high: likewise.
    """

    left: str
    right: str
    forwards: int
    measure: str
    difference: float
    low: float
    high: float


def compare(names: tuple[str, str], forwards: int, left: Samples, right: Samples, seed: int) -> list[Comparison]:
    """Compare two ensembles in every measure, paired over samples.

    Args:
        names: of both.
        forwards: of both.
        left: what each sample contributes to the one.
        right: to the other, for the same samples.
        seed: of the bootstrap samples.
    """
    differences = np.stack([left[measure] - right[measure] for measure in left])
    bounds = np.percentile(_means(differences, seed), _BOUNDS, axis=1)
    middles = differences.mean(axis=1)
    return [
        Comparison(*names, forwards, measure, float(middle), float(low), float(high))
        for measure, middle, low, high in zip(left, middles, *bounds, strict=True)
    ]


def recovered(single: Samples, soup: Samples, ensemble: Samples, seed: int) -> dict[str, tuple[float, float, float]]:
    """The share of an ensemble's gain over one network that a single network has, by measure.

    Args:
        single: what each sample contributes to one network (the mean of several).
        soup: to the network in question.
        ensemble: to the ensemble.
        seed: of the bootstrap samples.

    Returns:
        the share with its 95 % interval; a measure in which the ensemble gains nothing, or in which its gain changes
        sign within the bootstrap samples, is left out: the share would mean nothing.
    """
    found = {}
    for measure in single:
        table = np.stack([single[measure] - soup[measure], single[measure] - ensemble[measure]])
        gained, whole = _means(table, seed)
        if whole.min() > _NOTHING:
            low, high = np.percentile(gained / whole, _BOUNDS)
            share = table[0].mean() / table[1].mean()
            found[measure] = (float(share), float(low), float(high))
    return found


def _means(table: Values, seed: int) -> Values:
    """Means of rows `[k, n]` over bootstrap samples of the columns: `[k, resamples]`."""
    generator = np.random.default_rng(seed)
    units = table.shape[1]
    parts = [
        table @ (generator.multinomial(units, np.full(units, 1 / units), size=_AT_ONCE).T / units)
        for _ in range(RESAMPLES // _AT_ONCE)
    ]
    return np.concatenate(parts, axis=1)
