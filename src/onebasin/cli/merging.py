"""Carry out a recipe: align, merge, correct, measure and write."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from torch import Tensor

from onebasin import save_checkpoint
from onebasin.checkpoint import Checkpoint, open_checkpoint
from onebasin.checkpoint.folder import copy_companions
from onebasin.cli.alignment import Aligned, align
from onebasin.cli.correction import Correction
from onebasin.cli.evaluation import Gauge, has_data, networks_to_json
from onebasin.cli.inputs import Source, check_inputs, check_target, make_folder
from onebasin.cli.match import matching_to_json
from onebasin.cli.method_options import ALL
from onebasin.cli.recipe import DTYPES, SUFFIX, Recipe, bytes_of
from onebasin.cli.screen import Screen
from onebasin.cli.versions import versions
from onebasin.correction import ClassAccuracies
from onebasin.errors import OptionError
from onebasin.merging.data import NETWORK_METHODS
from onebasin.merging.network import Moved, Plan
from onebasin.merging.networks import Networks
from onebasin.merging.stream import write_merged
from onebasin.report import class_table, network_table
from onebasin.tasks import Task
from onebasin.tasks.protocol import check_split

LABELS = {"batchnorm": "BatchNorm re-estimated"}
"""What the table calls a correction, where its name does not say it."""
WEIGHTS = "model.safetensors"
"""The name of the weights in a folder."""
MOST_THREADS = 8


def carry_out(screen: Screen, recipe: Recipe, threads: int | None) -> None:
    """Merge networks as a recipe says, and show and write what came out.

    Args:
        screen: shows progress, notes and the result.
        recipe: what to do.
        threads: how many tensors are merged at a time; None for as many as there are processors, up to 8.

    Raises:
        OneBasinError: something cannot be used; nothing has been written then.
        KeyboardInterrupt: the work was interrupted; the same recipe goes on with it.
    """
    models, align_as = list(recipe.parents), recipe.align
    _check(recipe)
    if recipe.split is not None:
        check_split(recipe.split, "--split")
    output = _Output.of(recipe)
    source = Source(
        recipe.task,
        recipe.data_root,
        align_as.symmetry if align_as else None,
        align_as.verify if align_as else True,
        seed=recipe.seed,
    )
    if source.task is not None or (align_as is not None and not align_as.matching):
        check_inputs(models)  # before discovery, proof and search, which take longer
    aligned = None
    if align_as is not None:
        aligned = align(screen, models, source, align_as.matching, search=align_as.search)
    _combine(Merger(screen, recipe, source, aligned), output, threads or min(MOST_THREADS, os.cpu_count() or 1))


def _check(recipe: Recipe) -> None:
    """Find out before long work whether the method takes these networks and parameters."""
    count, method = len(recipe.parents), ALL.get(recipe.method)
    if count < (2 if recipe.base is None else 1):
        raise OptionError("A B", expected="two networks or more", found=str(count), remedy="name another")
    if method is None:
        raise OptionError("--method", expected=" or ".join(ALL), found=repr(recipe.method), remedy="choose one of them")
    method.check(count, has_base=recipe.base is not None)
    method.settings(recipe.parameters, count)
    if recipe.dtype is not None and recipe.dtype not in DTYPES:
        raise OptionError("dtype", expected=" or ".join(DTYPES), found=repr(recipe.dtype), remedy="choose one of them")
    Correction.from_data(recipe.correction)


@dataclass(frozen=True)
class _Output:
    """Where the result goes.

    Attributes:
        path: the file of the weights, or that which its shards are named after.
        recipe: the file of the recipe.
        folder: whether the output is a folder, which gets settings and tokenizer too.
    """

    path: Path
    recipe: Path
    folder: bool

    @classmethod
    def of(cls, recipe: Recipe) -> "_Output":
        """Find out before long work whether the output can be written.

        Raises:
            OptionError: there is none, or it is one of the inputs.
            CheckpointError: its folder is missing, or the suffix is unknown.
        """
        out, align_as = recipe.output, recipe.align
        if out is None:
            raise OptionError("--out", expected="a file or folder to write", found="none", remedy="pass --out")
        bytes_of(recipe.max_shard_size)
        base = [recipe.base] if recipe.base is not None else []
        inputs = [*recipe.parents, *base, *(align_as.matching if align_as else ())]
        if not (out.is_dir() or out.suffix == ""):
            check_target("--out", out, inputs, checkpoint=True)
            return cls(out, out.with_name(out.name + SUFFIX), folder=False)
        if any(out.resolve() in {path.resolve(), path.resolve().parent} for path in inputs):
            raise OptionError(
                f"--out {out}", expected="another folder than the inputs'", found="one of them", remedy="name a new one"
            )
        check_target("--out", out / WEIGHTS if out.is_dir() else out.with_name(WEIGHTS), inputs)
        return cls(out / WEIGHTS, out / f"onebasin{SUFFIX}", folder=True)


@dataclass(frozen=True)
class Merger:
    """The networks to merge, and how.

    Attributes:
        screen: shows progress and notes.
        recipe: how to combine them.
        source: of task and symmetry.
        aligned: all but the first in the coordinates of the first; None where they stay as they are.
    """

    screen: Screen
    recipe: Recipe
    source: Source
    aligned: Aligned | None

    @cached_property
    def first(self) -> Checkpoint:
        """The network that gives names, order, packaging and the folder of settings."""
        return open_checkpoint(self.recipe.parents[0])

    @property
    def dtype(self) -> torch.dtype | None:
        """Of the result, where it is not that of the first network."""
        name = self.recipe.dtype
        return None if name is None else {str(d): d for d in _DTYPES}[f"torch.{name}"]

    def networks(self, *, aligned: bool) -> list[Mapping[str, Tensor]]:
        """The networks, those but the first in its coordinates or as they are."""
        paths = self.recipe.parents[1:]
        others: list[Mapping[str, Tensor]] = [open_checkpoint(path) for path in paths]
        if aligned and self.aligned is not None:
            rows = zip(others, self.aligned.matchings, paths, strict=True)
            others = [Moved(params, matching, str(path)) for params, matching, path in rows]
        return [self.first, *others]

    def plan(self, *, aligned: bool = True) -> Plan:
        """How the networks are merged tensor by tensor."""
        base = self.recipe.base
        labels = [str(path) for path in (*self.recipe.parents, *([] if base is None else [base]))]
        return Plan.make(
            self.networks(aligned=aligned),
            self.recipe.method,
            self.parameters,
            base=None if base is None else open_checkpoint(base),
            labels=labels,
            dtype=self.dtype,
            infinity=False,
        )

    def params(self, *, aligned: bool = True) -> dict[str, Tensor]:
        """The merged tensors, in memory."""
        if self.recipe.method not in NETWORK_METHODS:
            return self.plan(aligned=aligned).gather()
        method = NETWORK_METHODS[self.recipe.method]
        networks = Networks(
            self.networks(aligned=aligned),
            [str(path) for path in self.recipe.parents],
            self.source.require_task(f"--method {method.name}"),
            self.correction.samples,
        )
        merged = method.run(networks, **method.settings(self.parameters, len(networks.models)).at("", 0.0))
        wide = [name for name, tensor in merged.items() if self.dtype is not None and tensor.is_floating_point()]
        return merged | {name: merged[name].to(self.dtype) for name in wide}

    @property
    def parameters(self) -> dict[str, object]:
        """Of the method; one that draws has the seed of the recipe, unless it has one of its own."""
        draws = "seed" in ALL[self.recipe.method].parameters
        return ({"seed": self.recipe.seed} if draws else {}) | dict(self.recipe.parameters)

    @cached_property
    def correction(self) -> Correction:
        """What is done after averaging."""
        return Correction.from_data(self.recipe.correction)

    @cached_property
    def has_batchnorm(self) -> bool:
        """Whether the networks have running statistics, by the names of their tensors."""
        return any(name.endswith("running_mean") for name in self.first)

    @cached_property
    def corrector(self) -> str | None:
        """The method that corrects what was merged; None where nothing does."""
        return self.correction.chosen(self.screen, self.source, self.source.loaded, has_batchnorm=self.has_batchnorm)

    def corrected(self, merged: Mapping[str, Tensor], *, aligned: bool = True) -> "Corrected":
        """Merged tensors after the correction, where there is one."""
        if self.corrector is None:
            return Corrected(merged)
        weights = merging_weights(self.recipe.method, self.parameters, len(self.recipe.parents))
        parents = self.networks(aligned=aligned)
        with self.screen.during(f"correcting: {self.corrector}"):
            return Corrected(*self.correction.apply(self.corrector, self.screen, self.source, merged, parents, weights))

    def about(self, corrected: "Corrected") -> dict[str, object]:
        """How the merged network came about: no times, no folders, so that the same seed gives the same bytes."""
        return {
            "parents": [path.name for path in self.recipe.parents],
            "base": None if self.recipe.base is None else self.recipe.base.name,
            "method": self.recipe.method,
            "parameters": self.parameters,
            "aligned": self.aligned is not None,
            "matchings": [matching_to_json(found) for found in self.aligned.matchings] if self.aligned else [],
            "correction": {"method": corrected.method, "notes": corrected.notes} if corrected.method else None,
            "onebasin": versions()["onebasin"],
        }


@dataclass(frozen=True)
class Corrected:
    """A network after merging.

    Attributes:
        params: its tensors; None where it is merged tensor by tensor while it is written.
        method: what corrected it; empty where nothing did.
        notes: what the correction says.
    """

    params: Mapping[str, Tensor] | None
    method: str = ""
    notes: tuple[str, ...] = ()


def merging_weights(method: str, parameters: Mapping[str, object], count: int) -> list[float] | None:
    """The shares that the parents have in a merger, for methods that have any: towards them a correction aims."""
    if method in {"lerp", "slerp"}:
        lam = parameters.get("lam", 0.5)
        return [1 - lam, lam] if isinstance(lam, float | int) else None
    weights = parameters.get("weights")
    if (
        not isinstance(weights, list | tuple)
        or len(weights) != count
        or not all(isinstance(weight, float | int) and weight > 0 for weight in weights)
    ):
        return None
    return [float(weight) for weight in weights]


_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def _combine(merger: Merger, output: _Output, threads: int) -> None:
    """Merge, correct, measure, write and show, in this order: whatever fails, nothing has been written."""
    screen, split, task = merger.screen, merger.recipe.split, merger.source.loaded
    found = Corrected(None)
    if merger.corrector is not None or merger.recipe.method in NETWORK_METHODS:
        with screen.during("merging"):
            merged = merger.params()
        found = merger.corrected(merged)
    networks, classes = _measure(merger, task, split, found) if task and split is not None else ({}, None)
    about = merger.about(found)
    _write(merger, output, found.params, about, threads)
    screen.close()
    subject = merger.aligned.subject if merger.aligned else None
    if subject is not None:
        screen.line(subject.proof, "green" if subject.verification else "")
    if found.method:
        screen.line(f"corrected: {'; '.join((found.method, *found.notes[:1]))}")
    elif merger.has_batchnorm:
        screen.line("BatchNorm: statistics kept, averages of the parents'")
    screen.table(network_table(f"Measured on {split}", networks))
    if classes is not None:
        parents = list(networks)[: len(merger.recipe.parents)]
        screen.table(class_table(f"Accuracy class by class on {split}", classes, parents))
    for path in screen.written:
        screen.line(f"written: {path}")
    proof = {"verification": subject.to_json() if subject is not None else None}
    counted = {} if classes is None else {"classes": classes.to_json()}
    screen.result(about | proof | {"split": split, "networks": networks_to_json(networks)} | counted)


def _write(
    merger: Merger, output: _Output, merged: Mapping[str, Tensor] | None, about: Mapping[str, object], threads: int
) -> None:
    """Write the weights, tensor by tensor where they are not in memory, then what belongs to them."""
    screen, first = merger.screen, merger.first
    metadata = {**first.metadata, "onebasin": json.dumps(about)}
    shard_bytes = bytes_of(merger.recipe.max_shard_size)
    packed: dict[str, Any] = {"like": first, "metadata": metadata, "shard_bytes": shard_bytes}
    with _new_folder(output.path.parent) if output.folder else nullcontext():
        if merged is not None:
            screen.wrote(*save_checkpoint(merged, output.path, **packed))
        else:
            plan, report = merger.plan(), screen.progress
            screen.resumes = "what is finished is kept, the same command goes on with it"
            screen.wrote(*write_merged(plan, output.path, **packed, threads=threads, progress=report))
    beside = first.path.parent
    if output.folder and (beside / "config.json").exists():
        screen.wrote(*copy_companions(beside, output.path.parent, merger.dtype))
    merger.recipe.save(output.recipe)
    screen.wrote(output.recipe)


@contextmanager
def _new_folder(path: Path) -> Iterator[None]:
    """Make a folder for a block; it goes again if nothing came into it."""
    make_folder(path)
    try:
        yield
    finally:
        if not any(path.iterdir()):
            path.rmdir()


def _measure(
    merger: Merger, task: Task, split: str, result: Corrected
) -> tuple[dict[str, dict[str, float]], ClassAccuracies | None]:
    """The networks by themselves and merged, with every control the task allows."""
    if not has_data(merger.screen, task, merger.source, split, "not evaluated"):
        return {}, None
    gauge = Gauge(merger.screen, task, split, per_class=merger.recipe.per_class)
    models = [open_checkpoint(path) for path in merger.recipe.parents]
    for position, model in enumerate(models):
        letter = ascii_lowercase[position] if position < len(ascii_lowercase) else str(position + 1)
        gauge.measure(f"{letter}: {merger.recipe.parents[position].name}", model)
    gauge.measure_ensemble("ensemble of all", models)
    for aligned in (False, True) if merger.aligned else (False,):
        name = "merged, aligned" if aligned else "merged as they are"
        params = merger.params(aligned=aligned)
        gauge.measure(name, params)
        if merger.corrector is not None:
            last = aligned or not merger.aligned
            found = result if last else merger.corrected(params, aligned=False)
            if found.params is not None:
                gauge.measure(f"{name}, {LABELS.get(found.method, found.method)}", found.params)
    return gauge.networks, gauge.classes
