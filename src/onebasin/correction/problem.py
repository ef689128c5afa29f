"""The least-squares problem of one site: gathered batch by batch, then solved."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from onebasin.correction.fold import folded
from onebasin.correction.reading import Reading
from onebasin.correction.site import Site
from onebasin.correction.solve import Moments, Ridge, choose_ridge, rectified_fit, spanned
from onebasin.errors import OptionError

_HELD = 5
"""One row in so many is held out to choose the ridge."""

Rows = tuple[Tensor, Tensor, Tensor]
"""Inputs, targets, and what the stream adds, of one batch."""
Residual = tuple[float, float]
"""The squared error before and after, relative to the variance of the target."""


@dataclass(frozen=True)
class Solution:
    """What a site is to become.

    Attributes:
        W: `[groups, in, out]`, float64.
        b: `[groups, out]`, float64.
        outputs: gives mean and variance of `x W`, `[groups, out]` each; as dear as a solution.
        residual: the error before and after.
    """

    W: Tensor
    b: Tensor
    outputs: Callable[[], tuple[Tensor, Tensor]]
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
        self._parts = Parts(site)
        self._kept: list[Rows] = []

    def add(self, reading: Reading, target: Tensor) -> None:
        """Take in the rows of one batch: what the merged network reads, and the target `[groups, rows, out]`."""
        x, added = reading.inputs, reading.added()
        if self._rectify:
            self._kept.append((x, target, added))
        else:
            self._parts.add(x, target - added)

    def solve(self, params: Mapping[str, Tensor], ridge: float | None) -> Solution:
        """The best map near the one in `params`.

        Args:
            params: the tensors of the merged network so far.
            ridge: in parts of the mean diagonal entry of the Gram matrix; None to choose it on rows held out.

        Raises:
            OptionError: if squares of the inputs overflow.
        """
        before = folded(self._site, params)
        fixed = None if self._site.bias or self._site.norm else before[1]
        if self._rectify:
            return self._rectified(before, fixed, ridge)
        problem, moments = self._parts.ridge(before[0], ridge, fixed)
        after = problem.solve(moments.xy, moments.y)
        spread = max(moments.spread(), torch.finfo(torch.float64).tiny)
        residual = max(0.0, moments.error(*before)) / spread, max(0.0, moments.error(*after)) / spread
        return Solution(*after, partial(moments.outputs, after[0]), residual)

    def _rectified(self, before: tuple[Tensor, Tensor], fixed: Tensor | None, ridge: float | None) -> Solution:
        x, target, added = (torch.cat(parts, 1) for parts in zip(*self._kept, strict=True))
        basis, center = None, before[0]
        if x.shape[1] < x.shape[2]:
            basis, x = spanned(x)
            center = basis.transpose(1, 2) @ before[0]
        sizes = [rows[0].shape[1] for rows in self._kept]
        for part in zip(*(rows.split(sizes, 1) for rows in (x, target - added)), strict=True):
            self._parts.add(*part)
        problem, moments = self._parts.ridge(center, ridge, fixed)
        V, b = rectified_fit(problem, x, target, added, problem.solve(moments.xy, moments.y))
        residual = _behind_relu(x, target, added, (center, before[1])), _behind_relu(x, target, added, (V, b))
        W = V if basis is None else before[0] + basis @ (V - center)
        return Solution(W, b, partial(moments.outputs, V), residual)


class Parts:
    """Moments of the rows that are fitted, and of those that are held out to choose the ridge."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._moments: tuple[Moments, ...] = ()

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in the rows of a batch, `[groups, rows, in]` and `[groups, rows, out]`."""
        groups, width, outputs = self._site.sizes
        if not self._moments:
            self._moments = tuple(Moments.zero(groups, x.shape[2], outputs, x.device, width) for _ in range(2))
        cut = x.shape[1] - x.shape[1] // _HELD
        self._moments[0].add(x[:, :cut], y[:, :cut])
        self._moments[1].add(x[:, cut:], y[:, cut:])

    def ridge(self, center: Tensor, ridge: float | None, fixed: Tensor | None) -> tuple[Ridge, Moments]:
        """The problem of all rows, the ridge chosen on those held out where none is given; and their moments.

        Raises:
            OptionError: if squares of the inputs overflow.
        """
        train, held = self._moments
        moments = train + held
        if not bool(moments.xx.isfinite().all()):
            raise OptionError(
                "batches",
                expected="activations whose squares fit the model's dtype",
                found=f"larger ones at {self._site.name}",
                remedy="look at the networks, or run them in float64",
            )
        chosen = choose_ridge(train, held, center, fixed) if ridge is None else ridge
        return Ridge(moments, center, chosen, fixed), moments


def _behind_relu(x: Tensor, target: Tensor, added: Tensor, layer: tuple[Tensor, Tensor]) -> float:
    """The squared error behind the ReLU, relative to the variance of the target there."""
    W, b = (part.to(x.dtype) for part in layer)
    wanted = target.clamp(min=0)
    error = (x @ W + b[:, None] + added).clamp(min=0) - wanted
    spread = float((wanted - wanted.mean(1, keepdim=True)).double().square().sum())
    return float(error.double().square().sum()) / max(spread, torch.finfo(torch.float64).tiny)
