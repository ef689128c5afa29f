"""Before averaging networks: which of them may be averaged, and what it takes.

Thresholds are conventions. Frankle et al. (2020) call networks linearly connected where the error rises by less than
two points; an average that is to replace its parents should lose less than that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.connectivity.measure import reestimate, state_at
from onebasin.connectivity.path import profile_path
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation
from onebasin.json_file import read_json, record, write_json
from onebasin.matching import match
from onebasin.modes import in_mode
from onebasin.progress import Progress, Report, silent
from onebasin.symmetry import Matching, Symmetry

FORMAT = "onebasin-preflight/1"
PAIR_FORMAT = "onebasin-preflight-pair/1"
ERROR_BARRIER = 0.01
"""The largest error barrier of networks that may be averaged: one point."""
LOSS_BARRIER = 0.05
"""The largest loss barrier, in the units of the loss, where correct answers are not counted."""
FEATURE_SAMPLES = 1000
"""Samples that outputs are compared on, at least, where there are as many."""
AS_THEY_ARE = "average as they are"
ALIGN = "align, then average"
CORRECT = "align, average and correct"
ENSEMBLE = "do not average: ensemble instead"
SUGGESTIONS = (AS_THEY_ARE, ALIGN, CORRECT, ENSEMBLE)
"""From the least to do to the most."""

Align = Callable[[Source, Source], Matching]
"""Finds the matching that brings the second network into the coordinates of the first."""
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
class Preflight:
    """Which of several networks may be averaged.

    Attributes:
        names: of the networks.
        pairs: every two of them, in the order of the names.
        complete: False where the work was interrupted; only the pairs measured by then are listed.
    """

    names: tuple[str, ...]
    pairs: tuple[Pair, ...]
    complete: bool = True

    @property
    def clusters(self) -> tuple[tuple[str, ...], ...]:
        """Groups of networks joined by pairs that may be averaged (single linkage), the largest first.

        Fine-tuned text models fall into several (Juneja et al. 2023).
        """
        groups = [{name} for name in self.names]
        for pair in self.pairs:
            if pair.suggestion != ENSEMBLE:
                joined = [group for group in groups if {pair.a, pair.b} & group]
                groups = [group for group in groups if group not in joined] + [set().union(*joined)]
        ordered = [tuple(name for name in self.names if name in group) for group in groups]
        return tuple(sorted(ordered, key=lambda group: (-len(group), self.names.index(group[0]))))

    def within(self, cluster: Sequence[str]) -> list[Pair]:
        """The pairs of a cluster."""
        return [pair for pair in self.pairs if pair.a in cluster and pair.b in cluster]

    def suggestion(self, cluster: Sequence[str]) -> str:
        """The most that any pair of a cluster needs that may be averaged; to ensemble where there is none."""
        found = [pair.suggestion for pair in self.within(cluster) if pair.suggestion != ENSEMBLE]
        return max(found, key=SUGGESTIONS.index, default=ENSEMBLE)

    @property
    def sentence(self) -> str:
        """The answer for the set."""
        clusters = [group for group in self.clusters if len(group) > 1]
        if not clusters:
            return f"None of {_listed(self.names)} may be averaged with another: ensemble them instead."
        words = [self._about(group) for group in clusters]
        rest = [name for name in self.names if not any(name in group for group in clusters)]
        if rest:
            words.append(f"Leave out {_listed(rest)}.")
        if any(pair.line.unsure for pair in self.pairs):
            words.append("Some intervals reach across the limit: measure on more data to be sure.")
        return " ".join(words)

    def _about(self, cluster: tuple[str, ...]) -> str:
        far = [f"{pair.a} with {pair.b}" for pair in self.within(cluster) if pair.suggestion == ENSEMBLE]
        caution = f"; measure that average, for not all pairs may be: {_listed(far)}" if far else ""
        return f"{_listed(cluster)}: {self.suggestion(cluster)}{caution}."

    def to_json(self) -> dict[str, object]:
        """The JSON form, with everything that is read off it."""
        return {
            "format": FORMAT,
            "names": list(self.names),
            "complete": self.complete,
            "limits": {"error_barrier": ERROR_BARRIER, "loss_barrier": LOSS_BARRIER},
            "sentence": self.sentence,
            "clusters": [{"networks": list(g), "suggestion": self.suggestion(g)} for g in self.clusters],
            "pairs": [{"format": PAIR_FORMAT, "suggestion": p.suggestion} | asdict(p) for p in self.pairs],
        }

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read or holds something else.
        """
        with record(read_json(path), path, "an answer about networks", FORMAT) as data:
            return cls(tuple(data["names"]), tuple(Pair.of(row) for row in data["pairs"]), data["complete"])


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])


