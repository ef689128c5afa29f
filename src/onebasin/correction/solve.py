"""Ridge least squares from Gram matrices, and its form for layers that a ReLU follows."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Ridges that are tried, in parts of the mean diagonal entry of the Gram matrix."""

_STEPS = 20
_ROUNDING = 1e-9
_ENOUGH = 1e-3


@dataclass(slots=True)
class Moments:
    """Sums over rows of inputs x and targets y, for every group; float64, of products taken in the dtype of the rows.

    Attributes:
        count: rows so far.
        width: how many inputs the layer has, where x are coordinates in a smaller space that all rows lie in.
        x: sums of inputs, `[groups, in]`.
        y: sums of targets, `[groups, out]`.
        xx: the Gram matrices, `[groups, in, in]`.
        xy: `[groups, in, out]`.
        yy: sums of squared targets, `[groups, out]`.
    """

    count: int
    width: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    @classmethod
    def zero(
        cls, groups: int, inputs: int, outputs: int, device: torch.device | None = None, width: int | None = None
    ) -> Self:
        """No rows yet."""
        shapes = ((inputs,), (outputs,), (inputs, inputs), (inputs, outputs), (outputs,))
        sums = (torch.zeros(groups, *shape, dtype=torch.float64, device=device) for shape in shapes)
        return cls(0, inputs if width is None else width, *sums)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in rows: x `[groups, rows, in]`, y `[groups, rows, out]`."""
        self.count += x.shape[1]
        self.x += x.sum(1, dtype=torch.float64)
        self.y += y.sum(1, dtype=torch.float64)
        self.xx += (x.transpose(1, 2) @ x).double()
        self.xy += (x.transpose(1, 2) @ y).double()
        self.yy += y.double().square().sum(1)

    def __add__(self, other: Self) -> "Moments":
        """The sums over the rows of both."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("x", "y", "xx", "xy", "yy"))
        return Moments(self.count + other.count, self.width, *(a + b for a, b in pairs))

    def outputs(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of `x W`, `[groups, out]`."""
        mean = self.x / self.count
        covariance = self.xx / self.count - mean[:, :, None] * mean[:, None]
        return (mean[:, None] @ W)[:, 0], (W * (covariance @ W)).sum(1).clamp(min=0)

    def error(self, W: Tensor, b: Tensor) -> float:
        """The sum of squares of `x W + b - y`."""
        linear = self.xy - self.x[:, :, None] * b[:, None]
        total = (W * (self.xx @ W)).sum() - 2 * (W * linear).sum()
        constant = self.yy - 2 * b * self.y + self.count * b.square()
        return float(total + constant.sum())

    def spread(self) -> float:
        """The sum of squares of the targets around their means."""
        return float((self.yy - self.y.square() / self.count).sum())


class Ridge:
    """Least squares for one layer: `min |x W + b - y|^2 + ridge |W - W0|^2`, b free where there is an intercept.

    With the Gram matrix G of the inputs and their products C with the targets, `(G + ridge) W = C + ridge W0`.

    Args:
        moments: of the rows; finite.
        center: `W0`, `[groups, in, out]`, float64.
        ridge: in parts of the mean diagonal entry of the inputs' Gram matrix (centered, where there is an intercept).
        fixed: the bias `[groups, out]` that stays; None to fit one.
    """

    def __init__(self, moments: Moments, center: Tensor, ridge: float, fixed: Tensor | None) -> None:
        self._moments, self._fixed = moments, fixed
        gram = moments.xx
        if fixed is None:
            gram = gram - moments.x[:, :, None] * moments.x[:, None] / moments.count
        # The trace does not depend on the coordinates: the mean is that over the inputs of the layer.
        diagonal, whole = (part.diagonal(dim1=1, dim2=2).sum(1) / moments.width for part in (gram, moments.xx))
        # Where inputs hardly vary, what is left after centering is rounding: a little of their size keeps that down.
        size = ridge * diagonal + _ROUNDING * whole + torch.finfo(torch.float64).tiny
        failed = torch.ones(())
        while bool(failed.any()):
            self._pull = size[:, None, None] * center
            self._factor, failed = torch.linalg.cholesky_ex(gram + torch.diag_embed(size[:, None].expand_as(moments.x)))
            size = 10 * size

    def solve(self, xy: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """W `[groups, in, out]` and b `[groups, out]` for targets with these moments."""
        x, count = self._moments.x, self._moments.count
        cross = xy - x[:, :, None] * (y / count if self._fixed is None else self._fixed)[:, None]
        W = torch.cholesky_solve(cross + self._pull, self._factor)
        if self._fixed is not None:
            return W, self._fixed
        return W, (y - (x[:, None] @ W)[:, 0]) / count


def spanned(x: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of inputs in the space that they span, where there are fewer rows than inputs.

    What a ridge leaves of `W - W0` lies in that space, so that the problem is solved there, with Gram matrices of the
    size of the rows: with `x^T = Q R`, the inputs are `R^T`, the centre is `Q^T W0`, and `W = W0 + Q (V - Q^T W0)`.

    Args:
        x: `[groups, rows, in]`.

    Returns:
        Q, `[groups, in, rows]`, float64, orthonormal; and the coordinates, `[groups, rows, rows]`, in the dtype of x.
    """
    Q, R = torch.linalg.qr(x.double().transpose(1, 2))
    return Q, R.transpose(1, 2).to(x.dtype)


def choose_ridge(fit: Moments, held: Moments, center: Tensor, fixed: Tensor | None) -> float:
    """The ridge whose solution on some rows has the least error on others."""

    def error(ridge: float) -> float:
        solved = Ridge(fit, center, ridge, fixed).solve(fit.xy, fit.y)
        return held.error(*solved)

    return min(RIDGES, key=error)


def rectified_fit(
    ridge: Ridge, x: Tensor, target: Tensor, added: Tensor | float, start: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Improve a solution for what a ReLU lets through.

    Where the target t is positive, the output z should equal it; where it is not, any z below 0 is as good, so that the
    loss is `(z - t)^2` or `max(z, 0)^2`. It is convex, and bounded from above by least squares towards t or `min(z, 0)`
    with z the present output: each step solves that with the same factored Gram matrix (majorisation), with Nesterov's
    momentum.

    Args:
        ridge: the factored problem of all rows in `x`.
        x: inputs `[groups, rows, in]`.
        target: t, `[groups, rows, out]`, the shortcut included.
        added: the shortcut, which the ReLU sees as well; 0 where there is none.
        start: W and b.

    Returns:
        W and b.
    """
    (W, b), previous, momentum = start, start, 1.0
    positive, zero = target > 0, target.new_zeros(())
    losses: list[float] = []
    for _ in range(_STEPS):
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        push = (momentum - 1) / following
        V, c = W + push * (W - previous[0]), b + push * (b - previous[1])
        previous, momentum = (W, b), following
        z = x @ V.to(x.dtype) + c.to(x.dtype)[:, None] + added
        wanted = torch.where(positive, target, torch.minimum(z, zero))
        losses.append(float((wanted - z).double().square().sum()))
        if len(losses) > 1 and losses[-1] > (1 - _ENOUGH) * losses[-2]:
            break
        wanted -= added
        W, b = ridge.solve((x.transpose(1, 2) @ wanted).double(), wanted.sum(1, dtype=torch.float64))
    return W, b
