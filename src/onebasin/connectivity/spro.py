"""Simplexes and complexes whose further vertices are trained: SPRO, and where ESPRO takes its members from.

Simplicial pointwise random optimisation (Benton et al., "Loss surface simplexes for mode connecting volumes and fast
ensembling", ICML 2021, section 4): connecting vertices are trained one after another, all others fixed, to minimise

    E over simplexes K with the new vertex, lambda ~ Dirichlet(1) of L(sum of lambda_i theta_i)
        - strength * sum over K of log V(K),

the loss at random points of the simplexes that the new vertex belongs to, and their volumes, so that they do not fall
in on themselves. The expectation is followed with one point a batch. `strength` is what an e-fold larger volume may
cost, in units of the loss; the paper's strength is that times log V of the first simplex, a number whose sign depends
on the unit of length. An ESPRO ensemble (section 5) averages predictions at random points of the complex, simplexes
being drawn in proportion to their volume.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from onebasin.checkpoint import Source, load_params, save_checkpoint
from onebasin.connectivity.measure import states_of
from onebasin.connectivity.simplex import check_vertices, log_volume
from onebasin.connectivity.span import Span
from onebasin.connectivity.training import Fit, Schedule, fit_vertices
from onebasin.errors import OptionError
from onebasin.evaluation import Batches, Evaluate, Evaluation, Params
from onebasin.json_file import read_json, record, typed, write_json
from onebasin.progress import Progress, Report, silent

FORMAT = "onebasin-complex/1"
FILE = "complex.json"
Simplexes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Complex:
    """Several networks in the same coordinates, and the simplexes between them.

    Attributes:
        vertices: the tensors of every network.
        simplexes: the positions of each one's vertices; none is a face of another.
        trained: the positions of the vertices that were trained to connect the others, in the order of training.
        losses: of these, the mean loss in every epoch.
        complete: False where training was interrupted; vertices that were not begun are missing then.
        seconds: spent; not saved.
    """

    vertices: tuple[Params, ...]
    simplexes: Simplexes
    trained: tuple[int, ...] = ()
    losses: tuple[tuple[float, ...], ...] = ()
    complete: bool = True
    seconds: float = field(default=0.0, compare=False)

    def span(self, model: nn.Module) -> Span:
        """All vertices on a model of their architecture."""
        return Span(model, self.vertices)

    def log_volumes(self, model: nn.Module) -> tuple[float, ...]:
        """The natural logarithm of the volume of every simplex; those of different dimensions cannot be compared."""
        table = self.span(model).matrix()
        return tuple(float(log_volume(table[list(simplex)])) for simplex in self.simplexes)

    def sample(self, model: nn.Module, count: int, generator: np.random.Generator) -> list[list[float]]:
        """Draw points uniformly from the complex: a simplex in proportion to its volume, then a point of it.

        Only simplexes of the highest dimension are drawn from, beside which others have no volume; where all are flat,
        each is as likely.

        Args:
            model: of the architecture.
            count: how many.
            generator: draws them.

        Returns:
            for every point one weight a vertex, ready for `span(model).params`.
        """
        shares = self._shares(model)
        return [_point(self, shares, generator) for _ in range(count)]

    def members(self, model: nn.Module, count: int, evaluation: Evaluation, seed: int = 0) -> list[dict[str, Tensor]]:
        """Networks of an ESPRO ensemble (Benton et al. 2021): the points of `sample`, ready to run.

        Args:
            model: of the architecture; left as it is.
            count: how many.
            evaluation: what becomes of BatchNorm's statistics: they should be re-estimated.
            seed: of the points.
        """
        points = self.sample(model, count, np.random.default_rng(seed))
        return states_of(self.span(model), points, evaluation)

    def _shares(self, model: nn.Module) -> list[float]:
        most = max(map(len, self.simplexes))
        volumes = np.array(self.log_volumes(model))
        largest = np.array([len(simplex) == most for simplex in self.simplexes])
        flat = not np.isfinite(volumes[largest]).any()
        logs = np.where(largest, 0.0 if flat else volumes, -np.inf)
        shares = np.exp(logs - logs.max())
        return [float(share) for share in shares / shares.sum()]

    def save(self, folder: str | Path) -> None:
        """Write `complex.json` and `vertex-1.safetensors`, `vertex-2.safetensors`, ... to a folder, which must exist.

        The JSON file is written last: where it is, the rest is.
        """
        for number, vertex in enumerate(self.vertices, start=1):
            save_checkpoint(dict(vertex), Path(folder) / f"vertex-{number}.safetensors")
        write_json(
            Path(folder) / FILE,
            {
                "format": FORMAT,
                "vertices": len(self.vertices),
                "simplexes": [list(simplex) for simplex in self.simplexes],
                "trained": list(self.trained),
                "losses": [list(row) for row in self.losses],
                "complete": self.complete,
            },
        )

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if a file is missing or is not what `save` wrote.
        """
        path = Path(folder) / FILE
        with record(read_json(path), path, "a complex", FORMAT) as data:
            files = [Path(folder) / f"vertex-{number + 1}.safetensors" for number in range(data["vertices"])]
            simplexes = tuple(tuple(map(int, simplex)) for simplex in data["simplexes"])
            losses = tuple(tuple(map(float, row)) for row in data["losses"])
            trained, complete = tuple(map(int, data["trained"])), typed(data, "complete", bool)
        return cls(tuple(dict(load_params(str(file))) for file in files), simplexes, trained, losses, complete)


