"""Measure networks on a task's data, beside the controls that tell what each step was worth."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from onebasin import reestimate_batchnorm
from onebasin.cli.inputs import Source
from onebasin.cli.screen import Screen
from onebasin.connectivity.ensemble import Ensemble
from onebasin.correction.batchnorm import batchnorm_layers
from onebasin.errors import TaskError
from onebasin.merging.loading import load_into
from onebasin.tasks import ImageTask, Task, averages

Params = Mapping[str, Tensor]


def has_data(screen: Screen, task: Task, source: Source, split: str, consequence: str) -> bool:
    """Whether a task has a split; where it has no data, a note says so and what is left out.

    Raises:
        TaskError: a data root was given and does not hold the data.
    """
    try:
        task.batches(split)
    except TaskError as error:
        if source.data_root is not None:
            raise
        screen.note(f"{consequence}: {error}")
        return False
    return True


class Gauge:
    """Measures networks of one task on one split.

    Args:
        screen: shows progress.
        task: gives model and data.
        split: to evaluate on.
        samples: to re-estimate BatchNorm from.
    """

    def __init__(self, screen: Screen, task: Task, split: str, samples: int) -> None:
        self._screen, self._task, self._split, self._samples = screen, task, split, samples
        self.networks: dict[str, dict[str, float]] = {}

    def measure(self, name: str, params: Params, *, reestimate: bool = False) -> None:
        """Add a network's averages, with BatchNorm's statistics re-estimated first if asked for."""
        with self._screen.during(f"evaluating {name}"):
            model = load_into(self._task, params, name)
            if reestimate:
                reestimate_batchnorm(model, self._task.batches("train"), self._task.evaluate, self._samples)
            self.networks[name] = averages(self._task, model, self._split)

    def measure_ensemble(self, name: str, members: Sequence[Params]) -> None:
        """Add the ensemble's averages, where the task is known to score the logits of a classifier."""
        if isinstance(self._task, ImageTask):
            with self._screen.during(f"evaluating {name}"):
                models = [load_into(self._task, params, "ensemble") for params in members]
                self.networks[name] = averages(self._task, Ensemble(models), self._split)


def reestimated(task: Task, params: Params, samples: int) -> tuple[dict[str, Tensor], int]:
    """Tensors with BatchNorm's statistics re-estimated on the task's training data, and the samples that took."""
    model = load_into(task, params, "merged")
    used = reestimate_batchnorm(model, task.batches("train"), task.evaluate, samples)
    layers = {id(layer) for layer in batchnorm_layers(model)}
    state = {
        f"{prefix}.{name}" if prefix else name: buffer
        for prefix, module in model.named_modules()
        if id(module) in layers
        for name, buffer in module.named_buffers(recurse=False)
    }
    found = {name: state[name].to(tensor.dtype) if name in state else tensor for name, tensor in params.items()}
    return found, used


def networks_to_json(networks: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    """Every network's averages, for machines; the share of correct answers is called accuracy."""
    return {
        name: {{"correct": "accuracy"}.get(key, key): value for key, value in sums.items()}
        for name, sums in networks.items()
    }
