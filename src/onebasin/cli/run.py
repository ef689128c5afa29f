"""`onebasin run`: a merger that a file describes."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from onebasin.cli.options import JsonOption, ThreadsOption
from onebasin.cli.recipe import Recipe, read_yaml
from onebasin.cli.screen import Screen, session
from onebasin.errors import CheckpointError, OneBasinError

RecipeArgument = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A YAML file: a recipe of ours, or a configuration of mergekit.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="PATH", help="The merged network, in place of the recipe's own output.", show_default=False
    ),
]


def run(
    recipe: RecipeArgument, out: OutOption = None, threads: ThreadsOption = None, as_json: JsonOption = False
) -> None:
    """Merge networks as a recipe says.

    `onebasin merge` writes a recipe beside every result; it gives the same bytes again. Paths in a recipe start at its
    folder. Configurations of mergekit are taken as they are for the methods linear, slerp, task_arithmetic, ties,
    dare_linear and dare_ties, and may have a block `align`.

    \b
    Examples:
      onebasin run merged.safetensors.recipe.yaml
      onebasin run mergekit.yaml --out merged/ --threads 4

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json) as screen:
        read = read_recipe(screen, recipe)
    with session(as_json=as_json, threads=threads, task=read.task) as screen:
        from onebasin.cli.merging import carry_out

        carry_out(screen, read if out is None else dataclasses.replace(read, output=out), threads)


def read_recipe(screen: Screen, path: Path) -> Recipe:
    """Read a recipe of either kind; notes say what of mergekit's was left out.

    Raises:
        CheckpointError: the file cannot be read, or is not YAML.
        OneBasinError: something in it cannot be used, told with the file.
    """
    from onebasin.cli.mergekit import is_mergekit, translate

    data = read_yaml(path)
    folder = path.absolute().parent
    try:
        if not isinstance(data, dict) or not is_mergekit(data):
            return Recipe.from_data(data, folder)
        recipe, notes = translate(data, folder)
    except CheckpointError:  # of a network, which it names
        raise
    except OneBasinError as error:
        raise error.within(str(path)) from None
    for note in notes:
        screen.note(note)
    return recipe
