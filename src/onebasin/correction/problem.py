"""The least-squares problem of one site: gathered batch by batch, then solved."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from onebasin.correction.fold import folded
from onebasin.correction.reading import Reading
from onebasin.correction.site import Site
from onebasin.correction.solve import Moments, Ridge, choose_ridge, rectified_fit

_HELD = 5
"""One row in so many is held out to choose the ridge."""

Residual = tuple[float, float]
"""The squared error before and after, relative to the variance of the target."""


@dataclass(frozen=True)
class Solution:
    """What a site is to become.

    Attributes:
        W: `[groups, in, out]`, float64.
        b: `[groups, out]`, float64.
        mean: of the inputs, `[groups, in]`.
        covariance: of the inputs, `[groups, in, in]`.
        residual: the error before and after.
    """

    W: Tensor
    b: Tensor
    mean: Tensor
    covariance: Tensor
    residual: Residual


class Problem:
    """Rows of one site.

    Args:
        site: the linear layer.
        rectify: keep the rows, to fit what a ReLU lets through.
    """

    def __init__(self, site: Site, *, rectify: bool) -> None:
        self._site = site
        self._rectify = rectify
        self._parts: tuple[Moments, Moments] | None = None
        self._kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, reading: Reading, target: Tensor) -> None:
        """Take in the rows of one batch: what the merged network reads, and the target `[groups, rows, out]`."""
        x, added = reading.inputs, reading.added()
        y = target - added
        if self._parts is None:
            self._parts = (Moments.zero(*self._site.sizes, x.device), Moments.zero(*self._site.sizes, x.device))
        cut = x.shape[1] - x.shape[1] // _HELD
        self._parts[0].add(x[:, :cut], y[:, :cut])
        self._parts[1].add(x[:, cut:], y[:, cut:])
        if self._rectify:
            self._kept.append((x, target, added))

    def solve(self, params: Mapping[str, Tensor], ridge: float | None) -> Solution:
        """The best map near the one in `params`.

        Args:
            params: the tensors of the merged network so far.
            ridge: in parts of the mean diagonal entry of the Gram matrix; None to choose it on rows held out.
        """
        train, held = self._parts or (Moments.zero(*self._site.sizes, torch.device("cpu")),) * 2
        moments = train + held
        before = folded(self._site, params)
        fixed = None if self._site.bias or self._site.norm else before[1]
        chosen = choose_ridge(train, held, before[0], fixed) if ridge is None else ridge
        problem = Ridge(moments, before[0], chosen, fixed)
        after = problem.solve(moments.xy, moments.y)
        if self._rectify:
            x, target, added = (torch.cat(parts, 1) for parts in zip(*self._kept, strict=True))
            after = rectified_fit(problem, x, target, added, after)
            residual = _behind_relu(x, target, added, before), _behind_relu(x, target, added, after)
        else:
            spread = max(moments.spread(), torch.finfo(torch.float64).tiny)
            residual = max(0.0, moments.error(*before)) / spread, max(0.0, moments.error(*after)) / spread
        return Solution(*after, moments.mean(), moments.covariance(), residual)


def _behind_relu(x: Tensor, target: Tensor, added: Tensor, layer: tuple[Tensor, Tensor]) -> float:
    """The squared error behind the ReLU, relative to the variance of the target there."""
    W, b = (part.to(x.dtype) for part in layer)
    wanted = target.clamp(min=0)
    error = (x @ W + b[:, None] + added).clamp(min=0) - wanted
    spread = float((wanted - wanted.mean(1, keepdim=True)).double().square().sum())
    return float(error.double().square().sum()) / max(spread, torch.finfo(torch.float64).tiny)
