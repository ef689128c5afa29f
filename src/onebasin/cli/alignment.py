"""Networks in the coordinates of the first, for the commands that combine them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from onebasin import Matching, Status
from onebasin.cli.inputs import Subject, check_inputs
from onebasin.cli.match import find_matching
from onebasin.cli.screen import Screen
from onebasin.errors import OptionError


@dataclass(frozen=True)
class Aligned:
    """What aligning gave: a matching and reordered tensors for every network but the first."""

    matchings: list[Matching]
    params: list[dict[str, Tensor]]


def align(
    screen: Screen,
    paths: Sequence[Path],
    subject: Subject,
    given: Sequence[Matching],
    *,
    seed: int,
    max_sweeps: int,
) -> Aligned:
    """Bring every network but the first into the coordinates of the first.

    Args:
        screen: shows progress.
        paths: the checkpoints.
        subject: with the symmetry.
        given: saved matchings to use; none to search.
        seed: of the search.
        max_sweeps: of the search.

    Raises:
        MismatchError: a checkpoint does not fit.
        KeyboardInterrupt: a search was interrupted; a half-found matching is no ground to build on.
    """
    if given:
        check_inputs(paths, subject.symmetry)
        return Aligned(list(given), [m.apply(path) for m, path in zip(given, paths[1:], strict=True)])
    aligned = Aligned([], [])
    for path in paths[1:]:
        matching = find_matching(screen, paths[0], path, subject, seed=seed, max_sweeps=max_sweeps)
        if matching.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        aligned.matchings.append(matching)
        aligned.params.append(matching.apply(path))
    return aligned


def check_matchings(matchings: Sequence[Matching], paths: Sequence[Path]) -> None:
    """Check that there is one matching for every network but the first, all of one symmetry.

    Raises:
        OptionError: their number is wrong, or they belong to different symmetries.
    """
    if matchings and len(matchings) != len(paths) - 1:
        raise OptionError(
            "--matching",
            expected=f"one for every network but the first: {len(paths) - 1}",
            found=str(len(matchings)),
            remedy="repeat the option in the order of the networks",
        )
    if any(matching.symmetry != matchings[0].symmetry for matching in matchings):
        raise OptionError(
            "--matching", expected="matchings of one symmetry", found="several", remedy="match again with one symmetry"
        )
