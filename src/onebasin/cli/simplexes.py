"""What the commands on simplexes share: options, matchings and profiles that are kept, and tables."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import typer
from torch import Tensor

from onebasin import Matching
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.bundle import bundled, rows_of
from onebasin.cli.inputs import Subject
from onebasin.cli.kept import unit
from onebasin.cli.screen import Screen
from onebasin.cli.study import Study, first
from onebasin.connectivity import SimplexProfile, permuted_simplex, simplex_barrier, to_reference
from onebasin.report.table import Table, loss_text, percent
from onebasin.symmetry import Status

JOINT, TO_REFERENCE, NAIVE = "joint", "to-reference", "naive"
COLUMNS = ("networks", "barrier", "edges", "mean", "centre", "error", "bad volume")
Finder = Callable[[], tuple[Matching, ...]]


@dataclass(frozen=True)
class Look:
    """How closely a simplex is looked at."""

    points: Annotated[
        int, typer.Option("--points", metavar="N", min=0, help="Points drawn uniformly from the simplex.")
    ] = 256
    ascents: Annotated[
        int, typer.Option("--ascents", metavar="N", min=0, help="From how many of the worst points to climb on.")
    ] = 16
    tau: Annotated[
        float, typer.Option("--tau", metavar="X", help="The excess above which a point is bad, in nats.")
    ] = 0.05
    epochs: Annotated[
        int, typer.Option("--epochs", metavar="N", min=0, help="Of the joint search: passes over the training data.")
    ] = 5
    batches: Annotated[
        int | None,
        typer.Option("--batches", metavar="N", min=1, help="Only the first N batches of a split.", show_default=False),
    ] = None


with_look = bundled("look", rows_of(Look), Look)
"""A command whose argument `look` becomes the options of a `Look`."""


@dataclass(frozen=True)
class Together:
    """Matchings of several networks that bring them into common coordinates, one each, in the networks' order."""

    matchings: tuple[Matching, ...]
    complete: bool = True

    def save(self, folder: Path) -> None:
        """Write a file each, the first one last: where it is, all are."""
        for number, matching in reversed(list(enumerate(self.matchings, start=1))):
            matching.save(folder / f"matching-{number}.json")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if a file is no matching.
        """
        files = sorted(folder.glob("matching-*.json"), key=lambda file: int(file.stem.removeprefix("matching-")))
        return cls(tuple(map(Matching.load, files)))


@dataclass(frozen=True)
class Simplexes:
    """Networks whose simplex is looked at.

    Attributes:
        study: the networks and how to measure.
        look: how closely.
        subject: their symmetry, where it is needed.
        out: the folder that keeps what is done; None keeps nothing.
    """

    study: Study
    look: Look
    subject: Subject | None
    out: Path | None

    def kept(self, screen: Screen, name: str, find: Finder) -> tuple[Matching, ...]:
        """Matchings, as a folder says or found now."""
        path = None if self.out is None else self.out / f"{name}-matchings"
        return unit(screen, path, Together, lambda: Together(find()), last="matching-1.json").matchings

    def joint(self, screen: Screen, subject: Subject) -> tuple[Matching, ...]:
        """Search for joint permutations, or take those that were found before."""
        study, setting = self.study, self.study.setting

        def search() -> tuple[Matching, ...]:
            found = permuted_simplex(
                study.model,
                study.sources,
                subject.symmetry,
                batches=first(study.task.batches("train"), self.look.batches),
                evaluate=study.task.evaluate,
                validation=first(study.task.batches("val"), self.look.batches),
                batchnorm=study.evaluation.batchnorm,
                calibration_samples=setting.samples,
                epochs=self.look.epochs,
                seed=setting.seed,
                progress=screen.stage("joint permutations"),
            )
            if found.status is Status.INTERRUPTED:
                raise KeyboardInterrupt
            return found.matchings

        return self.kept(screen, JOINT, search)

    def reference(self, screen: Screen, subject: Subject) -> tuple[Matching, ...]:
        """Match every network with the first, or take what was found before."""
        seed = self.study.setting.seed
        return self.kept(screen, TO_REFERENCE, lambda: to_reference(self.study.sources, subject.symmetry, seed))

    def moved(self, matchings: Sequence[Matching] | None) -> list[dict[str, Tensor]]:
        """The networks, reordered where there are matchings."""
        if matchings is None:
            return [dict(open_checkpoint(path)) for path in self.study.paths.values()]
        return [matching.apply(source) for matching, source in zip(matchings, self.study.sources, strict=True)]

    def measured(
        self, screen: Screen, name: str, matchings: Sequence[Matching] | None, faces: int | None = None
    ) -> SimplexProfile:
        """The profile of one simplex, as a file says or measured now.

        Args:
            screen: shows progress.
            name: of the simplex.
            matchings: of its networks; None takes them as they are.
            faces: see `simplex_barrier`.

        Raises:
            KeyboardInterrupt: it was interrupted; a part of the points is no ground to judge on.
        """

        def measure() -> SimplexProfile:
            return simplex_barrier(
                self.study.model,
                self.moved(matchings),
                self.study.evaluation,
                samples=self.look.points,
                ascents=self.look.ascents,
                faces=faces,
                tau=self.look.tau,
                labels=self.study.names,
                seed=self.study.setting.seed,
                progress=screen.stage(f"{name} simplex"),
            )

        return unit(screen, None if self.out is None else self.out / f"{name}.json", SimplexProfile, measure)


def text(value: float | None, draw: Callable[[float], str] = loss_text) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None or math.isnan(value) else draw(value)


def barrier_row(name: str, profile: SimplexProfile) -> tuple[str, ...]:
    """A row of the table of barriers; see `COLUMNS`."""
    return (
        name,
        text(profile.barrier),
        text(profile.edge_barrier),
        text(profile.mean),
        text(profile.barycentre),
        text(profile.error_barrier, percent),
        f"<= {percent(profile.bad_volume)}",
    )


def barrier_table(title: str, profiles: dict[str, SimplexProfile]) -> Table:
    """The barriers of several simplexes of the same networks."""
    rows = tuple(barrier_row(name, profile) for name, profile in profiles.items())
    return Table(f"{title}: excess over the interpolated losses, nats", COLUMNS, rows, frozenset(COLUMNS[1:]))
