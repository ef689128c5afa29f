"""`onebasin ensemble`: ensembles at equal cost, and what one network can have of what they gain."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from torch import nn

from onebasin import Evaluation
from onebasin.checkpoint import Source as Network
from onebasin.cli.alignment import Aligned, align
from onebasin.cli.features import ModelsArgument
from onebasin.cli.inputs import Source, check_folder, check_inputs, make_folder, seeded
from onebasin.cli.options import (
    SAMPLES,
    TASK,
    DataRootOption,
    JsonOption,
    MatchingsOption,
    PointStatisticsOption,
    SeedOption,
    SplitOption,
    SymmetryOption,
    ThreadsOption,
    VerifyOption,
)
from onebasin.cli.points import check_fit, evaluation_of
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.snapshots import Training, snapshots
from onebasin.connectivity import EnsembleTable, ensemble_table, snapshot_average
from onebasin.errors import OptionError
from onebasin.json_file import write_json
from onebasin.report import Table
from onebasin.report.table import loss_text
from onebasin.tasks import Task, predictor
from onebasin.tasks.protocol import check_split

JSON_FILE, SNAPSHOTS = "ensemble.json", "fge"

BudgetsOption = Annotated[
    str, typer.Option("--budgets", metavar="1,2,4", help="Numbers of networks that are run on every sample.")
]
AddOption = Annotated[
    list[str] | None,
    typer.Option(
        "--add",
        metavar="NAME=FILE,...",
        help="A further ensemble: its name and its networks. Repeat it for more.",
        show_default=False,
    ),
]
FgeOption = Annotated[
    int,
    typer.Option("--fge", metavar="N", min=0, help="Train on from A for N snapshots (FGE), and average them (SWA)."),
]
RatesOption = Annotated[
    tuple[float, float], typer.Option("--fge-rates", metavar="HIGH LOW", help="Learning rates of its cycles.")
]
PassesOption = Annotated[
    int, typer.Option("--fge-epochs", metavar="N", min=1, help="Passes over the training data in a cycle.")
]
CalibrationOption = Annotated[
    str,
    typer.Option(
        "--calibration",
        metavar="SPLIT",
        help="Temperatures, and BatchNorm's statistics, come from this split, which no network should know.",
    ),
]
HeldOutOption = Annotated[
    int, typer.Option("--samples", metavar="N", min=1, help="Samples of the calibration split to use.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="A folder for ensemble.json and snapshots.", show_default=False),
]


@with_search_options
def ensemble(
    models: ModelsArgument,
    task: Annotated[str, TASK],
    search: Search,
    data_root: DataRootOption = None,
    symmetry: SymmetryOption = None,
    matching: MatchingsOption = None,
    naive: Annotated[bool, typer.Option("--naive", help="Do not reorder networks to match A.")] = False,
    budgets: BudgetsOption = "1,2,4,8",
    add: AddOption = None,
    fge: FgeOption = 0,
    fge_rates: RatesOption = (0.05, 0.01),
    fge_epochs: PassesOption = 2,
    split: SplitOption = "test",
    calibration: CalibrationOption = "val",
    batchnorm: PointStatisticsOption = None,
    samples: HeldOutOption = SAMPLES,
    out: OutOption = None,
    proving: VerifyOption = True,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare ensembles of networks at equal cost.

    The networks themselves are always in the table: reordering units does not change what they predict. Beside them
    are points of the simplex between the reordered networks, which are single networks. Where it is interrupted,
    the same command goes on after the last snapshot in DIR.

    \b
    Examples:
      onebasin ensemble a.safetensors b.safetensors c.safetensors --task my_task.py
      onebasin ensemble a.pt b.pt --task cifar10 --data-root data --fge 8 --add "star=star.pt" --out ensembles

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json, threads=threads, task=task) as screen:
        check_split(split, "--split")
        check_split(calibration, "--calibration")
        check_folder("--out", out)
        sizes, given = read_budgets(budgets), read_contenders(add or ())
        source = Source(task, data_root, symmetry, proving, seed=seed)
        loaded = source.require_task("onebasin ensemble")
        evaluation = evaluation_of(
            loaded, split, batchnorm, samples, temperature=predictor(loaded) is not None, calibration=calibration
        )
        check_fit(loaded, models)
        check_inputs([*models, *(path for paths in given.values() for path in paths)])
        contenders: dict[str, Sequence[Network]] = {n: [str(path) for path in paths] for n, paths in given.items()}
        if fge:
            training = Training(fge, fge_epochs, *fge_rates, batch_size=100, seed=seed)
            contenders |= _trained(screen, loaded, models[0], training, evaluation, out)
        found = None if naive else align(screen, models, source, matching or (), search=search)
        table = _compare(screen, loaded, models, found, evaluation, sizes, contenders, seed)
        names = [path.name for path in models]
        about = {"task": loaded.name, "split": split, "calibration": calibration, "networks": names, "seed": seed}
        _finish(screen, table, about, found, out)


def _trained(
    screen: Screen, task: Task, start: Path, training: Training, evaluation: Evaluation, out: Path | None
) -> dict[str, Sequence[Network]]:
    """Snapshots of training from a network, and their average."""
    made = snapshots(screen, task, start, training, None if out is None else make_folder(out) / SNAPSHOTS)
    return {"FGE": made, "SWA": [snapshot_average(_model(task), made, evaluation)]}


def _compare(
    screen: Screen,
    task: Task,
    models: Sequence[Path],
    found: Aligned | None,
    evaluation: Evaluation,
    budgets: Sequence[int],
    contenders: dict[str, Sequence[Network]],
    seed: int,
) -> EnsembleTable:
    """The table, of the networks as they are where none were aligned."""
    raw: list[Network] = [str(path) for path in models]
    return ensemble_table(
        _model(task),
        [raw[0], *found.params] if found else raw,
        evaluation,
        budgets=budgets,
        contenders=contenders,
        unaligned=raw if found else None,
        seed=seed,
        progress=screen.progress,
    )


def _model(task: Task) -> nn.Module:
    """A model that draws the same every time, if it draws anything beside its tensors."""
    with seeded(0):
        return task.build_model()


def read_budgets(text: str) -> list[int]:
    """Numbers of forwards out of an option.

    Raises:
        OptionError: they are not whole numbers from 1.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise OptionError(
            "--budgets", expected="whole numbers from 1, with commas", found=repr(text), remedy="try 1,2,4"
        )
    return [int(part) for part in parts]


