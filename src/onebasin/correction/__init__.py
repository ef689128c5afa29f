"""Repair what averaging damages."""

from onebasin.correction.batchnorm import reestimate_batchnorm as reestimate_batchnorm

__all__ = ["reestimate_batchnorm"]
