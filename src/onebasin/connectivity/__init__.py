"""Measure how networks are connected."""

from onebasin.connectivity.conditions import commutativity as commutativity
from onebasin.connectivity.conditions import weak_additivity as weak_additivity
from onebasin.connectivity.cycles import cyclic as cyclic
from onebasin.connectivity.cycles import snapshot_average as snapshot_average
from onebasin.connectivity.ensemble import score_ensemble as score_ensemble
from onebasin.connectivity.ensemble_rows import ensemble_table as ensemble_table
from onebasin.connectivity.ensemble_table import EnsembleTable as EnsembleTable
from onebasin.connectivity.linearity import FeatureLinearity as FeatureLinearity
from onebasin.connectivity.linearity import feature_linearity as feature_linearity
from onebasin.connectivity.path import PathProfile as PathProfile
from onebasin.connectivity.path import profile_path as profile_path
from onebasin.connectivity.stitch import Stitching as Stitching
from onebasin.connectivity.stitch import cka as cka
from onebasin.connectivity.stitch import feature_similarity as feature_similarity
from onebasin.connectivity.stitch import principal_angles as principal_angles
from onebasin.connectivity.stitch import stitch as stitch

__all__ = [
    "EnsembleTable",
    "FeatureLinearity",
    "PathProfile",
    "Stitching",
    "cka",
    "commutativity",
    "cyclic",
    "ensemble_table",
    "feature_linearity",
    "feature_similarity",
    "principal_angles",
    "profile_path",
    "score_ensemble",
    "snapshot_average",
    "stitch",
    "weak_additivity",
]
