"""The versions of what made a result."""

import platform
from importlib import metadata

PACKAGES = ("onebasin", "torch", "numpy", "scipy")


def versions() -> dict[str, str]:
    """The version of each package that results depend on, and of Python.

    A library that is run from its source folder without having been installed has no version.
    """
    found = {package: _version(package) for package in PACKAGES}
    return found | {"python": platform.python_version()}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
