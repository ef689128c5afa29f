"""The benchmarks' task files, written as users write them, on the published checkpoints."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from onebasin.tasks import SPLITS, Task, averages, load_task
from shared_data import require_checkpoints, require_mnist

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "tasks"
FILES = sorted(FOLDER.glob("*.py"))


def accuracy(task: Task, checkpoint: Path) -> float:
    """Test accuracy of a checkpoint in per cent."""
    model = task.build_model()
    model.load_state_dict(load_file(checkpoint), strict=True)
    return 100 * averages(task, model, "test")["correct"]


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_task_files_follow_the_protocol(path: Path) -> None:
    """Each file loads, without data, into a model that takes the example inputs."""
    task = load_task(str(path))
    (example,) = task.example_inputs()

    assert isinstance(example, torch.Tensor)
    assert len(task.build_model()(example)) == len(example)


def test_otfusion_pair_has_its_published_accuracy() -> None:
    """The two MLPs of the OTFusion paper reach 97.72 and 97.75 % on the MNIST test images."""
    data_root, checkpoints = require_mnist(), require_checkpoints("mnist_mlp_otfusion")
    task = load_task(str(FOLDER / "mnist_otfusion.py"), data_root=data_root)

    assert [round(accuracy(task, path), 2) for path in checkpoints] == [97.72, 97.75]


def test_noniid_mlp_has_its_measured_accuracy() -> None:
    """The MLPs trained on the two halves of MNIST reach 88.69 and 84.82 % on its test images."""
    data_root, checkpoints = require_mnist(), require_checkpoints("mnist_mlp_noniid")
    task = load_task(str(FOLDER / "mnist_noniid.py"), data_root=data_root)
    halves = [path for path in checkpoints if path.stem.startswith("split-by-2")]

    assert [round(accuracy(task, path), 2) for path in halves] == [88.69, 84.82]


def test_group_transformers_know_the_whole_table() -> None:
    """Both transformers for addition modulo 113 answer all 12,769 sums correctly."""
    checkpoints = require_checkpoints("group_transformer")
    task = load_task(str(FOLDER / "group_transformer.py"))

    found = [accuracy(task, path) for path in checkpoints if path.stem.startswith("C113")]
    assert found == [100.0, 100.0]


def test_group_table_is_split_without_overlap() -> None:
    """Train and val are four fifths and one fifth of the table, test is all of it, and the answers are sums."""
    task = load_task(str(FOLDER / "group_transformer.py"))
    tokens = {}
    for split in SPLITS:
        rows, answers = (torch.cat(parts) for parts in zip(*task.batches(split), strict=True))
        assert torch.equal(answers, (rows[:, 0] + rows[:, 1]) % 113)
        tokens[split] = {tuple(row) for row in rows.tolist()}

    assert [len(tokens[split]) for split in SPLITS] == [10215, 2554, 12769]
    assert tokens["train"] | tokens["val"] == tokens["test"]
