"""Make one network out of several that lie in the same coordinates."""

from typing import TYPE_CHECKING as _TYPES

from onebasin.lazy import lazily as _lazily
from onebasin.merging.data import NETWORK_METHODS
from onebasin.merging.method import Method, NetworkMethod
from onebasin.merging.methods import METHODS

if _TYPES:
    from onebasin.merging.fisher import estimate_fisher as estimate_fisher
    from onebasin.merging.fisher import fisher_merge as fisher_merge
    from onebasin.merging.network import merge as merge
    from onebasin.merging.regression import gram_matrices as gram_matrices
    from onebasin.merging.regression import regmean_merge as regmean_merge
    from onebasin.merging.soup import greedy as greedy

__all__ = [
    "METHODS",
    "NETWORK_METHODS",
    "Method",
    "NetworkMethod",
    "estimate_fisher",
    "fisher_merge",
    "gram_matrices",
    "greedy",
    "merge",
    "regmean_merge",
]

__getattr__ = _lazily(
    __name__,
    {
        "estimate_fisher": "onebasin.merging.fisher",
        "fisher_merge": "onebasin.merging.fisher",
        "gram_matrices": "onebasin.merging.regression",
        "greedy": "onebasin.merging.soup",
        "merge": "onebasin.merging.network",
        "regmean_merge": "onebasin.merging.regression",
    },
)
