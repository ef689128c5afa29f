"""Imports go down, in one direction: the plan of the house as a table."""

import ast
import graphlib
from collections.abc import Callable, Iterator, Mapping

import pytest

from house.source import PACKAGE, lazy_packages, parse, python_files

# A file or folder of the package imports only from lower levels, or from its own folder. A new one needs a row.
LEVELS = {
    "errors": 0,
    "lazy": 0,  # loads what others name, and knows nothing itself
    "progress": 1,
    "files": 1,
    "modes": 1,
    "parallel": 1,
    "json_file": 2,
    "layout": 2,
    "permutation": 2,
    "explanation": 2,
    "apply": 3,
    "symmetry_json": 3,
    "checkpoint": 3,  # knows tensors and files only; symmetries and matchings take paths, so it lies below them
    "symmetry": 4,
    "evaluation": 4,  # runs models on data; knows files of tensors, and no symmetry
    # Three families that know nothing of each other.
    "discovery": 5,
    "similarity": 5,
    "assignment": 5,
    "matching": 6,
    "merging": 7,
    "correction": 8,  # works on what merging made; paths re-estimate BatchNorm at every point
    "connectivity": 9,
    "tasks": 10,
    "report": 10,
    # The facade, `onebasin/__init__.py`, and what stands on the whole library.
    "onebasin": 11,
    "git": 11,
    "cli": 12,
    "__main__": 13,
}

# A package that is imported in one folder only, so that it could be replaced there.
HOME = {
    "altair": "report",
    "vl_convert": "report",
    "typer": "cli",
    "rich": "cli",
    "safetensors": "checkpoint",
    "scipy": "assignment",
    "yaml": "cli",
    "gudhi": "connectivity",
}

Sources = Mapping[str, ast.Module]
"""Module name, such as `onebasin.discovery.axes` or `onebasin.discovery.__init__`, to its syntax tree."""


def unit(module: str) -> str:
    """The row of the table a module belongs to."""
    inside = module.removesuffix(".__init__").split(".")
    return inside[1] if len(inside) > 1 else inside[0]


def nodes(tree: ast.AST, *, eager: bool) -> Iterator[ast.AST]:
    """The nodes of a tree; with `eager`, only those that run when the module is imported."""
    for child in ast.iter_child_nodes(tree):
        deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for_types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if eager and (deferred or for_types):
            continue
        yield child
        yield from nodes(child, eager=eager)


def imports(module: str, tree: ast.AST, *, eager: bool = False) -> Iterator[str]:
    """The absolute dotted names a module imports: for `from x import y`, `x.y`."""
    for node in nodes(tree, eager=eager):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(module.split(".")[: -node.level]) if node.level else ""
            origin = ".".join(filter(None, (package, node.module)))
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def within(name: str, sources: Sources) -> str:
    """The module of ours that an imported name stands for or lives in."""
    parts = name.split(".")
    stems = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
    return next(module for stem in stems for module in (stem, f"{stem}.__init__") if module in sources)


def edges(sources: Sources) -> Iterator[tuple[str, str]]:
    """Who imports whom, inside the package."""
    for module, tree in sources.items():
        for name in imports(module, tree):
            if name.split(".")[0] == "onebasin":
                yield module, within(name, sources)


def climbing(sources: Sources) -> list[str]:
    """Imports that do not go down, and modules the table does not know."""
    rows = [f"{module} has no row in LEVELS" for module in sources if unit(module) not in LEVELS]
    return rows or [
        f"{module} (level {LEVELS[unit(module)]}) imports {target} (level {LEVELS[unit(target)]})"
        for module, target in edges(sources)
        if unit(module) != unit(target) and LEVELS[unit(module)] <= LEVELS[unit(target)]
    ]


def circles(sources: Sources) -> list[str]:
    """The first circle of imports, if there is one."""
    graph: dict[str, set[str]] = {module: set() for module in sources}
    for module, target in edges(sources):
        graph[module].add(target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


def strangers(sources: Sources) -> list[str]:
    """Imports of a package outside the folder it belongs to, and of slow packages while the module loads."""
    away = [
        f"{module} imports {name}, which belongs in {HOME[top]}/"
        for module, tree in sources.items()
        for name in imports(module, tree)
        if (top := name.split(".")[0]) in HOME and unit(module) != HOME[top]
    ]
    early = [
        f"{module} imports {name} while it loads; import it inside the function that uses it"
        for module, tree in sources.items()
        for name in imports(module, tree, eager=True)
        if name.split(".")[0] in lazy_packages()
    ]
    return away + early


@pytest.fixture(scope="module")
def package() -> Sources:
    """Every module of the package."""
    paths = python_files("src")
    return {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): parse(path) for path in paths}


def test_imports_go_down(package: Sources) -> None:
    """Every module has a level and imports from lower levels or its own folder only."""
    assert climbing(package) == []


def test_no_circles(package: Sources) -> None:
    """No module imports itself by way of others, inside functions and for types included."""
    assert circles(package) == []


def test_packages_stay_at_home(package: Sources) -> None:
    """Replaceable packages are imported in one folder, slow ones only inside the function that uses them."""
    assert strangers(package) == []


# A tree in miniature that keeps every rule.
CLEAN = {
    "onebasin.__init__": "",
    "onebasin.errors": "",
    "onebasin.apply": "",
    "onebasin.discovery.__init__": "",
    "onebasin.discovery.axes": "from onebasin.errors import OneBasinError\nfrom .tape import Tape",
    "onebasin.discovery.tape": "",
    "onebasin.similarity.__init__": "",
    "onebasin.report": "",
}


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (climbing, "onebasin.apply", "from onebasin.discovery.axes import Axis"),
        (climbing, "onebasin.apply", "def f():\n    from onebasin import discovery"),
        (climbing, "onebasin.apply", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import onebasin.report"),
        (climbing, "onebasin.apply", "from .discovery import axes"),
        (climbing, "onebasin.apply", "from onebasin import discover"),
        (climbing, "onebasin.discovery.axes", "from ..similarity import score"),
        (climbing, "onebasin.discovery.__init__", "from onebasin import similarity"),
        (climbing, "onebasin.helpers", ""),
        (circles, "onebasin.discovery.tape", "from . import axes"),
        (circles, "onebasin.discovery.tape", "from onebasin.discovery.axes import Axis"),
        (strangers, "onebasin.apply", "def f():\n    from scipy.optimize import linear_sum_assignment"),
        (strangers, "onebasin.report", "import altair.vegalite as alt"),
        (strangers, "onebasin.apply", "import joblib"),
    ],
)
def test_rules_notice(rule: Callable[[Sources], list[str]], module: str, source: str) -> None:
    """Each rule reports one violation planted in a tree that has none."""
    planted = CLEAN | {module: source}

    assert rule({name: ast.parse(text) for name, text in CLEAN.items()}) == []
    assert len(rule({name: ast.parse(text) for name, text in planted.items()})) == 1
