"""One basin for every network: align, merge and connect trained networks modulo their symmetries.

symmetry = discover(model, args=(x,))          which axes of which tensors move together
check = verify(model, symmetry, args=(x,))     proved on the model
matching = match(a, b, symmetry)               b's units in a's order
universe = match_many([a, b, c], symmetry)     all in the order of the first
merged = merge([a, matching.apply(b)])         one network
fixed = refit(model, merged, [a, matching.apply(b)], batches, evaluate)   corrected on unlabeled data
profile = profile_path(model, a, matching.apply(b), Evaluation(evaluate, batches))
advice = preflight(model, [a, b, c], symmetry, Evaluation(evaluate, batches))   which may be averaged
"""

from typing import TYPE_CHECKING as _TYPES

from onebasin.lazy import lazily as _lazily

if _TYPES:
    from onebasin.checkpoint import open_checkpoint as open_checkpoint
    from onebasin.checkpoint import save_checkpoint as save_checkpoint
    from onebasin.connectivity import Band as Band
    from onebasin.connectivity import BandSchedule as BandSchedule
    from onebasin.connectivity import Complex as Complex
    from onebasin.connectivity import Curve as Curve
    from onebasin.connectivity import CurveProfile as CurveProfile
    from onebasin.connectivity import EnsembleTable as EnsembleTable
    from onebasin.connectivity import FeatureLinearity as FeatureLinearity
    from onebasin.connectivity import Filtration as Filtration
    from onebasin.connectivity import Framed as Framed
    from onebasin.connectivity import PathProfile as PathProfile
    from onebasin.connectivity import PermutedSimplex as PermutedSimplex
    from onebasin.connectivity import Preflight as Preflight
    from onebasin.connectivity import Schedule as Schedule
    from onebasin.connectivity import Simplex as Simplex
    from onebasin.connectivity import SimplexProfile as SimplexProfile
    from onebasin.connectivity import Spawning as Spawning
    from onebasin.connectivity import Star as Star
    from onebasin.connectivity import Tree as Tree
    from onebasin.connectivity import auto_neb as auto_neb
    from onebasin.connectivity import cyclic as cyclic
    from onebasin.connectivity import ensemble_table as ensemble_table
    from onebasin.connectivity import explore as explore
    from onebasin.connectivity import feature_linearity as feature_linearity
    from onebasin.connectivity import fit_complex as fit_complex
    from onebasin.connectivity import fit_curve as fit_curve
    from onebasin.connectivity import fit_simplex as fit_simplex
    from onebasin.connectivity import fit_star as fit_star
    from onebasin.connectivity import glue as glue
    from onebasin.connectivity import grow as grow
    from onebasin.connectivity import holonomy as holonomy
    from onebasin.connectivity import measure_plane as measure_plane
    from onebasin.connectivity import measure_polygon as measure_polygon
    from onebasin.connectivity import pca_plane as pca_plane
    from onebasin.connectivity import permuted_simplex as permuted_simplex
    from onebasin.connectivity import plane_through as plane_through
    from onebasin.connectivity import preflight as preflight
    from onebasin.connectivity import profile_curve as profile_curve
    from onebasin.connectivity import profile_path as profile_path
    from onebasin.connectivity import profile_star as profile_star
    from onebasin.connectivity import random_plane as random_plane
    from onebasin.connectivity import simplex_barrier as simplex_barrier
    from onebasin.connectivity import spanning_tree as spanning_tree
    from onebasin.connectivity import spawn as spawn
    from onebasin.connectivity import spawning_onset as spawning_onset
    from onebasin.connectivity import stitch as stitch
    from onebasin.connectivity import to_reference as to_reference
    from onebasin.connectivity import triangles as triangles
    from onebasin.correction import Correction as Correction
    from onebasin.correction import class_accuracies as class_accuracies
    from onebasin.correction import correct as correct
    from onebasin.correction import expand as expand
    from onebasin.correction import reestimate_batchnorm as reestimate_batchnorm
    from onebasin.correction import refit as refit
    from onebasin.correction import repair as repair
    from onebasin.discovery import Verification as Verification
    from onebasin.discovery import discover as discover
    from onebasin.discovery import verify as verify
    from onebasin.errors import OneBasinError as OneBasinError
    from onebasin.evaluation import Evaluation as Evaluation
    from onebasin.layout import AxisGroup as AxisGroup
    from onebasin.layout import AxisLayout as AxisLayout
    from onebasin.matching import Activations as Activations
    from onebasin.matching import Universe as Universe
    from onebasin.matching import activation_similarity as activation_similarity
    from onebasin.matching import learn_matching as learn_matching
    from onebasin.matching import learn_universe as learn_universe
    from onebasin.matching import match as match
    from onebasin.matching import match_many as match_many
    from onebasin.merging import merge as merge
    from onebasin.permutation import Permutation as Permutation
    from onebasin.progress import Progress as Progress
    from onebasin.symmetry import AxisRef as AxisRef
    from onebasin.symmetry import Matching as Matching
    from onebasin.symmetry import Status as Status
    from onebasin.symmetry import Symmetry as Symmetry
    from onebasin.symmetry import Trial as Trial

