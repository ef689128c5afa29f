"""Tasks in users' files and modules: what they give, and what is said of their mistakes."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from onebasin.errors import OneBasinError, TaskError
from onebasin.tasks import Task, averages, load_task

MODEL = "import torch\ndef build_model(): return torch.nn.Linear(3, 2)\n"
COMPLETE = (
    MODEL
    + """
def example_inputs(): return (torch.zeros(1, 3),)
def batches(split):
    for size in {"train": (4, 2), "val": (2,), "test": (3,)}[split]:
        yield torch.ones(size, 3), torch.zeros(size, dtype=torch.int64)
def evaluate(model, batch):
    x, y = batch
    loss = torch.nn.functional.cross_entropy(model(x), y, reduction="sum")
    return {"loss": loss, "count": len(y)}
"""
)

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a task file and gives its path."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # loading a file appends its folder

    def write(source: str) -> str:
        path = tmp_path / "my_task.py"
        path.write_text(source)
        return str(path)

    return write


def evaluate_once(task: Task) -> object:
    """The sums of an empty batch."""
    return task.evaluate(nn.Identity(), ())


def read_all(task: Task) -> list[object]:
    """The training batches."""
    return list(task.batches("train"))


def test_file_is_a_task(write: Write) -> None:
    """A file with the four functions gives a model, inputs, data that can be read twice, and averages."""
    task = load_task(write(COMPLETE))
    model = task.build_model()
    train = task.batches("train")

    assert task.name == "my_task"
    assert model(*task.example_inputs()).shape == (1, 2)
    assert len(list(train)) == len(list(train)) == 2
    assert averages(task, model, "train").keys() == {"loss", "count"}
    assert averages(task, model, "train")["count"] == 6


def test_loss_keeps_its_graph_and_counts_become_tensors(write: Write) -> None:
    """The user's loss can be differentiated through the task, and a plain number arrives as a float64 scalar."""
    task = load_task(write(COMPLETE))
    model = task.build_model()
    sums = task.evaluate(model, next(iter(task.batches("val"))))
    sums["loss"].backward()

    assert next(model.parameters()).grad is not None
    assert (sums["count"].dtype, sums["count"].item()) == (torch.float64, 2)


def test_module_is_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dotted name of an importable module is a task under that name."""
    (tmp_path / "a_package_of_tasks").mkdir()
    (tmp_path / "a_package_of_tasks" / "inside.py").write_text(COMPLETE)
    monkeypatch.syspath_prepend(tmp_path)

    task = load_task("a_package_of_tasks.inside")

    assert task.name == "a_package_of_tasks.inside"
    assert len(read_all(task)) == 2


def test_file_may_import_its_neighbours(write: Write, tmp_path: Path) -> None:
    """A module beside the task file can be imported, inside its functions too."""
    (tmp_path / "nearby_of_my_task.py").write_text("WIDTH = 7\n")
    source = MODEL.replace("return", "import nearby_of_my_task as nearby; return").replace(
        "(3, 2)", "(nearby.WIDTH, 2)"
    )

    model = load_task(write(source)).build_model()

    assert next(model.parameters()).shape == (2, 7)


def test_file_may_hold_dataclasses_with_postponed_annotations(write: Write) -> None:
    """A class that looks up its module while it is made works in a task file."""
    source = "from __future__ import annotations\nfrom dataclasses import dataclass, KW_ONLY\n" + MODEL
    source += "@dataclass\nclass Options:\n    a: int\n    _: KW_ONLY\n    b: int = 2\n"

    assert isinstance(load_task(write(source)).build_model(), nn.Linear)


@pytest.mark.parametrize(
    ("name", "ask", "purpose"),
    [
        ("example_inputs", lambda task: task.example_inputs(), "find its symmetries"),
        ("batches", lambda task: task.batches("train"), "to read data"),
        ("evaluate", evaluate_once, "to measure loss on data"),
    ],
)
def test_model_alone_is_enough(write: Write, name: str, ask: Callable[[Task], object], purpose: str) -> None:
    """With build_model only, a model is built; what is missing is named, with its purpose, when it is asked for."""
    path = write(MODEL)
    task = load_task(path)

    assert isinstance(task.build_model(), nn.Linear)
    with pytest.raises(TaskError, match=f"{purpose}, found no {name}") as caught:
        ask(task)
    assert caught.value.subject == path


def test_model_is_required(write: Write) -> None:
    """A file without build_model is refused when it is loaded."""
    with pytest.raises(TaskError, match="found no build_model"):
        load_task(write(COMPLETE.replace("build_model", "make_model")))


@pytest.mark.parametrize(
    ("source", "function", "found"),
    [
        ("def build_model(width): ...", "build_model", "missing a required argument: 'width'"),
        (MODEL + "def batches(): ...", "batches", "too many positional arguments"),
        (MODEL + "def batches(data_root, split): ...", "batches", "multiple values for argument 'data_root'"),
        (MODEL + "def evaluate(model): ...", "evaluate", "too many positional arguments"),
        (MODEL + "example_inputs = (1, 2)", "example_inputs", "a value of type tuple"),
    ],
)
def test_signatures_are_checked_at_load(write: Write, source: str, function: str, found: str) -> None:
    """A function that cannot be called as the protocol says is refused before any work starts."""
    path = write(source)

    with pytest.raises(TaskError) as caught:
        load_task(path)
    assert caught.value.subject == f"{path}: {function}"
    assert found in caught.value.found


@pytest.mark.parametrize(
    ("source", "ask", "found"),
    [
        ("def build_model(): return {}", lambda task: task.build_model(), "type dict"),
        (
            MODEL + "def example_inputs(): return torch.ones(2, 3)",
            lambda task: task.example_inputs(),
            r"shape \[2, 3\]",
        ),
        (MODEL + "def batches(split): return 5", read_all, "type int"),
        (MODEL + "def batches(split): pass", read_all, "found None"),
        (MODEL + "def batches(split): return []", read_all, "none for split 'train'"),
        (MODEL + "def evaluate(model, batch): return 0.5", evaluate_once, "type float"),
        (MODEL + "def evaluate(model, batch): return {'loss': 1.0}", evaluate_once, "no 'count'"),
        (MODEL + "def evaluate(model, batch): return {}", evaluate_once, "no 'loss' and no 'count'"),
        (
            MODEL + "def evaluate(model, batch): return {'loss': torch.ones(5), 'count': 5}",
            evaluate_once,
            r"shape \[5\] for 'loss'",
        ),
        (MODEL + "def evaluate(model, batch): return {'loss': None, 'count': 5}", evaluate_once, "None for 'loss'"),
    ],
)
def test_returns_are_checked(write: Write, source: str, ask: Callable[[Task], object], found: str) -> None:
    """A function that returns something else than the protocol says is named with its file and what it returned."""
    path = write(source)
    task = load_task(path)

    with pytest.raises(TaskError, match=found) as caught:
        ask(task)
    assert caught.value.subject.startswith(f"{path}: ")


def test_unknown_split_is_refused(write: Write) -> None:
    """A split that no task has is refused before the user's function sees it."""
    with pytest.raises(TaskError, match="train, val, test, found 'dev'"):
        load_task(write(COMPLETE)).batches("dev")


