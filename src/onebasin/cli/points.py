"""How commands measure points between networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import nn

from onebasin import Evaluation
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.inputs import Source, check_inputs, seeded
from onebasin.cli.kept import fingerprint, networks
from onebasin.cli.options import PointStatistics
from onebasin.correction.batchnorm import batchnorm_layers
from onebasin.merging.loading import load_into
from onebasin.tasks import Task, predictor
from onebasin.tasks.protocol import check_split

DONE = {
    "keep": "kept as they are between the networks",
    "reestimate": "re-estimated at every point, the ends included",
    "repair": "every unit's mean and spread set to the average of the ends' (REPAIR)",
}
"""What becomes of BatchNorm's statistics, in words."""


def built(task: Task) -> nn.Module:
    """The task's model; whatever it draws beside its tensors is the same every time."""
    with seeded(0):
        return task.build_model()


def check_fit(task: Task, files: Sequence[Path]) -> None:
    """Find out before long work that networks are of the task's architecture.

    Raises:
        OneBasinError: naming the file and tensor that is not.
    """
    for file in files:
        load_into(task, open_checkpoint(file), str(file))
    check_inputs(files)


def statistics_of(task: Task, chosen: PointStatistics | None) -> str:
    """What becomes of BatchNorm's statistics: re-estimated unless chosen otherwise, where there are any."""
    if chosen is PointStatistics.REPAIR or (chosen is not PointStatistics.KEEP and batchnorm_layers(built(task))):
        return (chosen or PointStatistics.REESTIMATE).value
    return "keep"


def evaluation_of(
    task: Task,
    split: str,
    chosen: PointStatistics | None,
    samples: int,
    *,
    temperature: bool = False,
    calibration: str = "train",
) -> Evaluation:
    """How to measure on a task's data.

    Args:
        task: gives data, and logits where it can.
        split: to measure on.
        chosen: what becomes of BatchNorm's statistics; see `statistics_of`.
        samples: of the calibration data, to estimate statistics and temperatures from.
        temperature: whether to measure losses at the best temperature, too.
        calibration: the split of the calibration data; statistics need no labels.

    Raises:
        TaskError: there are no data.
        OptionError: a temperature is wanted of a task that does not predict.
    """
    statistics = statistics_of(task, chosen)
    estimated = temperature or statistics != "keep"
    return Evaluation(
        task.evaluate,
        task.batches(split),
        predictor(task),
        batchnorm=statistics,
        calibration=task.batches(calibration) if estimated else None,
        calibration_samples=samples if estimated else None,
        temperature=temperature,
    )


@dataclass(frozen=True)
class Study:
    """Networks of a task, and how points between them are measured.

    Attributes:
        paths: of the networks, by name.
        source: of the task and its symmetry.
        split: of the data to measure on.
        evaluation: how.
        settings: what decides the results, as plain JSON values.
    """

    paths: dict[str, Path]
    source: Source
    split: str
    evaluation: Evaluation
    settings: dict[str, object]

    @classmethod
    def of(
        cls,
        purpose: str,
        models: list[Path],
        source: Source,
        split: str,
        chosen: PointStatistics | None,
        samples: int,
    ) -> Self:
        """Look at everything that a command was given.

        Args:
            purpose: what needs a task.
            models: the networks.
            source: of the task.
            split: of its data.
            chosen: what becomes of BatchNorm's statistics.
            samples: to estimate them from.

        Raises:
            OneBasinError: something cannot be used.
        """
        check_split(split, "--split")
        evaluation = evaluation_of(source.require_task(purpose), split, chosen, samples)
        check_inputs(models)
        named = networks(models)
        file = Path(str(source.task)).expanduser()
        settings: dict[str, object] = {
            "networks": named,
            "task": f"{source.task} {fingerprint(file)}" if file.suffix == ".py" and file.exists() else source.task,
            "symmetry": str(source.symmetry) if source.symmetry else None,
            "split": split,
            "batchnorm": evaluation.batchnorm,
            "samples": samples,
            "seed": source.seed,
        }
        return cls(dict(zip(named, models, strict=True)), source, split, evaluation, settings)

    @property
    def task(self) -> Task:
        """The task."""
        return self.source.require_task("measuring")

    @property
    def about(self) -> dict[str, str]:
        """What to tell people about the results."""
        return {
            "networks": ", ".join(self.paths),
            "task": f"{self.task.name}, {self.split} split",
            "BatchNorm": DONE[self.evaluation.batchnorm],
            "seed": str(self.source.seed),
        }
