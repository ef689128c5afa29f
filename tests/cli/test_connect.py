"""`onebasin connect` says which networks may be averaged."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cli.conftest import Damage
from cli.networks import MODEL_ONLY, Files, Run, interrupting
from onebasin import Symmetry, merge, save_checkpoint
from onebasin.tasks import load_task


@dataclass(frozen=True)
class Trio:
    """A trained network, itself reordered, and itself with a little noise."""

    parent: Path
    copy: Path
    child: Path


@pytest.fixture(scope="module")
def trio(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Trio:
    """Networks that have learned the task."""
    task = load_task(str(files.task))
    model, folder = task.build_model(), tmp_path_factory.mktemp("trio")
    model.load_state_dict(merge([files.a]))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        for batch in task.batches("train"):
            optimizer.zero_grad()
            task.evaluate(model.train(), batch)["loss"].backward()
            optimizer.step()
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    noisy = {name: tensor + 1e-4 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    made = Trio(*(folder / f"{name}.safetensors" for name in ("parent", "copy", "child")))
    networks = (state, Symmetry.load(files.symmetry).random(1).apply(state), noisy)
    for path, params in zip((made.parent, made.copy, made.child), networks, strict=True):
        save_checkpoint(params, path)
    return made


def test_answer_is_shown_and_written(files: Files, trio: Trio, run: Run, tmp_path: Path) -> None:
    """Table, sentence and the next command are shown; answer, pairs, pictures and page are in the folder."""
    out = tmp_path / "answer"
    result = run("connect", trio.parent, trio.copy, trio.child, "--task", files.task, "--points", 3, "--out", out)

    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert "Error barriers in points" in result.stdout
    assert "parent, copy and child: align, then average; the average of all 3 is as good as they are." in result.stdout
    assert "Averages of whole groups" in result.stdout
    command = f"onebasin merge {trio.parent} {trio.copy} {trio.child} --task {files.task} --out merged.safetensors"
    assert f"go on    {command}\n" in result.stdout
    names = [
        "aligned.png",
        "aligned.svg",
        "as-they-are.png",
        "as-they-are.svg",
        "connect.json",
        "pairs",
        "report.html",
        "settings.json",
    ]
    assert sorted(path.name for path in out.iterdir()) == names
    assert sorted(path.name for path in (out / "pairs").iterdir()) == ["1-2.json", "1-3.json", "2-3.json"]
    assert (out / "aligned.png").read_bytes().startswith(b"\x89PNG")


def test_copies_are_told_from_children(files: Files, trio: Trio, run: Run) -> None:
    """A reordered copy is to be aligned and has no barrier then; a child may be averaged as it is."""
    options = ("--task", files.task, "--points", 3, "--batchnorm", "keep", "--json")
    found = json.loads(run("connect", trio.parent, trio.copy, trio.child, *options).stdout)

    pairs = {(pair["a"], pair["b"]): pair for pair in found["pairs"]}
    assert pairs["parent", "copy"]["aligned"]["loss_barrier"] == pytest.approx(0, abs=1e-6)
    assert pairs["parent", "copy"]["raw"]["error_barrier"] > 0.02
    assert pairs["parent", "child"]["suggestion"] == "average as they are"
    assert found["settings"]["BatchNorm"] == "kept as they are between the networks"
    alone = json.loads(run("connect", trio.parent, trio.child, *options).stdout)
    assert alone["commands"][0].endswith("--out merged.safetensors --no-align")


def test_same_command_goes_on(files: Files, trio: Trio, run: Run, tmp_path: Path) -> None:
    """Finished pairs are read and not measured again; a folder of other networks or options is refused."""
    out = tmp_path / "answer"
    options = ("--task", files.task, "--points", 3, "--out", out)
    run("connect", trio.parent, trio.copy, trio.child, *options)
    saved = json.loads((out / "pairs" / "1-2.json").read_text(encoding="utf-8"))
    saved["raw_features"] = 1.25
    (out / "pairs" / "1-2.json").write_text(json.dumps(saved), encoding="utf-8")
    (out / "pairs" / "2-3.json").unlink()

    again = json.loads(run("connect", trio.parent, trio.copy, trio.child, *options, "--json").stdout)
    assert [pair["raw_features"] == 1.25 for pair in again["pairs"]] == [True, False, False]
    assert (out / "pairs" / "2-3.json").exists()
    for other in ((files.a, files.c), (trio.parent, trio.copy, trio.child, "--seed", 1)):
        refused = run("connect", *other, *options)
        assert refused.exit_code == 2
        assert "results of other" in refused.stderr


def test_another_architecture_is_one_line(files: Files, run: Run, damaged: Damage) -> None:
    """A network of other shapes is refused before anything is measured, naming the tensor."""
    other = damaged({"3.weight": torch.zeros(9, 8)})
    result = run("connect", files.a, files.b, other, "--task", files.task)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"{other}: 3.weight: expected shape (8, 8), as in the model, found shape (9, 8)")
    assert result.stderr.count("\n") == 1


def test_what_cannot_be_asked_is_refused(files: Files, run: Run, tmp_path: Path) -> None:
    """One network alone, one network twice, and a task without data are errors in one line."""
    bare = tmp_path / "model_only.py"
    bare.write_text(MODEL_ONLY, encoding="utf-8")
    for arguments, words in (
        ((files.a, "--task", files.task), "expected two or more, found 1"),
        ((files.a, files.a, "--task", files.task), "expected different ones, found one twice"),
        ((files.a, files.b, "--task", bare), "batches"),
    ):
        result = run("connect", *arguments)
        assert result.exit_code == 2
        assert words in result.stderr
        assert result.stderr.count("\n") == 1


def test_interrupted_answer_keeps_its_pairs(trio: Trio, run: Run, tmp_path: Path) -> None:
    """Ctrl-C gives status 1; pairs finished by then are in the folder, and the answer says it is not complete."""
    task, out = interrupting(tmp_path / "interrupted.py", 22), tmp_path / "answer"
    options = ("--task", task, "--points", 3, "--batchnorm", "keep", "--out", out)
    result = run("connect", trio.parent, trio.copy, trio.child, *options)

    assert result.exit_code == 1
    assert result.stderr.startswith("interrupted: measured 1 of 3 pairs")
    assert [path.name for path in (out / "pairs").iterdir()] == ["1-2.json"]
    assert not json.loads((out / "connect.json").read_text(encoding="utf-8"))["complete"]
