"""Networks in the coordinates of the first, for the commands that combine them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor

from onebasin import Matching, Status
from onebasin.checkpoint import open_checkpoint
from onebasin.cli.inputs import Source, Subject, find_subject
from onebasin.cli.screen import Screen
from onebasin.cli.search import Search
from onebasin.cli.searching import find_matchings
from onebasin.errors import OptionError


@dataclass(frozen=True)
class Aligned:
    """What aligning gave.

    Attributes:
        subject: the symmetry, and the task where one was named.
        paths: of every network but the first.
        matchings: for each of them.
    """

    subject: Subject
    paths: Sequence[Path]
    matchings: list[Matching] = field(default_factory=list)

    @cached_property
    def params(self) -> list[dict[str, Tensor]]:
        """The tensors of every network but the first, in the coordinates of the first."""
        return [matching.apply(str(path)) for matching, path in zip(self.matchings, self.paths, strict=True)]


def align(
    screen: Screen, paths: Sequence[Path], source: Source, saved: Sequence[Path] = (), *, search: Search
) -> Aligned:
    """Bring every network but the first into the coordinates of the first.

    Args:
        screen: shows progress.
        paths: the checkpoints.
        source: of the symmetry.
        saved: files of matchings to use; none to search.
        search: how to search.

    Raises:
        OptionError: the number of matchings is wrong, or they belong to different symmetries.
        MismatchError: a checkpoint does not fit.
        VerificationError: the symmetry does not hold on the task's model.
        KeyboardInterrupt: a search was interrupted; a half-found matching is no ground to build on.
    """
    given = [Matching.load(path) for path in saved]
    if given:
        _check(given, len(paths) - 1)
        subject = find_subject(screen, source, given[0].symmetry).require()
        for path in paths:
            with open_checkpoint(path) as params:
                subject.symmetry.check(params, str(path))
        return Aligned(subject, paths[1:], given)
    subject = find_subject(screen, source).require()
    found = find_matchings(screen, paths, subject, search, source.seed)
    if any(matching.status is Status.INTERRUPTED for matching in found):
        raise KeyboardInterrupt
    return Aligned(subject, paths[1:], found)


def _check(matchings: Sequence[Matching], count: int) -> None:
    if len(matchings) != count:
        raise OptionError(
            "--matching",
            expected=f"one for every network but the first: {count}",
            found=str(len(matchings)),
            remedy="repeat the option in the order of the networks",
        )
    if any(matching.symmetry != matchings[0].symmetry for matching in matchings):
        raise OptionError(
            "--matching", expected="matchings of one symmetry", found="several", remedy="match again with one symmetry"
        )
