"""What is done after averaging: the option `--correct` and the block `correction` of a recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from onebasin.cli.evaluation import has_data
from onebasin.cli.inputs import Source
from onebasin.cli.options import CORRECTIONS, SAMPLES
from onebasin.cli.screen import Screen
from onebasin.correction import METHODS, correct
from onebasin.correction.batchnorm import batchnorm_layers
from onebasin.errors import OptionError
from onebasin.merging.method import unknown
from onebasin.tasks import Task

KEYS = ("method", "samples")
Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class Correction:
    """What was asked for.

    Attributes:
        method: one of `CORRECTIONS`; None re-estimates BatchNorm's statistics where there are some, and data.
        samples: training samples to use, without their labels.
    """

    method: str | None = None
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
        method, samples = data.get("method"), data.get("samples", SAMPLES)
        if method is not None and method not in CORRECTIONS:
            raise OptionError("--correct", expected=" or ".join(CORRECTIONS), found=repr(method), remedy="choose one")
        if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
            raise OptionError(
                "correction: samples", expected="a whole number from 1", found=repr(samples), remedy="correct it"
            )
        return cls(None if method is None else str(method), samples)

    def chosen(self, screen: Screen, source: Source, task: Task | None, *, has_batchnorm: bool) -> str | None:
        """The method to apply, or None for none; a note says where the usual one cannot be.

        Raises:
            OptionError: one was asked for and there is no task.
            TaskError: one was asked for that needs data, and there are none.
        """
        if self.method == "none":
            return None
        if self.method is not None:
            source.require_task(f"--correct {self.method}")
            if task is not None and self.method in METHODS and METHODS[self.method].data:
                task.batches("train")
            return self.method
        if task is None:
            if has_batchnorm:
                screen.note("BatchNorm's statistics are averages of the parents'; pass --task to re-estimate them")
            return None
        if not batchnorm_layers(task.build_model()):
            return None
        found = has_data(screen, task, source, "train", "BatchNorm was not re-estimated")
        return "batchnorm" if found else None

    def apply(
        self,
        method: str,
        screen: Screen,
        source: Source,
        merged: Params,
        parents: Sequence[Params],
        weights: Sequence[float] | None,
    ) -> tuple[dict[str, Tensor], str, tuple[str, ...]]:
        """Correct merged tensors.

        Args:
            method: what `chosen` gave.
            screen: shows progress.
            source: of the task.
            merged: the tensors; names and dtypes are kept.
            parents: those they were made of, in the same coordinates.
            weights: one number a parent; None: equal.

        Returns:
            corrected tensors, the method that was applied, and what it says of its work.
        """
        task = source.require_task(f"--correct {method}")
        needs_data = method in METHODS and METHODS[method].data
        with_data = needs_data or (
            method == "auto" and has_data(screen, task, source, "train", "nothing was estimated from data")
        )
        found = correct(
            task.build_model(),
            merged,
            [dict(parent) for parent in parents],
            task.batches("train") if with_data else None,
            task.evaluate if with_data else None,
            method=method,
            args=task.example_inputs(),
            validation=task.batches("val") if method == "auto" and with_data else None,
            weights=weights,
            samples=self.samples,
            progress=screen.progress,
        )
        params = {name: found.params[name].to(tensor.dtype) for name, tensor in merged.items()}
        return params, found.method, found.notes
