"""Whatever cannot be used is named in one line, with status 2, and nothing is written."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from cli.conftest import Damage
from cli.networks import MODEL_ONLY, TASK, Files, Run

NAN = torch.full((8,), float("nan"))


def one_line(result: Result, start: object) -> str:
    """The one line on standard error, after checking that there is nothing else."""
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(str(start)), result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("changes", "tensor", "words"),
    [
        ({"3.weight": torch.zeros(9, 8)}, "3.weight", "found shape (9, 8)"),
        ({"3.bias": None}, "3.bias", "found none"),
        ({"extra": torch.zeros(2)}, "extra", "one it does not know how to move"),
        ({"3.bias": NAN}, "3.bias", "NaN or infinity in 8 of 8 entries"),
        ({"3.bias": torch.zeros(8, dtype=torch.float16)}, "3.bias", "expected torch.float32"),
    ],
    ids=["shape", "missing", "unknown", "nan", "dtype"],
)
@pytest.mark.parametrize("command", ["match", "merge"])
def test_bad_tensor_is_named(
    command: str,
    changes: dict[str, torch.Tensor | None],
    tensor: str,
    words: str,
    files: Files,
    run: Run,
    damaged: Damage,
    tmp_path: Path,
) -> None:
    """A tensor that does not fit, is missing or holds NaN is named with its file."""
    path, out = damaged(changes), tmp_path / "out.pt"
    result = run(command, files.a, path, "--symmetry", files.symmetry, "--out", out)

    assert words in one_line(result, f"{path}: {tensor}: ")
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"3.weight": torch.zeros(9, 8)}, "3.weight: expected shape (8, 8)"),
        ({"3.bias": None}, "3.bias: expected"),
        ({"3.bias": NAN}, "3.bias: expected finite numbers"),
    ],
    ids=["shape", "missing", "nan"],
)
def test_bad_tensor_is_named_without_symmetry(
    changes: dict[str, torch.Tensor | None], words: str, files: Files, run: Run, damaged: Damage, tmp_path: Path
) -> None:
    """The same is found where nothing is to be reordered."""
    out = tmp_path / "out.pt"
    result = run("merge", files.a, damaged(changes), "--no-align", "--out", out)

    assert words in one_line(result, "")
    assert not out.exists()


def test_bad_tensor_of_a_path_is_named(files: Files, run: Run, damaged: Damage, tmp_path: Path) -> None:
    """A network that is not the task's is named, also where only the naive line is measured."""
    path = damaged({"0.weight": torch.zeros(8, 5)})
    result = run("path", files.a, path, "--task", files.task, "--naive", "--out", tmp_path / "out")

    assert "expected shape (8, 4), as in the model" in one_line(result, f"{path}: 0.weight: ")
    assert not (tmp_path / "out").exists()


