"""What the commands on simplexes share: networks and data, units of work that are kept, and tables."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from onebasin import Evaluation, Matching, Permutation
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.inputs import Source, Subject, make_folder
from onebasin.cli.kept import fingerprint
from onebasin.cli.options import PointStatistics
from onebasin.cli.points import built, check_fit, statistics_of
from onebasin.cli.screen import Screen
from onebasin.connectivity import PermutedSimplex, SimplexProfile, permuted_simplex, simplex_barrier, to_reference
from onebasin.errors import CheckpointError, OptionError
from onebasin.json_file import read_json, write_json
from onebasin.report.table import Table, loss_text, percent
from onebasin.symmetry import Status
from onebasin.tasks import Task

JOINT, TO_REFERENCE, NAIVE = "joint", "to-reference", "naive"
COLUMNS = ("networks", "barrier", "edges", "mean", "centre", "error", "bad volume")
Finder = Callable[[], tuple[Matching, ...]]


@dataclass(frozen=True)
class Setting:
    """What the commands were told.

    Attributes:
        paths: the checkpoints.
        source: of the symmetry, and of the task.
        split: to measure on.
        batches: at most so many of every split; None takes all.
        batchnorm: what becomes of statistics.
        samples: points drawn.
        ascents: points to climb from.
        tau: excess above which a point is bad.
        epochs: of the joint search.
        out: the folder that keeps what is done; None keeps nothing.
    """

    paths: Sequence[Path]
    source: Source
    split: str
    batches: int | None
    batchnorm: PointStatistics | None
    samples: int
    ascents: int
    tau: float
    epochs: int
    out: Path | None

    @cached_property
    def task(self) -> Task:
        """The task, with data."""
        return self.source.require_task("the command")

    @cached_property
    def model(self) -> nn.Module:
        """The task's model, after all networks were found to fit it."""
        if len(self.paths) < 2:  # noqa: PLR2004 - one network has nothing between
            raise OptionError("A B ...", expected="two networks or more", found="one", remedy="name another")
        model = built(self.task)
        check_fit(self.task, self.paths)
        return model

    @property
    def statistics(self) -> str:
        """What becomes of statistics."""
        return statistics_of(self.task, self.batchnorm)

    def data(self, split: str) -> Callable[[], Iterable[object]]:
        """The batches of a split, or the first of them."""
        return lambda: itertools.islice(self.task.batches(split), self.batches)

    def evaluation(self) -> Evaluation:
        """How the simplex is measured."""
        return Evaluation(
            self.task.evaluate, self.data(self.split), batchnorm=self.statistics, calibration=self.data("train")
        )

    def settings(self, *names: str) -> dict[str, object]:
        """What a unit of work depends on; files by their content."""
        common = {"task": self.task.name, "seed": self.source.seed, "batches": self.batches}
        found = {name: getattr(self, name) for name in names}
        files = {path.name: fingerprint(path) for path in self.paths}
        return common | found | {"networks": files, "batchnorm": self.statistics}

    @property
    def names(self) -> list[str]:
        """What to call the networks in tables: their files, numbered where two have one name."""
        stems = [path.stem for path in self.paths]
        return stems if len(set(stems)) == len(stems) else [f"{k + 1}:{stem}" for k, stem in enumerate(stems)]


def kept(
    screen: Screen, setting: Setting, name: str, settings: dict[str, object], make: Callable[[], object]
) -> object:
    """The result of a unit of work: from its file in the folder where it was made with the same settings, else anew.

    Args:
        screen: learns which files there are.
        setting: names the folder.
        name: of the file.
        settings: what the result depends on; plain JSON values.
        make: does the work; gives plain JSON values.
    """
    if setting.out is None:
        return make()
    path = make_folder(setting.out) / name
    if path.exists():
        data = read_json(path)
        if isinstance(data, dict) and data.get("settings") == settings and "result" in data:
            screen.wrote(path)
            return data["result"]
    result = make()
    write_json(path, {"settings": settings, "result": result})
    screen.wrote(path)
    return result


