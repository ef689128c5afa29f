"""`onebasin reproduce`: list and run the claims of the literature that the repository repeats."""

import ast
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
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
JobsOption = Annotated[
    int, typer.Option("--jobs", metavar="N", min=1, help="Claims to run at once; with --quick each takes one core.")
]
PageOption = Annotated[
    Path | None,
    typer.Option("--page", metavar="FILE", help="Write all results there are as a page.", show_default=False),
]


MODES = ("quick", "full")


@dataclass(frozen=True)
class Script:
    """A claim's script.

    Attributes:
        path: of the script.
        title: the claim in a few words.
        source: paper and table or figure.
        minutes: with --quick on one core, with --full on one GPU.
    """

    name: str
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
    jobs: JobsOption = 1,
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
      onebasin reproduce --all --jobs 2 --data-root data --page docs/results.md

    Exit status: 0 done, 1 a claim failed or the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json) as screen:
        scripts = find(folder)
        unknown = [name for name in names or () if name not in scripts]
        if unknown:
            raise OptionError(unknown[0], expected=f"one of {', '.join(scripts)}", found="another", remedy="choose one")
        chosen = list(scripts) if everything else names or []
        mode = MODES[full]
        options = [f"--{mode}", "--out", str(out), *(["--data-root", str(data_root)] if data_root else [])]
        run(screen, [scripts[name] for name in chosen], options, jobs)
        found = {
            mode: {name: read(path) for name in scripts if (path := out / mode / f"{name}.json").exists()}
            for mode in MODES
        }
        screen.result({"claims": list(scripts), "results": found[mode]})
        if not chosen:
            show(screen, scripts, found[mode], mode)
        if page is not None:
            titles = {name: (script.title, script.source) for name, script in scripts.items()}
            write_text(page, results_page(titles, found, Path(os.path.relpath(out, page.parent)).as_posix()))
            screen.line(f"written: {page}")


def run(screen: Screen, scripts: list[Script], options: list[str], jobs: int) -> None:
    """Run claims, several at once, and tell at the end which failed."""
    screen.resumes = "the same command goes on with what is finished"
    if jobs > 1:
        scripts = sorted(scripts, key=lambda script: -script.minutes[0])  # so that no long one is left over at the end
    started = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        statuses = list(pool.map(lambda script: follow(screen, script, options, named=jobs > 1), scripts))
    for script, status in zip(scripts, statuses, strict=True):
        if status:
            screen.refuse(f"{script.name}: failed")
    if scripts:
        screen.relay(f"{len(scripts)} claims in {(time.monotonic() - started) / 60:.1f} minutes", "bold")


def follow(screen: Screen, script: Script, options: list[str], *, named: bool) -> int:
    """Run a claim, show the lines that it prints, with its name where there are several, and give its exit status."""
    with subprocess.Popen(  # noqa: S603 - scripts of the repository
        [sys.executable, str(script.path), *options], stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout or ():
            screen.relay(f"{script.name}: {line.rstrip()}" if named and line.strip() else line.rstrip())
    return process.returncode


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
                    scripts[name] = Script(name, path, title, source, minutes)
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
