"""SciPy in place of the compiled kernel: the same answers, with prices recovered from the matching."""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32] | NDArray[np.float64]

_ROWS = 256
"""Rows taken at a time where all scores are needed in float64."""


def solve_by_scipy(
    batch: Scores, index: NDArray[np.int64], prices: NDArray[np.float64], bound: NDArray[np.float64]
) -> None:
    """Solve by SciPy's modified Jonker-Volgenant algorithm (Crouse, 2016), O(n^3) in the worst case.

    Args:
        batch: `[k, n, n]` float32 or float64, finite.
        index: `[k, n]`, filled with optimal matchings.
        prices: `[k, n]`, comes with the prices to start from; filled with prices that prove the matchings, if wanted.
        bound: `[k]`, filled with what no matching exceeds; empty where neither this nor prices are wanted, which cost
            about as much as the matching.
    """
    # Imported here, so that `import onebasin` stays light.
    from scipy.optimize import linear_sum_assignment

    for b, similarity in enumerate(batch):
        index[b] = linear_sum_assignment(similarity, maximize=True)[1]
        if bound.size and similarity.size:
            _price(similarity, index[b], prices[b])
            _centre(similarity, index[b], prices[b])
            best = [(rows - prices[b]).max(axis=1) for _, rows in _blocks(similarity)]
            bound[b] = np.concatenate(best).sum() + prices[b].sum()


def _blocks(similarity: Scores) -> list[tuple[slice, Scores]]:
    return [(slice(k, k + _ROWS), similarity[k : k + _ROWS]) for k in range(0, len(similarity), _ROWS)]


def _price(similarity: Scores, index: NDArray[np.int64], prices: NDArray[np.float64]) -> None:
    """Raise prices until every row gains most by its own column.

    Row i wants `price[j] >= price[index[i]] + similarity[i, j] - similarity[i, index[i]]` for all j: longest paths, by
    Bellman and Ford's method. A row is looked at again only when the price of its own column has risen. There are no
    cycles of positive length, because the matching is optimal; those of rounding end it at the tolerance.
    """
    own = similarity[np.arange(len(index)), index].astype(np.float64)
    tolerance = 2.0**-50 * float(np.abs(similarity).max())
    row_of = np.argsort(index)
    if not (np.abs(prices) <= 16 * np.abs(similarity).max()).all():
        prices[:] = 0  # of another problem
    active = np.arange(len(index))
    for _ in range(len(index)):
        wanted = prices.copy()
        for k in range(0, len(active), _ROWS):
            rows = active[k : k + _ROWS]
            np.maximum(wanted, (similarity[rows] + (prices[index[rows]] - own[rows])[:, None]).max(axis=0), out=wanted)
        active = np.sort(row_of[wanted > prices + tolerance])
        prices[:] = wanted
        if not active.size:
            return


def _centre(similarity: Scores, index: NDArray[np.int64], prices: NDArray[np.float64]) -> None:
    """Move every price to the middle of the range in which it proves the matching.

    With `a` the slack of a row and `b` that of its column, all steps (a - b) / 2 together leave every slack >= 0.
    """
    n = len(index)
    if n == 1:
        return
    top = similarity[np.arange(n), index] - prices[index]
    a, b = np.empty(n), np.full(n, np.inf)
    for place, rows in _blocks(similarity):
        slack = top[place, None] - (rows - prices)
        slack[np.arange(len(slack)), index[place]] = np.inf
        a[place] = slack.min(axis=1)
        np.minimum(b, slack.min(axis=0), out=b)
    prices[index] += (np.maximum(a, 0) - np.maximum(b[index], 0)) / 2