class Code:
    """A pickle that would make a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        """Call `os.mkdir` on reading."""
        return (os.mkdir, (str(self.path),))


def test_code_in_a_pickle_does_not_run(files: Files, run: Run, tmp_path: Path) -> None:
    """A pickle that holds code is refused by name, and the code does not run."""
    path, trap, out = tmp_path / "evil.pt", tmp_path / "trap", tmp_path / "out.json"
    torch.save({"weight": Code(trap)}, path)
    result = run("match", files.a, path, "--symmetry", files.symmetry, "--out", out)

    one_line(result, path)
    assert not trap.exists()
    assert not out.exists()


def test_truncated_file_is_named(files: Files, run: Run, tmp_path: Path) -> None:
    """Half a file is refused by name."""
    path, out = tmp_path / "half.safetensors", tmp_path / "out.json"
    path.write_bytes(files.a.read_bytes()[: files.a.stat().st_size // 2])
    result = run("match", files.a, path, "--symmetry", files.symmetry, "--out", out)

    one_line(result, path)
    assert not out.exists()


def test_group_of_two_sizes_is_named(files: Files, run: Run, tmp_path: Path) -> None:
    """A symmetry written by hand whose group does not have the size of its axis is refused, naming the tensor."""
    data = json.loads(files.symmetry.read_text(encoding="utf-8"))
    data["groups"]["3.weight"]["size"] = 9
    path = tmp_path / "by_hand.json"
    path.write_text(json.dumps(data), encoding="utf-8")

    line = one_line(run("inspect", path, "--checkpoint", files.a, "--out", tmp_path / "out.json"), files.a)
    assert "3.weight: expected shape (9, 8), axis 0 being 3.weight, found shape (8, 8)" in line
    assert not (tmp_path / "out.json").exists()


def test_group_that_is_not_listed_is_named(files: Files, run: Run, tmp_path: Path) -> None:
    """A symmetry written by hand that uses a group it does not list is refused, naming axis and group."""
    data = json.loads(files.symmetry.read_text(encoding="utf-8"))
    del data["groups"]["3.weight"]
    path = tmp_path / "by_hand.json"
    path.write_text(json.dumps(data), encoding="utf-8")

    assert "3.weight" in one_line(run("inspect", path), "")


@pytest.mark.parametrize(
    ("text", "start", "words"),
    [
        ("def build_model(:\n", ":1: SyntaxError", "while loading"),
        ("import nowhere_at_all\n", ":1: ModuleNotFoundError", "while loading"),
        ("def build_model():\n    return undefined\n", ":2: NameError", "while running build_model"),
        (
            "def build_model():\n    return 3\n",
            ": build_model(): expected a torch.nn.Module",
            "found a value of type int",
        ),
        (TASK.replace("nn.Linear(4, 8)", "nn.Linear(5, 8)"), "", "expected a model that runs on the example inputs"),
        (
            TASK.replace("nn.BatchNorm1d(8)", "Late()").replace(
                "def build_model",
                "class Late(nn.Module):\n"
                "    def forward(self, x):\n"
                "        if x.dtype == torch.float64:\n"
                '            raise RuntimeError("not in float64")\n'
                "        return x\n\n\n"
                "def build_model",
            ),
            "",
            "not in float64",
        ),
    ],
    ids=["syntax", "import", "name", "no model", "inputs", "verification"],
)
def test_mistakes_in_a_task_are_shown_with_their_place(
    text: str, start: str, words: str, run: Run, tmp_path: Path
) -> None:
    """An exception of a user's file is one line with file, line and exception, and no traceback."""
    task, out = tmp_path / "mine.py", tmp_path / "symmetry.json"
    task.write_text(text, encoding="utf-8")
    result = run("inspect", "--task", task, "--out", out)

    assert words in one_line(result, f"{task}{start}" if start else "")
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (("inspect",), "--task: expected a task or a saved symmetry"),
        (("inspect", "nowhere.json"), "nowhere.json: expected a JSON file, found nothing there"),
        (("inspect", "--task", "nowhere.py"), ""),
        (("inspect", "--task", "nothing"), "nothing: expected one of digits"),
        (("inspect", "SYMMETRY", "--out", "nowhere/x.json"), "nowhere: expected a folder to write to"),
        (("inspect", "SYMMETRY", "--out", "."), "--out .: expected a file, found a folder"),
        (("inspect", "SYMMETRY", "--out", "SYMMETRY"), "--out "),
        (("inspect", "SYMMETRY", "--checkpoint", "nowhere.pt"), "nowhere.pt: "),
        (("match", "A", "B"), "--task: expected a task or a saved symmetry"),
        (("match", "A", "B", "--symmetry", "SYMMETRY", "--write-b", "x.txt"), "x.txt: expected a name that ends in"),
        (("match", "A", "B", "--symmetry", "SYMMETRY", "--write-b", "A"), "--write-b "),
        (("merge", "A", "--no-align", "--out", "x.pt"), "A B: expected two networks or more, found 1"),
        (("merge", "A", "B", "--out", "x.pt"), "--task: expected a task or a saved symmetry"),
        (("merge", "A", "B", "--no-align", "--method", "median", "--out", "x.pt"), "--method: expected mean or lerp"),
        (("merge", "A", "B", "--no-align", "--lam", 0.3, "--out", "x.pt"), "--lam: expected --method lerp"),
        (("merge", "A", "B", "--no-align", "--weights", "1,x", "--out", "x.pt"), "--weights: expected numbers"),
        (("merge", "A", "B", "--no-align", "--weights", "1,1,1", "--out", "x.pt"), "weights: expected 2 numbers"),
        (("merge", "A", "B", "--no-align", "--correct", "refit", "--out", "x.pt"), "--correct refit: "),
        (("merge", "A", "B", "--no-align", "--task", "TASK", "--split", "all", "--out", "x.pt"), "--split: expected"),
        (("path", "A", "B", "--task", "mnist"), "mnist: expected a data root"),
        (("path", "A", "B", "--task", "MODEL_ONLY"), ""),
        (("path", "A", "B", "--task", "TASK", "--out", "A"), "--out "),
        (("path", "A", "B", "--task", "TASK", "--split", "all"), "--split: expected a split out of train, val, test"),
    ],
)
def test_options_that_cannot_work_are_named(
    arguments: tuple[object, ...], start: str, files: Files, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option or file that cannot be used is named, and the folder stays as it was."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model_only.py").write_text(MODEL_ONLY, encoding="utf-8")
    stands_for: dict[object, object] = {
        "A": files.a, "B": files.b, "TASK": files.task, "SYMMETRY": files.symmetry, "MODEL_ONLY": "model_only.py"
    }  # fmt: skip
    result = run(*(stands_for.get(argument, argument) for argument in arguments))

    one_line(result, start)
    assert [path.name for path in tmp_path.iterdir()] == ["model_only.py"]


def test_matchings_must_be_as_many_as_networks(files: Files, run: Run, tmp_path: Path) -> None:
    """One matching for three networks is refused."""
    saved = tmp_path / "matching.json"
    run("match", files.a, files.b, "--symmetry", files.symmetry, "--out", saved)
    result = run("merge", files.a, files.b, files.c, "--matching", saved, "--out", tmp_path / "x.pt")

    one_line(result, "--matching: expected one for every network but the first: 2, found 1")
    assert not (tmp_path / "x.pt").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("match", "A"),
        ("merge", "A", "B"),
        ("path", "A", "B"),
        ("demo", "--seed", "x"),
        ("demo", "--nothing"),
        ("path", "A", "B", "--task", "TASK", "--points", "2"),
    ],
)
def test_wrong_usage_has_status_two(arguments: tuple[str, ...], run: Run) -> None:
    """A missing or unknown argument is a usage error."""
    result = run(*arguments)

    assert result.exit_code == 2
    assert "Usage:" in result.stderr
    assert "Traceback" not in result.stderr


def test_own_mistakes_are_not_hidden(files: Files, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that is neither ours on purpose nor of the user's task is raised with its traceback."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("onebasin.cli.inputs.discover", fail)

    with pytest.raises(ZeroDivisionError):
        run("inspect", "--task", files.task)
