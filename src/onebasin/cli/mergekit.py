"""Read the YAML of mergekit: the same models, methods and numbers, as a recipe of ours.

Taken are the methods of `METHODS`, whole models or one slice that holds all layers, parameters at every level with
filters and gradients over the layers, `dtype` and `out_dtype`, and beside that a block `align`, which mergekit does not
know: the keys of `align` in our recipes, and `task` and `data_root`. What has no meaning here is left out with a note.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from onebasin.cli.recipe import DTYPES, Data, Recipe
from onebasin.errors import OptionError
from onebasin.merging.method import unknown

KEYS = (
    "merge_method",
    "models",
    "slices",
    "base_model",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
    "chat_template",
    "name",
    "align",
)


@dataclass(frozen=True)
class Translation:
    """A method of ours for one of mergekit.

    Attributes:
        method: of ours.
        names: of ours by mergekit's, for its parameters.
        required: those of mergekit's that have no default.
        defaults: mergekit's own, where ours is another.
    """

    method: str
    names: Mapping[str, str]
    required: tuple[str, ...] = ()
    defaults: Mapping[str, object] | None = None


TASK_VECTORS = {"weight": "weights", "normalize": "normalize", "lambda": "scale"}
SPARSE = {**TASK_VECTORS, "density": "density"}
METHODS = {
    "linear": Translation("mean", {"weight": "weights", "normalize": "normalize"}, ("weight",)),
    "slerp": Translation("slerp", {"t": "lam"}, ("t",)),
    "task_arithmetic": Translation("task_arithmetic", TASK_VECTORS, ("weight",)),
    "ties": Translation("ties", SPARSE, ("weight",), {"density": 1.0}),
    "dare_linear": Translation("dare_linear", {**SPARSE, "rescale": "rescale"}, ("weight",), {"density": 1.0}),
    "dare_ties": Translation("dare_ties", {**SPARSE, "rescale": "rescale"}, ("weight",), {"density": 1.0}),
}
"""The methods of mergekit that can be read."""
PER_MODEL = ("weight", "density")
FLAGS = ("normalize", "rescale")
IGNORED = ("int8_mask",)


@dataclass(frozen=True)
class _Model:
    path: str
    parameters: Data


def is_mergekit(data: object) -> bool:
    """Whether parsed YAML is mergekit's."""
    return isinstance(data, dict) and "merge_method" in data


def translate(data: Data, folder: Path) -> tuple[Recipe, list[str]]:
    """A recipe for mergekit's YAML.

    Args:
        data: parsed YAML.
        folder: of the file; paths that are not there are looked for in the current folder, as mergekit does.

    Returns:
        The recipe, without an output, and notes on what was left out.

    Raises:
        OptionError: naming the key that is unknown, missing, or asks for something that is not done here.
    """
    for key in data:
        if key not in KEYS:
            raise unknown(str(key), KEYS, "a key of mergekit's")
    name = data["merge_method"]
    if name not in METHODS:
        raise OptionError("merge_method", expected=" or ".join(METHODS), found=repr(name), remedy="choose one of them")
    method = METHODS[name]
    models, shared, layers = _models(data)
    base = None if data.get("base_model") is None else _model_path(data["base_model"])
    models = _arranged(models, base, method)
    parents = tuple(_found(model.path, folder) for model in models)
    if layers is not None:
        _require_all_layers(parents[0], layers)
    needs_base = "lambda" in method.names
    top = _mapping(data.get("parameters", {}), "parameters")
    parameters, notes = _parameters(method, models, [shared, top])
    for key in ("tokenizer_source", "tokenizer", "chat_template"):
        if data.get(key) not in {None, "base"}:
            notes.append(f"{key}: left out; the tokenizer is that of the first model")
    align = _mapping(data.get("align", {}), "align")
    ours: Data = {
        "parents": [str(path) for path in parents],
        "base": str(_found(cast("str", base), folder)) if needs_base else None,
        "method": method.method,
        "parameters": parameters,
        "align": {k: v for k, v in align.items() if k not in {"task", "data_root"}} if align else False,
        **{key: align[key] for key in ("task", "data_root") if key in align},
        "output": {"dtype": _dtype(data)},
    }
    return Recipe.from_data(ours, folder), notes


def _models(data: Data) -> tuple[list[_Model], Data, tuple[int, int] | None]:
    """The models, what their slice says of all of them, and its range of layers."""
    if ("models" in data) == ("slices" in data):
        raise OptionError("models", expected="either models or slices", found="both or none", remedy="write one")
    if "models" in data:
        return [_model(row, "models", ("model", "parameters")) for row in _rows(data["models"], "models")], {}, None
    slices = _rows(data["slices"], "slices")
    if len(slices) != 1:
        raise OptionError(
            "slices",
            expected="one slice that holds all layers",
            found=f"{len(slices)} slices",
            remedy="networks are not put together out of layers here",
        )
    cut = _mapping(slices[0], "slices", ("sources", "parameters"))
    sources = _rows(cut.get("sources"), "sources")
    keys = ("model", "layer_range", "parameters")
    ranges = [_mapping(row, "sources", keys).get("layer_range") for row in sources]
    layers = ranges[0]
    fits = isinstance(layers, list) and len(layers) == 2 and all(isinstance(n, int) for n in layers)  # noqa: PLR2004
    if not fits or any(other != layers for other in ranges):
        raise OptionError(
            "layer_range", expected="the same two numbers for all", found=str(ranges)[:60], remedy="write [0, LAYERS]"
        )
    first, last = cast("list[int]", layers)
    shared = _mapping(cut.get("parameters", {}), "parameters")
    return [_model(row, "sources", keys) for row in sources], shared, (first, last)


