"""The project's own files, found and parsed for the gates of this folder."""

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "onebasin"
FOLDERS = ("src", "tests", "benchmarks", "docs", ".ci")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(*folders: str) -> list[Path]:
    """The project's files under some of its folders, sorted; caches and compiled files left out."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def python_files(*folders: str) -> list[Path]:
    """The Python files under some of the project's folders, sorted."""
    return [path for path in files(*folders) if path.suffix == ".py"]


@cache
def parse(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method of a tree, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def place(path: Path, line: int = 1) -> str:
    """`path:line` from the root of the project, as an editor opens it."""
    return f"{path.relative_to(ROOT).as_posix()}:{line}"


def lazy_packages() -> set[str]:
    """The packages that load only inside the function that uses them: one list, which ruff reads as well."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return set(settings["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"])
