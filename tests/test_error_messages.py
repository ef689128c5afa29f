"""Every error that the core raises, raised: one table, and a check that no line that raises is missing from it."""

import ast
import importlib
import inspect
import json
import re
import tempfile
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from connectivity.curve_errors import ROWS as CURVES
from connectivity.feature_errors import ROWS as FEATURES
from connectivity.line_errors import ROWS as LINES
from connectivity.plane_errors import ROWS as PLANES
from connectivity.simplex_errors import ROWS as SIMPLEXES
from correction.error_rows import ROWS as CORRECTION
from house.source import PACKAGE, functions, parse, place
from matching.error_rows import MATCHING
from merging.error_rows import MERGING
from onebasin import (
    AxisGroup,
    AxisLayout,
    AxisRef,
    Evaluation,
    Matching,
    PathProfile,
    Permutation,
    Symmetry,
    profile_path,
    reestimate_batchnorm,
)
from onebasin.assignment import Node, solve, solve_each, solve_nested
from onebasin.errors import CheckpointError, MismatchError, OneBasinError, OptionError, SymmetryError
from onebasin.json_file import read_json
from strategies import written

CORE = ("evaluation", "layout", "permutation", "symmetry_json", "apply", "json_file")
CORE_FOLDERS = ("symmetry", "assignment", "similarity", "matching", "merging", "correction", "connectivity")

H, U = AxisGroup("h", 2), AxisGroup("u", 3, ("h",))
S = written([H, U], {"w": "h*u", "v": "4"})
W = {"w": torch.zeros(6), "v": torch.zeros(4)}
LINE = nn.Linear(1, 1)
TRIAL = {"name": 1, "objective": 1, "sweeps": 1}
NAN = torch.full((2, 1), torch.nan)


