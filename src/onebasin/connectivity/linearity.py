"""Whether features are linear in the parameters: LLFC and CTL.

With f(theta) the features of a layer, networks theta_i and weights l_i,

    f(sum_i l_i theta_i)  =  c sum_i l_i f(theta_i)

is layerwise linear feature connectivity (LLFC; Zhou et al., NeurIPS 2023) where the networks solve one task, and
cross-task linearity (CTL; Zhou et al., ICML 2024) where they were fine-tuned from one parent on different tasks.
"""

import itertools
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source
from onebasin.connectivity.features import as_rows, distances_of_lengths, reading
from onebasin.connectivity.measure import states_of
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation
from onebasin.json_file import numbers, read_json, record, typed, write_json
from onebasin.progress import Progress, Report, silent

FORMAT = "onebasin-features/1"
COLUMNS = ("defect", "spread", "coefficient", "relative", "baseline", "baseline_spread")
"""The figures of a layer."""


@dataclass(frozen=True)
class FeatureLinearity:
    """How far the features of a weighted sum of networks are from the weighted sum of features, layer by layer.

    Attributes:
        layers: in the order they run; the second run of a layer is called `name#2`.
        weights: of the networks.
        defect: mean over samples of 1 - cos(f(sum), sum of f), signed: 0 for one direction, 2 for opposite ones.
        spread: its standard deviation over samples.
        coefficient: <f(sum), sum of f> / |sum of f|^2 over all samples: the c of the definition.
        relative: |f(sum) - sum of f| / |sum of f| over all samples.
        baseline: mean over samples and pairs of networks of 1 - cos(f(theta_i), f(theta_j)); a defect is worth
            something where it is far below.
        baseline_spread: its standard deviation.
        samples: that were run.
        batchnorm: what became of BatchNorm's statistics, in the sum and in the networks alike; where they are kept the
            sum has those between the networks'.
        complete: False where it was interrupted; figures are then those of the samples by then.
    """

    layers: tuple[str, ...]
    weights: tuple[float, ...]
    defect: tuple[float, ...]
    spread: tuple[float, ...]
    coefficient: tuple[float, ...]
    relative: tuple[float, ...]
    baseline: tuple[float, ...]
    baseline_spread: tuple[float, ...]
    samples: int
    batchnorm: str
    complete: bool = True

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, object]:
        """The JSON form: one list a column, one entry a layer."""
        return {
            "format": FORMAT,
            "batchnorm": self.batchnorm,
            "samples": self.samples,
            "complete": self.complete,
            "weights": list(self.weights),
            "layers": list(self.layers),
            **{name: list(getattr(self, name)) for name in COLUMNS},
        }

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read or is none of these.
        """
        return cls.from_json(read_json(path), str(path))

    @classmethod
    def from_json(cls, data: object, where: str) -> Self:
        """From the JSON form.

        Args:
            data: what `to_json` gave.
            where: it was read from, for errors.

        Raises:
            CheckpointError: if it is something else.
        """
        with record(data, where, "layers with a number each in every column", FORMAT) as held:
            columns = [numbers(held[name], f"{where}: {name}") for name in COLUMNS]
            layers = tuple(map(str, typed(held, "layers", list)))
            if any(len(row) != len(layers) for row in columns):
                raise ValueError("columns of different lengths")
            defect, spread, coefficient, relative, baseline, baseline_spread = columns
            return cls(
                layers,
                tuple(map(float, held["weights"])),
                defect,
                spread,
                coefficient,
                relative,
                baseline,
                baseline_spread,
                typed(held, "samples", int),
                typed(held, "batchnorm", str),
                typed(held, "complete", bool),
            )


def feature_linearity(
    model: nn.Module,
    networks: Sequence[Source],
    evaluation: Evaluation,
    *,
    weights: Sequence[float] | None = None,
    layers: Sequence[str] | None = None,
    samples: int | None = None,
    progress: Report = silent,
) -> FeatureLinearity:
    """Compare the features of a weighted sum of networks with the weighted sum of their features.

    Figures are added up batch by batch: nothing grows with the data. Axis 0 of features counts samples.

    Args:
        model: of the architecture of the networks; left as it is.
        networks: two or more, in the same coordinates: apply matchings first.
        evaluation: what runs a network on a batch, the data, and what becomes of BatchNorm's statistics.
        weights: one a network; None takes the mean. Any numbers: (1 - lam, lam) of a pair, or (-1, 1, 1) of a parent
            and two fine-tunes, the sum of task arithmetic.
        layers: names of modules; None takes all without layers inside that do not only repeat what they take.
        samples: to run, at least; None takes all.
        progress: called after every layer of a batch.

    Returns:
        figures of every layer; interrupted with Ctrl-C, those of the batches by then.

    Raises:
        OptionError: if there are fewer than two networks, `weights` are not as many, or the data, `layers` or `samples`
            cannot work.
        MismatchError: if a network does not fit the model.
    """
    span, chosen = spanned(model, networks, weights)
    tallies: dict[str, Tally] = {}
    counts: dict[str, int] = {}
    complete = False
    with suppress(KeyboardInterrupt), reading(span, evaluation, layers) as reader:
        states = states_of(span, [chosen, *vertices(len(span))], evaluation)
        for layer, taken, count in reader.stream(states, samples):
            tallies.setdefault(layer, Tally()).add([as_rows(one.output) for one in taken], chosen)
            counts[layer] = counts.get(layer, 0) + count
            progress(Progress("features", counts[layer], samples, layer))
        complete = True
    columns = zip(*(tally.figures() for tally in tallies.values()), strict=True) if tallies else [()] * len(COLUMNS)
    found = dict(zip(COLUMNS, map(tuple, columns), strict=True))
    run = max(counts.values(), default=0)
    policy = evaluation.batchnorm
    return FeatureLinearity(tuple(tallies), chosen, **found, samples=run, batchnorm=policy, complete=complete)


@dataclass(slots=True)
class Tally:
    """Sums over samples of one layer."""

    defects: list[float] = field(default_factory=lambda: [0.0] * 3)
    baselines: list[float] = field(default_factory=lambda: [0.0] * 3)
    inner: float = 0.0
    square: float = 0.0
    residual: float = 0.0

    def add(self, features: Sequence[Tensor], weights: Sequence[float]) -> None:
        """Add a batch: features of the sum, then of every network, `[n, numbers]` each."""
        total, *single = features
        mixed = weighted(single, weights)
        lengths = [rows.norm(dim=1) for rows in (total, mixed, *single)]
        residual = (total - mixed).norm(dim=1)
        _collect(self.defects, distances_of_lengths(lengths[0], lengths[1], residual))
        for (x, size), (y, other) in itertools.combinations(zip(single, lengths[2:], strict=True), 2):
            _collect(self.baselines, distances_of_lengths(size, other, (x - y).norm(dim=1)))
        squares = [float(row.square().sum()) for row in (*lengths[:2], residual)]
        self.inner += (squares[0] + squares[1] - squares[2]) / 2
        self.square += squares[1]
        self.residual += squares[2]

    def figures(self) -> tuple[float, ...]:
        """As `COLUMNS` names them."""
        coefficient = self.inner / self.square if self.square else math.nan
        relative = ratio(self.residual, self.square)
        return (*_moments(self.defects), coefficient, relative, *_moments(self.baselines))


def _collect(sums: list[float], values: Tensor) -> None:
    for k, power in enumerate((torch.ones_like(values), values, values.square())):
        sums[k] += float(power.sum())


def _moments(sums: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation."""
    mean = sums[1] / sums[0]
    return mean, math.sqrt(max(0.0, sums[2] / sums[0] - mean**2))


