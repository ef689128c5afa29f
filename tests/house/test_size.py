"""Files and functions stay small enough to be read in one go."""

from house.source import files, functions, parse, place, python_files

FOLDERS = ("src", "tests", "benchmarks")
WRITTEN = {".py", ".pyi", ".cpp", ".h", ".js", ".css", ".html", ".sh"}
FILE_LINES = 500
FUNCTION_LINES = 60


def test_files_are_short() -> None:
    """No file written by hand is longer than 500 lines."""
    lengths = {
        place(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in files(*FOLDERS)
        if path.suffix in WRITTEN
    }

    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES} == {}


def test_functions_are_short() -> None:
    """No function is longer than 60 lines, its docstring included."""
    lengths = {
        f"{place(path, node.lineno)} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in python_files(*FOLDERS)
        for node in functions(parse(path))
    }

    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES} == {}
