"""Measure how networks are connected."""

from onebasin.connectivity.filtration import Filtration as Filtration
from onebasin.connectivity.filtration import Interval as Interval
from onebasin.connectivity.glue import Framed as Framed
from onebasin.connectivity.glue import Gluing as Gluing
from onebasin.connectivity.glue import copies as copies
from onebasin.connectivity.glue import glue as glue
from onebasin.connectivity.holonomy import Growth as Growth
from onebasin.connectivity.holonomy import Holonomy as Holonomy
from onebasin.connectivity.holonomy import grow as grow
from onebasin.connectivity.holonomy import holonomy as holonomy
from onebasin.connectivity.holonomy import triangles as triangles
from onebasin.connectivity.path import PathProfile as PathProfile
from onebasin.connectivity.path import profile_path as profile_path
from onebasin.connectivity.permuted import PermutedSimplex as PermutedSimplex
from onebasin.connectivity.permuted import permuted_simplex as permuted_simplex
from onebasin.connectivity.permuted import to_reference as to_reference
from onebasin.connectivity.simplex import Simplex as Simplex
from onebasin.connectivity.simplex_barrier import simplex_barrier as simplex_barrier
from onebasin.connectivity.simplex_profile import SimplexProfile as SimplexProfile
from onebasin.connectivity.spro import Complex as Complex
from onebasin.connectivity.spro import fit_complex as fit_complex
from onebasin.connectivity.spro import fit_simplex as fit_simplex

__all__ = [
    "Complex",
    "Filtration",
    "Framed",
    "Gluing",
    "Growth",
    "Holonomy",
    "Interval",
    "PathProfile",
    "PermutedSimplex",
    "Simplex",
    "SimplexProfile",
    "copies",
    "fit_complex",
    "fit_simplex",
    "glue",
    "grow",
    "holonomy",
    "permuted_simplex",
    "profile_path",
    "simplex_barrier",
    "to_reference",
    "triangles",
]
