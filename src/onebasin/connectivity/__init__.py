"""Measure how networks are connected."""

from onebasin.connectivity.band import Band as Band
from onebasin.connectivity.band import BandSchedule as BandSchedule
from onebasin.connectivity.band import auto_neb as auto_neb
from onebasin.connectivity.band import redistribute as redistribute
from onebasin.connectivity.curve import Curve as Curve
from onebasin.connectivity.curve import straight as straight
from onebasin.connectivity.curve_fit import fit_curve as fit_curve
from onebasin.connectivity.curve_profile import CurveProfile as CurveProfile
from onebasin.connectivity.curve_profile import profile_curve as profile_curve
from onebasin.connectivity.path import PathProfile as PathProfile
from onebasin.connectivity.path import profile_path as profile_path
from onebasin.connectivity.spawn import Spawning as Spawning
from onebasin.connectivity.spawn import spawn as spawn
from onebasin.connectivity.spawn import spawning_onset as spawning_onset
from onebasin.connectivity.star import Star as Star
from onebasin.connectivity.star import StarProfile as StarProfile
from onebasin.connectivity.star import fit_star as fit_star
from onebasin.connectivity.star import profile_star as profile_star
from onebasin.connectivity.training import Schedule as Schedule
from onebasin.connectivity.tree import Tree as Tree
from onebasin.connectivity.tree import explore as explore
from onebasin.connectivity.tree import spanning_tree as spanning_tree

__all__ = [
    "Band",
    "BandSchedule",
    "Curve",
    "CurveProfile",
    "PathProfile",
    "Schedule",
    "Spawning",
    "Star",
    "StarProfile",
    "Tree",
    "auto_neb",
    "explore",
    "fit_curve",
    "fit_star",
    "profile_curve",
    "profile_path",
    "profile_star",
    "redistribute",
    "spanning_tree",
    "spawn",
    "spawning_onset",
    "straight",
]
