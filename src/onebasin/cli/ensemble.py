"""`onebasin ensemble`: ensembles at equal cost, and what one network can have of what they gain."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from onebasin.checkpoint import Source as Network
from onebasin.cli.alignment import Aligned
from onebasin.cli.contenders import Trainer, Wanted, with_wanted
from onebasin.cli.inputs import check_inputs
from onebasin.cli.kept import fingerprint
from onebasin.cli.options import MatchingsOption
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.setting import Setting, Training, with_setting, with_training
from onebasin.cli.study import Study
from onebasin.connectivity import EnsembleTable, ensemble_table
from onebasin.errors import OptionError
from onebasin.json_file import write_json
from onebasin.report import ALIGNED, NAIVE, Table
from onebasin.report.table import loss_text
from onebasin.tasks import predictor
from onebasin.tasks.protocol import check_split

JSON_FILE = "ensemble.json"

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
CalibrationOption = Annotated[
    str,
    typer.Option(
        "--calibration",
        metavar="SPLIT",
        help="Temperatures, and BatchNorm's statistics, come from this split, which no network should know.",
    ),
]


@with_setting
@with_search_options
@with_wanted
@with_training
def ensemble(
    models: Annotated[list[Path], typer.Argument(metavar="A B", help="Checkpoints of one architecture, two or more.")],
    setting: Setting,
    search: Search,
    further: Wanted,
    training: Training,
    matching: MatchingsOption = None,
    naive: Annotated[bool, typer.Option("--naive", help="Do not reorder networks to match A.")] = False,
    budgets: BudgetsOption = "1,2,4,8",
    add: AddOption = None,
    calibration: CalibrationOption = "val",
) -> None:
    """Compare ensembles of networks at equal cost.

    The networks themselves are always in the table: reordering units does not change what they predict. Beside them
    are points of the simplex between the reordered networks, which are single networks. What is trained
    beside them is kept in DIR, where the same command goes on.

    \b
    Examples:
      onebasin ensemble a.safetensors b.safetensors c.safetensors --task my_task.py
      onebasin ensemble a.pt b.pt --task cifar10 --data-root data --fge 8 --espro --star --add "mine=c.pt" --out table

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=setting.as_json, threads=setting.threads, task=setting.task) as screen:
        check_split(calibration, "--calibration")
        sizes, given = read_budgets(budgets), read_contenders(add or ())
        predicts = predictor(setting.source.require_task("onebasin ensemble")) is not None
        study = Study.open(models, setting, temperature=predicts, calibration=calibration)
        check_inputs(path for paths in given.values() for path in paths)
        added = {name: [fingerprint(path) for path in paths] for name, paths in given.items()}
        files = [fingerprint(file) for file in matching or ()]
        shape = {"budgets": budgets, "naive": naive, "calibration": calibration, "add": added, "matchings": files}
        out = study.go_on("ensemble", search, training, further.cycles(), shape)
        contenders: dict[str, Sequence[Network]] = {n: [str(path) for path in paths] for n, paths in given.items()}
        wanted = NAIVE if naive else ALIGNED
        ways, found = study.networks(screen, search, [wanted], matching or ())
        contenders |= Trainer(screen, study, ways[wanted], training, max(sizes), out).make(further)
        table = ensemble_table(
            study.model,
            ways[wanted],
            study.evaluation,
            budgets=sizes,
            contenders=contenders,
            unaligned=study.sources if found else None,
            seed=setting.seed,
            progress=screen.progress,
        )
        about = {
            "task": study.task.name,
            "split": setting.split,
            "calibration": calibration,
            "networks": study.names,
            "seed": setting.seed,
        }
        _finish(screen, table, about, found, out)


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
        write_json(out / JSON_FILE, result)
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