def load(kind: type[Symmetry] | type[Matching] | type[PathProfile], content: object) -> object:
    """Load a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.json")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return kind.load(path)


def symmetry(**changes: object) -> object:
    """Load a symmetry with changed fields; `None` leaves a field out."""
    fields = {"format": "onebasin-symmetry/1", "groups": {"h": {"size": 2}}, "tensors": {"w": ["h"]}} | changes
    return load(Symmetry, {name: value for name, value in fields.items() if value is not None})


def matching(**changes: object) -> object:
    """Load a matching with changed fields."""
    fields: dict[str, object] = dict.fromkeys(("objective", "seed", "symmetry"))
    fields |= {"format": "onebasin-matching/1", "method": "m", "history": [], "status": "given", "permutations": {}}
    return load(Matching, fields | changes)


def path(**options: object) -> PathProfile:
    """Measure the line from a model of one weight to itself."""
    a = {name: tensor.clone() for name, tensor in LINE.state_dict().items()}
    given = {"a": a, "b": a, "evaluate": lambda *_: {"loss": 1.0, "count": 1}, "batches": [0]} | options
    own = {name: given.pop(name) for name in ("lams", "refine") if name in given}
    return profile_path(LINE, given.pop("a"), given.pop("b"), Evaluation(**given), **own)


def profile(*, complete: bool = True) -> PathProfile:
    """A profile without errors."""
    return PathProfile((0.0, 1.0), (1.0, 1.0), (), 1, "keep", complete)


Row = tuple[Callable[[], object], type[OneBasinError], str]
ROWS: list[Row] = [
    # layout
    (lambda: AxisGroup("a b", 1), SymmetryError, r"^group 'a b': expected a name without .*, found 'a b'; rename"),
    (lambda: AxisGroup("h", 0), SymmetryError, r"^group h: expected a size of at least 1, found 0; remove the group"),
    (lambda: AxisLayout.parse("h*"), SymmetryError, r"^layout 'h\*': expected terms joined .*, found h\*; correct the"),
    (
        lambda: written([H, U], {"w": "u"}),
        SymmetryError,
        r"^tensors: w:0: expected group u together with one h.*found 0 of h in",
    ),
    # permutation
    (
        lambda: Permutation([1, 1]),
        SymmetryError,
        r"^permutation: expected every number from 0 to 1 once, found \[1, 1\];",
    ),
    # symmetry
    (lambda: AxisRef.parse("w"), SymmetryError, r"^w: expected TENSOR:AXIS such as .*, found 'w'; correct the axis"),
    (
        lambda: written([H], {"w": "g"}),
        SymmetryError,
        r"^tensors: w:0: expected groups listed under groups, found g; list the",
    ),
    (
        lambda: written([H], {"w": "h", "v": "2"}, tied=(("w", "v"),)),
        SymmetryError,
        r"^tied: v: expected the layout of w, to which it is tied, found \['2'\]; correct it",
    ),
    (
        lambda: written([H], {"w": "h"}, tied=(("w", "v"),)),
        SymmetryError,
        r"^tied: v: expected the layout of w, .*found no layout",
    ),
    (
        lambda: written([H], {}, buffers=frozenset({"v"})),
        SymmetryError,
        r"^buffers: v: expected a buffer with a layout, found none; add its layout or remove it from buffers",
    ),
    (
        lambda: written([H], {"w": "h"}, pins={AxisRef("w", 1): ""}),
        SymmetryError,
        r"^pins: w:1: expected a pin on an axis that has a layout, found no such axis; correct or remove the pin",
    ),
    (
        lambda: written([U], {}),
        SymmetryError,
        r"^groups: group u: expected to be nested in a listed group, found h; list the group or correct it",
    ),
    (
        lambda: written([H, U, AxisGroup("x", 2, ("u", "h"))], {}),
        SymmetryError,
        r"^groups: group x: expected h before u under inside.*found u, h; list every group around, outermost first",
    ),
    (
        lambda: S.check({"v": W["v"]}, "b.pt"),
        MismatchError,
        r"^b\.pt: w: expected a tensor of this name.*, found none; pass a checkpoint of the architecture",
    ),
    (
        lambda: S.check(W | {"w": torch.zeros(5)}, "b"),
        MismatchError,
        r"^b: w: expected shape \(6,\), axis 0 being h\*u, found shape \(5,\); pass a checkpoint of the architecture",
    ),
    (
        lambda: S.check(W | {"x": torch.zeros(1)}, "b"),
        MismatchError,
        r"^b: x: expected only tensors the symmetry lists, found one it does not know how to move; add its layout",
    ),
    (
        lambda: Matching(S, {}),
        SymmetryError,
        r"^group h: expected a permutation of shape \(2,\), found none; pass one for every group",
    ),
    (
        lambda: Matching(written([AxisGroup("h", 2, (), fixed=True)], {}), {"h": Permutation([1, 0])}),
        SymmetryError,
        r"^group h: expected the identity, since the group is fixed, found a permutation; leave it out",
    ),
    (
        lambda: Matching(written([H], {}), {name: Permutation([1, 0]) for name in "hx"}),
        SymmetryError,
        r"^group x: expected a group of the symmetry, found an unknown one; remove it",
    ),
    (
        lambda: S.identity().compose(written([H], {}).identity()),
        SymmetryError,
        r"^compose: expected two matchings of one symmetry, found different groups; use one symmetry for both",
    ),
    (
        lambda: Symmetry({"x": H}, {}),
        SymmetryError,
        r"^groups: group x: expected a group listed under its own name, found h; rename one of the two",
    ),
    (
        lambda: written([H, AxisGroup("u", 3, ("h", "h"))], {}),
        SymmetryError,
        r"^groups: group u: expected every group around once, found h, h; list it once under inside",
    ),
    (
        lambda: written([H], {"w": "h"}, tied=(("w", "w"),)),
        SymmetryError,
        r"^tied: w: expected every name once, found it several times; list it once",
    ),
    (
        lambda: S.random(0, only=["x"]),
        SymmetryError,
        r"^group x: expected a group of the symmetry, found an unknown one; choose from h, u",
    ),
    (
        lambda: S.explain("w"),
        OptionError,
        r"^explain: expected a symmetry just discovered, found one from a file; discover it again",
    ),
    (
        lambda: matching(
            symmetry=json.loads('{"format": "x", "groups": {}, "tensors": {}}'), permutations={"h": [1, 1]}
        ),
        SymmetryError,
        r"file\.json: permutations: h: permutation: expected every number",
    ),
    # symmetry_json
    (
        lambda: symmetry(groups={"h": {"size": 0}}),
        SymmetryError,
        r"file\.json: groups: group h: expected a size of at least 1, found 0",
    ),
    (
        lambda: symmetry(tensors={"w": ["h*"]}),
        SymmetryError,
        r"file\.json: tensors: w: layout 'h\*': expected terms joined by",
    ),
    (
        lambda: symmetry(pins={"w": "why"}),
        SymmetryError,
        r"file\.json: pins: w: expected TENSOR:AXIS",
    ),
    (
        lambda: symmetry(groups={"h": {"size": "2"}}),
        SymmetryError,
        r"file\.json: groups: h: size: .*found '2'; correct",
    ),
    (
        lambda: symmetry(groups={"h": {"size": 2, "fixed": 0}}),
        SymmetryError,
        r"file\.json: groups: h: fixed: expected true or false, found 0; correct the file",
    ),
    (lambda: symmetry(tied={}), SymmetryError, r"file\.json: tied: expected a list of rows of names, found \{\}"),
    (lambda: symmetry(pins={"w:0": 1}), SymmetryError, r"file\.json: pins: w:0: expected a reason in words, found 1"),
    (lambda: symmetry(format="x"), SymmetryError, r"file\.json: format: expected 'onebasin-symmetry/1', found 'x'"),
    (lambda: symmetry(tensors=[]), SymmetryError, r"file\.json: tensors: expected an object, found \[\]"),
    (lambda: symmetry(tensors=None), SymmetryError, r"file\.json: expected a field 'tensors', found none; add it"),
    (lambda: symmetry(x=1), SymmetryError, r"file\.json: expected only format, groups, .*, found 'x'; remove it"),
    (lambda: symmetry(buffers="w"), SymmetryError, r"file\.json: buffers: expected a list of texts, found 'w'"),
    (lambda: matching(objective="1"), SymmetryError, r"file\.json: objective: expected a number or null, found '1'"),
    (lambda: matching(seed="1"), SymmetryError, r"file\.json: seed: expected a whole number or null, found '1'"),
    (lambda: matching(method=1), SymmetryError, r"file\.json: method: expected a name, found 1"),
    (lambda: matching(status="x"), SymmetryError, r"file\.json: status: expected optimal or .* or given, found 'x'"),
    (lambda: matching(bound="x"), SymmetryError, r"file\.json: bound: expected a number or null, found 'x'"),
    (lambda: matching(gaps={"h": "x"}), SymmetryError, r"file\.json: gaps: h: expected a number, found 'x'"),
    (lambda: matching(tried=3), SymmetryError, r"file\.json: tried: expected a list of searches, found 3"),
    (lambda: matching(tried=[TRIAL]), SymmetryError, r"file\.json: tried: expected a name, an .*, found \{'name': 1"),
    (lambda: matching(history=1), SymmetryError, r"file\.json: history: expected a list of numbers, found 1"),
    (
        lambda: matching(permutations={"h": 1}),
        SymmetryError,
        r"file\.json: permutations: h: expected a list of indices, found 1",
    ),
    # json_file
    (lambda: read_json("no.json"), CheckpointError, r"^no\.json: expected a JSON file, found nothing there; check the"),
    (lambda: load(Symmetry, "{"), CheckpointError, r"file\.json:1:2: expected JSON, found .*; correct the file"),
    (lambda: load(Symmetry, "9" * 5000), CheckpointError, r"file\.json: expected JSON, found .*; correct the file"),
    # assignment
    (
        lambda: solve(np.zeros((2, 3))),
        MismatchError,
        r"^similarity: expected a square matrix, found shape \(2, 3\); pass",
    ),
    (
        lambda: solve(np.array([[np.nan]])),
        MismatchError,
        r"^similarity\[0, 0\]: expected a finite number, found nan; look for NaN or overflow in the weights",
    ),
    (
        lambda: solve(np.eye(2), warm=solve(np.eye(3))),
        MismatchError,
        r"^warm: expected a permutation of 2 units and as many prices, found 3 units and 3 prices; pass what the same",
    ),
    (
        lambda: solve_each(np.zeros((2, 3))),
        MismatchError,
        r"^similarity: expected square matrices, found shape \(2, 3\); pass",
    ),
    (
        lambda: solve_nested(Node("u", (2, 3), np.eye(3))),
        MismatchError,
        r"^group u: similarity: expected shape \(6, 6\), all its members against all, found shape \(3, 3\); pass the",
    ),
    *MATCHING,
    *MERGING,
    (
        lambda: reestimate_batchnorm(nn.BatchNorm1d(1), [], lambda *_: {}, 0),
        OptionError,
        r"^samples: expected 1 or more, found 0; raise it or pass None",
    ),
    (
        lambda: reestimate_batchnorm(nn.BatchNorm1d(1), [], lambda *_: {}),
        OptionError,
        r"^batches: expected at least one batch, found none; pass data to estimate from",
    ),
    *CORRECTION,
    # connectivity
    *CURVES,
    *LINES,
    *FEATURES,
    *SIMPLEXES,
    *PLANES,
    (
        lambda: path(evaluate=lambda *_: {"loss": 0.0, "count": 0}),
        OptionError,
        r"^evaluate: expected a positive `count`, found 0; return the number of samples",
    ),
    (
        lambda: path(b={name: tensor.clone() for name, tensor in LINE.state_dict().items()} | {"x": torch.zeros(1)}),
        MismatchError,
        r"^b: x: expected only tensors that the model has, found another one; pass a checkpoint",
    ),
    (
        lambda: load(PathProfile, profile().to_json() | {"lams": 3}),
        CheckpointError,
        r"file\.json: lams: expected a list of numbers, found 3; correct the file",
    ),
    (
        lambda: load(PathProfile, profile().to_json() | {"loss": [1.0]}),
        CheckpointError,
        r"file\.json: expected a path profile, format .*, found .* not fit: loss and error: 2 numbers",
    ),
    (
        lambda: load(PathProfile, profile().to_json() | {"count": "many"}),
        CheckpointError,
        r"file\.json: expected a path profile, format .*, found something that does not fit: count: 'many'; pass",
    ),
    (
        lambda: profile().error_barrier(),
        OptionError,
        r"^error_barrier: expected an evaluation that returns `correct`, found none; add it to evaluate, or use loss_",
    ),
    (
        lambda: profile().loss_barrier("x"),
        OptionError,
        r"^baseline: expected linear or mean or worst, found 'x'; choose",
    ),
    (
        lambda: profile(complete=False).loss_barrier(),
        OptionError,
        r"^loss_barrier: expected a complete path, found an interrupted one; measure it again",
    ),
    (lambda: load(PathProfile, {}), CheckpointError, r"file\.json: expected a path profile, .*; pass a file or folder"),
    (
        lambda: path(batchnorm="x"),
        OptionError,
        r"^batchnorm: expected reestimate or keep or repair, found 'x'; choose one",
    ),
    (
        lambda: path(batches=[]),
        OptionError,
        r"^batches: expected at least one batch, found none; pass data to evaluate",
    ),
    (
        lambda: path(evaluate=lambda *_: {"count": 1}),
        OptionError,
        r"^evaluate: expected sums over a batch with `loss`, found count; return `loss`",
    ),
    (
        lambda: load(PathProfile, profile().to_json() | {"others": 1}),
        CheckpointError,
        r"file\.json: expected a path profile, format .*, found .* not fit: others: 1; pass a file or",
    ),
    (lambda: path(lams=1), OptionError, r"^lams: expected a number of points from 2, .*, found 1; include both ends"),
    (lambda: path(a={}), MismatchError, r"^a: weight: expected shape \(1, 1\), as in the model, found no such tensor;"),
    (lambda: path(batches=3), OptionError, r"^batches: expected batches, found int; pass a list or a function"),
]


def raised(row: Row) -> OneBasinError:
    """The error of a row."""
    call, kind, _ = row
    with pytest.raises(kind) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2][:30])
def test_message(row: Row) -> None:
    """Each call raises its class of error, and the message is one line: what failed, expected, found, and remedy."""
    error = raised(row)

    assert type(error) is row[1]
    assert re.search(row[2], str(error)), str(error)
    assert "\n" not in str(error)
    assert all((error.subject, error.expected, error.found, error.remedy))
    assert error.remedy[0].islower()
    assert error.remedy[-1] != "."


# The check that the table is complete: where errors are raised, and which of these lines the table reaches.


def core_files() -> list[Path]:
    """The files whose errors the table holds."""
    names = [PACKAGE / f"{name}.py" for name in CORE]
    return names + [path for name in CORE_FOLDERS for path in sorted((PACKAGE / name).rglob("*.py"))]


def makes_an_error(call: ast.expr | None, names: Mapping[str, object]) -> bool:
    """Whether an expression calls one of our error classes, or a function that says it returns one."""
    maker = names.get(ast.unparse(call.func)) if isinstance(call, ast.Call) else None
    kind = typing.get_type_hints(maker).get("return") if inspect.isfunction(maker) else maker
    return inspect.isclass(kind) and issubclass(kind, OneBasinError)


def only_raises(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function does nothing but raise, so that each call of it is a place where an error is raised."""
    body = [node for node in function.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    return len(body) == 1 and isinstance(body[0], ast.Raise)


def raising(tree: ast.Module, names: Mapping[str, object]) -> Iterator[tuple[int, int]]:
    """The first and last line of all that raises one of our errors or calls a function that does nothing else."""
    helpers = {function.name for function in functions(tree) if only_raises(function)}
    for node in ast.walk(tree):
        if (isinstance(node, ast.Raise) and makes_an_error(node.exc, names)) or (
            isinstance(node, ast.Call) and ast.unparse(node.func) in helpers
        ):
            yield node.lineno, node.end_lineno or node.lineno


def module_of(path: Path) -> ModuleType:
    """The module that a file of the package is."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return importlib.import_module(".".join(parts).removesuffix(".__init__"))


def test_every_line_that_raises_is_reached() -> None:
    """Each statement of the core that raises an error is reached by a row of the table."""
    reached: dict[str, set[int]] = {}
    for row in ROWS:
        error: BaseException | None = raised(row)
        while error is not None:  # An error told with its place has the first one behind it.
            for frame, line in traceback.walk_tb(error.__traceback__):
                reached.setdefault(frame.f_code.co_filename, set()).add(line)
            error = error.__context__
    missing = []
    for path in core_files():
        module = module_of(path)
        lines = reached.get(str(module.__file__), set())
        spans = raising(parse(path), vars(module))
        missing += [place(path, first) for first, last in spans if lines.isdisjoint(range(first, last + 1))]

    assert missing == []


SAMPLE = """
def _fail(name) -> None:
    raise OptionError(name, expected="", found="", remedy="")
def _wrong() -> OptionError:
    return OptionError()
def f(x):
    if x:
        raise _wrong()
    if not x:
        _fail("x")
    try:
        raise KeyError
    except KeyError:
        raise
    raise OptionError(
        "x"
    ) from None
"""


def test_lines_that_raise_are_noticed() -> None:
    """Raising a class of ours, what a function makes, and by a helper are seen; other errors and bare `raise` not."""
    names: dict[str, object] = {"OptionError": OptionError, "KeyError": KeyError}
    exec(compile(SAMPLE, "sample", "exec"), names)  # noqa: S102 - defines the functions above

    assert sorted(raising(ast.parse(SAMPLE), names)) == [(3, 3), (8, 8), (10, 10), (15, 17)]
