"""The options of a search for a matching, the same for every command that searches."""

from dataclasses import dataclass
from typing import Annotated

import typer

from onebasin.cli.bundle import bundled, rows_of


@dataclass(frozen=True)
class Search:
    """How matchings are searched for: the options of these names, and keys of a recipe."""

    match_method: Annotated[
        str,
        typer.Option(
            "--match-method",
            metavar="METHOD",
            help="How to search: best, weight, anneal, frank-wolfe, and with a task's loss learned, straight-through; "
            "for three networks or more cycle-consistent (best), frank-wolfe, merge-many, hierarchical, learned.",
        ),
    ] = "best"
    activations: Annotated[
        float,
        typer.Option(
            "--activations",
            metavar="SHARE",
            min=0,
            max=1,
            help="Share of activations in what is compared, 0 for weights only, 1 for activations only. Needs a task.",
        ),
    ] = 0.0
    activation_samples: Annotated[
        int, typer.Option("--activation-samples", metavar="N", min=1, help="Training samples to compare them on.")
    ] = 5000
    normalised: Annotated[
        bool,
        typer.Option("--normalised/--plain", help="Bring every tensor to unit variance before weights are compared."),
    ] = False
    epochs: Annotated[
        int,
        typer.Option("--epochs", metavar="N", min=1, help="For learned and straight-through: passes over the data."),
    ] = 5
    restarts: Annotated[
        int,
        typer.Option("--restarts", metavar="N", min=0, help="For best: how often the best so far is heated up again."),
    ] = 1
    max_sweeps: Annotated[
        int, typer.Option("--max-sweeps", metavar="N", min=1, help="Passes over all groups before giving up.")
    ] = 100


with_search_options = bundled("search", rows_of(Search), Search)
"""A command whose argument `search` becomes the options of a search."""