@pytest.mark.parametrize(
    ("source", "ask", "kind"),
    [
        ("def build_model(): return 1 / 0", lambda task: task.build_model(), ZeroDivisionError),
        (MODEL + "def batches(split):\n    yield 1\n    raise KeyError('late')", read_all, KeyError),
        (MODEL + "def evaluate(model, batch): return batch[3]", evaluate_once, IndexError),
    ],
)
def test_users_errors_pass_with_a_note(
    write: Write, source: str, ask: Callable[[Task], object], kind: type[Exception]
) -> None:
    """An exception of the user's own code comes out as it was raised, with a note that names the file."""
    path = write(source)
    task = load_task(path)

    with pytest.raises(kind) as caught:
        ask(task)
    assert not isinstance(caught.value, OneBasinError)
    assert len(caught.value.__notes__) == 1
    assert path in caught.value.__notes__[0]


@pytest.mark.parametrize("source", ["1 / 0", "def build_model(:", "import a_module_nobody_has"])
def test_files_that_do_not_load_pass_their_error(write: Write, source: str) -> None:
    """A file that fails while it loads passes its own error, with a note, and leaves no half-made module behind."""
    path = write(source)
    before = set(sys.modules)

    with pytest.raises((ZeroDivisionError, SyntaxError, ModuleNotFoundError)) as caught:
        load_task(path)
    assert path in caught.value.__notes__[0]
    assert not [name for name in set(sys.modules) - before if name.startswith("onebasin_task_")]


def test_modules_own_missing_import_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that exists but imports one that does not is not called unknown."""
    (tmp_path / "a_task_that_imports.py").write_text("import a_module_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="a_module_nobody_has"):
        load_task("a_task_that_imports")


@pytest.mark.parametrize("spec", ["minst", "", ".", "no_package.no_module", "json.decoder.x", "fashion_mnist/", "a b"])
def test_unknown_names_list_the_known(spec: str) -> None:
    """A name that stands for nothing is an error that lists the built-in tasks."""
    with pytest.raises(TaskError, match="digits, mnist, fashion-mnist, cifar10, cifar100") as caught:
        load_task(spec)
    assert caught.value.subject == spec


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A path to no file is an error with the whole path."""
    with pytest.raises(TaskError, match="no such file") as caught:
        load_task(str(tmp_path / "absent.py"))
    assert caught.value.subject == str(tmp_path / "absent.py")


def test_data_root_goes_where_it_is_named(write: Write, tmp_path: Path) -> None:
    """Functions with a parameter data_root get the folder, the others are called without it."""
    source = COMPLETE.replace("build_model()", "build_model(data_root)").replace("(3, 2)", "(3, len(data_root.name))")
    task = load_task(write(source), data_root=tmp_path / "five5")

    assert next(task.build_model().parameters()).shape == (5, 3)
    assert len(read_all(task)) == 2


def test_data_root_without_a_folder(write: Write) -> None:
    """Without a folder the parameter's default holds, and where it has none the function is refused when called."""
    source = MODEL.replace("build_model()", "build_model(data_root='')") + "def batches(split, *, data_root): return []"
    task = load_task(write(source))

    assert isinstance(task.build_model(), nn.Linear)
    with pytest.raises(TaskError, match="batches: expected a data root, found none"):
        read_all(task)


def test_files_of_one_name_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files of the same name in different folders are two tasks."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    tasks = []
    for width in (3, 4):
        folder = tmp_path / str(width)
        folder.mkdir()
        (folder / "my_task.py").write_text(MODEL.replace("3", str(width)))
        tasks.append(load_task(str(folder / "my_task.py")))

    assert [next(task.build_model().parameters()).shape[1] for task in tasks] == [3, 4]


def test_task_travels_to_other_processes(write: Write, tmp_path: Path) -> None:
    """A pickled task loads its file again where it arrives, with its data root."""
    task = load_task(
        write(COMPLETE + "def build_model(data_root): return torch.nn.Bilinear(1, 2, 3)"), data_root=tmp_path
    )
    arrived = pickle.loads(pickle.dumps(task))

    assert isinstance(arrived.build_model(), nn.Bilinear)
    assert arrived.data_root == tmp_path
