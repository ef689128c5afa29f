"""The JSON form of symmetries and matchings: checked field by field, so that a slip in a hand-written file is named.

    {
      "format": "onebasin-symmetry/1",
      "groups": {"hidden": {"size": 512}, "heads": {"size": 8}, "units": {"size": 64, "inside": ["heads"]}},
      "tensors": {"fc1.weight": ["hidden", "784"], "attn.qkv": ["heads*units + 64", "hidden"]},
      "buffers": ["bn.running_mean"],
      "tied": [["embed.weight", "head.weight"]],
      "pins": {"fc1.weight:1": "an input of the model"}
    }

Only `format`, `groups` and `tensors` are required.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onebasin.errors import SymmetryError
from onebasin.layout import AxisGroup, AxisLayout

SYMMETRY = "onebasin-symmetry/1"
MATCHING = "onebasin-matching/1"

Json = dict[str, object]
NestedInts = Sequence["int | NestedInts"]


@dataclass(frozen=True)
class ParsedSymmetry:
    """The fields of a symmetry file, each of the right type, not yet checked against each other."""

    groups: dict[str, AxisGroup]
    layouts: dict[str, tuple[AxisLayout, ...]]
    pins: dict[str, str]
    tied: tuple[tuple[str, ...], ...]
    buffers: frozenset[str]


@dataclass(frozen=True)
class ParsedMatching:
    """The fields of a matching file, each of the right type, not yet checked against each other."""

    symmetry: object
    permutations: dict[str, NestedInts]
    objective: float | None
    history: tuple[float, ...]
    status: str
    method: str
    seed: int | None
    bound: float | None
    gaps: dict[str, float]
    tried: tuple[tuple[str, float, int], ...]


def dump_symmetry(
    groups: Mapping[str, AxisGroup],
    layouts: Mapping[str, tuple[AxisLayout, ...]],
    pins: Mapping[str, str],
    tied: Iterable[Sequence[str]],
    buffers: Iterable[str],
) -> Json:
    """The JSON form of a symmetry's fields, in a fixed order."""
    described: Json = {}
    for group in groups.values():
        entry: Json = {"size": group.size}
        if group.inside:
            entry["inside"] = list(group.inside)
        if group.fixed:
            entry["fixed"] = True
        described[group.name] = entry
    return {
        "format": SYMMETRY,
        "groups": described,
        "tensors": {name: [str(layout) for layout in axes] for name, axes in layouts.items()},
        "buffers": sorted(buffers),
        "tied": [list(row) for row in tied],
        "pins": dict(pins),
    }


def parse_symmetry(data: object, label: str) -> ParsedSymmetry:
    """Read the JSON form of a symmetry.

    Raises:
        SymmetryError: naming the file and the field that is missing, unknown or of another type.
    """
    known = ("format", "groups", "tensors", "buffers", "tied", "pins")
    top = _object(data, label, known, required=("format", "groups", "tensors"))
    _format(top, SYMMETRY, label)
    groups = {}
    for name, entry in _object(top["groups"], f"{label}: groups").items():
        where = f"{label}: groups: {name}"
        fields = _object(entry, where, ("size", "inside", "fixed"), required=("size",))
        size, fixed = fields["size"], fields.get("fixed", False)
        if not isinstance(size, int) or isinstance(size, bool):
            raise _wrong(f"{where}: size", "a whole number", size)
        if not isinstance(fixed, bool):
            raise _wrong(f"{where}: fixed", "true or false", fixed)
        inside = tuple(_names(fields.get("inside", []), f"{where}: inside"))
        try:
            groups[name] = AxisGroup(name, size, inside, fixed)
        except SymmetryError as error:
            raise error.within(f"{label}: groups") from None
    layouts = {}
    for name, axes in _object(top["tensors"], f"{label}: tensors").items():
        where = f"{label}: tensors: {name}"
        try:
            layouts[name] = tuple(AxisLayout.parse(text) for text in _names(axes, where))
        except SymmetryError as error:
            raise (error if error.subject.startswith(label) else error.within(where)) from None
    tied = top.get("tied", [])
    if not isinstance(tied, list):
        raise _wrong(f"{label}: tied", "a list of rows of names", tied)
    pins = _object(top.get("pins", {}), f"{label}: pins")
    for axis, reason in pins.items():
        if not isinstance(reason, str):
            raise _wrong(f"{label}: pins: {axis}", "a reason in words", reason)
    return ParsedSymmetry(
        groups,
        layouts,
        {axis: str(reason) for axis, reason in pins.items()},
        tuple(tuple(_names(row, f"{label}: tied")) for row in tied),
        frozenset(_names(top.get("buffers", []), f"{label}: buffers")),
    )