def find_joint(screen: Screen, setting: Setting, subject: Subject) -> tuple[Matching, ...]:
    """Search for joint permutations, or take those that were found before."""

    def search() -> tuple[Matching, ...]:
        found: PermutedSimplex = permuted_simplex(
            setting.model,
            [str(path) for path in setting.paths],
            subject.symmetry,
            batches=setting.data("train"),
            evaluate=setting.task.evaluate,
            validation=setting.data("val"),
            batchnorm=setting.statistics,
            epochs=setting.epochs,
            seed=setting.source.seed,
            progress=screen.stage("joint permutations"),
        )
        if found.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        return found.matchings

    matchings = found_before(screen, setting, subject, JOINT, setting.settings("epochs"), search)
    if setting.out is not None:  # for `onebasin merge --matching`
        for number, matching in enumerate(matchings[1:], start=2):
            path = setting.out / f"joint-matching-{number}.json"
            matching.save(path)
            screen.wrote(path)
    return matchings


def find_reference(screen: Screen, setting: Setting, subject: Subject) -> tuple[Matching, ...]:
    """Match every network with the first, or take what was found before."""
    paths = [str(path) for path in setting.paths]
    return found_before(
        screen,
        setting,
        subject,
        TO_REFERENCE,
        setting.settings(),
        lambda: to_reference(paths, subject.symmetry, setting.source.seed),
    )


def found_before(
    screen: Screen, setting: Setting, subject: Subject, name: str, settings: dict[str, object], find: Finder
) -> tuple[Matching, ...]:
    """Matchings, kept as a row of permutations."""

    def make() -> object:
        return [{group: p.index.tolist() for group, p in m.permutations.items()} for m in find()]

    rows = kept(screen, setting, f"{name}-permutations.json", settings | {"groups": subject.symmetry.sizes}, make)
    if not isinstance(rows, list):
        raise CheckpointError(name, expected="a row of permutations", found=repr(rows)[:60], remedy="remove the file")
    permutations = [{group: Permutation(index) for group, index in row.items()} for row in rows]
    return tuple(Matching(subject.symmetry, row, method=name) for row in permutations)


def moved(setting: Setting, matchings: Sequence[Matching] | None) -> list[dict[str, Tensor]]:
    """The networks, reordered where there are matchings."""
    sources = [str(path) for path in setting.paths]
    if matchings is None:
        return [dict(open_checkpoint(path)) for path in setting.paths]
    return [matching.apply(source) for matching, source in zip(matchings, sources, strict=True)]


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


def barrier_table(setting: Setting, profiles: dict[str, SimplexProfile]) -> Table:
    """The barriers of several simplexes of the same networks."""
    title = f"{setting.task.name}, {setting.split} split: excess over the interpolated losses, nats"
    rows = tuple(barrier_row(name, profile) for name, profile in profiles.items())
    return Table(title, COLUMNS, rows, frozenset(COLUMNS[1:]))


def measured(
    screen: Screen, setting: Setting, name: str, vertices: Callable[[], list[dict[str, Tensor]]], faces: int | None
) -> SimplexProfile:
    """The profile of one simplex, kept.

    Args:
        screen: shows progress.
        setting: how to measure.
        name: of the simplex.
        vertices: gives its networks, where they are needed.
        faces: see `simplex_barrier`.

    Raises:
        KeyboardInterrupt: it was interrupted; a part of the points is no ground to judge on.
    """

    def make() -> object:
        found = simplex_barrier(
            setting.model,
            vertices(),
            setting.evaluation(),
            samples=setting.samples,
            ascents=setting.ascents,
            faces=faces,
            tau=setting.tau,
            labels=setting.names,
            seed=setting.source.seed,
            progress=screen.stage(f"{name} simplex"),
        )
        if not found.complete:
            raise KeyboardInterrupt
        return found.to_json()

    settings = setting.settings("split", "samples", "ascents", "tau", "epochs") | {"faces": faces}
    return SimplexProfile.from_json(kept(screen, setting, f"{name}.json", settings, make), name)
