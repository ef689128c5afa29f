"""Measure how networks are connected."""

from onebasin.connectivity.band import Band as Band
from onebasin.connectivity.band import BandSchedule as BandSchedule
from onebasin.connectivity.band import auto_neb as auto_neb
from onebasin.connectivity.band import redistribute as redistribute
from onebasin.connectivity.conditions import commutativity as commutativity
from onebasin.connectivity.conditions import weak_additivity as weak_additivity
from onebasin.connectivity.curve import Curve as Curve
from onebasin.connectivity.curve import straight as straight
from onebasin.connectivity.curve_fit import fit_curve as fit_curve
from onebasin.connectivity.curve_profile import CurveProfile as CurveProfile
from onebasin.connectivity.curve_profile import profile_curve as profile_curve
from onebasin.connectivity.cycles import cyclic as cyclic
from onebasin.connectivity.cycles import snapshot_average as snapshot_average
from onebasin.connectivity.ensemble import score_ensemble as score_ensemble
from onebasin.connectivity.ensemble_rows import ensemble_table as ensemble_table
from onebasin.connectivity.ensemble_table import EnsembleTable as EnsembleTable
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
from onebasin.connectivity.linearity import FeatureLinearity as FeatureLinearity
from onebasin.connectivity.linearity import feature_linearity as feature_linearity
from onebasin.connectivity.path import PathProfile as PathProfile
from onebasin.connectivity.path import profile_path as profile_path
from onebasin.connectivity.permuted import PermutedSimplex as PermutedSimplex
from onebasin.connectivity.permuted import permuted_simplex as permuted_simplex
from onebasin.connectivity.permuted import to_reference as to_reference
from onebasin.connectivity.plane import PlaneGrid as PlaneGrid
from onebasin.connectivity.plane import measure_plane as measure_plane
from onebasin.connectivity.plane import pca_plane as pca_plane
from onebasin.connectivity.plane import plane_through as plane_through
from onebasin.connectivity.plane import random_plane as random_plane
from onebasin.connectivity.polygon import PolygonGrid as PolygonGrid
from onebasin.connectivity.polygon import measure_polygon as measure_polygon
from onebasin.connectivity.preflight import Preflight as Preflight
from onebasin.connectivity.preflight import preflight as preflight
from onebasin.connectivity.simplex import Simplex as Simplex
from onebasin.connectivity.simplex_barrier import simplex_barrier as simplex_barrier
from onebasin.connectivity.simplex_profile import SimplexProfile as SimplexProfile
from onebasin.connectivity.spawn import Spawning as Spawning
from onebasin.connectivity.spawn import spawn as spawn
from onebasin.connectivity.spawn import spawning_onset as spawning_onset
from onebasin.connectivity.spro import Complex as Complex
from onebasin.connectivity.spro import fit_complex as fit_complex
from onebasin.connectivity.spro import fit_simplex as fit_simplex
from onebasin.connectivity.star import Star as Star
from onebasin.connectivity.star import StarProfile as StarProfile
from onebasin.connectivity.star import fit_star as fit_star
from onebasin.connectivity.star import profile_star as profile_star
from onebasin.connectivity.stitch import Stitching as Stitching
from onebasin.connectivity.stitch import cka as cka
from onebasin.connectivity.stitch import feature_similarity as feature_similarity
from onebasin.connectivity.stitch import principal_angles as principal_angles
from onebasin.connectivity.stitch import stitch as stitch
from onebasin.connectivity.training import Schedule as Schedule
from onebasin.connectivity.tree import Tree as Tree
from onebasin.connectivity.tree import explore as explore
from onebasin.connectivity.tree import spanning_tree as spanning_tree

__all__ = [
    "Band",
    "BandSchedule",
    "Complex",
    "Curve",
    "CurveProfile",
    "EnsembleTable",
    "FeatureLinearity",
    "Filtration",
    "Framed",
    "Gluing",
    "Growth",
    "Holonomy",
    "Interval",
    "PathProfile",
    "PermutedSimplex",
    "PlaneGrid",
    "PolygonGrid",
    "Preflight",
    "Schedule",
    "Simplex",
    "SimplexProfile",
    "Spawning",
    "Star",
    "StarProfile",
    "Stitching",
    "Tree",
    "auto_neb",
    "cka",
    "commutativity",
    "copies",
    "cyclic",
    "ensemble_table",
    "explore",
    "feature_linearity",
    "feature_similarity",
    "fit_complex",
    "fit_curve",
    "fit_simplex",
    "fit_star",
    "glue",
    "grow",
    "holonomy",
    "measure_plane",
    "measure_polygon",
    "pca_plane",
    "permuted_simplex",
    "plane_through",
    "preflight",
    "principal_angles",
    "profile_curve",
    "profile_path",
    "profile_star",
    "random_plane",
    "redistribute",
    "score_ensemble",
    "simplex_barrier",
    "snapshot_average",
    "spanning_tree",
    "spawn",
    "spawning_onset",
    "stitch",
    "straight",
    "to_reference",
    "triangles",
    "weak_additivity",
]
