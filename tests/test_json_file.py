"""JSON files that people can read: what is written is read back, and what cannot be read is named."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebasin.errors import CheckpointError
from onebasin.json_file import format_json, read_json, write_json

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    PLAIN,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_text_means_the_value(value: object) -> None:
    """Any JSON value is written as text that means the same, numbers exactly."""
    assert json.loads(format_json(value)) == value
    assert str(json.loads(format_json(value))) == str(value)  # 1.0 is not 1, and -0.0 is not 0.0


def test_files_are_read_back(tmp_path: Path) -> None:
    """A file ends with a line end and holds what was written, text in any script as people write it."""
    value = {"ä\n": ["ж", 1e-300], "empty": [{}, []]}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")

    assert read_json(str(tmp_path / "a.json")) == value
    assert text.endswith("}\n")
    assert "ж" in text


def test_layout_is_one_line_a_field() -> None:
    """Objects and lists of lists are spread over lines, everything else stands on one."""
    value = {"format": "x/1", "flat": [1, 2], "rows": [[1], [2, 3]], "inner": {"a": (0.5, None)}, "none": {}, "no": []}

    assert format_json(value) == (
        "{\n"
        '  "format": "x/1",\n'
        '  "flat": [1, 2],\n'
        '  "rows": [\n'
        "    [1],\n"
        "    [2, 3]\n"
        "  ],\n"
        '  "inner": {\n'
        '    "a": [0.5, null]\n'
        "  },\n"
        '  "none": {},\n'
        '  "no": []\n'
        "}"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_null(value: float) -> None:
    """NaN and infinity, which JSON does not have, become null wherever they stand."""
    assert format_json({"a": value, "b": [1, value], "c": [[value]]}) == (
        '{\n  "a": null,\n  "b": [1, null],\n  "c": [\n    [null]\n  ]\n}'
    )


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """What is no JSON value is refused before the file is touched, and no other file is left behind."""
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})

    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert read_json(tmp_path / "a.json") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a\.json: expected a JSON file, found nothing there; check the path"),
        (b"\xff\xfe", r"a\.json: expected a JSON file, found .*codec"),
        (b"", r"a\.json:1:1: expected JSON, found Expecting value"),
        (b'{"a": 1,\n "b" 2}', r"a\.json:2:6: expected JSON, found Expecting ':'"),
        (b"\xef\xbb\xbf{}", r"a\.json:1:1: expected JSON, found Unexpected UTF-8 BOM"),
        (b"{} {}", r"a\.json:1:4: expected JSON, found Extra data"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A file that is missing, no text or no JSON is named, where it can be with line and column."""
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_json(tmp_path / "a.json")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A folder in the place of a file is an error, for reading and for writing; so is a folder that is missing."""
    with pytest.raises(CheckpointError, match="expected a JSON file"):
        read_json(tmp_path)
    with pytest.raises(CheckpointError, match="found a folder"):
        write_json(tmp_path, 1)
    with pytest.raises(CheckpointError, match="expected a folder to write to, found nothing there"):
        write_json(tmp_path / "missing" / "a.json", 1)


@pytest.mark.parametrize("content", ["[" * 100_000, "9" * 5000])
def test_absurd_files_are_refused(tmp_path: Path, content: str) -> None:
    """Brackets nested without end and numbers of thousands of digits are an error like any other."""
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(CheckpointError):
        read_json(tmp_path / "a.json")
