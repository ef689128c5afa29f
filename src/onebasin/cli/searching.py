"""How the commands search for matchings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from onebasin import Matching, activation_similarity, learn_universe, match, match_many
from onebasin.cli.inputs import Subject
from onebasin.cli.screen import Screen
from onebasin.cli.search import Search
from onebasin.errors import OptionError
from onebasin.tasks import Task

PAIR = 2
LEARNED = ("learned", "straight-through")


def find_matchings(
    screen: Screen, paths: Sequence[Path], subject: Subject, search: Search, seed: int
) -> list[Matching]:
    """Match networks to the first, showing progress.

    Args:
        screen: shows progress.
        paths: of the networks, two or more.
        subject: their symmetry, and the task where one was named.
        search: how to search.
        seed: of every random choice.

    Returns:
        a matching for every network but the first.

    Raises:
        OptionError: an option is unknown or cannot be had, such as activations without a task.
        MismatchError: a network does not fit.
    """
    if search.match_method in LEARNED:
        return _learned(screen, paths, subject, search, seed)
    if len(paths) == PAIR or search.activations > 0:
        return [_pair(screen, paths[0], path, subject, search, seed) for path in paths[1:]]
    method = "cycle-consistent" if search.match_method == "best" else search.match_method
    found = match_many(
        [str(path) for path in paths],
        subject.symmetry,
        method,
        seed,
        max_sweeps=search.max_sweeps,
        progress=screen.stage("matching all"),
    )
    return [matching.replace(status=found.status, objective=found.objective) for matching in found.matchings[1:]]


def _learned(screen: Screen, paths: Sequence[Path], subject: Subject, search: Search, seed: int) -> list[Matching]:
    task = _task(subject, f"--match-method {search.match_method}")
    found = learn_universe(
        task.build_model(),
        [str(path) for path in paths],
        subject.symmetry,
        lambda: task.batches("train"),
        task.evaluate,
        method=search.match_method,
        epochs=search.epochs,
        validation=lambda: task.batches("val"),
        seed=seed,
        progress=screen.stage("learning"),
    )
    return list(found)


def _task(subject: Subject, option: str) -> Task:
    """The task, which an option cannot do without."""
    if subject.task is None:
        raise OptionError(option, expected="a task with data", found="no task", remedy="pass --task")
    return subject.task


def _pair(screen: Screen, a: Path, b: Path, subject: Subject, search: Search, seed: int) -> Matching:
    return match(
        str(a),
        str(b),
        subject.symmetry,
        search.match_method,
        seed,
        activations=_activations(screen, a, b, subject, search) if search.activations > 0 else None,
        alpha=search.activations,
        normalised=search.normalised,
        restarts=search.restarts,
        max_sweeps=search.max_sweeps,
        progress=screen.stage(f"matching {b.name}"),
    )


def _activations(screen: Screen, a: Path, b: Path, subject: Subject, search: Search) -> Mapping[str, Tensor]:
    task = _task(subject, "--activations")
    found = activation_similarity(
        task.build_model(),
        str(a),
        str(b),
        subject.symmetry,
        task.batches("train"),
        task.evaluate,
        args=task.example_inputs(),
        samples=search.activation_samples,
        progress=screen.stage(f"activations of {b.name}"),
    )
    if found.missing:
        screen.note(f"no single tensor shows {', '.join(found.missing)}: matched by weights or by what is inside")
    return found.similarity
