"""Measure how networks are connected."""

from onebasin.connectivity.path import PathProfile as PathProfile
from onebasin.connectivity.path import profile_path as profile_path

__all__ = ["PathProfile", "profile_path"]