def _point(found: Complex, shares: Sequence[float], generator: np.random.Generator) -> list[float]:
    simplex = found.simplexes[int(generator.choice(len(shares), p=shares))]
    weights = [0.0] * len(found.vertices)
    for vertex, weight in zip(simplex, generator.dirichlet(np.ones(len(simplex))), strict=True):
        weights[vertex] = float(weight)
    return weights


def fit_simplex(
    model: nn.Module,
    vertices: Sequence[Source],
    batches: Batches,
    evaluate: Evaluate,
    count: int = 1,
    *,
    strength: float = 0.01,
    offset: float = 0.05,
    schedule: Schedule | None = None,
    progress: Report = silent,
) -> Complex:
    """Grow one simplex: train further vertices so that all averages of all are good; see `fit_complex`.

    Args:
        model: of the architecture; left as it is.
        vertices: the networks it begins with, one or more; they stay.
        batches: one step each.
        evaluate: the loss.
        count: vertices to add.
        strength: see the module's text.
        offset: see `fit_complex`.
        schedule: of the training of every vertex.
        progress: called after every epoch.

    Raises:
        OptionError: as `fit_complex`.
    """
    if count < 1:
        raise OptionError("count", expected="1 or more", found=str(count), remedy="raise it")
    whole = [list(range(len(vertices) + count))]
    options = {"strength": strength, "offset": offset}
    return fit_complex(model, vertices, whole, batches, evaluate, **options, schedule=schedule, progress=progress)