def _arranged(models: list[_Model], base: str | None, method: Translation) -> list[_Model]:
    """The models in our order: the base begins the arc; where it is what others differ from, it is no model."""
    if method.method == "slerp":
        others = [model for model in models if model.path != base]
        ends = [model for model in models if model.path == base] or [_Model(base or "", {})]
        if base is None or (len(others), len(ends)) != (1, 1):
            raise OptionError(
                "base_model", expected="one of the two models", found=repr(base), remedy="name the one that t=0 gives"
            )
        return [*ends, *others]
    if "lambda" in method.names:
        if base is None:
            raise OptionError("base_model", expected="the common ancestor", found="none", remedy="add it")
        return [model for model in models if model.path != base]
    return models


def _parameters(method: Translation, models: Sequence[_Model], shared: Sequence[Data]) -> tuple[Data, list[str]]:
    """Our parameters: those of a model come before those of its slice, and these before those of all."""
    levels = [[_mapping(m.parameters, "parameters"), *shared] for m in models]
    notes: list[str] = []
    for key in dict.fromkeys(key for rows in levels for row in rows for key in row):
        if key in IGNORED:
            notes.append(f"{key}: left out; it changes how mergekit calculates, not what")
        elif key not in method.names:
            raise unknown(str(key), [*method.names, *IGNORED], f"a parameter of {method.method}")
    found: Data = {}
    for theirs, ours in method.names.items():
        per_model = [next((row[theirs] for row in rows if theirs in row), None) for rows in levels]
        default = (method.defaults or {}).get(theirs)
        if theirs in method.required and None in per_model:
            raise OptionError(theirs, expected="a number for every model", found="none", remedy="add it")
        given = [default if value is None else value for value in per_model]
        if all(value is None for value in given):
            continue
        if theirs in FLAGS:
            found[ours] = bool(given[0])
        elif theirs in PER_MODEL:
            found[ours] = [_schedule(value) for value in given]
        else:
            found[ours] = _schedule(given[0])
    return found, notes


def _schedule(value: object) -> object:
    """A number, a gradient or filters in the form of `onebasin.merging.schedule`."""
    if not isinstance(value, list):
        return value
    if all(isinstance(row, dict) for row in value):
        return [{**row, "value": _schedule(row.get("value"))} for row in value]
    return {"layers": value}


def _require_all_layers(path: Path, layers: tuple[int, int]) -> None:
    """Refuse a range that is not all layers of a network, by the numbers in its tensors' names.

    Raises:
        OptionError: naming the range.
        CheckpointError: the network cannot be read.
    """
    from onebasin.checkpoint import open_checkpoint
    from onebasin.merging.schedule import LAYER

    with open_checkpoint(path) as params:
        found = [LAYER.search(name) for name in params]
    count = 1 + max((int(match[1]) for match in found if match), default=-1)
    if layers != (0, count):
        raise OptionError(
            "layer_range",
            expected=f"all layers, [0, {count}]",
            found=str(list(layers)),
            remedy="networks are not put together out of layers here",
        )


def _model(row: object, where: str, keys: tuple[str, ...]) -> _Model:
    fields = _mapping(row, where, keys)
    return _Model(_model_path(fields.get("model")), _mapping(fields.get("parameters", {}), "parameters"))


def _model_path(value: object) -> str:
    """The path of a model, written as a text or as nested keys `model: {path: ...}`."""
    while isinstance(value, dict) and len(value) == 1 and next(iter(value)) in {"model", "path"}:
        value = next(iter(value.values()))
    if not isinstance(value, str) or not value or re.search(r"\+(?=[^/]*/)", value):
        raise OptionError(
            "model",
            expected="the path of a model",
            found=repr(value)[:60],
            remedy="write adapters into the model first",
        )
    return value


def _found(path: str, folder: Path) -> Path:
    """The folder or file of a model, as seen from the recipe or from the current folder.

    Raises:
        OptionError: there is none.
    """
    for candidate in (folder / path, Path(path).expanduser()):
        if candidate.exists():
            return candidate.absolute()
    raise OptionError(
        f"model {path}",
        expected="a folder or file",
        found="nothing there",
        remedy="download the model and name its folder",
    )


def _dtype(data: Data) -> str | None:
    wanted = data.get("out_dtype") or data.get("dtype")
    if wanted is not None and wanted not in DTYPES:
        raise OptionError("dtype", expected=" or ".join(DTYPES), found=repr(wanted), remedy="choose one of them")
    return wanted


def _rows(value: object, where: str) -> list[object]:
    if not isinstance(value, list) or not value:
        raise OptionError(where, expected="a list", found=repr(value)[:60], remedy="correct the recipe")
    return value


def _mapping(value: object, where: str, keys: tuple[str, ...] | None = None) -> Data:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise OptionError(where, expected="keys with values", found=repr(value)[:60], remedy="correct the recipe")
    for key in value:
        if keys is not None and key not in keys:
            raise unknown(str(key), keys, f"a key of {where}")
    return value
