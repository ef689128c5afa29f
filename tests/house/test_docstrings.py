"""Everything public says what it is, and every test says what it expects."""

import ast
import re
from collections.abc import Iterator

import pytest

from house.source import Function, functions, parse, place, python_files

# A full stop, then a new sentence; abbreviations such as "e.g. MLP" do not end one.
SECOND_SENTENCE = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!vs)[.!?]\s+[A-Z]")


def undocumented(tree: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | Function]:
    """Public classes, functions and methods without a docstring, at the top and inside public classes."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_"):
            continue
        # A setter and an overload repeat what is documented beside them.
        marks = {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
        if not marks & {"setter", "overload"} and ast.get_docstring(node) is None:
            yield node
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node)


def is_one_sentence(text: str) -> bool:
    """Whether a docstring is one sentence, over as many lines as it needs."""
    return text.endswith(".") and "\n\n" not in text and SECOND_SENTENCE.search(text) is None


def test_modules_are_documented() -> None:
    """Every module of the library and of its tests and benchmarks has a docstring."""
    bare = [path for path in python_files("src", "tests", "benchmarks") if not ast.get_docstring(parse(path))]

    assert [place(path) for path in bare] == []


def test_public_names_are_documented() -> None:
    """Every public class, function and method of the library has a docstring."""
    bare = [(path, node) for path in python_files("src") for node in undocumented(parse(path))]

    assert [f"{place(path, node.lineno)} {node.name}" for path, node in bare] == []


def test_tests_say_what_they_expect() -> None:
    """Every test has a docstring of one sentence."""
    tests = [(path, node) for path in python_files("tests") for node in functions(parse(path))]
    vague = [
        f"{place(path, node.lineno)} {node.name}"
        for path, node in tests
        if node.name.startswith("test_") and not is_one_sentence(ast.get_docstring(node) or "")
    ]

    assert vague == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('class A:\n    """A."""\n    def b(self): ...\n    def _c(self): ...', ["b"]),
        ("class A:\n    def __init__(self): ...\ndef _f(): ...", ["A"]),
        ("@typing.overload\ndef f(): ...\nasync def g(): ...", ["g"]),
    ],
)
def test_undocumented_names_are_noticed(source: str, names: list[str]) -> None:
    """A missing docstring is reported where the name is public and not said elsewhere."""
    assert [node.name for node in undocumented(ast.parse(source))] == names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A file, e.g. MLP.json, is read over\ntwo lines.", True),
        ("", False),
        ("No full stop", False),
        ("One. Two.", False),
        ("One.\n\nTwo.", False),
    ],
)
def test_second_sentences_are_noticed(text: str, expected: bool) -> None:
    """One sentence passes, and nothing, a fragment or a second sentence does not."""
    assert is_one_sentence(text) is expected
