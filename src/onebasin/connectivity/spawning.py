"""When training has settled on a basin: children of one parent that see the data in different orders."""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from onebasin.connectivity.path import PathProfile, profile_path
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation
from onebasin.json_file import read_json, record, typed, write_json
from onebasin.progress import Progress, Report, silent

FORMAT = "onebasin-spawning/1"
THRESHOLD = 0.02
"""Error barrier below which two networks count as connected (Frankle et al. 2020)."""
Train = Callable[[nn.Module, range, int], object]
"""`train(model, epochs, seed)` trains a model in place for those epochs, counted from 0 over the whole of training.

The order of the data in an epoch, and whatever else is random, comes from the seed and the number of the epoch alone:
so a parent trained in two parts is the parent trained in one. What it returns is not looked at.
"""
State = dict[str, Tensor]


@dataclass(frozen=True)
class Spawning:
    """How well two children are connected, by the epoch at which they parted.

    Attributes:
        epochs: of training in all.
        profiles: the line between the two children, by the epochs that their parent had been trained for, ascending.
        threshold: of the error barrier (0 to 1).
        complete: False where it was interrupted; only the pairs measured by then are there.
    """

    epochs: int
    profiles: Mapping[int, PathProfile]
    threshold: float = THRESHOLD
    complete: bool = True

    def barriers(self, what: str = "error") -> dict[int, float]:
        """The barrier above the mean of the children (Frankle et al. 2020), by the epoch at which they parted.

        Raises:
            OptionError: if there is no such figure.
        """
        return {after: profile.barrier(what, "mean") for after, profile in self.profiles.items()}

    @property
    def counted(self) -> bool:
        """Whether correct answers were counted, without which there is no onset."""
        return all(profile.error for profile in self.profiles.values())

    @property
    def onset(self) -> int | None:
        """The first epoch whose children are connected: their error barrier is below the threshold; None without."""
        return next((after for after, barrier in self.barriers().items() if barrier < self.threshold), None)

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        profiles = {str(after): profile.to_json() for after, profile in self.profiles.items()}
        return {
            "format": FORMAT,
            "epochs": self.epochs,
            "threshold": self.threshold,
            "complete": self.complete,
            "onset": self.onset if self.counted else None,
            "profiles": profiles,
        }

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read or is none of these.
        """
        with record(read_json(path), path, "children and lines", FORMAT) as data:
            profiles = {
                int(after): PathProfile.from_json(profile, f"{path}: profiles: {after}")
                for after, profile in data["profiles"].items()
            }
            return cls(typed(data, "epochs", int), profiles, float(data["threshold"]), typed(data, "complete", bool))


def spawn(
    model: nn.Module, train: Train, after: int, epochs: int, seeds: tuple[int, int] = (1, 2), *, parent: int = 0
) -> tuple[State, State]:
    """Train a network for some epochs, then two copies of it to the end, each with its own order of the data.

    Args:
        model: untrained; left as it is.
        train: trains it.
        after: epochs of the parent.
        epochs: in all.
        seeds: of the children.
        parent: the seed of the parent.

    Returns:
        the tensors of both children.

    Raises:
        OptionError: if `after` is not between 0 and `epochs`.
    """
    _check((after,), epochs)
    trunk = copy.deepcopy(model)
    train(trunk, range(after), parent)
    first, second = (_child(trunk, train, range(after, epochs), seed) for seed in seeds)
    return first, second


def spawning_onset(
    model: nn.Module,
    train: Train,
    evaluation: Evaluation,
    afters: Sequence[int],
    epochs: int,
    *,
    seeds: tuple[int, int] = (1, 2),
    parent: int = 0,
    points: int = 11,
    threshold: float = THRESHOLD,
    progress: Report = silent,
) -> Spawning:
    """Find from when on two children of a network end up linearly connected (Frankle et al. 2020; Fort et al. 2020).

    Args:
        model: untrained; left as it is.
        train: trains it; the parent is trained once, in parts.
        evaluation: how to measure the children's lines; for the onset it needs to count correct answers.
        afters: epochs at which to part, ascending, 0 for children that share the initial weights only.
        epochs: of training in all.
        seeds: of the children.
        parent: the seed of the parent.
        points: on every line.
        threshold: of the error barrier, 0 to 1.
        progress: called after every pair of children.

    Returns:
        the profiles and the onset; interrupted with Ctrl-C, the pairs measured by then.

    Raises:
        OptionError: if `afters` do not ascend from 0 or more to `epochs` or less, or the evaluation cannot work.
    """
    _check(afters, epochs)
    trunk = copy.deepcopy(model)
    profiles: dict[int, PathProfile] = {}
    try:
        for before, after in itertools.pairwise((0, *afters)):
            train(trunk, range(before, after), parent)
            a, b = (_child(trunk, train, range(after, epochs), seed) for seed in seeds)
            profile = profile_path(model, a, b, evaluation, lams=points)
            if not profile.complete:
                break
            profiles[after] = profile
            progress(Progress("spawning", len(profiles), len(afters), f"epoch {after}"))
    except KeyboardInterrupt:
        pass  # what was measured is worth returning
    return Spawning(epochs, profiles, threshold, complete=len(profiles) == len(afters))


def _check(afters: Sequence[int], epochs: int) -> None:
    if not afters or list(afters) != sorted(set(afters)) or not 0 <= afters[0] <= afters[-1] <= epochs:
        raise OptionError(
            "after", expected=f"epochs ascending from 0 to {epochs}", found=str(list(afters)), remedy="correct them"
        )


def _child(trunk: nn.Module, train: Train, epochs: range, seed: int) -> State:
    child = copy.deepcopy(trunk)
    train(child, epochs, seed)
    return {name: tensor.detach().clone() for name, tensor in child.state_dict().items()}
