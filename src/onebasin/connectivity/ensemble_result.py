"""The table of ensembles at equal cost, and what it says about the null."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from onebasin.connectivity.comparison import Comparison
from onebasin.json_file import read_json, record, write_json

FORMAT = "onebasin-ensembles/1"
_MOST = 0.5


@dataclasses.dataclass(frozen=True)
class EnsembleRow:
    """One ensemble at one cost.

    Attributes:
        name: of the kind of ensemble.
        forwards: networks that are run on every sample.
        error: the share of wrong answers, 0 to 1.
        nll: negative log-likelihood, nats a sample.
        ece: expected calibration error, 15 bins, 0 to 1.
        brier: the Brier score, 0 to 2.
        disagreement: the mean share of samples that two of its networks answer differently.
        calibrated_nll: with the temperature that is the likeliest on calibration data; None without.
        calibrated_ece: likewise.
        temperature: likewise.
        equivalent: how many independent networks have the same (calibrated) negative log-likelihood: the deep ensemble
            equivalent of Ashukha et al. (2020), between whole numbers on the straight line; 0 where even one is better,
            infinite where all vertices together are worse.
        draws: ensembles of this kind whose figures are averaged here.
    """

    name: str
    forwards: int
    error: float
    nll: float
    ece: float
    brier: float
    disagreement: float
    calibrated_nll: float | None
    calibrated_ece: float | None
    temperature: float | None
    equivalent: float
    draws: int


@dataclasses.dataclass(frozen=True)
class EnsembleTable:
    """Ensembles side by side.

    Attributes:
        rows: one an ensemble and cost.
        comparisons: points of the simplex less vertices at equal forwards, paired over samples; below 0 where the
            points are better.
        recovered: by the measure, the share of what all vertices gain over one network that the barycentre has at one
            forward, with its 95 % interval; none where the vertices gain nothing.
        count: samples.
        batchnorm: what became of BatchNorm's statistics in points between networks.
    """

    rows: tuple[EnsembleRow, ...]
    comparisons: tuple[Comparison, ...]
    recovered: Mapping[str, tuple[float, float, float]]
    count: int
    batchnorm: str

    @property
    def null_holds(self) -> bool:
        """Whether the null stands: no points of the simplex beat the vertices at equal forwards.

        They beat them where a 95 % interval of the difference, in any measure, lies below 0; of so many intervals one
        in forty does so by chance.
        """
        return all(row.high >= 0 for row in self.comparisons)

    @property
    def barycentre_gives_most(self) -> bool:
        """Whether the barycentre has at least half of the vertices' gain in every measure in which there is one."""
        return bool(self.recovered) and all(share >= _MOST for share, _, _ in self.recovered.values())

    def statement(self) -> list[str]:
        """What the table says about the null, in sentences."""
        lines = ["Simplex points do not beat the vertices at equal forwards."] if self.null_holds else []
        lines += [
            f"Simplex points beat the vertices at {row.forwards} forward{'s' if row.forwards > 1 else ''} "
            f"in {row.measure}: {row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]."
            for row in self.comparisons
            if row.high < 0
        ]
        for measure, (share, low, high) in self.recovered.items():
            part = "most" if share >= _MOST else "less than half" if share >= 0 else "nothing"
            interval = f"({100 * share:.0f} % [{100 * low:.0f}, {100 * high:.0f}])"
            rest = f"at one forward {interval}" if share >= 0 else "and is worse than one network"
            lines.append(f"In {measure}, the barycentre gives {part} of the vertex ensemble's gain {rest}.")
        return lines

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, object]:
        """The JSON form; an infinite equivalent becomes null."""
        return {
            "format": FORMAT,
            "count": self.count,
            "batchnorm": self.batchnorm,
            "null_holds": self.null_holds,
            "statement": self.statement(),
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "comparisons": [dataclasses.asdict(row) for row in self.comparisons],
            "recovered": {name: list(row) for name, row in self.recovered.items()},
        }

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read or is none of these.
        """
        with record(read_json(path), path, "a table of ensembles", FORMAT) as data:
            rows = [
                {**row, "equivalent": math.inf if row["equivalent"] is None else row["equivalent"]}
                for row in data["rows"]
            ]
            shares = {name: (share, low, high) for name, (share, low, high) in data["recovered"].items()}
            return cls(
                tuple(EnsembleRow(**row) for row in rows),
                tuple(Comparison(**row) for row in data["comparisons"]),
                shares,
                data["count"],
                data["batchnorm"],
            )
