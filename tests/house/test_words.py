"""Words and constructs that the project does without."""

import ast
import re
from collections.abc import Callable

import pytest

from house.source import FOLDERS, ROOT, files, parse, place, python_files

# A folder of one machine; written so that the pattern does not match this line.
MACHINE = re.compile(r"/wor[k]/")


def is_print(node: ast.AST) -> bool:
    """A call of `print`: the library speaks through results, errors and the progress report."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "print"


def is_blanket_handler(node: ast.AST) -> bool:
    """`except:` or `except Exception:`, alone or in a tuple: it hides our own mistakes unless it raises in turn."""
    if not isinstance(node, ast.ExceptHandler) or isinstance(node.body[-1], ast.Raise):
        return False
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or ast.unparse(kind) == "Exception" for kind in caught)


def is_assert(node: ast.AST) -> bool:
    """An `assert` statement: it vanishes under `python -O`, and its message helps no user."""
    return isinstance(node, ast.Assert)


def is_unsafe_load(node: ast.AST) -> bool:
    """A `torch.load` without `weights_only=True`: a pickle may run any code."""
    if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"):
        return False
    return not any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)


Rule = Callable[[ast.AST], bool]
# Each rule with a line that breaks it and one that keeps it.
RULES: list[tuple[Rule, str, str]] = [
    (is_print, "print(x)", "console.print(x)"),
    (is_blanket_handler, "try: f()\nexcept: pass", "try: f()\nexcept OSError: pass"),
    (is_blanket_handler, "try: f()\nexcept (OSError, Exception): pass", "try: f()\nexcept (OSError, KeyError): pass"),
    (is_blanket_handler, "try: f()\nexcept Exception: pass", "try: f()\nexcept Exception as e: raise X from e"),
    (is_assert, "assert x", "assert_equal(x)"),
    (is_unsafe_load, "torch.load(path)", "torch.load(path, map_location='cpu', weights_only=True)"),
    (is_unsafe_load, "torch.load(path, weights_only=False)", "safetensors.load(path)"),
]


# Where a rule does not hold, and why.
EXEMPT: dict[Rule, set[str]] = {
    is_print: {"src/onebasin/cli"},  # its output is the product
    is_blanket_handler: {"src/onebasin/discovery/tape.py"},  # runs the user's model, which may raise anything
}


@pytest.mark.parametrize("rule", dict.fromkeys(rule for rule, _, _ in RULES))
def test_library_does_without(rule: Rule) -> None:
    """No file of the library holds the construct, but for the exemptions."""
    exempt = {ROOT / name for name in EXEMPT.get(rule, ())}
    paths = [path for path in python_files("src") if exempt.isdisjoint((path, *path.parents))]

    assert [place(path, node.lineno) for path in paths for node in ast.walk(parse(path)) if rule(node)] == []


@pytest.mark.parametrize(("rule", "bad", "good"), RULES)
def test_rules_notice(rule: Rule, bad: str, good: str) -> None:
    """Each rule finds the line that breaks it and passes the line that keeps it."""
    assert any(map(rule, ast.walk(ast.parse(bad))))
    assert not any(map(rule, ast.walk(ast.parse(good))))


def test_no_machine_paths() -> None:
    """No text file of the project names a folder of one machine."""
    found = []
    for path in [*files(*FOLDERS), *(path for path in ROOT.iterdir() if path.is_file())]:
        # Pictures and tensors do not decode; their bytes are nobody's prose.
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [place(path, number) for number, line in enumerate(text.splitlines(), 1) if MACHINE.search(line)]

    assert found == []
