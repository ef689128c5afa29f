"""Paths made up for tests: a barrier of half a point at the middle of the naive line, none on the aligned one."""

from dataclasses import replace

from onebasin import PathProfile
from onebasin.report import ALIGNED, NAIVE, Paths

LAMS = (0.0, 0.25, 0.5, 0.75, 1.0)


def profile(middle: float) -> PathProfile:
    """A profile between losses 0.1 and 0.3 and errors 1 and 3 percent that rises to `middle` times 10 half way."""
    loss = (0.1, 0.2, 10 * middle, 0.3, 0.3)
    return PathProfile(LAMS, loss, tuple(value / 10 for value in loss), count=100, batchnorm="keep")


def both() -> Paths:
    """A naive line with a loss of 5 half way, and an aligned one with 0.21."""
    return Paths("digits", "test", {NAIVE: profile(0.5), ALIGNED: profile(0.021)}, {"seed": 3})


def without_errors() -> Paths:
    """The same where the task counts no correct answers."""
    paths = both()
    return replace(paths, profiles={name: replace(found, error=()) for name, found in paths.profiles.items()})


def interrupted() -> Paths:
    """A line that was measured half way."""
    return Paths("digits", "test", {NAIVE: PathProfile(LAMS[:2], (0.1, 0.2), (), 100, "keep", complete=False)})
