"""`onebasin spawn`: from when on in training two children of one network stay connected."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from onebasin.cli.drawing import draw
from onebasin.cli.inputs import Source, seeded
from onebasin.cli.kept import open_folder, unit
from onebasin.cli.options import (
    SAMPLES,
    TASK,
    DataRootOption,
    JsonOption,
    PointStatisticsOption,
    SamplesOption,
    SeedOption,
    SplitOption,
    ThreadsOption,
)
from onebasin.cli.screen import Screen, session
from onebasin.cli.study import built, evaluation_of, shuffled
from onebasin.connectivity import Spawning, spawning_onset
from onebasin.errors import OptionError
from onebasin.modes import in_mode
from onebasin.report import Picture, Table
from onebasin.report.table import loss_text, points
from onebasin.tasks import Task
from onebasin.tasks.protocol import check_split

RESULT = "spawning.json"

AfterOption = Annotated[str, typer.Option("--after", metavar="K,K", help="Epochs after which the children part.")]


def spawn(
    task: Annotated[str, TASK],
    epochs: Annotated[int, typer.Option("--epochs", metavar="N", min=1, help="Of training in all.")] = 10,
    after: AfterOption = "0,1,2,4",
    rate: Annotated[float, typer.Option("--rate", metavar="X", help="The learning rate of Adam.")] = 1e-3,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", min=2, help="Samples a step.")] = 128,
    count: Annotated[int, typer.Option("--points", metavar="N", min=3, help="Points on every line.")] = 11,
    split: SplitOption = "test",
    batchnorm: PointStatisticsOption = None,
    samples: SamplesOption = SAMPLES,
    data_root: DataRootOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="A folder for what is found.", show_default=False)
    ] = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find from when on two children of a network stay connected.

    This is spawning, or instability analysis. The task's network is trained, and copied after some epochs; two copies
    are trained to the end with their samples in different orders. The onset is the first epoch whose children have an
    error barrier below 2 points.

    \b
    Examples:
      onebasin spawn --task digits --epochs 20 --after 0,1,2,5,10
      onebasin spawn --task cifar10 --data-root data --epochs 30 --out spawning

    Exit status: 0 done, 1 the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json, threads=threads, task=task) as screen:
        check_split(split, "--split")
        afters = _read(after)
        loaded = Source(task, data_root, None, proving=False, seed=seed).require_task("onebasin spawn")
        evaluation = evaluation_of(loaded, built(loaded), split, batchnorm, samples)
        settings: dict[str, object] = {"task": task, "epochs": epochs, "after": after, "rate": rate, "seed": seed}
        settings |= {"batch": batch_size, "points": count, "split": split, "batchnorm": evaluation.batchnorm}
        open_folder(out, settings)

        def find() -> Spawning:
            with seeded(seed):
                model = loaded.build_model()
            return spawning_onset(
                model,
                _trainer(loaded, rate, batch_size),
                evaluation,
                afters,
                epochs,
                seeds=(3 * seed + 1, 3 * seed + 2),
                parent=3 * seed,
                points=count,
                progress=screen.progress,
            )

        found = unit(screen, None if out is None else out / RESULT, Spawning, find)
        _finish(screen, found, f"{loaded.name}, {split} split: children of one network", settings, out)


def _read(after: str) -> list[int]:
    """Epochs out of an option.

    Raises:
        OptionError: they are no whole numbers.
    """
    parts = after.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise OptionError("--after", expected="epochs such as 0,1,2", found=repr(after), remedy="correct it")
    return [int(part) for part in parts]


def _finish(screen: Screen, found: Spawning, title: str, settings: dict[str, object], out: Path | None) -> None:
    """Write and show what was found."""
    table = _table(found, title)
    shown = {f"parted after {k}": profile.to_json() for k, profile in found.profiles.items()}
    draw(screen, out, title, {"spawning": Picture("profiles", {"profiles": shown}, title)}, [table], settings)
    screen.close()
    screen.result(found.to_json() | {"settings": settings})
    if found.counted and found.onset is None:
        screen.line("No children stay connected.", "bold")
    elif found.counted:
        screen.line(f"Children stay connected from epoch {found.onset} on.", "bold")
    screen.table(table)
    for file in screen.written:
        screen.line(f"written: {file}")


def _trainer(task: Task, rate: float, size: int) -> Callable[[nn.Module, range, int], None]:
    """Trains a network in place for some epochs; the order of samples depends on the seed and the epoch."""

    def train(model: nn.Module, epochs: range, seed: int) -> None:
        optimizer = torch.optim.Adam(model.parameters(), rate)
        with in_mode(model, train=True), torch.enable_grad():
            for epoch in epochs:
                for batch in shuffled(task, size, 1_000_003 * seed + epoch)():
                    sums = task.evaluate(model, batch)
                    optimizer.zero_grad()
                    (sums["loss"] / sums["count"]).backward()
                    optimizer.step()

    return train


def _table(found: Spawning, title: str) -> Table:
    """A row an epoch."""
    rows = []
    for after, profile in found.profiles.items():
        error = points(profile.error_barrier("mean")) if profile.error else "-"
        rows.append((str(after), loss_text(profile.loss_barrier("mean")), error))
    columns = ("parted after", "loss barrier", "error barrier, points")
    return Table(title, columns, tuple(rows), frozenset(columns))
