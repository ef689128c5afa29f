"""Tasks: a model, inputs, data and a loss, built in or written by the user."""

from pathlib import Path

from onebasin.tasks.builtin import IMAGE_SETS, ImageBatches, ImageTask
from onebasin.tasks.protocol import SPLITS, Task, averages, classification_logits, classification_sums, predictor
from onebasin.tasks.train import train
from onebasin.tasks.user import UserTask, load_user_task

__all__ = [
    "BUILT_IN",
    "SPLITS",
    "ImageBatches",
    "ImageTask",
    "Task",
    "UserTask",
    "averages",
    "classification_logits",
    "classification_sums",
    "load_task",
    "predictor",
    "train",
]

BUILT_IN = tuple(IMAGE_SETS)
"""Names of the built-in tasks."""


def load_task(spec: str, *, data_root: str | Path | None = None) -> Task:
    """Load a task by name, from a Python file or from a module.

    Args:
        spec: one of `BUILT_IN`, a path ending in `.py`, or the name of an importable module.
        data_root: folder of the data sets. A built-in task looks there for its folder (`mnist`, `fashion-mnist`,
            `cifar-10-batches-bin`, `cifar-100-binary`); a user's function gets it if it has a parameter `data_root`.

    Returns:
        The task. Built-in tasks read their files when batches are first asked for.

    Raises:
        TaskError: nothing of that name, or the file does not follow the protocol of `onebasin.tasks.user`.
        Exception: whatever a user's file itself raises, with a note that names the file.
    """
    root = None if data_root is None else Path(data_root)
    return ImageTask(spec, root) if spec in IMAGE_SETS else load_user_task(spec, root)
