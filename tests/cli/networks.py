"""A small task of a user and three networks for it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from typer.testing import Result

from onebasin import discover, save_checkpoint
from onebasin.tasks import load_task

Run = Callable[..., Result]
"""Runs a command with arguments of any type."""

TASK = '''
"""Points of the plane in three classes."""

import torch
from torch import nn

from onebasin.tasks import classification_sums


def build_model():
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    )


def example_inputs():
    return (torch.randn(5, 4),)


def batches(split):
    generator = torch.Generator().manual_seed({"train": 0, "val": 1, "test": 2}[split])
    x = torch.randn(60, 4, generator=generator)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    return [(x[:40], y[:40]), (x[40:], y[40:])]


evaluate = classification_sums
'''

MODEL_ONLY = TASK[: TASK.index("def batches")]
"""The same task without data."""


GO_ON = "go_on"
"""The name of a file beside a task: while it is missing, `interrupting` stops the work."""


def interrupting(path: Path, calls: int, text: str = TASK) -> Path:
    """Write a task whose evaluation presses Ctrl-C after some calls, unless the file `GO_ON` lies beside it."""
    stopping = (
        "import pathlib\n\ncalls = []\n\n\n"
        "def evaluate(model, batch):\n"
        "    calls.append(1)\n"
        f"    if len(calls) > {calls} and not pathlib.Path(__file__).with_name('{GO_ON}').exists():\n"
        "        raise KeyboardInterrupt\n"
        "    return classification_sums(model, batch)\n\n"
    )
    path.write_text(text.replace("evaluate = classification_sums", stopping), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Files:
    """Files that commands read. `b` is `a` with its units reordered, `c` is another network.

    Attributes:
        folder: where they are.
        task: the task.
        a: a checkpoint in safetensors.
        b: the same function in other coordinates.
        c: a pickle whose tensors lie under `state_dict`.
        symmetry: of the architecture.
    """

    folder: Path
    task: Path
    a: Path
    b: Path
    c: Path
    symmetry: Path


def make_files(folder: Path) -> Files:
    """Write the files to a folder."""
    names = ("my_task.py", "a.safetensors", "b.safetensors", "c.pt", "symmetry.json")
    made = Files(folder, *(folder / name for name in names))
    made.task.write_text(TASK, encoding="utf-8")
    task = load_task(str(made.task))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, other, inputs = task.build_model(), task.build_model(), task.example_inputs()
        for network in (model, other):
            network(torch.randn(100, 4))  # gives BatchNorm statistics that differ from unit to unit
    symmetry = discover(model, inputs)
    symmetry.save(made.symmetry)
    save_checkpoint(model.state_dict(), made.a)
    save_checkpoint(symmetry.random(1).apply(model), made.b)
    torch.save({"state_dict": other.state_dict(), "epoch": 3}, made.c)
    return made
