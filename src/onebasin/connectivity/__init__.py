"""Measure how networks are connected."""

from typing import TYPE_CHECKING as _TYPES

from onebasin.lazy import lazily as _lazily

if _TYPES:
    from onebasin.connectivity.advice import Preflight as Preflight
    from onebasin.connectivity.advice import preflight as preflight
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
    from onebasin.connectivity.ensemble_result import EnsembleTable as EnsembleTable
    from onebasin.connectivity.ensemble_rows import ensemble_table as ensemble_table
    from onebasin.connectivity.filtration import Filtration as Filtration
    from onebasin.connectivity.filtration import Interval as Interval
    from onebasin.connectivity.gluing import Framed as Framed
    from onebasin.connectivity.gluing import Gluing as Gluing
    from onebasin.connectivity.gluing import copies as copies
    from onebasin.connectivity.gluing import glue as glue
    from onebasin.connectivity.linearity import FeatureLinearity as FeatureLinearity
    from onebasin.connectivity.linearity import feature_linearity as feature_linearity
    from onebasin.connectivity.loops import Growth as Growth
    from onebasin.connectivity.loops import Holonomy as Holonomy
    from onebasin.connectivity.loops import grow as grow
    from onebasin.connectivity.loops import holonomy as holonomy
    from onebasin.connectivity.loops import triangles as triangles
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
    from onebasin.connectivity.simplex import Simplex as Simplex
    from onebasin.connectivity.simplex_profile import SimplexProfile as SimplexProfile
    from onebasin.connectivity.spawning import Spawning as Spawning
    from onebasin.connectivity.spawning import spawn as spawn
    from onebasin.connectivity.spawning import spawning_onset as spawning_onset
    from onebasin.connectivity.spro import Complex as Complex
    from onebasin.connectivity.spro import fit_complex as fit_complex
    from onebasin.connectivity.spro import fit_simplex as fit_simplex
    from onebasin.connectivity.star import Star as Star
    from onebasin.connectivity.star import StarProfile as StarProfile
    from onebasin.connectivity.star import fit_star as fit_star
    from onebasin.connectivity.star import profile_star as profile_star
    from onebasin.connectivity.stitching import Stitching as Stitching
    from onebasin.connectivity.stitching import cka as cka
    from onebasin.connectivity.stitching import feature_similarity as feature_similarity
    from onebasin.connectivity.stitching import principal_angles as principal_angles
    from onebasin.connectivity.stitching import stitch as stitch
    from onebasin.connectivity.training import Schedule as Schedule
    from onebasin.connectivity.tree import Tree as Tree
    from onebasin.connectivity.tree import explore as explore
    from onebasin.connectivity.tree import spanning_tree as spanning_tree
    from onebasin.connectivity.worst_point import simplex_barrier as simplex_barrier

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

# Each name is loaded when it is first used: a merge needs none of the laboratory.
__getattr__ = _lazily(
    __name__,
    {
        "Band": "onebasin.connectivity.band",
        "BandSchedule": "onebasin.connectivity.band",
        "Complex": "onebasin.connectivity.spro",
        "Curve": "onebasin.connectivity.curve",
        "CurveProfile": "onebasin.connectivity.curve_profile",
        "EnsembleTable": "onebasin.connectivity.ensemble_result",
        "FeatureLinearity": "onebasin.connectivity.linearity",
        "Filtration": "onebasin.connectivity.filtration",
        "Framed": "onebasin.connectivity.gluing",
        "Gluing": "onebasin.connectivity.gluing",
        "Growth": "onebasin.connectivity.loops",
        "Holonomy": "onebasin.connectivity.loops",
        "Interval": "onebasin.connectivity.filtration",
        "PathProfile": "onebasin.connectivity.path",
        "PermutedSimplex": "onebasin.connectivity.permuted",
        "PlaneGrid": "onebasin.connectivity.plane",
        "PolygonGrid": "onebasin.connectivity.polygon",
        "Preflight": "onebasin.connectivity.advice",
        "Schedule": "onebasin.connectivity.training",
        "Simplex": "onebasin.connectivity.simplex",
        "SimplexProfile": "onebasin.connectivity.simplex_profile",
        "Spawning": "onebasin.connectivity.spawning",
        "Star": "onebasin.connectivity.star",
        "StarProfile": "onebasin.connectivity.star",
        "Stitching": "onebasin.connectivity.stitching",
        "Tree": "onebasin.connectivity.tree",
        "auto_neb": "onebasin.connectivity.band",
        "cka": "onebasin.connectivity.stitching",
        "commutativity": "onebasin.connectivity.conditions",
        "copies": "onebasin.connectivity.gluing",
        "cyclic": "onebasin.connectivity.cycles",
        "ensemble_table": "onebasin.connectivity.ensemble_rows",
        "explore": "onebasin.connectivity.tree",
        "feature_linearity": "onebasin.connectivity.linearity",
        "feature_similarity": "onebasin.connectivity.stitching",
        "fit_complex": "onebasin.connectivity.spro",
        "fit_curve": "onebasin.connectivity.curve_fit",
        "fit_simplex": "onebasin.connectivity.spro",
        "fit_star": "onebasin.connectivity.star",
        "glue": "onebasin.connectivity.gluing",
        "grow": "onebasin.connectivity.loops",
        "holonomy": "onebasin.connectivity.loops",
        "measure_plane": "onebasin.connectivity.plane",
        "measure_polygon": "onebasin.connectivity.polygon",
        "pca_plane": "onebasin.connectivity.plane",
        "permuted_simplex": "onebasin.connectivity.permuted",
        "plane_through": "onebasin.connectivity.plane",
        "preflight": "onebasin.connectivity.advice",
        "principal_angles": "onebasin.connectivity.stitching",
        "profile_curve": "onebasin.connectivity.curve_profile",
        "profile_path": "onebasin.connectivity.path",
        "profile_star": "onebasin.connectivity.star",
        "random_plane": "onebasin.connectivity.plane",
        "redistribute": "onebasin.connectivity.band",
        "score_ensemble": "onebasin.connectivity.ensemble",
        "simplex_barrier": "onebasin.connectivity.worst_point",
        "snapshot_average": "onebasin.connectivity.cycles",
        "spanning_tree": "onebasin.connectivity.tree",
        "spawn": "onebasin.connectivity.spawning",
        "spawning_onset": "onebasin.connectivity.spawning",
        "stitch": "onebasin.connectivity.stitching",
        "straight": "onebasin.connectivity.curve",
        "to_reference": "onebasin.connectivity.permuted",
        "triangles": "onebasin.connectivity.loops",
        "weak_additivity": "onebasin.connectivity.conditions",
    },
)
