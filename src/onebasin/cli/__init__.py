"""The command line: thin commands that read options, call the library and show what it returns.

Exit status: 0 done; 1 done, but the answer is no (a symmetry that does not hold), or the work was interrupted; 2 an
input or an option cannot be used, said in one line on standard error. Results go to standard output, all else to
standard error.
"""

from typing import Annotated

import typer

from onebasin.cli.demo import demo
from onebasin.cli.inspect import inspect
from onebasin.cli.match import match
from onebasin.cli.merge import merge
from onebasin.cli.path import path
from onebasin.cli.versions import versions

app = typer.Typer(
    name="onebasin",
    no_args_is_help=True,
    rich_markup_mode=None,  # boxes would leave a quarter of a terminal's width to the text
    add_completion=False,
    pretty_exceptions_enable=False,  # they would print whole tensors
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, inspect, match, merge, path):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onebasin {versions()['onebasin']}")
        raise typer.Exit


@app.callback()
def onebasin(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Align, merge and connect trained networks modulo their symmetries.

    Begin with `onebasin demo`: it trains two small networks and shows all of it in half a minute.
    """


def main() -> None:
    """Run the command line on the arguments of this process; exits with the status."""
    app(prog_name="onebasin")  # also where it is run as a module
