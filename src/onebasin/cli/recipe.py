"""Recipes: everything a merger depends on, as a value and as a YAML file that a person can write.

    format: onebasin-recipe/1
    parents: [a.safetensors, b.safetensors]      # files or folders; relative paths start at the recipe's folder
    base: base.safetensors                       # the common ancestor, for methods that need one
    task: my_task.py                             # the model and its data
    data_root: data
    align: {symmetry: symmetry.json, matching: [b.json], match_method: best, verify: true}  # or false
    method: ties
    parameters: {weights: [1, 1], density: 0.5}  # of the method; see onebasin.merging
    correction: {method: refit, samples: 5000}      # see onebasin merge --help
    evaluate: {split: test, per_class: true}               # or false
    seed: 0
    output: {path: merged, dtype: bfloat16, max_shard_size: 2GB}

Only `parents` is required; the output's path can be given on the command line.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from onebasin.cli.search import Search
from onebasin.errors import CheckpointError, OptionError
from onebasin.files import write_text
from onebasin.merging.method import unknown

if TYPE_CHECKING:
    import yaml

FORMAT = "onebasin-recipe/1"
SUFFIX = ".recipe.yaml"
"""Added to the name of an output for the recipe that repeats it."""
DTYPES = ("float32", "float16", "bfloat16")
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kMGT]?)(i?)B?", re.IGNORECASE)
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

Data = dict[str, object]


@dataclass(frozen=True)
class Alignment:
    """How networks are brought into the coordinates of the first.

    Attributes:
        symmetry: a saved one, in place of finding it on the task's model.
        matching: saved ones for every network but the first, in place of a search.
        verify: whether to prove the symmetry on the task's model.
        search: how to search.
    """

    symmetry: Path | None = None
    matching: tuple[Path, ...] = ()
    verify: bool = True
    search: Search = field(default_factory=Search)

    @classmethod
    def of(cls, fields: Mapping[str, object]) -> "Alignment":
        """From the keys of a recipe: those of the search stand beside the others."""
        searched = {key: value for key, value in fields.items() if key in SEARCH}
        rest = {key: value for key, value in fields.items() if key not in SEARCH}
        return cls(**cast("Any", rest), search=Search(**cast("Any", searched)))


@dataclass(frozen=True)
class Recipe:
    """A merger.

    Attributes:
        parents: the networks; the others are brought into the coordinates of the first.
        base: their common ancestor.
        task: the model and its data, as `--task` takes it.
        data_root: of the task.
        align: how the networks are aligned; None leaves them as they are.
        method: a key of `METHODS` or `NETWORK_METHODS`.
        parameters: of the method, as `onebasin.merge` takes them.
        correction: what is done after averaging, see `onebasin.cli.correction`.
        split: what the task's networks are measured on; None for no measurement.
        per_class: whether they are measured class by class, too.
        seed: of everything random.
        output: the file or folder to write; None where it is still to be named.
        dtype: of the result; None for that of the first network.
        max_shard_size: such as 2GB; None for the files of the first network.
    """

    parents: tuple[Path, ...]
    base: Path | None = None
    task: str | None = None
    data_root: Path | None = None
    align: Alignment | None = field(default_factory=Alignment)
    method: str = "mean"
    parameters: Mapping[str, object] = field(default_factory=dict)
    correction: Mapping[str, object] = field(default_factory=dict)
    split: str | None = "test"
    per_class: bool = False
    seed: int = 0
    output: Path | None = None
    dtype: str | None = None
    max_shard_size: str | None = None

    def to_data(self, folder: Path) -> Data:
        """The written form, with paths as seen from a folder."""

        def seen(path: Path | None) -> str | None:
            return None if path is None else _relative(path, folder)

        align = self.align
        rows: Data = {
            "format": FORMAT,
            "parents": [seen(path) for path in self.parents],
            "base": seen(self.base),
            "task": seen(Path(self.task)) if self.task is not None and self.task.endswith(".py") else self.task,
            "data_root": seen(self.data_root),
            "align": False
            if align is None
            else {
                "symmetry": seen(align.symmetry),
                "matching": [seen(path) for path in align.matching] or None,
                "verify": align.verify,
                **asdict(align.search),
            },
            "method": self.method,
            "parameters": dict(self.parameters) or None,
            "correction": dict(self.correction) or None,
            "evaluate": False if self.split is None else {"split": self.split, "per_class": self.per_class or None},
            "seed": self.seed,
            "output": {"path": seen(self.output), "dtype": self.dtype, "max_shard_size": self.max_shard_size},
        }
        return cast("Data", _without_none(rows))

    def save(self, path: Path) -> None:
        """Write the recipe, whole or not at all, with paths as seen from its folder.

        Raises:
            CheckpointError: if the file cannot be written.
        """
        import yaml

        data = self.to_data(path.resolve().parent)
        write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None))

    @classmethod
    def from_data(cls, data: object, folder: Path) -> "Recipe":
        """Read the written form.

        Args:
            data: parsed YAML.
            folder: that relative paths start at.

        Raises:
            OptionError: naming the key that is missing, unknown (with the nearest known one) or of another type.
        """
        kinds = _kinds(folder)
        top = take(data, "recipe", TOP, kinds)
        if top.get("format", FORMAT) != FORMAT:
            raise OptionError("format", expected=FORMAT, found=repr(top["format"]), remedy="use a newer version")
        if "parents" not in top:
            raise OptionError("parents", expected="a list of networks", found="none", remedy="add it")
        inner: dict[str, Data] = {}
        for key, fields in (("align", ALIGN), ("evaluate", EVALUATE), ("output", OUTPUT)):
            given = top.pop(key, {})
            if given is False and key != "output":
                inner[key] = {"off": True}
            else:
                inner[key] = take({} if given is True else given, key, fields, kinds)
        output = inner["output"]
        return cls(
            **cast("Any", {key: value for key, value in top.items() if key != "format"}),
            align=None if "off" in inner["align"] else Alignment.of(inner["align"]),
            split=None if "off" in inner["evaluate"] else cast("str", inner["evaluate"].get("split", "test")),
            per_class=bool(inner["evaluate"].get("per_class", False)),
            output=cast("Path | None", output.get("path")),
            dtype=cast("str | None", output.get("dtype")),
            max_shard_size=cast("str | None", output.get("max_shard_size")),
        )


TOP = {
    "format": "text",
    "parents": "paths",
    "base": "path",
    "task": "task",
    "data_root": "path",
    "align": "block",
    "method": "text",
    "parameters": "mapping",
    "correction": "mapping",
    "evaluate": "block",
    "seed": "number",
    "output": "block",
}
"""The keys of a recipe and what they hold."""
SEARCH = {
    "match_method": "text",
    "activations": "share",
    "activation_samples": "number",
    "normalised": "flag",
    "epochs": "number",
    "restarts": "number",
    "max_sweeps": "number",
}
ALIGN = {"symmetry": "path", "matching": "paths", "verify": "flag", **SEARCH}
EVALUATE = {"split": "text", "per_class": "flag"}
OUTPUT = {"path": "path", "dtype": "text", "max_shard_size": "text"}

WORDS = {
    "text": "a text",
    "path": "a path",
    "paths": "a list of paths",
    "task": "the name of a task or a file",
    "block": "further keys, or false",
    "mapping": "names with values",
    "number": "a whole number from 0",
    "flag": "true or false",
    "share": "a number from 0 to 1",
}
Kinds = Mapping[str, Callable[[object], object]]


def _kinds(folder: Path) -> Kinds:
    """For every kind of value a function that brings it into form, or gives None where it is of another kind."""

    def path(value: object) -> Path | None:
        return Path(os.path.normpath(folder / value)) if isinstance(value, str) and value else None

    def paths(value: object) -> tuple[Path, ...] | None:
        found = [path(row) for row in value] if isinstance(value, list) else [None]
        return None if None in found else tuple(row for row in found if row is not None)

    def task(value: object) -> str | None:
        return str(path(value)) if isinstance(value, str) and value.endswith(".py") else text(value)

    def text(value: object) -> str | None:
        return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None

    def share(value: object) -> float | None:
        whole = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if whole and 0 <= value <= 1 else None  # type: ignore[arg-type, operator]

    def number(value: object) -> int | None:
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    return {
        "text": text,
        "path": path,
        "paths": paths,
        "task": task,
        "block": lambda value: value if isinstance(value, dict | bool) else None,
        "mapping": lambda value: value if isinstance(value, dict) and all(isinstance(k, str) for k in value) else None,
        "number": number,
        "flag": lambda value: value if isinstance(value, bool) else None,
        "share": share,
    }


def take(data: object, where: str, fields: Mapping[str, str], kinds: Kinds) -> Data:
    """The values of a mapping, checked; keys without a value are left out.

    Args:
        data: parsed YAML.
        where: the key that holds it, for errors.
        fields: kind of value by key.
        kinds: see `_kinds`.

    Raises:
        OptionError: naming the key that is unknown (with the nearest known one) or of another type.
    """
    if not isinstance(data, dict):
        raise OptionError(where, expected="keys with values", found=repr(data)[:60], remedy="correct the recipe")
    found: Data = {}
    for key, value in data.items():
        if key not in fields:
            raise unknown(str(key), fields, f"a key of {where}")
        if value is None:
            continue
        found[key] = kinds[fields[key]](value)
        if found[key] is None:
            name = key if where == "recipe" else f"{where}: {key}"
            raise OptionError(name, expected=WORDS[fields[key]], found=repr(value)[:60], remedy="correct the recipe")
    return found


def bytes_of(size: str | None) -> int | None:
    """The bytes that a size such as `2GB`, `500MiB` or `1000` says; None for None.

    Raises:
        OptionError: if it is no such size.
    """
    if size is None:
        return None
    found = SIZE.fullmatch(size.strip())
    count = int(float(found[1]) * (1024 if found[3] else 1000) ** POWERS[found[2].lower()]) if found else 0
    if count < 1:
        raise OptionError("max_shard_size", expected="a size such as 2GB", found=repr(size), remedy="correct it")
    return count


def read_yaml(path: Path) -> object:
    """Read a YAML file, without objects, and with an error where a key is written twice.

    Numbers such as `1e-3` are numbers, as in later versions of YAML.

    Raises:
        CheckpointError: if the file cannot be read, or is not YAML (with line and column).
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("tag:yaml.org,2002:map", _unique_keys)
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), None)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        found = "nothing there" if isinstance(error, FileNotFoundError) else str(error)
        raise CheckpointError(
            str(path), expected="a recipe in YAML", found=found, remedy="check the path and its permissions"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise CheckpointError(
            place, expected="YAML", found=str(getattr(error, "problem", error)), remedy="correct the file"
        ) from error


def _unique_keys(loader: "yaml.SafeLoader", node: "yaml.MappingNode") -> Data:
    import yaml

    loader.flatten_mapping(node)
    found: Data = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int) or key in found:
            problem = f"the key {key!r}, which is there twice or is no text"
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        found[cast("str", key)] = loader.construct_object(value_node, deep=True)
    return found


def _relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder; whole where there is no way between them."""
    try:
        return Path(os.path.relpath(path.absolute(), folder)).as_posix()
    except ValueError:  # other drives of Windows
        return path.absolute().as_posix()


def _without_none(data: object) -> object:
    if isinstance(data, dict):
        return {key: _without_none(value) for key, value in data.items() if value is not None and value != {}}
    return data
