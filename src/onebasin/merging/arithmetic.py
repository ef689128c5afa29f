"""Methods that see every model as a base plus a difference, its task vector, and combine the differences.

Let d_m = model_m - base. All of them give

    base + scale * sum over m of w_m g_m d_m / z,

where g_m says how much of each entry is kept: all (task arithmetic), the largest ones (TIES), random ones (DARE) or all
but the smallest and the very largest (breadcrumbs). With an elected sign, entries of the other sign are left out. z is
1, or with `normalize` the sum of the weights that took part. The sum is taken as

    (1 - sum of c_m) base + sum over m of c_m model_m    with c_m = scale w_m g_m / z,

so that one model kept whole gives itself to the last bit, however far it is from the base.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from onebasin.merging.average import normalized
from onebasin.merging.method import Fractions, PerModel, method
from onebasin.merging.rule import Chunk, Rule, Shares

if TYPE_CHECKING:
    from torch import Tensor

    from onebasin.merging.stack import Stack

Sign = Literal["total", "frequency"]
Gains = Sequence[Callable[[Chunk, "Tensor"], "Tensor"]]
"""For every model, from a chunk and the differences in it to how much of each entry is kept, `[n]`."""


@method(base=True)
def task_arithmetic(stack: "Stack", *, weights: PerModel = (1.0,), scale: float = 1.0, normalize: bool = False) -> Rule:
    """Base plus weighted differences (Ilharco et al., 2023): a positive weight adds a task, a negative one removes it.

    Args:
        stack: one tensor of every model and of the base.
        weights: a number a model, which may be negative.
        scale: what the sum of the differences is multiplied by, the lambda of the papers.
        normalize: divide the weights by their sum.
    """
    shares = [scale * weight for weight in (normalized(weights) if normalize else weights)]
    return Shares(tuple(shares), 1 - sum(shares))


@method(base=True)
def ties(
    stack: "Stack",
    *,
    weights: PerModel = (1.0,),
    density: Fractions = (0.2,),
    scale: float = 1.0,
    normalize: bool = True,
    sign: Sign = "total",
) -> Rule:
    """Keep the largest differences, elect a sign for every entry, and average those of that sign (Yadav et al., 2023).

    Args:
        stack: one tensor of every model and of the base.
        weights: a number a model.
        density: the share of differences that is kept of a tensor, the largest ones; equal ones stay together.
        scale: what the merged differences are multiplied by, the lambda of the papers.
        normalize: divide every entry by the sum of the weights that took part in it.
        sign: elected by the sum of the weighted differences (total), or by their number (frequency); a draw is
            positive.
    """
    gains = [_largest(stack.threshold(m, share)) for m, share in enumerate(density)]
    return _elected(gains, weights, scale, sign, normalize=normalize)


@method(base=True)
def dare_linear(
    stack: "Stack",
    *,
    weights: PerModel = (1.0,),
    density: Fractions = (0.5,),
    scale: float = 1.0,
    normalize: bool = False,
    rescale: bool = True,
    seed: int = 0,
) -> Rule:
    """Drop differences at random and enlarge the rest to make up for it, then add them up (Yu et al., 2024).

    Args:
        stack: one tensor of every model and of the base.
        weights: a number a model.
        density: the share of differences that is kept, each with this probability.
        scale: what the sum of the differences is multiplied by, the lambda of the papers.
        normalize: divide the weights by their sum.
        rescale: divide what is kept by the density.
        seed: of the choice, together with the tensor's name and the model's number.
    """
    gains = _random(stack, density, seed, rescale=rescale)
    shares = normalized(weights) if normalize else weights

    def combine(chunk: Chunk) -> "Tensor":
        kept = [gain(chunk, chunk.origin) for gain in gains]
        return _blend(chunk, [gain.mul_(scale * share) for gain, share in zip(kept, shares, strict=True)])

    return combine


@method(base=True)
def dare_ties(
    stack: "Stack",
    *,
    weights: PerModel = (1.0,),
    density: Fractions = (0.5,),
    scale: float = 1.0,
    normalize: bool = False,
    rescale: bool = True,
    sign: Sign = "total",
    seed: int = 0,
) -> Rule:
    """Drop differences at random as `dare_linear`, then elect signs as `ties` (Yu et al., 2024).

    Args:
        stack: one tensor of every model and of the base.
        weights: a number a model.
        density: the share of differences that is kept, each with this probability.
        scale: what the merged differences are multiplied by, the lambda of the papers.
        normalize: divide every entry by the sum of the weights that took part in it.
        rescale: divide what is kept by the density.
        sign: elected by the sum of the weighted differences (total), or by their number (frequency).
        seed: of the choice, together with the tensor's name and the model's number.
    """
    return _elected(_random(stack, density, seed, rescale=rescale), weights, scale, sign, normalize=normalize)


@method(base=True)
def breadcrumbs(
    stack: "Stack",
    *,
    weights: PerModel = (1.0,),
    density: Fractions = (0.9,),
    gamma: Fractions = (0.01,),
    scale: float = 1.0,
    normalize: bool = False,
) -> Rule:
    """Leave out the largest differences, which are outliers, and the smallest, which are noise (Davari et al., 2024).

    Args:
        stack: one tensor of every model and of the base.
        weights: a number a model.
        density: the share of differences that is kept of a tensor.
        gamma: the share of differences left out as too large, at most 1 - density; the rest is too small.
        scale: what the sum of the differences is multiplied by, the lambda of the papers.
        normalize: divide the weights by their sum.
    """
    shares = normalized(weights) if normalize else weights
    bands = [
        (stack.threshold(m, min(1.0, share + top)), stack.threshold(m, min(top, 1 - share)))
        for m, (share, top) in enumerate(zip(density, gamma, strict=True))
    ]

    def combine(chunk: Chunk) -> "Tensor":
        gains = []
        for row, (low, high), share in zip(chunk.rows, bands, shares, strict=True):
            size = (row - chunk.origin).abs_()
            gains.append(((size >= low) & (size < high)).to(row.dtype).mul_(scale * share))
        return _blend(chunk, gains)

    return combine


def _largest(threshold: float) -> Callable[[Chunk, "Tensor"], "Tensor"]:
    return lambda _, delta: (delta.abs() >= threshold).to(delta.dtype)


def _random(stack: "Stack", density: PerModel, seed: int, *, rescale: bool) -> Gains:
    """A gain of 1, or 1 / density, with the probability density, and of 0 otherwise."""

    def gain(model: int, share: float) -> Callable[[Chunk, "Tensor"], "Tensor"]:
        height = 1 / share if rescale and share > 0 else 1.0
        return lambda chunk, delta: stack.draw(model, seed, share, chunk).to(delta.dtype).mul_(height)

    return [gain(model, share) for model, share in enumerate(density)]


def _elected(gains: Gains, weights: PerModel, scale: float, sign: Sign, *, normalize: bool) -> Rule:
    """The rule that elects a sign for every entry and leaves out differences of the other sign."""

    def combine(chunk: Chunk) -> "Tensor":
        kept, moves = [], []
        for row, gain, weight in zip(chunk.rows, gains, weights, strict=True):
            delta = row - chunk.origin
            kept.append(gain(chunk, delta).mul_(weight))
            moves.append(delta.mul_(kept[-1]))
        votes = moves[0].clone() if sign == "total" else moves[0].sign()
        for move in moves[1:]:
            votes += move if sign == "total" else move.sign()
        side = (votes >= 0).to(votes.dtype).mul_(2).sub_(1)
        took_part = [move.mul_(side) > 0 for move in moves]
        shares = [share.mul_(took).mul_(scale) for share, took in zip(kept, took_part, strict=True)]
        if normalize:
            parts = zip(took_part, weights, strict=True)
            total = sum((took.to(votes.dtype).mul_(weight) for took, weight in parts), 0 * votes)
            # Weights of both signs may cancel; what is left then has no mean, and is left out of the result.
            inverse = total.reciprocal().mul_(total.abs() > 1e-8).nan_to_num_(0.0, 0.0, 0.0)  # noqa: PLR2004
            shares = [share.mul_(inverse) for share in shares]
        return _blend(chunk, shares)

    return combine


def _blend(chunk: Chunk, shares: "Sequence[Tensor]") -> "Tensor":
    """Every entry as a sum of those of the base and the models, the shares adding up to 1."""
    rest = shares[0].neg().add_(1)
    for share in shares[1:]:
        rest -= share
    result = rest.mul_(chunk.origin)
    for row, share in zip(chunk.rows, shares, strict=True):
        result.addcmul_(row, share)
    return result
