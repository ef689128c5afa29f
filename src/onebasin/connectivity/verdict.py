"""What is found out about networks before they are averaged: lines of pairs, averages of groups, and a suggestion.

Thresholds are conventions. Frankle et al. (2020) call networks linearly connected where the error rises by less than
two points; an average that is to replace its parents should lose less than that.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from onebasin.json_file import read_json, record, write_json

PAIR_FORMAT = "onebasin-preflight-pair/1"
ERROR_BARRIER = 0.01
"""The largest error barrier of networks that may be averaged: one point."""
LOSS_BARRIER = 0.05
"""The largest loss barrier, in the units of the loss, where correct answers are not counted."""
AS_THEY_ARE = "average as they are"
ALIGN = "align, then average"
CORRECT = "align, average and correct"
ENSEMBLE = "do not average: ensemble instead"
SUGGESTIONS = (AS_THEY_ARE, ALIGN, CORRECT, ENSEMBLE)
"""From the least to do to the most."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Loss and error on the line between two networks.

    Attributes:
        lams: points from 0 to 1.
        loss: the mean loss a sample at each.
        error: the share of wrong answers, 0 to 1; empty where correct answers are not counted.
        loss_barrier: how far the loss rises above the line between the ends (Entezari et al. 2022).
        loss_interval: 95 %, by what the sample of the data leaves open; None where it cannot be told.
        error_barrier: likewise of the error, 0 to 1; None where correct answers are not counted.
        error_interval: of it.
    """

    lams: tuple[float, ...]
    loss: tuple[float, ...]
    error: tuple[float, ...]
    loss_barrier: float
    loss_interval: Interval | None = None
    error_barrier: float | None = None
    error_interval: Interval | None = None

    @property
    def flat(self) -> bool:
        """Whether the average is no worse than its ends: an error barrier of at most one point, else a loss barrier."""
        if self.error_barrier is not None:
            return self.error_barrier <= ERROR_BARRIER
        return self.loss_barrier <= LOSS_BARRIER

    @property
    def unsure(self) -> bool:
        """Whether `flat` is not the same at both ends of a known interval."""
        known = self.error_interval if self.error_barrier is not None else self.loss_interval
        limit = ERROR_BARRIER if self.error_barrier is not None else LOSS_BARRIER
        return known is not None and (known[0] <= limit) != (known[1] <= limit)

    @classmethod
    def of(cls, data: Mapping[str, object]) -> Self:
        """From the JSON form."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Pair:
    """What was found out about two networks.

    Attributes:
        a: the name of one.
        b: of the other.
        raw: the line between them as they are.
        aligned: to `b` in the coordinates of `a`.
        corrected: to `b` aligned, with every unit repaired (Jordan et al. 2023); None where there was no need.
        raw_features: 1 - cos of the outputs of the average and the average of the outputs, mean over samples; None
            where outputs are not known. For networks of one parent, on tasks of their own or not, this is what
            cross-task linearity (Zhou et al. 2024) says is small.
        aligned_features: the same of `a` and `b` aligned: layerwise linear feature connectivity (Zhou et al. 2023) at
            the last layer.
    """

    a: str
    b: str
    raw: Line
    aligned: Line
    corrected: Line | None = None
    raw_features: float | None = None
    aligned_features: float | None = None

    @property
    def suggestion(self) -> str:
        """The least that makes the average no worse than its ends, one of `SUGGESTIONS`.

        That is nothing, aligning, or aligning and correcting, if the barrier is then at most `ERROR_BARRIER`, or
        `LOSS_BARRIER` where errors are not counted.
        """
        return self._decided[0]

    @property
    def line(self) -> Line:
        """The line that the suggestion rests on."""
        return self._decided[1]

    @property
    def _decided(self) -> tuple[str, Line]:
        tried = ((AS_THEY_ARE, self.raw), (ALIGN, self.aligned), (CORRECT, self.corrected))
        flat = [(text, line) for text, line in tried if line is not None and line.flat]
        return flat[0] if flat else (ENSEMBLE, self.corrected or self.aligned)

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, {"format": PAIR_FORMAT, "suggestion": self.suggestion} | asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read or holds something else.
        """
        with record(read_json(path), path, "a pair of networks", PAIR_FORMAT) as data:
            return cls.of(data)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From the fields of the JSON form."""
        held = {field.name: data[field.name] for field in fields(cls)}
        for name in ("raw", "aligned", "corrected"):
            held[name] = None if held[name] is None else Line.of(held[name])
        return cls(**held)


@dataclass(frozen=True)
class Average:
    """The average of all networks of a group.

    Attributes:
        networks: their names.
        suggestion: what was done, one of `SUGGESTIONS`.
        loss: the mean loss a sample of the average.
        networks_loss: of the networks, their mean.
        error: the share of wrong answers of the average, 0 to 1; None where correct answers are not counted.
        networks_error: of the networks, their mean.
    """

    networks: tuple[str, ...]
    suggestion: str
    loss: float
    networks_loss: float
    error: float | None = None
    networks_error: float | None = None

    @property
    def good(self) -> bool:
        """Whether it is no worse than its networks: by at most one point of error, else of loss by the limit."""
        if self.error is not None and self.networks_error is not None:
            return self.error - self.networks_error <= ERROR_BARRIER
        return self.loss - self.networks_loss <= LOSS_BARRIER

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """From the JSON form."""
        held = {field.name: data[field.name] for field in fields(cls)}
        return cls(**held | {"networks": tuple(held["networks"])})