def preflight(
    model: nn.Module,
    networks: Sequence[Source],
    symmetry: Symmetry,
    evaluation: Evaluation,
    *,
    names: Sequence[str] | None = None,
    points: int = 7,
    align: Align | None = None,
    seed: int = 0,
    done: Sequence[Pair] = (),
    after_pair: Callable[[Pair], None] | None = None,
    progress: Report = silent,
) -> Preflight:
    """Find out which of several networks may be averaged.

    Args:
        model: of the networks' architecture; left as it is.
        networks: two or more.
        symmetry: of the architecture.
        evaluation: how to measure.
        names: of the networks, all different; None: model 1, model 2, ...
        points: on every line, ends included.
        align: matches the second network to the first; None: `onebasin.match` with the seed.
        seed: of the search and of the intervals.
        done: pairs that were measured before, which are not measured again.
        after_pair: called with every pair measured, to save it.
        progress: called after every pair.

    Returns:
        the answer; interrupted with Ctrl-C it holds the pairs measured by then.

    Raises:
        OptionError: if there are fewer than two networks, or an option or the evaluation cannot work.
        MismatchError: if a network does not fit the model, naming the tensor.
    """
    labels = tuple(names) if names is not None else tuple(f"model {k + 1}" for k in range(len(networks)))
    if len(networks) < 2 or len(labels) != len(networks) or len(set(labels)) != len(labels):  # noqa: PLR2004 - a pair
        raise OptionError(
            "networks", expected="two or more, with a name each", found=", ".join(labels) or "none", remedy="pass them"
        )
    Span(model, networks, labels)  # all are looked at before the first is measured
    known = {(pair.a, pair.b): pair for pair in done}
    search = align if align is not None else lambda a, b: match(a, b, symmetry, seed=seed)
    found: list[Pair] = []
    wanted = list(combinations(zip(labels, networks, strict=True), 2))
    try:
        for (a, first), (b, second) in wanted:
            if (a, b) not in known:
                known[a, b] = replace(_pair(model, first, second, search, evaluation, points, seed), a=a, b=b)
                if after_pair is not None:
                    after_pair(known[a, b])
            found.append(known[a, b])
            progress(Progress("pairs", len(found), len(wanted), f"{a} and {b}: {found[-1].suggestion}"))
    except KeyboardInterrupt:
        return Preflight(labels, tuple(found), complete=False)
    return Preflight(labels, tuple(found))


def _pair(
    model: nn.Module, a: Source, b: Source, search: Align, evaluation: Evaluation, points: int, seed: int
) -> Pair:
    raw = _line(model, a, b, evaluation, points, seed)
    moved = search(a, b).apply(b)
    aligned = _line(model, a, moved, evaluation, points, seed)
    corrected = None
    if not (raw.flat or aligned.flat) and evaluation.batchnorm != "repair":
        corrected = _line(model, a, moved, replace(evaluation, batchnorm="repair"), 3, seed)
    scores = [output_linearity(Span(model, [a, end]), evaluation) for end in (b, moved)]
    return Pair("", "", raw, aligned, corrected, *scores)


def _line(model: nn.Module, a: Source, b: Source, evaluation: Evaluation, points: int, seed: int) -> Line:
    found = profile_path(model, a, b, evaluation, lams=points, seed=seed)
    if not found.complete:
        raise KeyboardInterrupt  # half a line says nothing about a barrier
    counted = bool(found.error)
    return Line(
        found.lams,
        found.loss,
        found.error,
        found.loss_barrier(),
        found.intervals.get("loss linear"),
        found.error_barrier() if counted else None,
        found.intervals.get("error linear"),
    )


def output_linearity(span: Span, evaluation: Evaluation, samples: int = FEATURE_SAMPLES) -> float | None:
    """How far the outputs of the average of networks are from the average of their outputs.

    1 - cos(f(mean of theta_i; x), mean of f(theta_i; x)), the mean over samples x: 0 where outputs are linear between
    the networks (equation 1 of Zhou et al. 2023 at the last layer, and without its absolute value: outputs of opposite
    sign are far apart).

    Args:
        span: the networks, in the same coordinates.
        evaluation: gives the data, and `predict`, which gives the outputs.
        samples: how many to compare on, at least, where there are as many.

    Returns:
        from 0 to 2; None where the evaluation does not predict.
    """
    if evaluation.predict is None:
        return None
    count = len(span)
    everywhere = [[float(j == k) for j in range(count)] for k in range(count)] + [[1 / count] * count]
    with torch.no_grad():
        states = [state_at(span, weights, evaluation) for weights in everywhere]
        if evaluation.batchnorm == "reestimate":
            reestimate(span, states, evaluation)
        rows: list[Tensor] = []
        with in_mode(span.model, train=False):
            for batch in evaluation.data():
                outputs = [span.runner.call(evaluation.predict, state, batch)[0].double() for state in states]
                rows.append(1 - torch.cosine_similarity(outputs[-1], torch.stack(outputs[:-1]).mean(dim=0), dim=1))
                if sum(map(len, rows)) >= samples:
                    break
    return float(torch.cat(rows).mean())
