"""The sentence a report begins with."""

import numpy as np

from onebasin.connectivity import PathProfile
from onebasin.report.paths import ALIGNED, NAIVE, Paths
from onebasin.report.table import loss_text, percent


def headline(paths: Paths) -> str:
    """What the average of two networks is worth, as they are and aligned, in one sentence with figures.

    Args:
        paths: with profiles `NAIVE`, `ALIGNED` or both; complete.

    Returns:
        The sentence, of accuracies where the task counts correct answers and of losses elsewhere.
    """
    what = "an accuracy" if paths.with_error else "a loss"
    middles = {name: _value(profile, paths, _middle(profile)) for name, profile in paths.profiles.items()}
    first = next(iter(paths.profiles.values()))
    ends = f"{_value(first, paths, 0)} and {_value(first, paths, -1)}"
    if NAIVE in middles and ALIGNED in middles:
        return (
            f"Averaged as they are, the two networks give {what} of {middles[NAIVE]}; "
            f"with b's units reordered to match a's, {middles[ALIGNED]}. By themselves they reach {ends}."
        )
    name, value = next(iter(middles.items()))
    how = "as they are" if name == NAIVE else "with b's units reordered to match a's"
    return f"Averaged {how}, the two networks give {what} of {value}. By themselves they reach {ends}."


def _middle(profile: PathProfile) -> int:
    """The position of the point nearest to the middle of the line."""
    return int(np.argmin(np.abs(np.array(profile.lams) - 0.5)))


def _value(profile: PathProfile, paths: Paths, position: int) -> str:
    if paths.with_error:
        return percent(1 - profile.error[position])
    return loss_text(profile.loss[position])
