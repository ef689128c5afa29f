"""Matrices in, permutations out: linear assignment, flat and nested. Knows nothing of networks."""

from onebasin.assignment.exact import solve as solve
from onebasin.assignment.nested import Node as Node
from onebasin.assignment.nested import solve_nested as solve_nested

__all__ = ["Node", "solve", "solve_nested"]
