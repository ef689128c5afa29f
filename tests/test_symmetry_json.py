"""Symmetries and matchings as files: read back, written by hand, and named where they are wrong."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from onebasin import AxisGroup, AxisLayout, AxisRef, Matching, Permutation, Status, Symmetry
from onebasin.errors import CheckpointError, MismatchError, SymmetryError
from strategies import elements, symmetries, written

Json = dict[str, object]

BY_HAND = """
{
  "format": "onebasin-symmetry/1",
  "groups": {"r": {"size": 4}, "heads": {"size": 2, "fixed": true}, "units": {"size": 3, "inside": ["heads"]}},
  "tensors": {
    "embed.weight": ["10", "r"],
    "attn.qkv": ["heads*(units + units + 2)", "r"],
    "norm": ["r"],
    "head.weight": ["10", "r"],
    "steps": []
  },
  "buffers": ["norm"],
  "tied": [["embed.weight", "head.weight"]],
  "pins": {"embed.weight:0": "the vocabulary"}
}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file to write."""
    return tmp_path / "found.json"


# The fixture is a path and nothing else: every example replaces the file.
replacing = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)


@replacing
@given(st.data())
def test_symmetries_are_read_back(path: Path, data: DataObject) -> None:
    """A saved symmetry is read back equal, in the same order, and saved again as the same bytes."""
    symmetry = data.draw(symmetries())
    pins = {AxisRef(name, 0): data.draw(st.text()) for name, axes in symmetry.layouts.items() if axes}
    symmetry = Symmetry(symmetry.groups, symmetry.layouts, pins, symmetry.tied, symmetry.buffers)
    symmetry.save(path)
    content = path.read_bytes()
    again = Symmetry.load(path)
    again.save(path)

    assert again == symmetry
    assert [list(m) for m in (again.groups, again.layouts, again.pins)] == [
        list(m) for m in (symmetry.groups, symmetry.layouts, symmetry.pins)
    ]
    assert path.read_bytes() == content


@replacing
@given(st.data())
def test_matchings_are_read_back(path: Path, data: DataObject) -> None:
    """A saved matching is read back equal in all but the seconds, which are not saved."""
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    matching = data.draw(symmetries().flatmap(elements)).replace(
        objective=data.draw(st.none() | numbers),
        history=tuple(data.draw(st.lists(numbers, max_size=3))),
        status=data.draw(st.sampled_from(list(Status))),
        method=data.draw(st.text()),
        seed=data.draw(st.none() | st.integers()),
    )
    matching.replace(seconds={"total": 1.5}).save(path)

    assert Matching.load(path) == matching


def test_a_symmetry_can_be_written_by_hand(path: Path) -> None:
    """The form that the documentation shows is read as what it says."""
    path.write_text(BY_HAND)
    symmetry = Symmetry.load(path)

    assert symmetry == written(
        [
            AxisGroup("r", 4),
            AxisGroup("heads", 2, (), fixed=True),
            AxisGroup("units", 3, ("heads",)),
        ],
        {
            "embed.weight": "10,r",
            "attn.qkv": "heads*(units+units+2),r",
            "norm": "r",
            "head.weight": "10,r",
            "steps": "",
        },
        pins={AxisRef("embed.weight", 0): "the vocabulary"},
        tied=(("embed.weight", "head.weight"),),
        buffers=frozenset({"norm"}),
    )
    assert symmetry.shape("attn.qkv") == (16, 4)


def test_three_fields_are_enough(path: Path) -> None:
    """Buffers, ties and pins may be left out."""
    path.write_text('{"format": "onebasin-symmetry/1", "groups": {}, "tensors": {}}')

    assert Symmetry.load(path) == Symmetry({}, {})


def test_a_file_is_made_for_people(path: Path) -> None:
    """One line a group and a tensor, which a person can read and change."""
    Symmetry.from_json(json.loads(BY_HAND), "by hand").save(path)
    lines = path.read_text().splitlines()

    assert '    "attn.qkv": ["heads*(units + units + 2)", "r"],' in lines
    assert len(lines) < 40


@pytest.mark.parametrize("as_path", [False, True])
def test_loading_checks_a_checkpoint(path: Path, as_path: bool) -> None:
    """A symmetry can be checked against the tensors or the file it is for, as it is loaded."""
    path.write_text(BY_HAND)
    state = {name: torch.zeros(Symmetry.load(path).shape(name)) for name in json.loads(BY_HAND)["tensors"]}
    torch.save(state, path.with_suffix(".pt"))
    assert Symmetry.load(path, path.with_suffix(".pt") if as_path else state) == Symmetry.load(path)

    torch.save(state | {"norm": torch.zeros(5)}, path.with_suffix(".pt"))
    with pytest.raises(MismatchError, match="norm"):
        Symmetry.load(path, path.with_suffix(".pt") if as_path else state | {"norm": torch.zeros(5)})


def edit(*keys: object) -> Callable[[Json, object], None]:
    """A change of one field, given by the keys that lead to it; the value `...` removes it."""

    def change(data: Json, value: object) -> None:
        target: object = data
        for key in keys[:-1]:
            target = target[key]
        if value is ...:
            del target[keys[-1]]
        else:
            target[keys[-1]] = value

    return change


WRONG_SYMMETRY = [
    (("format",), ..., "found.json: expected a field 'format'"),
    (("format",), "onebasin-symmetry/2", "found.json: format: expected 'onebasin-symmetry/1'"),
    (("groups",), ..., "found.json: expected a field 'groups'"),
    (("groups",), [], "found.json: groups: expected an object"),
    (("groups", "r"), 4, "found.json: groups: r: expected an object"),
    (("groups", "r"), {}, "found.json: groups: r: expected a field 'size'"),
    (("groups", "r", "size"), "4", "found.json: groups: r: size: expected a whole number, found '4'"),
    (("groups", "r", "size"), 4.0, "found.json: groups: r: size: expected a whole number, found 4.0"),
    (("groups", "r", "size"), True, "found.json: groups: r: size: expected a whole number, found True"),
    (("groups", "r", "fixed"), 1, "found.json: groups: r: fixed: expected true or false"),
    (("groups", "r", "inside"), "heads", "found.json: groups: r: inside: expected a list of texts"),
    (("groups", "r", "inside"), [1], "found.json: groups: r: inside: expected a list of texts"),
    (("groups", "r", "sise"), 4, "found.json: groups: r: expected only size, inside, fixed, found 'sise'"),
    (("tensors",), ..., "found.json: expected a field 'tensors'"),
    (("tensors",), None, "found.json: tensors: expected an object, found None"),
    (("tensors", "norm"), "r", "found.json: tensors: norm: expected a list of texts"),
    (("tensors", "norm"), [4], "found.json: tensors: norm: expected a list of texts"),
    (("buffers",), "norm", "found.json: buffers: expected a list of texts"),
    (("tied",), {}, "found.json: tied: expected a list of rows"),
    (("tied",), ["norm"], "found.json: tied: expected a list of texts"),
    (("pins",), [], "found.json: pins: expected an object"),
    (("pins", "norm:0"), 1, "found.json: pins: norm:0: expected a reason in words"),
    (("comment",), "mine", "found.json: expected only .*, found 'comment'"),
]
WRONG_IN_CONTENT = [
    (("groups", "r", "size"), 0, "group r: expected a size"),
    (("groups", "a b"), {"size": 2}, "group 'a b': expected a name"),
    (("groups", "r", "inside"), ["nobody"], "group r: .* nobody"),
    (("tensors", "norm"), ["r*"], r"layout 'r\*'"),
    (("tensors", "norm"), ["q"], "norm:0: expected groups listed .* found q"),
    (("tensors", "attn.qkv"), ["units", "r"], "attn.qkv:0: expected group units"),
    (("buffers",), ["nothing"], "nothing: expected a buffer with a layout"),
    (("tied",), [["norm", "steps"]], "steps: expected the layout of norm"),
    (("pins", "norm"), "?", "norm: expected TENSOR:AXIS"),
    (("pins", "norm:3"), "?", "norm:3: expected a pin on an axis that has a layout"),
]


def load_changed(path: Path, keys: tuple[object, ...], value: object) -> Symmetry:
    """Load the symmetry written by hand with one change."""
    data = json.loads(BY_HAND)
    edit(*keys)(data, value)
    path.write_text(json.dumps(data))
    return Symmetry.load(path)


@pytest.mark.parametrize(("keys", "value", "message"), WRONG_SYMMETRY)
def test_wrong_fields_are_named(path: Path, keys: tuple[object, ...], value: object, message: str) -> None:
    """A field that is missing, unknown or of another type is named with the file."""
    with pytest.raises(SymmetryError, match=message):
        load_changed(path, keys, value)


@pytest.mark.parametrize(("keys", "value", "message"), WRONG_IN_CONTENT)
def test_wrong_content_is_named(path: Path, keys: tuple[object, ...], value: object, message: str) -> None:
    """A field of the right type that makes no sense is named."""
    with pytest.raises(SymmetryError, match=message):
        load_changed(path, keys, value)


@pytest.mark.parametrize(("keys", "value"), [row[:2] for row in WRONG_IN_CONTENT])
def test_wrong_content_is_named_with_the_file(path: Path, keys: tuple[object, ...], value: object) -> None:
    """A field of the right type that makes no sense is named with the file and the field."""
    with pytest.raises(SymmetryError, match=f"found.json: .*{keys[0]}"):
        load_changed(path, keys, value)


def saved_matching() -> Json:
    """The JSON form of a matching of the symmetry written by hand."""
    units = [[2, 0, 1], [0, 1, 2]]
    return {
        "format": "onebasin-matching/1",
        "method": "weight",
        "seed": 3,
        "objective": 1.5,
        "history": [1, 1.5],
        "status": "converged",
        "permutations": {"r": [3, 2, 1, 0], "heads": [0, 1], "units": units},
        "symmetry": json.loads(BY_HAND),
    }


def load_matching(path: Path, keys: tuple[object, ...], value: object) -> Matching:
    """Load that matching with one change."""
    data = copy.deepcopy(saved_matching())
    edit(*keys)(data, value)
    path.write_text(json.dumps(data))
    return Matching.load(path)


def test_a_matching_can_be_written_by_hand(path: Path) -> None:
    """The form that `save` writes is read as what it says."""
    matching = load_matching(path, ("seed",), 3)

    assert matching.permutations["units"] == Permutation([[2, 0, 1], [0, 1, 2]])
    assert matching.status is Status.CONVERGED
    assert (matching.objective, matching.history, matching.method, matching.seed) == (1.5, (1.0, 1.5), "weight", 3)
    assert dict(matching.seconds) == {}


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        *(((key,), ..., f"found.json: expected a field '{key}'") for key in saved_matching()),
        (("format",), "onebasin-symmetry/1", "found.json: format: expected 'onebasin-matching/1'"),
        (("extra",), 1, "found.json: expected only .*, found 'extra'"),
        (("objective",), "1", "found.json: objective: expected a number or null, found '1'"),
        (("seed",), 1.5, "found.json: seed: expected a whole number or null"),
        (("method",), None, "found.json: method: expected a name"),
        (
            ("status",),
            "CONVERGED",
            "found.json: status: expected optimal or converged or max_sweeps or epochs or interrupted or given",
        ),
        (("status",), ["converged"], "found.json: status: expected optimal or converged or"),
        (("history",), 1.5, "found.json: history: expected a list of numbers"),
        (("history",), [1, None], "found.json: history: expected a list of numbers"),
        (("permutations",), [], "found.json: permutations: expected an object"),
        (("permutations", "r"), "0123", "found.json: permutations: r: expected a list of indices"),
        (("symmetry",), None, "found.json: expected an object, found None"),
        (("symmetry", "groups", "r", "size"), "4", "found.json: groups: r: size"),
        (("permutations", "r"), [0, 0, 1, 2], "permutation: expected every number from 0 to 3 once"),
        (("permutations", "r"), ..., r"group r: expected a permutation of shape \(4,\), found none"),
        (("permutations", "units"), [0, 1, 2], r"group units: expected a permutation of shape \(2, 3\)"),
        (("permutations", "heads"), [1, 0], "group heads: expected the identity"),
        (("permutations", "x"), [0], "group x: expected a group of the symmetry"),
    ],
)
def test_wrong_fields_of_a_matching_are_named(
    path: Path, keys: tuple[object, ...], value: object, message: str
) -> None:
    """A field of a matching that is missing, unknown, of another type or contradicts the symmetry is named."""
    with pytest.raises(SymmetryError, match=message):
        load_matching(path, keys, value)


@pytest.mark.parametrize("index", [[0, 0, 1, 2], [[0, 1], [2]], ["a"], [None], [{}]])
def test_a_wrong_index_is_named_with_file_and_group(path: Path, index: object) -> None:
    """A permutation in a file that is none is named by its file and group."""
    with pytest.raises(SymmetryError, match=r"found\.json.* r"):
        load_matching(path, ("permutations", "r"), index)


@pytest.mark.parametrize("field", ["seed", "objective"])
def test_numbers_are_not_true_or_false(path: Path, field: str) -> None:
    """Seed and objective are numbers, which true is not."""
    with pytest.raises(SymmetryError, match=field):
        load_matching(path, (field,), value=True)


@pytest.mark.parametrize("kind", [Symmetry, Matching])
def test_missing_and_broken_files_are_named(path: Path, kind: type[Symmetry] | type[Matching]) -> None:
    """A file that is missing or is no JSON is named, a broken one with line and column."""
    with pytest.raises(CheckpointError, match=r"found\.json: expected a JSON file, found nothing there"):
        kind.load(path)
    path.write_text('{\n  "format": nothing}')
    with pytest.raises(CheckpointError, match=r"found\.json:2:13: expected JSON"):
        kind.load(path)


def test_files_hold_plain_numbers(path: Path) -> None:
    """Indices are saved as JSON integers, whatever they were made from."""
    s = written([AxisGroup("h", 2)], {"w": "h"})
    Matching(s, {"h": Permutation(np.array([1, 0], np.uint8))}, objective=1.0, seed=2).save(path)

    assert json.loads(path.read_text())["permutations"] == {"h": [1, 0]}
    assert AxisLayout.parse("h") == s.layouts["w"][0]
