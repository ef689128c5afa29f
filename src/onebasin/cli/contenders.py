"""Networks that `onebasin ensemble` trains from those it is given, to be compared with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from onebasin.checkpoint import Source as Network
from onebasin.checkpoint import load_params
from onebasin.cli.bundle import bundled, rows_of
from onebasin.cli.kept import unit
from onebasin.cli.screen import Screen
from onebasin.cli.setting import Training
from onebasin.cli.snapshots import Cycling, snapshots
from onebasin.cli.study import Study
from onebasin.connectivity import Complex, Star, fit_complex, fit_simplex, fit_star, snapshot_average
from onebasin.connectivity.spro import FILE as COMPLEX
from onebasin.connectivity.star import JSON_FILE as STAR
from onebasin.merging import greedy
from onebasin.merging.soup import validation_score

GROWN = 2
"""Vertices that are trained beside the first network for its simplex."""


@dataclass(frozen=True)
class Wanted:
    """What is to be made beside the networks."""

    fge: Annotated[
        int,
        typer.Option(
            "--fge", metavar="N", min=0, help="Train on from A for N snapshots (FGE), and average them (SWA)."
        ),
    ] = 0
    fge_rates: Annotated[
        tuple[float, float], typer.Option("--fge-rates", metavar="HIGH LOW", help="Learning rates of its cycles.")
    ] = (0.05, 0.01)
    fge_epochs: Annotated[
        int, typer.Option("--fge-epochs", metavar="N", min=1, help="Passes over the training data in a cycle.")
    ] = 2
    soup: Annotated[
        bool, typer.Option("--soup", help="Add the greedy soup: those whose mean is the best on the split val.")
    ] = False
    espro: Annotated[bool, typer.Option("--espro", help="Train a simplex around A, and add points of it (ESPRO).")] = (
        False
    )
    complex: Annotated[
        bool, typer.Option("--complex", help="Train a network that joins all with edges, and add points of these.")
    ] = False
    star: Annotated[bool, typer.Option("--star", help="Train a centre of all, and add it.")] = False

    def cycles(self) -> dict[str, object]:
        """What decides snapshots, but their number: more of them go on from those there are."""
        return {"fge_rates": self.fge_rates, "fge_epochs": self.fge_epochs}


with_wanted = bundled("further", rows_of(Wanted), Wanted)
"""A command whose argument `further` becomes the options of a `Wanted`."""


@dataclass(frozen=True)
class Trainer:
    """Makes contenders.

    Attributes:
        screen: shows progress.
        study: the task and its data.
        networks: in common coordinates.
        training: of whatever is trained.
        members: points to draw from what has many.
        out: the folder that keeps what is trained; None keeps nothing.
    """

    screen: Screen
    study: Study
    networks: Sequence[Network]
    training: Training
    members: int
    out: Path | None

    def make(self, wanted: Wanted) -> dict[str, Sequence[Network]]:
        """All that is wanted, by name.

        Raises:
            KeyboardInterrupt: it was interrupted; what was finished is in the folder.
        """
        makers: dict[str, tuple[bool, Callable[[], Sequence[Network]]]] = {
            "greedy soup": (wanted.soup, self._soup),
            "ESPRO": (wanted.espro, self._espro),
            "complex points": (wanted.complex, self._complex),
            "star centre": (wanted.star, self._star),
        }
        found = self._cycles(wanted) if wanted.fge else {}
        return found | {name: make() for name, (chosen, make) in makers.items() if chosen}

    def _cycles(self, wanted: Wanted) -> dict[str, Sequence[Network]]:
        cycling = Cycling(
            wanted.fge, wanted.fge_epochs, *wanted.fge_rates, self.training.batch_size, self.study.setting.seed
        )
        made = snapshots(self.screen, self.study, cycling, self._folder("fge"))
        return {"FGE": made, "SWA": [snapshot_average(self.study.model, made, self.study.evaluation)]}

    def _soup(self) -> Sequence[Network]:
        with self.screen.during("choosing the soup"):
            return [
                greedy([load_params(network) for network in self.networks], validation_score(self.study.task)).params
            ]

    def _espro(self) -> Sequence[Network]:
        study = self.study

        def train() -> Complex:
            return fit_simplex(
                study.model,
                self.networks[:1],
                study.shuffled(self.training.batch_size),
                study.task.evaluate,
                GROWN,
                schedule=self.training.schedule(study.setting.seed),
                progress=self.screen.stage("ESPRO"),
            )

        return self._points(unit(self.screen, self._folder("espro"), Complex, train, last=COMPLEX))

    def _complex(self) -> Sequence[Network]:
        study, last = self.study, len(self.networks)

        def train() -> Complex:
            return fit_complex(
                study.model,
                self.networks,
                [(number, last) for number in range(last)],
                study.shuffled(self.training.batch_size),
                study.task.evaluate,
                schedule=self.training.schedule(study.setting.seed),
                progress=self.screen.stage("complex"),
            )

        return self._points(unit(self.screen, self._folder("complex"), Complex, train, last=COMPLEX))

    def _star(self) -> Sequence[Network]:
        study = self.study

        def train() -> Star:
            return fit_star(
                study.model,
                self.networks,
                study.shuffled(self.training.batch_size),
                study.task.evaluate,
                schedule=self.training.schedule(study.setting.seed),
                progress=self.screen.stage("star centre"),
            )

        made = unit(self.screen, self._folder("star"), Star, train, last=STAR)
        return [snapshot_average(study.model, [made.centre], study.evaluation)]

    def _points(self, made: Complex) -> Sequence[Network]:
        return made.members(self.study.model, self.members, self.study.evaluation, self.study.setting.seed)

    def _folder(self, name: str) -> Path | None:
        return None if self.out is None else self.out / name
