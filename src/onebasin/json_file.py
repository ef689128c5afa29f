"""JSON files that people can read, and errors that say where one is broken."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


@contextmanager
def record(data: object, where: str | Path, what: str, form: str) -> Iterator[dict[str, Any]]:
    """The fields of a JSON form, for a block that makes a result of them.

    Args:
        data: parsed JSON.
        where: it was read from.
        what: it should be, for errors.
        form: what its field `format` should say.

    Raises:
        CheckpointError: if it is something else, or the block finds a field missing or of another kind.
    """
    expected, remedy = f"{what}, format {form}", "pass a file or folder that `save` wrote"
    if not isinstance(data, dict) or data.get("format") != form:
        raise CheckpointError(str(where), expected=expected, found="something else", remedy=remedy)
    try:
        yield data
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        found = f"no field {error}" if isinstance(error, KeyError) else f"something that does not fit: {error}"
        raise CheckpointError(str(where), expected=expected, found=found, remedy=remedy) from error


def typed(data: Mapping[str, Any], name: str, *kinds: type) -> Any:  # noqa: ANN401 - what the file holds
    """A field of a record that must be of one of some types, and not of one derived from them (a bool is no int).

    Raises:
        TypeError: it is not.
        KeyError: it is missing.
    """
    if type(data[name]) not in kinds:
        raise TypeError(f"{name}: {data[name]!r:.40}")
    return data[name]


def numbers(values: object, where: str) -> tuple[float, ...]:
    """A list of numbers out of a file; null stands for one that is not finite.

    Raises:
        CheckpointError: if it is none.
    """
    if not isinstance(values, list) or not all(v is None or type(v) in (int, float) for v in values):
        raise CheckpointError(where, expected="a list of numbers", found=repr(values)[:60], remedy="correct the file")
    return tuple(math.nan if value is None else float(value) for value in values)


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
