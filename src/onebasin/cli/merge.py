"""`onebasin merge`: one network out of several."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

import onebasin
from onebasin import Matching, Symmetry, save_checkpoint
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.alignment import Aligned, align, check_matchings
from onebasin.cli.evaluation import Gauge, accuracy_to_json, has_data, reestimated
from onebasin.cli.inputs import Subject, check_inputs, check_target, find_subject, load_symmetry
from onebasin.cli.match import matching_to_json
from onebasin.cli.options import (
    SAMPLES,
    SWEEPS,
    BatchNorm,
    DataRootOption,
    JsonOption,
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
from onebasin.merging.batchnorm import batchnorm_layers
from onebasin.report import network_table
from onebasin.tasks import Task


class Method(StrEnum):
    """How tensors are combined."""

    MEAN = "mean"
    LERP = "lerp"


@dataclass(frozen=True)
class Recipe:
    """How networks in the same coordinates become one.

    Attributes:
        method: of `onebasin.merge`.
        weights: of `onebasin.merge`.
        reestimate: whether to re-estimate BatchNorm's statistics.
        samples: from how many training samples.
    """

    method: str
    weights: list[float] | None
    reestimate: bool
    samples: int


def merge(
    models: Annotated[list[Path], typer.Argument(metavar="A B [C ...]", help="Checkpoints of one architecture.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the merged network goes, packed as A is.")],
    task: TaskOption = None,
    data_root: DataRootOption = None,
    symmetry: SymmetryOption = None,
    matching: Annotated[
        list[Path] | None,
        typer.Option("--matching", metavar="FILE", help="A saved matching, one for every network but A."),
    ] = None,
    aligning: Annotated[bool, typer.Option("--align/--no-align", help="Reorder all networks to match A.")] = True,
    method: Annotated[Method, typer.Option("--method", help="mean, or lerp between two.")] = Method.MEAN,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="1,1", help="For mean: a number a network.", show_default=False)
    ] = None,
    lam: Annotated[
        float | None, typer.Option("--lam", help="For lerp: 0 is A, 1 is B. 0.5 if left out.", show_default=False)
    ] = None,
    batchnorm: Annotated[
        BatchNorm | None,
        typer.Option("--batchnorm", help="reestimate BatchNorm on training data, where there is any, or keep."),
    ] = None,
    samples: SamplesOption = SAMPLES,
    split: SplitOption = "test",
    evaluating: Annotated[bool, typer.Option("--evaluate/--no-evaluate", help="Measure all on the task's data.")] = True,
    max_sweeps: SweepsOption = SWEEPS,
    proving: VerifyOption = True,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Align networks to the first and merge them into one of the same architecture and size.

    With a task that has data, the table shows what each step was worth: the networks by themselves, and their average
    with and without alignment and with and without re-estimated BatchNorm.

    \b
    Examples:
      onebasin merge a.safetensors b.safetensors --task my_task.py --out merged.safetensors
      onebasin merge a.pt b.pt --symmetry symmetry.json --method lerp --lam 0.3 --out merged.pt
      onebasin merge a.pt b.pt c.pt --no-align --weights 2,1,1 --out soup.pt

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted, 2 bad input; nothing is written at 1 or 2.
    """  # fmt: skip
    with session(as_json=as_json, threads=threads, task=task) as screen:
        check_target("--out", out, models, checkpoint=True)
        numbers = _weights(method, weights, lam, len(models))
        given = [Matching.load(path) for path in matching or ()] if aligning else []
        check_matchings(given, models)
        check_inputs(models)
        subject = _subject(screen, task, data_root, symmetry, given, aligning=aligning, proving=proving, seed=seed)
        if not subject.holds:
            screen.result({"verification": subject.to_json()})
            return
        aligned = align(screen, models, subject, given, seed=seed, max_sweeps=max_sweeps) if aligning else None
        data = has_data(screen, subject.task, split, data_root) if subject.task else False
        repair = _repairs(screen, subject, batchnorm, models[0], data=data)
        recipe = Recipe(method.value, numbers, repair, samples)
        merged, used = _merged(models, aligned, subject.task, recipe)
        gauge = Gauge(screen, subject.task, split, samples) if subject.task and data and evaluating else None
        if gauge is not None:
            _measure(gauge, models, aligned, recipe)
        about = _about(models, aligned, recipe, used)
        first = open_checkpoint(models[0])
        metadata = {**first.metadata, "onebasin": json.dumps(about)}
        screen.wrote(*save_checkpoint(merged, out, like=first, metadata=metadata))
        screen.close()
        networks = gauge.networks if gauge is not None else {}
        _show(screen, subject, about, networks, split, aligned=aligned is not None)
        screen.result(
            about | {"verification": subject.to_json(), "split": split, "networks": accuracy_to_json(networks)}
        )


def _weights(method: Method, weights: str | None, lam: float | None, count: int) -> list[float] | None:
    """The numbers of `--weights` or `--lam`.

    Raises:
        OptionError: the option does not belong to the method, is not numbers, or there are fewer than two networks.
    """
    least = 2
    if count < least:
        raise OptionError("A B [C ...]", expected="two networks or more", found=str(count), remedy="name another")
    stray, owner = ("--lam", Method.LERP) if lam is not None else ("--weights", Method.MEAN)
    if (lam is not None or weights is not None) and method is not owner or (lam is not None and weights is not None):
        raise OptionError(
            stray, expected=f"--method {owner.value}, by itself", found=f"--method {method.value}", remedy="leave it out"
        )
    if lam is not None:
        return [lam]
    if weights is None:
        return None
    try:
        return [float(text) for text in weights.split(",")]
    except ValueError as error:
        raise OptionError(
            "--weights", expected="numbers such as 1,1", found=repr(weights), remedy="correct them"
        ) from error