def parse_matching(data: object, label: str, statuses: Sequence[str]) -> ParsedMatching:
    """Read the JSON form of a matching.

    Raises:
        SymmetryError: naming the file and the field that is missing, unknown or of another type.
    """
    required = ("format", "method", "seed", "objective", "history", "status", "permutations", "symmetry")
    top = _object(data, label, (*required, "bound", "gaps", "tried"), required=required)
    _format(top, MATCHING, label)
    seed, status, method = top["seed"], top["status"], top["method"]
    for name in ("objective", "bound"):
        if not (top.get(name) is None or _is_number(top[name])):
            raise _wrong(f"{label}: {name}", "a number or null", top[name])
    if isinstance(seed, bool) or not (seed is None or isinstance(seed, int)):
        raise _wrong(f"{label}: seed", "a whole number or null", seed)
    if not isinstance(method, str):
        raise _wrong(f"{label}: method", "a name", method)
    if status not in statuses:
        raise _wrong(f"{label}: status", " or ".join(statuses), status)
    history = top["history"]
    if not isinstance(history, list) or not all(_is_number(value) for value in history):
        raise _wrong(f"{label}: history", "a list of numbers", history)
    permutations: dict[str, NestedInts] = {}
    for name, index in _object(top["permutations"], f"{label}: permutations").items():
        if not isinstance(index, list):
            raise _wrong(f"{label}: permutations: {name}", "a list of indices", index)
        permutations[name] = index
    return ParsedMatching(
        top["symmetry"],
        permutations,
        _number(top["objective"]),
        tuple(float(value) for value in history),
        str(status),
        method,
        seed,
        _number(top.get("bound")),
        _gaps(top.get("gaps", {}), f"{label}: gaps"),
        _trials(top.get("tried", []), f"{label}: tried"),
    )


def _gaps(data: object, where: str) -> dict[str, float]:
    gaps = _object(data, where)
    for name, gap in gaps.items():
        if not _is_number(gap):
            raise _wrong(f"{where}: {name}", "a number", gap)
    return {name: float(str(gap)) for name, gap in gaps.items()}


def _trials(rows: object, where: str) -> tuple[tuple[str, float, int], ...]:
    if not isinstance(rows, list):
        raise _wrong(where, "a list of searches", rows)
    found = []
    for row in rows:
        fields = _object(row, where, ("name", "objective", "sweeps"), required=("name", "objective", "sweeps"))
        name, objective, sweeps = fields.values()
        if not (isinstance(name, str) and _is_number(objective) and isinstance(sweeps, int)):
            raise _wrong(where, "a name, an objective and a number of sweeps", row)
        found.append((name, float(str(objective)), sweeps))
    return tuple(found)


def _number(value: object) -> float | None:
    return None if value is None else float(str(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _format(top: Json, expected: str, label: str) -> None:
    if top["format"] != expected:
        raise _wrong(f"{label}: format", repr(expected), top["format"])


def _object(data: object, where: str, known: Sequence[str] | None = None, required: Sequence[str] = ()) -> Json:
    if not isinstance(data, dict):
        raise _wrong(where, "an object", data)
    for key in required:
        if key not in data:
            raise SymmetryError(where, expected=f"a field {key!r}", found="none", remedy="add it")
    for key in data:
        if known is not None and key not in known:
            raise SymmetryError(where, expected=f"only {', '.join(known)}", found=repr(key), remedy="remove it")
    return data


def _names(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(where, "a list of texts", value)
    return value


def _wrong(where: str, expected: str, found: object) -> SymmetryError:
    return SymmetryError(where, expected=expected, found=repr(found)[:60], remedy="correct the file")
