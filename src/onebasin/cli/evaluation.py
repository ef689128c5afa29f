"""Measure networks on a task's data, beside the controls that tell what each step was worth."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from onebasin.cli.inputs import Source
from onebasin.cli.screen import Screen
from onebasin.connectivity.ensemble import Ensemble
from onebasin.correction import ClassAccuracies, class_accuracies
from onebasin.errors import OptionError, TaskError
from onebasin.merging.loading import load_into
from onebasin.tasks import ImageTask, Task, averages, predictor

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
        per_class: whether to measure class by class, too.

    Raises:
        OptionError: if the task does not predict, which that needs.
    """

    def __init__(self, screen: Screen, task: Task, split: str, *, per_class: bool = False) -> None:
        self._screen, self._task, self._split = screen, task, split
        self._predict = predictor(task) if per_class else None
        if per_class and self._predict is None:
            raise OptionError(
                "--per-class",
                expected="a task that predicts",
                found=f"{task.name}, which does not",
                remedy="define predict(model, batch), which returns logits and labels",
            )
        self._classes: ClassAccuracies | None = None
        self.networks: dict[str, dict[str, float]] = {}

    def measure(self, name: str, params: Params) -> None:
        """Add a network's averages."""
        with self._screen.during(f"evaluating {name}"):
            model = load_into(self._task, params, name)
            self._add(name, model)

    @property
    def classes(self) -> ClassAccuracies | None:
        """Accuracies class by class, where they are wanted."""
        return self._classes

    def _add(self, name: str, model: nn.Module) -> None:
        self.networks[name] = averages(self._task, model, self._split)
        if self._predict is not None:
            found = class_accuracies({name: model}, self._task.batches(self._split), self._predict)
            self._classes = found if self._classes is None else self._classes.joined(found)

    def measure_ensemble(self, name: str, members: Sequence[Params]) -> None:
        """Add the ensemble's averages, where the task is known to score the logits of a classifier."""
        if isinstance(self._task, ImageTask):
            with self._screen.during(f"evaluating {name}"):
                models = [load_into(self._task, params, "ensemble") for params in members]
                self._add(name, Ensemble(models).eval())


def networks_to_json(networks: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    """Every network's averages, for machines; the share of correct answers is called accuracy."""
    return {
        name: {{"correct": "accuracy"}.get(key, key): value for key, value in sums.items()}
        for name, sums in networks.items()
    }
