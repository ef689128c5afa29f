"""Scores between the members of an axis group in two networks: matrices to be maximised, with no solver in sight."""

from onebasin.similarity.weights import inner_products as inner_products
from onebasin.similarity.weights import scored_parts as scored_parts

__all__ = ["inner_products", "scored_parts"]