def ratio(above: float, below: float) -> float:
    """The ratio of two lengths given by their squares; 0 of 0 is 0."""
    return math.sqrt(above / below) if below else (math.inf if above else 0.0)


def weighted(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The sum of tensors, each times its weight."""
    total = weights[0] * parts[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total.add_(part, alpha=weight)
    return total


def spanned(
    model: nn.Module, networks: Sequence[Source], weights: Sequence[float] | None
) -> tuple[Span, tuple[float, ...]]:
    """Two networks or more, and their weights: those given, or those of the mean.

    Raises:
        OptionError: if there are fewer networks, or `weights` are not as many finite numbers.
    """
    if len(networks) < 2:  # noqa: PLR2004 - a comparison
        raise OptionError("networks", expected="two or more", found=str(len(networks)), remedy="pass them in a list")
    chosen = tuple(map(float, weights)) if weights is not None else (1 / len(networks),) * len(networks)
    if len(chosen) != len(networks) or not all(map(math.isfinite, chosen)):
        raise OptionError(
            "weights",
            expected=f"{len(networks)} numbers, one a network",
            found=", ".join(f"{weight:g}" for weight in chosen),
            remedy="leave them out for the mean",
        )
    return Span(model, networks), chosen


def vertices(count: int) -> list[list[float]]:
    """The weights of the networks themselves."""
    return [[float(j == k) for j in range(count)] for k in range(count)]
