"""Scores between the members of an axis group in two networks: matrices to be maximised, with no solver in sight."""

from onebasin.similarity.weights import dot as dot
from onebasin.similarity.weights import inner_products as inner_products
from onebasin.similarity.weights import matrix as matrix

__all__ = ["dot", "inner_products", "matrix"]
