"""What `import onebasin` gives, and what it does not load."""

import ast
import importlib
import inspect
import json
import subprocess
import sys
from types import ModuleType

import pytest

import onebasin
from house.source import PACKAGE, lazy_packages, parse

# The words of the README: users write these, so they stay.
PROMISED = {"Matching", "Symmetry", "discover", "match", "merge", "profile_path", "verify"}
NAMES = sorted(PROMISED | set(getattr(onebasin, "__all__", ())))

LOADED_BEYOND_TORCH = """
import json, sys
import torch
before = set(sys.modules)
import onebasin
for name in onebasin.__all__:
    getattr(onebasin, name)
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


def test_facade_names_are_complete() -> None:
    """The list of exported names holds each public name of the facade once and nothing else, and all can be loaded."""
    for name in onebasin.__all__:
        getattr(onebasin, name)
    public = {name for name, value in vars(onebasin).items() if name[0] != "_" and not isinstance(value, ModuleType)}

    assert sorted(getattr(onebasin, "__all__", ())) == sorted(public)


def test_facade_names_are_those_that_type_checkers_see() -> None:
    """What is imported for type checkers is what is exported, from where it is loaded."""
    rows = [row for row in ast.walk(parse(PACKAGE / "__init__.py")) if isinstance(row, ast.ImportFrom)]
    seen = {alias.name: row.module for row in rows for alias in row.names if alias.name == alias.asname}

    assert sorted(seen) == sorted(onebasin.__all__)
    for name, module in seen.items():
        assert getattr(onebasin, name) is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", NAMES)
def test_facade_names_are_documented(name: str) -> None:
    """Every exported class or function exists and says in its own words what it is."""
    value = getattr(onebasin, name)
    words = value.__doc__ or ""

    # `@dataclass` writes a signature where there is no docstring.
    assert not (inspect.isclass(value) or callable(value)) or (words.strip() and not words.startswith(f"{name}("))


def test_import_is_light() -> None:
    """Importing the library loads no slow package beyond what torch loads by itself."""
    answer = subprocess.run([sys.executable, "-c", LOADED_BEYOND_TORCH], capture_output=True, text=True, check=True)

    loaded = set(json.loads(answer.stdout))
    assert "onebasin" in loaded
    assert loaded & (lazy_packages() | {"typer", "rich"}) == set()
