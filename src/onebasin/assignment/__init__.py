"""Matrices in, permutations out: linear assignment, flat and nested. Knows nothing of networks."""

from onebasin.assignment.exact import Assignment as Assignment
from onebasin.assignment.exact import solve as solve
from onebasin.assignment.exact import solve_each as solve_each
from onebasin.assignment.nested import Nested as Nested
from onebasin.assignment.nested import Node as Node
from onebasin.assignment.nested import solve_nested as solve_nested

__all__ = ["Assignment", "Nested", "Node", "solve", "solve_each", "solve_nested"]
