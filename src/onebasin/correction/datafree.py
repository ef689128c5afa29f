"""Corrections that need no data: the model is run once, on any inputs, only to see what follows what."""

import time
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from onebasin.checkpoint import Source
from onebasin.correction.fold import constant, folded, scaled
from onebasin.correction.hosting import Networks
from onebasin.correction.result import Correction
from onebasin.correction.site import Plan
from onebasin.correction.sites import find_sites
from onebasin.correction.trace import record


def rescale_from_weights(
    model: nn.Module,
    merged: Source,
    parents: Sequence[Source],
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    weights: Sequence[float] | None = None,
) -> Correction:
    """Give the weights of every unit back the length that averaging took.

    The gain is the average length of the unit's weights in the parents over the length of their average. For two
    parents with rows of one length at an angle with cosine c that is `sqrt(2 / (1 + c))` (Fold-AR of model folding, for
    a cluster of two): the factor by which the spread shrinks if the unit's inputs are uncorrelated. Lengths are those
    after folding a BatchNorm into the weights before it. What is added to every row, a bias or the shift of a
    BatchNorm, stays.

    Args:
        model: of the networks' architecture; run once in eval mode, and left as it was.
        merged: the network to correct.
        parents: those it was made of, in its coordinates.
        args: positional inputs of one forward pass; their values do not matter.
        kwargs: named inputs.
        weights: one number a parent (None: equal), divided by their sum.

    Raises:
        OptionError: if the weights do not fit the parents.
        MismatchError: if a network does not fit the model.
    """
    started = time.perf_counter()
    networks = Networks.of(model, merged, parents, weights)
    plan = _plan(model, args, kwargs)
    for site in plan.sites:
        rows = [
            (share, folded(site, parent)[0]) for share, parent in zip(networks.shares, networks.parents, strict=True)
        ]
        length = torch.stack([share * W.norm(dim=1) for share, W in rows]).sum(0)
        left = torch.stack([share * W for share, W in rows]).sum(0).norm(dim=1)
        gain = torch.where(left > 0, length / left, torch.ones_like(left))
        stays = constant(site, networks.merged)
        networks.change(scaled(site, networks.merged, gain, (1 - gain) * stays))
    return Correction(networks.merged, "rescale_from_weights", _notes(plan), time.perf_counter() - started)


def calibrate_biases(
    model: nn.Module,
    merged: Source,
    parents: Sequence[Source],
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    weights: Sequence[float] | None = None,
) -> Correction:
    """Let biases fade with depth as the signal does: `sum of share^l * bias` at depth l (Qu and Horvath's calibration).

    In a plain network the part of a layer's output that depends on the input shrinks from layer to layer when weights
    are averaged, while averaged biases do not. Depth counts the linear layers on the longest way from the inputs, the
    layer itself included. Layers behind which a BatchNorm stands are left alone: it takes their bias out.

    Arguments and errors are those of `rescale_from_weights`.
    """
    started = time.perf_counter()
    networks = Networks.of(model, merged, parents, weights)
    plan = _plan(model, args, kwargs)
    for site in plan.sites:
        if site.bias is None or site.norm is not None:
            continue
        pairs = zip(networks.shares, networks.parents, strict=True)
        faded = torch.stack([share**site.depth * constant(site, parent) for share, parent in pairs]).sum(0)
        now = constant(site, networks.merged)
        networks.change(scaled(site, networks.merged, torch.ones_like(now), faded - now))
    return Correction(networks.merged, "calibrate_biases", _notes(plan), time.perf_counter() - started)


def _plan(model: nn.Module, args: Sequence[object], kwargs: Mapping[str, object] | None) -> Plan:
    return find_sites(record(model, lambda network: network(*args, **kwargs or {})))


def _notes(plan: Plan) -> tuple[str, ...]:
    return tuple(f"{name} was left as it was: {why}" for name, why in plan.skipped.items())
