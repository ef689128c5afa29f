"""JSON files that people can read, and errors that say where one is broken."""

import json
import math
from pathlib import Path

from onebasin.errors import CheckpointError
from onebasin.files import write_text


def write_json(path: str | Path, data: object) -> None:
    """Write `data` as JSON: one line a field, lists of plain values on one line. Whole or not at all.

    Raises:
        CheckpointError: if the folder is missing or the file cannot be written.
    """
    write_text(path, format_json(data) + "\n")


def read_json(path: str | Path) -> object:
    """Read a JSON file.

    Raises:
        CheckpointError: if it is missing, cannot be read, or is not JSON (with line and column).
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = "nothing there" if isinstance(error, FileNotFoundError) else str(error)
        raise CheckpointError(
            str(path), expected="a JSON file", found=found, remedy="check the path and its permissions"
        ) from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{path}:{error.lineno}:{error.colno}", expected="JSON", found=error.msg, remedy="correct the file"
        ) from error
    except (RecursionError, ValueError) as error:  # brackets without end, numbers of thousands of digits
        raise CheckpointError(str(path), expected="JSON", found=str(error), remedy="correct the file") from error


def format_json(data: object, indent: str = "") -> str:
    """The text of `data`: objects and lists of lists spread over lines, everything else on one. NaN becomes null."""
    deeper = indent + "  "
    if isinstance(data, dict) and data:
        rows = [f"{deeper}{json.dumps(str(key))}: {format_json(value, deeper)}" for key, value in data.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(data, list | tuple) and any(isinstance(item, dict | list | tuple) for item in data):
        rows = [f"{deeper}{format_json(item, deeper)}" for item in data]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    if isinstance(data, list | tuple):
        return "[" + ", ".join(format_json(item) for item in data) + "]"
    if isinstance(data, float) and not math.isfinite(data):
        return "null"
    return json.dumps(data, ensure_ascii=False)
