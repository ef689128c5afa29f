"""The centre of a star domain: a network with a straight line of low loss to each of several others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from torch import nn

from onebasin.checkpoint import Source, load_params, save_checkpoint
from onebasin.connectivity.curve import weighted, whole
from onebasin.connectivity.path import PathProfile, profile_path
from onebasin.connectivity.span import Span
from onebasin.connectivity.training import Schedule, fit_vertices
from onebasin.errors import OptionError
from onebasin.evaluation import Batches, Evaluate, Evaluation, Params
from onebasin.files import write_error
from onebasin.json_file import numbers, read_json, record, typed, write_json
from onebasin.progress import Progress, Report, silent

FORMAT, PROFILE_FORMAT = "onebasin-star/1", "onebasin-star-profile/1"
JSON_FILE, CENTRE_FILE = "star.json", "centre.safetensors"
LAWS = {"uniform": (1.0, 1.0), "beta": (2.0, 2.0)}
"""How points of a line are drawn: the two numbers of a Beta distribution."""


@dataclass(frozen=True)
class Star:
    """A trained centre.

    Attributes:
        centre: tensors by the names of a state dict.
        losses: the mean loss of every epoch.
        complete: False where training was interrupted; the centre is that of then.
    """

    centre: Params
    losses: tuple[float, ...] = ()
    complete: bool = True

    def save(self, folder: str | Path) -> None:
        """Write `centre.safetensors` and `star.json`, which comes last.

        Raises:
            CheckpointError: if the folder cannot be made or written to.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / JSON_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise write_error(folder, error) from error
        save_checkpoint(self.centre, folder / CENTRE_FILE)
        write_json(folder / JSON_FILE, {"format": FORMAT, "complete": self.complete, "losses": list(self.losses)})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if a file is missing or the folder holds no star.
        """
        where = Path(folder) / JSON_FILE
        with record(read_json(where), where, "a star", FORMAT) as data:
            losses, complete = numbers(data["losses"], f"{where}: losses"), typed(data, "complete", bool)
        return cls(dict(load_params(Path(folder) / CENTRE_FILE)), losses, complete)


@dataclass(frozen=True)
class StarProfile:
    """The lines from a centre, lam = 0, to networks, lam = 1.

    Attributes:
        spokes: by the name of the network.
    """

    spokes: Mapping[str, PathProfile]

    @property
    def complete(self) -> bool:
        """Whether all were measured."""
        return all(spoke.complete for spoke in self.spokes.values())

    def barriers(self, what: str = "loss", baseline: str = "linear") -> dict[str, float]:
        """The barrier of every spoke; see `PathProfile.barrier`.

        Raises:
            OptionError: if there is no such figure, or a spoke was interrupted.
        """
        return {name: spoke.barrier(what, baseline) for name, spoke in self.spokes.items()}

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        spokes = {name: spoke.to_json() for name, spoke in self.spokes.items()}
        return {"format": PROFILE_FORMAT, "complete": self.complete, "spokes": spokes}

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read or is not the profile of a star.
        """
        with record(read_json(path), path, "the profile of a star", PROFILE_FORMAT) as data:
            return cls({name: PathProfile.from_json(row, f"{path}: {name}") for name, row in data["spokes"].items()})


def fit_star(
    model: nn.Module,
    anchors: Sequence[Source],
    batches: Batches,
    evaluate: Evaluate,
    *,
    start: Source | None = None,
    law: str = "beta",
    schedule: Schedule | None = None,
    progress: Report = silent,
) -> Star:
    """Train a centre whose straight lines to all anchors have a low loss (Sonthalia et al. 2025, "starlight").

    Minimises E over anchors i and t of L(t centre + (1 - t) anchor_i), one anchor, drawn uniformly, and one t for every
    batch. Its gradient is t times that at the point. BatchNorm runs on the statistics of each batch.

    Args:
        model: of the networks' architecture; left as it is.
        anchors: in the same coordinates (apply matchings first).
        batches: one step each.
        evaluate: the loss.
        start: where the centre starts; None: at the mean of the anchors.
        law: of t: `"uniform"`, or `"beta"` for Beta(2, 2), which seldom draws the ends.
        schedule: of the training; None takes `Schedule()`.
        progress: called after every epoch.

    Returns:
        the centre; interrupted with Ctrl-C, as it was by then. The same seed gives the same bytes for one number of
        threads.

    Raises:
        OptionError: if an option cannot work, there are no batches, or the loss cannot be differentiated or is not
            finite.
        MismatchError: if a network does not fit the model.
    """
    if law not in LAWS:
        raise OptionError("law", expected=" or ".join(LAWS), found=repr(law), remedy="choose one")
    if not anchors:
        raise OptionError("anchors", expected="at least one network", found="none", remedy="pass some")
    if start is None:
        held = Span(model, anchors)
        start = whole(model, weighted(held.vertices, [1 / len(anchors)] * len(anchors)))
    labels = ["start", *(f"anchor {number}" for number in range(1, len(anchors) + 1))]

    def draw(generator: np.random.Generator) -> tuple[float, ...]:
        chosen, t = int(generator.integers(len(anchors))), float(generator.beta(*LAWS[law]))
        return (t, *(1 - t if number == chosen else 0.0 for number in range(len(anchors))))

    fit = fit_vertices(
        Span(model, [start, *anchors], labels),
        [0],
        draw,
        batches,
        evaluate,
        schedule or Schedule(),
        progress=lambda step: progress(Progress("star", step.done, step.total, step.detail)),
    )
    return Star(whole(model, fit.vertices[0]), fit.losses, fit.complete)


def profile_star(
    centre: Source,
    networks: Mapping[str, Source],
    model: nn.Module,
    evaluation: Evaluation,
    points: int = 11,
    *,
    progress: Report = silent,
) -> StarProfile:
    """Measure the straight lines from a centre to networks, those that it was not trained with as well.

    Args:
        centre: such as the centre of a `Star`.
        networks: by name, in the centre's coordinates.
        model: of the architecture; left as it is.
        evaluation: how to measure.
        points: on every line, ends included.
        progress: called after every point.

    Returns:
        the profiles; interrupted with Ctrl-C, those begun by then.

    Raises:
        OptionError: if an option or the evaluation cannot work.
        MismatchError: if a network does not fit the model.
    """
    spokes: dict[str, PathProfile] = {}
    for name, network in networks.items():
        spokes[name] = profile_path(model, centre, network, evaluation, lams=points, progress=progress)
        if not spokes[name].complete:
            break
    return StarProfile(spokes)