def read_contenders(texts: Sequence[str]) -> dict[str, list[Path]]:
    """Names and files out of an option.

    Raises:
        OptionError: there is no name or no file.
    """
    found = {}
    for text in texts:
        name, _, files = text.partition("=")
        if not name or not all(files.split(",")):
            raise OptionError("--add", expected="NAME=FILE,FILE", found=repr(text), remedy="name a file after the =")
        found[name] = [Path(file) for file in files.split(",")]
    return found


def _finish(
    screen: Screen, table: EnsembleTable, about: dict[str, object], found: Aligned | None, out: Path | None
) -> None:
    """Write and show what was measured."""
    result = table.to_json() | about
    if out is not None:
        write_json(make_folder(out) / JSON_FILE, result)
        screen.wrote(out / JSON_FILE)
    screen.close()
    screen.result(result | {"verification": found.subject.to_json() if found else None})
    if found:
        screen.line(found.subject.proof, "green" if found.subject.verification else "")
    for sentence in table.statement():
        screen.line(sentence, "bold")
    screen.line("F: networks run on every sample; differ: % of samples on which two of them disagree")
    screen.line(f"T: at the temperature fitted on {about['calibration']}; DEE: so many of the networks do the same")
    screen.line()
    screen.table(_table(table, f"{about['task']}, {table.count:,} samples of {about['split']}"))
    for file in screen.written:
        screen.line(f"written: {file}")


def _table(table: EnsembleTable, title: str) -> Table:
    heads = ("F", "error %", "NLL", "ECE", "Brier", "NLL, T", "differ", "DEE")
    vertices = max(row.forwards for row in table.rows if row.name == "vertices")
    rows = tuple(
        (
            row.name,
            str(row.forwards),
            f"{100 * row.error:.2f}",
            loss_text(row.nll),
            loss_text(row.ece),
            loss_text(row.brier),
            "" if row.calibrated_nll is None else loss_text(row.calibrated_nll),
            f"{100 * row.disagreement:.2f}" if row.forwards > 1 else "",
            _equivalent(row.equivalent, vertices),
        )
        for row in table.rows
    )
    return Table(title, ("ensemble", *heads), rows, frozenset(heads))


def _equivalent(value: float, most: int) -> str:
    """A number of networks, as far as the vertices tell."""
    if value == 0:
        return "< 1"
    return f"> {most}" if value > most else f"{value:.1f}"