def fit_complex(
    model: nn.Module,
    vertices: Sequence[Source],
    simplexes: Sequence[Sequence[int]],
    batches: Batches,
    evaluate: Evaluate,
    *,
    strength: float = 0.01,
    offset: float = 0.05,
    schedule: Schedule | None = None,
    progress: Report = silent,
) -> Complex:
    """Train the vertices that connect networks in a complex whose simplexes share them.

    Args:
        model: of the architecture; left as it is.
        vertices: the networks to be connected, one or more; they stay.
        simplexes: positions of vertices, counted from 0; those from `len(vertices)` on are to be trained, in their
            order. `[(0, 1, 3), (1, 2, 3)]` with three networks joins all by one vertex.
        batches: one step each.
        evaluate: the loss.
        strength: see the module's text.
        offset: a new vertex begins as the mean of those it is joined with, plus noise of this share of each tensor's
            root mean square: without it its simplexes would be flat.
        schedule: of the training of every vertex; the seeds of later ones follow that of the first.
        progress: called after every epoch.

    Returns:
        the complex; interrupted with Ctrl-C, as far as it was trained.

    Raises:
        OptionError: if an option is out of range, a simplex is none, or the loss cannot be followed.
        MismatchError: if a network does not fit the model.
    """
    started = time.perf_counter()
    check_vertices(len(vertices), 1)
    wanted = _checked(simplexes, len(vertices))
    if strength < 0 or offset <= 0:
        raise OptionError(
            "strength and offset", expected="0 or more, and above 0", found=f"{strength}, {offset}", remedy="raise them"
        )
    plan = Schedule() if schedule is None else schedule
    known = Span(model, vertices).vertices
    found = Complex(known, ())
    for new in range(len(vertices), 1 + max(map(max, wanted))):
        joined = tuple(tuple(sorted(v for v in s if v <= new)) for s in wanted if new in s)
        span = Span(model, [*found.vertices, _begin(model, found.vertices, joined, offset, plan.seed + new)])
        report = partial(_renamed, progress, f"vertex {new + 1}")
        fit = _fit(span, new, joined, batches, evaluate, replace(plan, seed=plan.seed + new), strength, report)
        found = Complex(
            fit.vertices,
            _largest([tuple(sorted(v for v in s if v <= new)) for s in wanted]),
            (*found.trained, new),
            (*found.losses, fit.losses),
            fit.complete,
            time.perf_counter() - started,
        )
        if not fit.complete:
            break
    return found if found.simplexes else replace(found, simplexes=_largest(wanted))


def _fit(
    span: Span,
    new: int,
    joined: Simplexes,
    batches: Batches,
    evaluate: Evaluate,
    schedule: Schedule,
    strength: float,
    progress: Report,
) -> Fit:
    """Train one vertex on the simplexes it belongs to, each as likely: by volume the flat ones would never be seen."""
    frame = Complex(span.vertices, joined)

    def draw(generator: np.random.Generator) -> list[float]:
        return _point(frame, [1 / len(joined)] * len(joined), generator)

    def penalty(table: Tensor) -> Tensor:
        volumes = [log_volume(table[list(simplex)]) for simplex in joined]
        return -strength * sum((v for v in volumes if v.requires_grad), table.new_zeros((), dtype=torch.float64))

    return fit_vertices(
        span, [new], draw, batches, evaluate, schedule, penalty=penalty if strength else None, progress=progress
    )


def _begin(
    model: nn.Module, vertices: Sequence[Params], joined: Simplexes, offset: float, seed: int
) -> dict[str, Tensor]:
    """The mean of the vertices that a new one is joined with, and noise on the coordinates."""
    others = sorted({v for simplex in joined for v in simplex} - {len(vertices)})
    span = Span(model, vertices)
    found = span.params([1 / len(others) if v in others else 0.0 for v in range(len(vertices))])
    generator = torch.Generator().manual_seed(seed)
    for name in span.parameters:
        size = offset * found[name].double().square().mean().sqrt().to(found[name].dtype)
        found[name] += size * torch.randn(found[name].shape, generator=generator).to(found[name])
    return found


def _checked(simplexes: Sequence[Sequence[int]], given: int) -> Simplexes:
    wanted = tuple(tuple(simplex) for simplex in simplexes)
    named = {v for simplex in wanted for v in simplex}
    wrong = [s for s in wanted if not s or len(set(s)) < len(s) or min(s) < 0]
    if not wanted or wrong or named | set(range(given)) != set(range(max(named) + 1 if named else 0)):
        raise OptionError(
            "simplexes",
            expected=f"sets of positions that name every vertex from {given} on",
            found=str(list(simplexes)),
            remedy="count from 0 and leave none out",
        )
    return wanted


def _largest(simplexes: Sequence[tuple[int, ...]]) -> Simplexes:
    """Simplexes that are no face of another, once each."""
    kept = dict.fromkeys(simplex for simplex in simplexes if len(simplex) > 1)
    return tuple(s for s in kept if not any(set(s) < set(other) for other in kept))


def _renamed(report: Report, stage: str, step: Progress) -> None:
    report(replace(step, stage=stage))
