"""Measure how networks are connected."""

from onebasin.connectivity.path import PathProfile as PathProfile
from onebasin.connectivity.path import profile_path as profile_path
from onebasin.connectivity.plane import PlaneGrid as PlaneGrid
from onebasin.connectivity.plane import measure_plane as measure_plane
from onebasin.connectivity.plane import pca_plane as pca_plane
from onebasin.connectivity.plane import plane_through as plane_through
from onebasin.connectivity.plane import random_plane as random_plane
from onebasin.connectivity.polygon import PolygonGrid as PolygonGrid
from onebasin.connectivity.polygon import measure_polygon as measure_polygon
from onebasin.connectivity.preflight import Preflight as Preflight
from onebasin.connectivity.preflight import preflight as preflight

__all__ = [
    "PathProfile",
    "PlaneGrid",
    "PolygonGrid",
    "Preflight",
    "measure_plane",
    "measure_polygon",
    "pca_plane",
    "plane_through",
    "preflight",
    "profile_path",
    "random_plane",
]
