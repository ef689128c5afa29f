"""Before averaging networks: which of them may be averaged, and what it takes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Self

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.connectivity.measure import measure, reestimate, state_at
from onebasin.connectivity.path import profile_path
from onebasin.connectivity.span import Span
from onebasin.connectivity.verdict import (
    AS_THEY_ARE,
    CORRECT,
    ENSEMBLE,
    ERROR_BARRIER,
    LOSS_BARRIER,
    PAIR_FORMAT,
    SUGGESTIONS,
    Average,
    Line,
    Pair,
)
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation
from onebasin.json_file import read_json, record, typed, write_json
from onebasin.matching import match, match_many
from onebasin.modes import in_mode
from onebasin.progress import Progress, Report, silent
from onebasin.symmetry import Matching, Symmetry

FORMAT = "onebasin-preflight/1"
FEATURE_SAMPLES = 1000
"""Samples that outputs are compared on, at least, where there are as many."""
Align = Callable[[Source, Source], Matching]
"""Finds the matching that brings the second network into the coordinates of the first."""
Gather = Callable[[Sequence[Source]], Sequence[Matching]]
"""Finds the matchings that bring all networks but the first into its coordinates, one each."""


@dataclass(frozen=True)
class Preflight:
    """Which of several networks may be averaged.

    Attributes:
        names: of the networks.
        pairs: every two of them, in the order of the names.
        averages: of the groups of three or more that pairs make, measured; see `clusters`.
        complete: False where the work was interrupted; only the pairs measured by then are listed.
    """

    names: tuple[str, ...]
    pairs: tuple[Pair, ...]
    averages: tuple[Average, ...] = ()
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

    def advised(self, cluster: Sequence[str]) -> tuple[tuple[str, ...], str]:
        """The networks of a cluster to average, and how: all, or the best pair where the average of all is not good."""
        found = self._average(cluster)
        if found is None:
            return tuple(cluster), self.suggestion(cluster)
        if found.good:
            return found.networks, found.suggestion
        pairs = [pair for pair in self.within(cluster) if pair.suggestion != ENSEMBLE]
        best = min(pairs, key=lambda pair: (pair.line.error_barrier or 0.0, pair.line.loss_barrier))
        return (best.a, best.b), best.suggestion

    def _average(self, cluster: Sequence[str]) -> Average | None:
        return next((average for average in self.averages if average.networks == tuple(cluster)), None)

    def _about(self, cluster: tuple[str, ...]) -> str:
        networks, how = self.advised(cluster)
        found = self._average(cluster)
        if found is not None and not found.good:
            best = f"best {_listed(networks)}: {how}"
            return f"{_listed(cluster)}: pairs may be averaged, all {len(cluster)} may not; {best}."
        if found is not None:
            return f"{_listed(cluster)}: {how}; the average of all {len(cluster)} is as good as they are."
        far = [f"{pair.a} with {pair.b}" for pair in self.within(cluster) if pair.suggestion == ENSEMBLE]
        caution = f"; measure that average, for not all pairs may be: {_listed(far)}" if far else ""
        return f"{_listed(cluster)}: {how}{caution}."

    def to_json(self) -> dict[str, object]:
        """The JSON form, with everything that is read off it."""
        return {
            "format": FORMAT,
            "names": list(self.names),
            "complete": self.complete,
            "limits": {"error_barrier": ERROR_BARRIER, "loss_barrier": LOSS_BARRIER},
            "sentence": self.sentence,
            "clusters": [
                {"networks": list(group), "suggestion": self.suggestion(group), "average": list(self.advised(group)[0])}
                for group in self.clusters
            ],
            "averages": [asdict(average) | {"good": average.good} for average in self.averages],
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
            pairs, averages = map(Pair.of, data["pairs"]), map(Average.of, data["averages"])
            return cls(tuple(data["names"]), tuple(pairs), tuple(averages), typed(data, "complete", bool))


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
    gather: Gather | None = None,
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
        gather: matches all networks of a group to its first; None: `onebasin.match_many` with the seed.
        seed: of the search and of the intervals.
        done: pairs that were measured before, which are not measured again.
        after_pair: called with every pair measured, to save it.
        progress: called after every pair and group.

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
        together = gather if gather is not None else lambda group: match_many(group, symmetry, seed=seed).matchings[1:]
        return _with_averages(Preflight(labels, tuple(found)), model, networks, together, evaluation, progress)
    except KeyboardInterrupt:
        return Preflight(labels, tuple(found), complete=False)


def _with_averages(
    answer: Preflight,
    model: nn.Module,
    networks: Sequence[Source],
    gather: Gather,
    evaluation: Evaluation,
    progress: Report,
) -> Preflight:
    """The answer with the averages of its groups of three or more."""
    places = dict(zip(answer.names, networks, strict=True))
    groups = [group for group in answer.clusters if len(group) > 2]  # noqa: PLR2004 - a pair is a line
    averages: list[Average] = []
    for group in groups:
        averages.append(_average(model, [places[name] for name in group], group, answer, gather, evaluation))
        progress(Progress("groups", len(averages), len(groups), f"{len(group)} networks"))
    return replace(answer, averages=tuple(averages))


def _average(
    model: nn.Module,
    networks: Sequence[Source],
    names: tuple[str, ...],
    answer: Preflight,
    gather: Gather,
    evaluation: Evaluation,
) -> Average:
    """The average of a group, made as its pairs suggest, and aligned and corrected as well where that is not good."""
    suggestion, count = answer.suggestion(names), len(networks)
    corners = [[float(j == k) for j in range(count)] for k in range(count)]
    tried: list[Average] = []
    moved: list[Source] = []
    for how in dict.fromkeys((suggestion, CORRECT)):
        if how != AS_THEY_ARE and not moved:
            moves = zip(gather(networks), networks[1:], strict=True)
            moved = [networks[0], *(matching.apply(network) for matching, network in moves)]
        policy = replace(evaluation, batchnorm="repair") if how == CORRECT else evaluation
        *each, whole = measure(Span(model, moved or networks, names), [*corners, [1 / count] * count], policy)
        errors = [row.error for row in each if row.error is not None]
        known = fmean(errors) if errors else None
        tried.append(Average(names, how, whole.loss, fmean(row.loss for row in each), whole.error, known))
        if tried[-1].good:
            return tried[-1]
    return tried[0]


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
