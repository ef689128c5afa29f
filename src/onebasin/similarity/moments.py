"""Means, variances and cross-covariances of the units of two networks, gathered batch by batch.

Chan, Golub and LeVeque (1979): with means mu and centred sums M = sum of (x - mu_x)(y - mu_y)^T over n samples, and the
same for n' further ones, d the differences of the means,

    n'' = n + n',  mu'' = mu + (n' / n'') d,  M'' = M + M' + (n n' / n'') d_x d_y^T.

Every chunk of samples is centred on means of its own before it is multiplied, so that no precision is lost to means far
from zero, and the same formula adds up chunks, batches and the results of several processes.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onebasin.errors import MismatchError

CHUNK = 1 << 22
"""Entries of an activation tensor that are worked on at a time: bounds memory, and the rounding of float32 sums."""

LEAST = 1024
"""Samples that are worked on at a time at least: fewer would not be worth an update of all sums."""

_ROWS = ("mean_a", "mean_b", "squares_a", "squares_b")


class CrossMoments:
    """First and second moments of `m` units of each of two networks, over samples that both have seen.

    Sums are float64 on the device of the first batch: m * m for the products, and four rows of m.

    Attributes:
        m: the number of units.
        count: the number of samples so far.
        mean_a: `[m]` float64.
        mean_b: `[m]` float64.
    """

    def __init__(self, m: int) -> None:
        self.m = m
        self.count = 0
        self.mean_a, self.mean_b, self._squares_a, self._squares_b = torch.zeros(4, m, dtype=torch.float64)
        self._products = torch.zeros(m, m, dtype=torch.float64)

    def update(self, x_a: Tensor, x_b: Tensor) -> None:
        """Take in the activations of both networks on the same samples.

        Args:
            x_a: `[m, s]`, floating-point, any device and strides; s may be 0.
            x_b: the same.

        Raises:
            MismatchError: if the shapes are others than these.
        """
        for label, x in (("a", x_a), ("b", x_b)):
            if x.ndim != 2 or x.shape[0] != self.m or x.shape[1] != x_a.shape[1]:  # noqa: PLR2004 - a matrix
                raise MismatchError(
                    f"activations of {label}",
                    expected=f"[{self.m}, samples], the same samples in both networks",
                    found=f"shapes {tuple(x_a.shape)} and {tuple(x_b.shape)}",
                    remedy="pass the activations of one group on one batch",
                )
        width = max(LEAST, CHUNK // max(1, self.m))
        if not self.count:
            self._move(x_a.device)
        for chunk_a, chunk_b in zip(x_a.split(width, 1), x_b.split(width, 1), strict=True):
            n = chunk_a.shape[1]
            if n:
                (mean_a, rest_a), (mean_b, rest_b) = _centred(chunk_a), _centred(chunk_b)
                squares = [torch.linalg.vector_norm(rest, dim=1).double().square() for rest in (rest_a, rest_b)]
                self._add(n, (mean_a, mean_b, *squares), rest_a @ rest_b.mT)

    def merge(self, other: Self) -> Self:
        """The moments of the samples of both, as from several processes; neither is modified.

        Raises:
            MismatchError: if the numbers of units differ.
        """
        if other.m != self.m:
            raise MismatchError(
                "moments", expected=f"{self.m} units", found=str(other.m), remedy="merge the moments of one group"
            )
        merged = type(self).from_data(self.data())
        if other.count:
            merged._add(other.count, other._rows(), other._products)  # noqa: SLF001 - of its own class
        return merged

    def _add(self, n: int, rows: tuple[Tensor, ...], products: Tensor) -> None:
        mean_a, mean_b, squares_a, squares_b = (row.to(self.mean_a) for row in rows)
        total = self.count + n
        shift_a, shift_b, weight = mean_a - self.mean_a, mean_b - self.mean_b, self.count * n / total
        self._squares_a += squares_a + weight * shift_a.square()
        self._squares_b += squares_b + weight * shift_b.square()
        self._products += products.to(self._products.device)
        self._products.addr_(shift_a, shift_b, alpha=weight)
        # Where nothing is known yet the other means are taken as they are: a constant unit keeps its value exactly.
        self.mean_a += shift_a * (n / total) if self.count else shift_a
        self.mean_b += shift_b * (n / total) if self.count else shift_b
        self.count = total

    def _move(self, device: torch.device) -> None:
        self.mean_a, self.mean_b, self._squares_a, self._squares_b = (row.to(device) for row in self._rows())
        self._products = self._products.to(device)

    def _rows(self) -> tuple[Tensor, ...]:
        return self.mean_a, self.mean_b, self._squares_a, self._squares_b

    @property
    def std_a(self) -> Tensor:
        """`[m]` float64, the standard deviation of every unit of `a`, with n - 1 in the denominator."""
        return torch.sqrt(self._squares_a / self._freedom)

    @property
    def std_b(self) -> Tensor:
        """`[m]` float64, the same for `b`."""
        return torch.sqrt(self._squares_b / self._freedom)

    @property
    def _freedom(self) -> int:
        return max(1, self.count - 1)

    def covariance(self) -> Tensor:
        """`[m, m]` float64: entry [i, j] is the covariance of unit i of `a` with unit j of `b`, n - 1 below."""
        return self._products / self._freedom

    def correlation(self) -> Tensor:
        """`[m, m]` float64 from -1 to 1; 0 for units that never change."""
        scale = self._squares_a.sqrt()[:, None] * self._squares_b.sqrt()
        return torch.where(scale > 0, self._products / torch.where(scale > 0, scale, 1), 0).clamp(-1, 1)

    def data(self) -> dict[str, NDArray[np.float64] | int]:
        """Copies of all that is known as plain arrays, from which `from_data` makes the same moments again."""
        rows = {name: row.cpu().numpy().copy() for name, row in zip(_ROWS, self._rows(), strict=True)}
        return {"count": self.count, **rows, "products": self._products.cpu().numpy().copy()}

    @classmethod
    def from_data(cls, data: Mapping[str, NDArray[np.float64] | int]) -> Self:
        """The moments that `data` gave."""
        products = torch.tensor(data["products"], dtype=torch.float64)
        moments = cls(len(products))
        moments.count = int(data["count"])
        for mine, name in zip(moments._rows(), _ROWS, strict=True):
            mine.copy_(torch.as_tensor(data[name]))
        moments._products = products
        return moments

    def __repr__(self) -> str:
        """Units and samples."""
        return f"CrossMoments({self.m} units, {self.count} samples)"


def _centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of every row as float64, and the rows without it in their own precision, at least float32.

    Rows are taken relative to their first entry: constant ones give exactly zero. What rounding leaves of the mean in
    the rows enters the products only squared.
    """
    wide = x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    rest = wide - wide[:, :1]
    mean = rest.mean(1)
    return wide[:, 0].double() + mean.double(), rest.sub_(mean[:, None])
