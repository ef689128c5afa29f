"""`onebasin reproduce`: list and run the claims of the literature that the repository repeats."""

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from onebasin.cli.options import JsonOption
from onebasin.cli.screen import Screen, session
from onebasin.errors import CheckpointError, OptionError
from onebasin.files import write_text
from onebasin.report.results import results_page
from onebasin.report.table import Table

NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="CLAIM", help="Which to run; all of them with --all; none lists them.")
]
FolderOption = Annotated[
    Path, typer.Option("--folder", metavar="DIR", help="The folder of the scripts, in a checkout of the repository.")
]
RootOption = Annotated[
    Path | None,
    typer.Option("--data-root", metavar="DIR", help="The folder that holds the data sets.", show_default=False),
]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of networks, cells and results.")]
PageOption = Annotated[
    Path | None,
    typer.Option("--page", metavar="FILE", help="Write all results there are as a page.", show_default=False),
]


@dataclass(frozen=True)
class Script:
    """A claim's script.

    Attributes:
        path: of the script.
        title: the claim in a few words.
        source: paper and table or figure.
        minutes: with --quick on two cores, with --full on one GPU.
    """

    path: Path
    title: str
    source: str
    minutes: tuple[float, float]


def reproduce(
    names: NamesArgument = None,
    folder: FolderOption = Path("reproduce"),
    data_root: RootOption = None,
    out: OutOption = Path("reproduced"),
    everything: Annotated[bool, typer.Option("--all", help="Run every claim.")] = False,
    full: Annotated[bool, typer.Option("--full", help="The papers' own settings, on a GPU; else quick ones.")] = False,
    page: PageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Repeat claims of the literature.

    Every claim prints its table beside the published figures and writes it as JSON with a chart. Interrupted, the same
    command goes on: what was trained and measured is kept in --out.

    \b
    Examples:
      onebasin reproduce
      onebasin reproduce merge_many repair_tables --data-root data
      onebasin reproduce --all --data-root data --page docs/results.md

    Exit status: 0 done, 1 a claim failed or the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json) as screen:
        scripts = find(folder)
        unknown = [name for name in names or () if name not in scripts]
        if unknown:
            raise OptionError(unknown[0], expected=f"one of {', '.join(scripts)}", found="another", remedy="choose one")
        chosen = list(scripts) if everything else names or []
        mode = "full" if full else "quick"
        for number, name in enumerate(chosen, start=1):
            screen.line(f"{number} of {len(chosen)}: {name}", "bold")
            screen.resumes = "the same command goes on with what is finished"
            options = [f"--{mode}", "--out", str(out), *(["--data-root", str(data_root)] if data_root else [])]
            # What a script prints goes where ours goes; with --json that is for the result alone.
            done = subprocess.run(  # noqa: S603 - scripts of the repository
                [sys.executable, str(scripts[name].path), *options], check=False, stdout=sys.stderr if as_json else None
            )
            if done.returncode:
                screen.refuse(f"{name}: failed")
        found = {name: read(out / mode / f"{name}.json") for name in scripts if (out / mode / f"{name}.json").exists()}
        screen.result({"claims": list(scripts), "results": found})
        if not chosen:
            show(screen, scripts, found, mode)
        if page is not None:
            titles = {name: (script.title, script.source) for name, script in scripts.items()}
            write_text(page, results_page(titles, found, mode))
            screen.line(f"written: {page}")


def show(screen: Screen, scripts: dict[str, Script], found: dict[str, object], mode: str) -> None:
    """List the claims."""
    rows = [
        (name, script.title, f"{script.minutes[0]:g} / {script.minutes[1]:g}", "yes" if name in found else "")
        for name, script in scripts.items()
    ]
    columns = ("claim", "", "minutes, quick / full", f"there ({mode})")
    screen.table(Table("Claims", columns, tuple(rows), frozenset({columns[2]})))


def find(folder: Path) -> dict[str, Script]:
    """The scripts of a folder that state a claim, by name; they are not run.

    Raises:
        OptionError: if there are none.
    """
    scripts: dict[str, Script] = {}
    for path in sorted(folder.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match node:
                case ast.Assign(targets=[ast.Name(id="CLAIM")], value=ast.Call(args=arguments)):
                    name, title, source, _, _, minutes, *_ = map(ast.literal_eval, arguments)
                    scripts[name] = Script(path, title, source, minutes)
    if not scripts:
        raise OptionError(
            "--folder",
            expected="the folder `reproduce` of a checkout of the repository",
            found=f"no claims in {folder}",
            remedy="run this in a checkout, or name the folder",
        )
    return scripts


def read(path: Path) -> object:
    """A result.

    Raises:
        CheckpointError: if the file is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            str(path), expected="a result", found=str(error), remedy="remove it, and run again"
        ) from error
