"""Names of a package that load their module when they are first used (PEP 562).

The command line shows its help without loading torch, which takes longer than all else together.
"""

import importlib
import sys
from collections.abc import Callable, Mapping


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """A `__getattr__` for a package.

    Args:
        package: its `__name__`.
        homes: for every lazy name the module that holds it.

    Returns:
        A function from a name to its value, which stays in the package from then on. As Python expects of it, it
        raises AttributeError for other names.
    """

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
