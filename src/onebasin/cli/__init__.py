"""The command line: thin commands that read options, call the library and show what it returns.

Exit status: 0 done; 1 done, but the answer is no (a symmetry that does not hold), or the work was interrupted; 2 an
input or an option cannot be used, said in one line on standard error. Results go to standard output, all else to
standard error.
"""

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from onebasin.cli.versions import versions

SETTINGS = {"help_option_names": ["-h", "--help"]}
PLAIN: dict[str, Any] = {
    "rich_markup_mode": None,  # boxes would leave a quarter of a terminal's width to the text
    "add_completion": False,
    "pretty_exceptions_enable": False,  # they would print whole tensors
}

COMMANDS = {
    "band": "Find the lowest pass between networks with elastic bands.",
    "complex": "Find which of several networks form good simplexes.",
    "connect": "Say which of several networks may be averaged, and how.",
    "curve": "Train a curve of low loss between two networks.",
    "demo": "Train two small networks, align and merge them, write a report.",
    "ensemble": "Compare ensembles of networks at equal cost.",
    "features": "Measure how linear the features of every layer are.",
    "inspect": "Find which units of a model can be reordered, and prove it.",
    "match": "Reorder the units of B so that it matches A.",
    "merge": "Align networks to the first and merge them into one.",
    "path": "Measure loss and error on the line between two networks.",
    "plane": "Draw the loss on a plane or polygon of networks.",
    "reproduce": "Repeat claims of the literature.",
    "run": "Merge networks as a recipe says.",
    "simplex": "Look for the worst average of several networks.",
    "spawn": "Find from when on two children of a network stay connected.",
    "spro": "Train networks so that all averages of all are good.",
    "star": "Train a network that low lines connect with several others.",
}
"""Every command with the first line of its help. A command is the function of that name in the module of that name,
which is imported when the command is called: torch takes longer to load than the help takes to be read."""


class LazyGroup(TyperGroup):
    """Commands that are imported when they are called."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=line) for name, line in COMMANDS.items()}

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - as the class above declares it
        """Import a command; None if there is none of that name."""
        if cmd_name not in self.commands:
            return None
        single = typer.Typer(**PLAIN)
        function = getattr(importlib.import_module(f"onebasin.cli.{cmd_name}"), cmd_name)
        single.command(cmd_name, context_settings=SETTINGS)(function)
        return typer.main.get_command(single)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 - as the class above declares it
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help or "") for name, command in self.commands.items()])


app = typer.Typer(name="onebasin", cls=LazyGroup, no_args_is_help=True, context_settings=SETTINGS, **PLAIN)


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
