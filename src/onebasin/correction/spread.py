"""Mean and standard deviation of every unit, summed up batch by batch."""

import torch
from torch import Tensor

Spread = tuple[Tensor, Tensor]
"""Mean and standard deviation of every unit, `[groups, out]`, float64."""


class Sums:
    """Running sums over rows, from which a spread is read."""

    def __init__(self) -> None:
        self._count, self._first, self._second = 0, torch.zeros(()), torch.zeros(())

    def add(self, rows: Tensor) -> None:
        """Take in rows `[groups, rows, out]`."""
        wide = rows.double()
        self._count += rows.shape[1]
        self._first = self._first + wide.sum(1)
        self._second = self._second + wide.square().sum(1)

    def spread(self) -> Spread:
        """Mean and standard deviation (of the population) of the rows so far."""
        mean = self._first / self._count
        return mean, (self._second / self._count - mean.square()).clamp(min=0).sqrt()