__all__ = [
    "Activations",
    "AxisGroup",
    "AxisLayout",
    "AxisRef",
    "Band",
    "BandSchedule",
    "Complex",
    "Correction",
    "Curve",
    "CurveProfile",
    "EnsembleTable",
    "Evaluation",
    "FeatureLinearity",
    "Filtration",
    "Framed",
    "Matching",
    "OneBasinError",
    "PathProfile",
    "Permutation",
    "PermutedSimplex",
    "Preflight",
    "Progress",
    "Schedule",
    "Simplex",
    "SimplexProfile",
    "Spawning",
    "Star",
    "Status",
    "Symmetry",
    "Tree",
    "Trial",
    "Universe",
    "Verification",
    "activation_similarity",
    "auto_neb",
    "class_accuracies",
    "correct",
    "cyclic",
    "discover",
    "ensemble_table",
    "expand",
    "explore",
    "feature_linearity",
    "fit_complex",
    "fit_curve",
    "fit_simplex",
    "fit_star",
    "glue",
    "grow",
    "holonomy",
    "learn_matching",
    "learn_universe",
    "match",
    "match_many",
    "measure_plane",
    "measure_polygon",
    "merge",
    "open_checkpoint",
    "pca_plane",
    "permuted_simplex",
    "plane_through",
    "preflight",
    "profile_curve",
    "profile_path",
    "profile_star",
    "random_plane",
    "reestimate_batchnorm",
    "refit",
    "repair",
    "save_checkpoint",
    "simplex_barrier",
    "spanning_tree",
    "spawn",
    "spawning_onset",
    "stitch",
    "to_reference",
    "triangles",
    "verify",
]

# Each name is loaded when it is first used: the command line shows its help without waiting for torch.
__getattr__ = _lazily(
    __name__,
    {
        "Activations": "onebasin.matching",
        "AxisGroup": "onebasin.layout",
        "AxisLayout": "onebasin.layout",
        "AxisRef": "onebasin.symmetry",
        "Band": "onebasin.connectivity",
        "BandSchedule": "onebasin.connectivity",
        "Complex": "onebasin.connectivity",
        "Correction": "onebasin.correction",
        "Curve": "onebasin.connectivity",
        "CurveProfile": "onebasin.connectivity",
        "EnsembleTable": "onebasin.connectivity",
        "Evaluation": "onebasin.evaluation",
        "FeatureLinearity": "onebasin.connectivity",
        "Filtration": "onebasin.connectivity",
        "Framed": "onebasin.connectivity",
        "Matching": "onebasin.symmetry",
        "OneBasinError": "onebasin.errors",
        "PathProfile": "onebasin.connectivity",
        "Permutation": "onebasin.permutation",
        "PermutedSimplex": "onebasin.connectivity",
        "Preflight": "onebasin.connectivity",
        "Progress": "onebasin.progress",
        "Schedule": "onebasin.connectivity",
        "Simplex": "onebasin.connectivity",
        "SimplexProfile": "onebasin.connectivity",
        "Spawning": "onebasin.connectivity",
        "Star": "onebasin.connectivity",
        "Status": "onebasin.symmetry",
        "Symmetry": "onebasin.symmetry",
        "Tree": "onebasin.connectivity",
        "Trial": "onebasin.symmetry",
        "Universe": "onebasin.matching",
        "Verification": "onebasin.discovery",
        "activation_similarity": "onebasin.matching",
        "auto_neb": "onebasin.connectivity",
        "class_accuracies": "onebasin.correction",
        "correct": "onebasin.correction",
        "cyclic": "onebasin.connectivity",
        "discover": "onebasin.discovery",
        "ensemble_table": "onebasin.connectivity",
        "expand": "onebasin.correction",
        "explore": "onebasin.connectivity",
        "feature_linearity": "onebasin.connectivity",
        "fit_complex": "onebasin.connectivity",
        "fit_curve": "onebasin.connectivity",
        "fit_simplex": "onebasin.connectivity",
        "fit_star": "onebasin.connectivity",
        "glue": "onebasin.connectivity",
        "grow": "onebasin.connectivity",
        "holonomy": "onebasin.connectivity",
        "learn_matching": "onebasin.matching",
        "learn_universe": "onebasin.matching",
        "match": "onebasin.matching",
        "match_many": "onebasin.matching",
        "measure_plane": "onebasin.connectivity",
        "measure_polygon": "onebasin.connectivity",
        "merge": "onebasin.merging",
        "open_checkpoint": "onebasin.checkpoint",
        "pca_plane": "onebasin.connectivity",
        "permuted_simplex": "onebasin.connectivity",
        "plane_through": "onebasin.connectivity",
        "preflight": "onebasin.connectivity",
        "profile_curve": "onebasin.connectivity",
        "profile_path": "onebasin.connectivity",
        "profile_star": "onebasin.connectivity",
        "random_plane": "onebasin.connectivity",
        "reestimate_batchnorm": "onebasin.correction",
        "refit": "onebasin.correction",
        "repair": "onebasin.correction",
        "save_checkpoint": "onebasin.checkpoint",
        "simplex_barrier": "onebasin.connectivity",
        "spanning_tree": "onebasin.connectivity",
        "spawn": "onebasin.connectivity",
        "spawning_onset": "onebasin.connectivity",
        "stitch": "onebasin.connectivity",
        "to_reference": "onebasin.connectivity",
        "triangles": "onebasin.connectivity",
        "verify": "onebasin.discovery",
    },
)
