"""Refit every linear layer of a merged network on its own inputs towards the average of its aligned parents' outputs.

Layer by layer, in the order of the data flow: a ridge least-squares problem centred on the merged weights, whose inputs
are those of the network corrected so far, so that every layer makes up for what the ones before it still get wrong. The
last layer of a residual branch aims at the sum, so that the error of the stream is corrected block by block. A layer
that a ReLU follows is fitted for what the ReLU lets through (`rectified_fit`).
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from torch import nn

from onebasin.checkpoint import Source
from onebasin.correction.hosting import Data, Networks, hosting, read_batches, write
from onebasin.correction.layerwise import Layerwise, Options
from onebasin.correction.result import Correction
from onebasin.correction.site import Plan
from onebasin.correction.sites import find_sites
from onebasin.correction.trace import record
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluate
from onebasin.progress import Progress, Report, silent

ROWS = 1 << 16
"""The most rows of one layer that are used."""

OUTPUTS = ("logits", "probabilities")
_TRIAL = 4


def refit(
    model: nn.Module,
    merged: Source,
    parents: Sequence[Source],
    batches: Iterable[object],
    evaluate: Evaluate,
    weights: Sequence[float] | None = None,
    samples: int | None = 2000,
    *,
    ridge: float | None = None,
    rectify: bool = True,
    turn: bool | None = None,
    outputs: str = "logits",
    rows: int = ROWS,
    seed: int = 0,
    progress: Report = silent,
) -> Correction:
    """Refit every linear layer on the merged network's own inputs towards the average of its parents' outputs.

    All else keeps the merged network's tensors, but for BatchNorm's statistics, which become those of the data.

    Args:
        model: of the networks' architecture; runs them, and is left as it was.
        merged: the network to correct, the centre of the ridge.
        parents: those it was made of, in its coordinates (apply a matching first).
        batches: as `evaluate` takes them; labels are not used.
        evaluate: runs a model on one batch; `count` in its result says how many samples it held.
        weights: one number a parent (None: equal), divided by their sum.
        samples: at least so many are used; None uses all.
        ridge: weight of the distance to the merged weights, in parts of the mean diagonal of the Gram matrix; None
            chooses it for every layer on rows held out.
        rectify: fit layers before a ReLU for what the ReLU lets through; False for plain least squares.
        turn: rotate what the other parents give there towards the first before averaging; None tries both on a part of
            the data and takes what leaves the smaller error in the network's outputs.
        outputs: average the parents' `"logits"`, or their `"probabilities"` where a log-softmax reads the outputs.
        rows: the most rows (samples, tokens, or positions of a convolution) used for a layer, drawn at random.
        seed: of the rows.
        progress: called after every layer.

    Returns:
        the network, with the error of every layer before and after; the notes name what was left as it was.

    Raises:
        OptionError: if an option or the data cannot work, or the model does not do the same for every batch.
        MismatchError: if a network does not fit the model.
    """
    started = time.perf_counter()
    options = _checked(Options(ridge, rectify, bool(turn), outputs, rows, seed))
    networks = Networks.of(model, merged, parents, weights)
    with hosting(model):
        write(model, networks.parents[0])
        data = read_batches(model, batches, evaluate, samples)
        plan = find_sites(record(model, data.runs[0]))
        notes = [f"{name} was left as it was: {why}" for name, why in plan.skipped.items()]
        if turn is None and any(site.relu for site in plan.sites):
            options, note = _tried(networks, data, plan, options)
            notes.append(note)
        work = Layerwise(networks, data, plan, options)
        work.run(lambda done, name: progress(Progress("refitting", done, len(plan.sites), name)))
    return Correction(networks.merged, "refit", tuple(notes), time.perf_counter() - started, work.residuals)


def _tried(networks: Networks, data: Data, plan: Plan, options: Options) -> tuple[Options, str]:
    """The options with or without turning, whichever leaves the smaller error in the outputs, on a part of the data."""
    part = -(-len(data.runs) // _TRIAL)
    trial = Data(data.runs[:part], data.counts[:part])
    errors = {}
    for turn in (False, True):
        copy = replace(networks, merged=dict(networks.merged))
        work = Layerwise(copy, trial, plan, replace(options, turn=turn, rows=-(-options.rows // _TRIAL)))
        work.run(lambda *_: None)
        errors[turn] = work.final_residual()
    turn = errors[True] < errors[False]
    says = f"on {trial.samples} samples the outputs' error is {errors[True]:.3g} turned, {errors[False]:.3g} not"
    return replace(options, turn=turn), f"parents' outputs were {'' if turn else 'not '}turned: {says}"


def _checked(options: Options) -> Options:
    wrong = {
        "ridge": options.ridge is not None and not 0 < options.ridge < math.inf and "a positive number or None",
        "rows": options.rows < 1 and "1 or more",
        "outputs": options.outputs not in OUTPUTS and " or ".join(OUTPUTS),
    }
    for name, expected in wrong.items():
        if expected:
            raise OptionError(name, expected=expected, found=repr(getattr(options, name)), remedy="correct it")
    return options
