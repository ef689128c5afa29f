"""`onebasin merge`: one network out of several."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase
from typing import Annotated

import typer
from torch import Tensor

import onebasin
from onebasin import save_checkpoint
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.alignment import Aligned, align
from onebasin.cli.evaluation import Gauge, has_data, networks_to_json, reestimated
from onebasin.cli.inputs import Source, check_inputs, check_target
from onebasin.cli.match import matching_to_json
from onebasin.cli.options import (
    SAMPLES,
    SWEEPS,
    BatchNorm,
    BatchNormOption,
    DataRootOption,
    JsonOption,
    MatchingsOption,
    SamplesOption,
    SeedOption,
    SplitOption,
    SweepsOption,
    SymmetryOption,
    TaskOption,
    ThreadsOption,
    VerifyOption,
)
from onebasin.cli.screen import Screen, session
from onebasin.cli.versions import versions
from onebasin.errors import OptionError
from onebasin.merging import METHODS
from onebasin.correction.batchnorm import batchnorm_layers
from onebasin.report import network_table
from onebasin.tasks import Task
from onebasin.tasks.protocol import check_split

MEAN, LERP = "mean", "lerp"

ModelsArgument = Annotated[
    list[Path], typer.Argument(metavar="A B", help="Two or more checkpoints of one architecture.")
]
OutOption = Annotated[Path, typer.Option("--out", metavar="FILE", help="The merged network, packed as A is.")]
AlignOption = Annotated[bool, typer.Option("--align/--no-align", help="Reorder all networks to match A first.")]
MethodOption = Annotated[
    str, typer.Option("--method", metavar="|".join(METHODS), help="The mean of all, or the line (lerp) between two.")
]
WeightsOption = Annotated[
    str | None, typer.Option("--weights", metavar="1,1", help="For mean: a number a network.", show_default=False)
]
LamOption = Annotated[
    float | None,
    typer.Option("--lam", metavar="X", help="For lerp: 0 is A, 1 is B; 0.5 if left out.", show_default=False),
]
EvaluateOption = Annotated[bool, typer.Option("--evaluate/--no-evaluate", help="Measure all on the task's data.")]


def merge(
    models: ModelsArgument,
    out: OutOption,
    task: TaskOption = None,
    data_root: DataRootOption = None,
    symmetry: SymmetryOption = None,
    matching: MatchingsOption = None,
    aligning: AlignOption = True,
    method: MethodOption = MEAN,
    weights: WeightsOption = None,
    lam: LamOption = None,
    batchnorm: BatchNormOption = None,
    samples: SamplesOption = SAMPLES,
    split: SplitOption = "test",
    evaluating: EvaluateOption = True,
    max_sweeps: SweepsOption = SWEEPS,
    proving: VerifyOption = True,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Align networks to the first and merge them into one.

    With a task that has data, a table shows what each step was worth: the networks by themselves, and their average
    with and without alignment and with and without re-estimated BatchNorm.

    \b
    Examples:
      onebasin merge a.safetensors b.safetensors --task my_task.py --out merged.safetensors
      onebasin merge a.pt b.pt --symmetry symmetry.json --method lerp --lam 0.3 --out merged.pt
      onebasin merge a.pt b.pt c.pt --no-align --weights 2,1,1 --out soup.pt

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json, threads=threads, task=task) as screen:
        recipe = Recipe(method, _numbers(method, weights, lam, len(models)), batchnorm, samples)
        check_split(split, "--split")
        check_target("--out", out, [*models, *(matching or [])], checkpoint=True)
        check_inputs(models)
        source = Source(task, data_root, symmetry, proving, seed=seed)
        aligned = align(screen, models, source, matching or (), max_sweeps=max_sweeps) if aligning else None
        _combine(screen, Merger(screen, models, source, aligned, recipe), out, split if evaluating else None)


@dataclass(frozen=True)
class Recipe:
    """How networks in the same coordinates become one.

    Attributes:
        method: of `onebasin.merge`.
        weights: of `onebasin.merge`.
        batchnorm: what was asked for; None does what the task allows.
        samples: to re-estimate from.
    """

    method: str
    weights: list[float] | None
    batchnorm: BatchNorm | None
    samples: int


def _numbers(method: str, weights: str | None, lam: float | None, count: int) -> list[float] | None:
    """The numbers of `--weights` or `--lam`.

    Raises:
        OptionError: the method is unknown, the option does not belong to it or is not numbers, or there are fewer than
            two networks.
    """
    if count < 2:  # noqa: PLR2004 - a merger needs two
        raise OptionError("A B", expected="two networks or more", found=str(count), remedy="name another")
    if method not in METHODS:
        raise OptionError("--method", expected=" or ".join(METHODS), found=repr(method), remedy="choose one of them")
    for option, value, owner in (("--lam", lam, LERP), ("--weights", weights, MEAN)):
        if value is not None and method != owner:
            raise OptionError(
                option, expected=f"--method {owner}", found=f"--method {method}", remedy="leave one of them out"
            )
    if lam is not None:
        return [lam]
    try:
        return None if weights is None else [float(text) for text in weights.split(",")]
    except ValueError as error:
        raise OptionError(
            "--weights", expected="numbers such as 1,1", found=repr(weights), remedy="correct them"
        ) from error


@dataclass(frozen=True)
class Merger:
    """The networks to merge, and how.

    Attributes:
        screen: shows progress and notes.
        models: the checkpoints.
        source: of task and symmetry.
        aligned: all but the first in the coordinates of the first; None where they stay as they are.
        recipe: how to combine them.
    """

    screen: Screen
    models: list[Path]
    source: Source
    aligned: Aligned | None
    recipe: Recipe

    def mean(self, *, aligned: bool) -> dict[str, Tensor]:
        """The networks combined, in the coordinates of the first or as they are."""
        others = self.aligned.params if aligned and self.aligned else map(str, self.models[1:])
        return onebasin.merge([str(self.models[0]), *others], self.recipe.method, self.recipe.weights)

    def repairs(self, task: Task | None) -> bool:
        """Whether BatchNorm's statistics are to be re-estimated; a note says where they cannot be.

        Raises:
            OptionError: it was asked for and there is no task.
        """
        asked = self.recipe.batchnorm
        if asked is BatchNorm.REESTIMATE:
            self.source.require_task("--batchnorm reestimate")
        if task is None:
            if self.has_batchnorm and asked is None:
                self.screen.note("BatchNorm's statistics are averages of the parents'; pass --task to re-estimate them")
            return False
        if asked is BatchNorm.KEEP or not batchnorm_layers(task.build_model()):
            return False
        return has_data(self.screen, task, self.source, "train", "BatchNorm was not re-estimated")

    @cached_property
    def has_batchnorm(self) -> bool:
        """Whether the networks have running statistics, by the names of their tensors."""
        with open_checkpoint(self.models[0]) as first:
            return any(name.endswith("running_mean") for name in first)

    def about(self, used: int) -> dict[str, object]:
        """How the merged network came about: no times, no folders, so that the same seed gives the same bytes."""
        return {
            "parents": [path.name for path in self.models],
            "method": self.recipe.method,
            "weights": self.recipe.weights,
            "aligned": self.aligned is not None,
            "matchings": [matching_to_json(found) for found in self.aligned.matchings] if self.aligned else [],
            "batchnorm": f"re-estimated on {used} samples" if used else "kept" if self.has_batchnorm else None,
            "onebasin": versions()["onebasin"],
        }


def _combine(screen: Screen, merger: Merger, out: Path, split: str | None) -> None:
    """Merge, repair, measure, write and show, in this order: whatever fails, nothing has been written."""
    task = merger.source.loaded
    repairs = merger.repairs(task)
    with screen.during("merging"):
        merged, used = merger.mean(aligned=True), 0
        if repairs and task is not None:
            merged, used = reestimated(task, merged, merger.recipe.samples)
    networks = _measure(merger, task, split, repairs=repairs) if task is not None and split is not None else {}
    about = merger.about(used)
    first = open_checkpoint(merger.models[0])
    screen.wrote(*save_checkpoint(merged, out, like=first, metadata={**first.metadata, "onebasin": json.dumps(about)}))
    screen.close()
    subject = merger.aligned.subject if merger.aligned else None
    if subject is not None:
        screen.line(subject.proof, "green" if subject.verification else "")
    if merger.has_batchnorm:
        screen.line(f"BatchNorm: {about['batchnorm']}")
    screen.table(network_table(f"Measured on {split}", networks))
    for path in screen.written:
        screen.line(f"written: {path}")
    proof = {"verification": subject.to_json() if subject is not None else None}
    screen.result(about | proof | {"split": split, "networks": networks_to_json(networks)})


def _measure(merger: Merger, task: Task, split: str, *, repairs: bool) -> dict[str, dict[str, float]]:
    """The networks by themselves and merged, with every control the task allows."""
    if not has_data(merger.screen, task, merger.source, split, "not evaluated"):
        return {}
    gauge = Gauge(merger.screen, task, split, merger.recipe.samples)
    models = [open_checkpoint(path) for path in merger.models]
    for position, model in enumerate(models):
        letter = ascii_lowercase[position] if position < len(ascii_lowercase) else str(position + 1)
        gauge.measure(f"{letter}: {merger.models[position].name}", model)
    gauge.measure_ensemble("ensemble of all", models)
    for aligned in (False, True) if merger.aligned else (False,):
        name = "merged, aligned" if aligned else "merged as they are"
        params = merger.mean(aligned=aligned)
        gauge.measure(name, params)
        if repairs:
            gauge.measure(f"{name}, BatchNorm re-estimated", params, reestimate=True)
    return gauge.networks
