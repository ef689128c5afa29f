"""What is done after averaging: the block `correction` of a recipe. BatchNorm's statistics are re-estimated today."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from onebasin.cli.evaluation import has_data, reestimated
from onebasin.cli.inputs import Source
from onebasin.cli.options import SAMPLES, BatchNorm
from onebasin.cli.screen import Screen
from onebasin.correction.batchnorm import batchnorm_layers
from onebasin.errors import OptionError
from onebasin.merging.method import unknown
from onebasin.tasks import Task

KEYS = ("batchnorm", "samples")


@dataclass(frozen=True)
class Correction:
    """What was asked for.

    Attributes:
        batchnorm: None does what the task allows.
        samples: training samples to estimate from.
    """

    batchnorm: BatchNorm | None = None
    samples: int = SAMPLES

    @classmethod
    def from_data(cls, data: Mapping[str, object]) -> "Correction":
        """Read the block of a recipe.

        Raises:
            OptionError: naming the key that is unknown (with the nearest known one) or of another type.
        """
        for key in data:
            if key not in KEYS:
                raise unknown(key, KEYS, "a key of correction")
        wanted, samples = data.get("batchnorm"), data.get("samples", SAMPLES)
        if wanted is not None and wanted not in list(BatchNorm):
            raise OptionError(
                "correction: batchnorm", expected=" or ".join(BatchNorm), found=repr(wanted), remedy="choose one"
            )
        if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
            raise OptionError(
                "correction: samples", expected="a whole number from 1", found=repr(samples), remedy="correct it"
            )
        return cls(None if wanted is None else BatchNorm(str(wanted)), samples)

    def applies(self, screen: Screen, source: Source, task: Task | None, *, has_batchnorm: bool) -> bool:
        """Whether merged tensors are to be corrected; a note says where they cannot be.

        Raises:
            OptionError: it was asked for and there is no task.
        """
        if self.batchnorm is BatchNorm.REESTIMATE:
            source.require_task("--batchnorm reestimate")
        if task is None:
            if has_batchnorm and self.batchnorm is None:
                screen.note("BatchNorm's statistics are averages of the parents'; pass --task to re-estimate them")
            return False
        if self.batchnorm is BatchNorm.KEEP or not batchnorm_layers(task.build_model()):
            return False
        return has_data(screen, task, source, "train", "BatchNorm was not re-estimated")

    def apply(self, task: Task, params: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
        """Corrected tensors, and what was done in a few words."""
        corrected, used = reestimated(task, params, self.samples)
        return corrected, f"re-estimated on {used} samples"
