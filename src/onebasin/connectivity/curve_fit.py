"""Train a curve of low loss between two networks (Garipov et al. 2018), also modulo permutations (Tatro 2020)."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from onebasin.checkpoint import Source
from onebasin.connectivity.curve import Basis, Curve, basis_of, chain, weighted, whole
from onebasin.connectivity.span import Span
from onebasin.connectivity.training import Fit, Schedule, fit_vertices
from onebasin.errors import OptionError
from onebasin.evaluation import Batches, Evaluate, Params, batch_statistics, positive, repeatable
from onebasin.matching import match
from onebasin.progress import Progress, Report, silent
from onebasin.symmetry import Matching, Symmetry

_SAMPLED = 10
"""Batches on which curves are compared."""
_AT = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Points at which curves are compared."""


def fit_curve(
    model: nn.Module,
    a: Source,
    b: Source,
    batches: Batches,
    evaluate: Evaluate,
    *,
    kind: str = "bezier",
    bends: int = 1,
    free_ends: bool = False,
    symmetry: Symmetry | None = None,
    rematch: int = 0,
    schedule: Schedule | None = None,
    progress: Report = silent,
) -> Curve:
    """Train a curve between two networks so that all of it has a low loss.

    Minimises E over t ~ U[0, 1] of L(w(t)) + weight_decay/2 |w(t)|^2, w(t) = sum over j of weights_j(t) control_j, with
    one t for every batch, from the straight line on (Garipov et al. 2018, section 3). BatchNorm runs on the statistics
    of each batch.

    Args:
        model: of the architecture of `a` and `b`; left as it is.
        a: the network at t = 0.
        b: the network at t = 1, in `a`'s coordinates (apply a matching first) for a curve modulo permutations.
        batches: one step each.
        evaluate: the loss.
        kind: `"bezier"`, or `"polygonal"` for a chain of straight pieces.
        bends: control networks between the ends.
        free_ends: train the ends as well.
        symmetry: of the architecture, to reorder units by.
        rematch: so many times during training, after equal parts of the epochs, the units of the end are reordered to
            match the beginning, the control network before it or the one in the middle, and stay so where that lowers
            the loss at five points and on ten batches (alternating minimisation, as in Tatro et al. 2020). The learning
            rate falls in every part anew.
        schedule: of the training; None takes `Schedule()`.
        progress: called after every epoch.

    Returns:
        the curve; interrupted with Ctrl-C, as it was by then. The same seed gives the same bytes for one number of
        threads.

    Raises:
        OptionError: if an option cannot work, there are no batches, or the loss cannot be differentiated or is not
            finite.
        MismatchError: if a network does not fit the model or the symmetry.
    """
    _check(bends, rematch, symmetry)
    line, last = Span(model, [a, b]), bends + 1
    controls: list[Params] = [whole(model, line.params((1 - k / last, k / last))) for k in range(last + 1)]
    free = range(last + 1) if free_ends else range(1, last)
    job = _Job(model, basis_of(kind), free, repeatable(batches, "batches"), evaluate, schedule or Schedule(), rematch)
    return dataclasses.replace(job.run(controls, symmetry, progress), kind=kind)


def _check(bends: int, rematch: int, symmetry: Symmetry | None) -> None:
    for name, value, least in (("bends", bends, 1), ("rematch", rematch, 0)):
        if value < least:
            raise OptionError(name, expected=f"{least} or more", found=str(value), remedy="raise it")
    if rematch and symmetry is None:
        raise OptionError("rematch", expected="a symmetry", found="none", remedy="pass `symmetry`, or leave it out")


@dataclass(frozen=True)
class _Job:
    """What stays the same while a curve is trained; see `fit_curve`."""

    model: nn.Module
    basis: Basis
    free: Sequence[int]
    data: Callable[[], Iterable[object]]
    evaluate: Evaluate
    schedule: Schedule
    rematch: int

    def run(self, controls: list[Params], symmetry: Symmetry | None, progress: Report) -> Curve:
        """Train in parts, with the end reordered in between; the kind of the curve is left open."""
        fits: list[Fit] = []
        moved: Matching | None = None
        with suppress(KeyboardInterrupt):
            while len(fits) <= self.rematch and all(fit.complete for fit in fits):
                if fits and symmetry is not None:
                    found, controls = _reordered(controls, symmetry, self.loss_on(list(islice(self.data(), _SAMPLED))))
                    moved = found.compose(moved) if found and moved else found or moved
                fits.append(self.fit(controls, len(fits), progress))
                controls = [whole(self.model, vertex) for vertex in fits[-1].vertices]
        complete = len(fits) > self.rematch and all(fit.complete for fit in fits)
        losses = [loss for fit in fits for loss in fit.losses]
        return dataclasses.replace(chain(self.model, controls, "", losses, complete=complete), matching=moved)

    def fit(self, controls: Sequence[Params], part: int, progress: Report) -> Fit:
        """Train for one of the parts of the epochs."""
        epochs = math.ceil(self.schedule.epochs / (self.rematch + 1))
        before, total = part * epochs, (self.rematch + 1) * epochs
        return fit_vertices(
            Span(self.model, controls),
            self.free,
            lambda generator: self.basis(generator.random(), len(controls)),
            self.data,
            self.evaluate,
            dataclasses.replace(self.schedule, epochs=epochs, seed=self.schedule.seed + part),
            progress=lambda step: progress(Progress("curve", before + step.done, total, step.detail)),
        )

    def loss_on(self, batches: Sequence[object]) -> Callable[[Sequence[Params]], float]:
        """The mean loss of a few points of a curve, BatchNorm on the statistics of each batch."""

        def loss(controls: Sequence[Params]) -> float:
            span, sums = Span(self.model, controls), {"loss": 0.0, "count": 0.0}
            with torch.no_grad(), batch_statistics(self.model):
                for t, batch in itertools.product(_AT, batches):
                    found = span.runner.sums(self.evaluate, span.params(self.basis(t, len(controls))), batch)
                    sums = {name: value + float(found[name]) for name, value in sums.items()}
            return sums["loss"] / positive(sums["count"])

        return loss


def _reordered(
    controls: Sequence[Params], symmetry: Symmetry, loss: Callable[[Sequence[Params]], float]
) -> tuple[Matching | None, list[Params]]:
    """The curve, its end reordered if that lowers the loss.

    The end is matched to the beginning, to the control network before it and to the one in the middle; it moves alone,
    or the others with it by its share in them on the straight line, so that their distance from that line stays.
    """
    end, last = controls[-1], len(controls) - 1
    best, found, least = list(controls), None, loss(controls)
    for target in dict.fromkeys((0, last - 1, last // 2)):
        matching = match(controls[target], end, symmetry)
        if matching.is_identity:
            continue
        moved = matching.apply(end)
        shifted = [weighted([c, moved, end], (1, k / last, -k / last)) for k, c in enumerate(controls[:-1])]
        for candidate in ([*controls[:-1], moved], [*shifted, moved]):
            reached = loss(candidate)
            if reached < least:
                best, found, least = list(candidate), matching, reached
    return found, best
