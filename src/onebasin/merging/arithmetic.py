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
Trim = Callable[[Chunk, "Tensor"], "Tensor"]
"""From a chunk and the differences in it to the same with those that are not kept set to 0; may overwrite them."""

CANCELLED = 1e-8
"""A sum of weights that is as small as this is taken for 0."""


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
    largest = [_largest(stack.limit(m, share)) for m, share in enumerate(density)]
    return _elected(largest, [1.0] * len(largest), weights, scale, sign, normalize=normalize)


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
    draws = _random(stack, density, seed)
    shares = [
        scale * weight * height
        for weight, height in zip(
            normalized(weights) if normalize else weights, _heights(density, rescale), strict=True
        )
    ]

    def combine(chunk: Chunk) -> "Tensor":
        kept = [trim(chunk, row - chunk.origin) for trim, row in zip(draws, chunk.rows, strict=True)]
        return _blend(chunk, [_present(delta).mul_(share) for delta, share in zip(kept, shares, strict=True)])

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
    heights = _heights(density, rescale)
    return _elected(_random(stack, density, seed), heights, weights, scale, sign, normalize=normalize)


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
        (stack.limit(m, min(1.0, share + top)), stack.limit(m, min(top, 1 - share)))
        for m, (share, top) in enumerate(zip(density, gamma, strict=True))
    ]

    def combine(chunk: Chunk) -> "Tensor":
        gains = []
        for row, (low, high), share in zip(chunk.rows, bands, shares, strict=True):
            delta = row - chunk.origin
            gains.append(_present(delta.hardshrink(low)).sub_(_present(delta.hardshrink(high))).mul_(scale * share))
        return _blend(chunk, gains)

    return combine


def _largest(limit: float) -> Trim:
    return lambda _, delta: delta.hardshrink(limit)


def _random(stack: "Stack", density: PerModel, seed: int) -> list[Trim]:
    def trim(model: int, share: float) -> Trim:
        return lambda chunk, delta: delta.mul_(stack.draw(model, seed, share, chunk).to(delta.dtype))

    return [trim(model, share) for model, share in enumerate(density)]


def _present(delta: "Tensor") -> "Tensor":
    """1 where a difference was kept and 0 elsewhere; overwrites it."""
    return delta.sign_().abs_()


def _heights(density: PerModel, rescale: bool) -> list[float]:  # noqa: FBT001 - passed on
    """What makes up for the differences that were dropped."""
    return [1 / share if rescale and share > 0 else 1.0 for share in density]


def _elected(
    trims: Sequence[Trim],
    heights: Sequence[float],
    weights: PerModel,
    scale: float,
    sign: Sign,
    *,
    normalize: bool,
) -> Rule:
    """The rule that elects a sign for every entry and leaves out differences of the other sign.

    Everything is said in signs and products, since these take a tenth of the time that comparisons and choices take.

    Args:
        trims: leave out what is not kept of each model's differences.
        heights: what the rest is multiplied by.
        weights: a number a model.
        scale: what the merged differences are multiplied by.
        sign: how it is elected.
        normalize: divide by the sum of the weights that took part.
    """
    factors = [weight * height for weight, height in zip(weights, heights, strict=True)]

    def combine(chunk: Chunk) -> "Tensor":
        moves = [trim(chunk, row - chunk.origin) for row, trim in zip(chunk.rows, trims, strict=True)]
        moves = [move if factor == 1 else move.mul_(factor) for move, factor in zip(moves, factors, strict=True)]
        votes = moves[0].clone() if sign == "total" else moves[0].sign()
        for move in moves[1:]:
            votes += move if sign == "total" else move.sign()
        side = votes.sign_().add_(0.5).sign_()  # a draw is positive
        took_part = [move.mul_(side).sign_().clamp_min_(0) for move in moves]
        if not normalize:
            return _blend(chunk, [took.mul_(scale * factor) for took, factor in zip(took_part, factors, strict=True)])
        total = side.zero_()
        for took, weight in zip(took_part, weights, strict=True):
            total.add_(took, alpha=weight)
        # Weights of both signs may cancel; what is left then has no mean, and is left out of the result.
        whole = _present(total.hardshrink(CANCELLED))
        inverse = whole.mul(scale).div_(total.add_(1).sub_(whole))
        shares = [took.mul_(inverse) for took in took_part]
        return _blend(chunk, [share if f == 1 else share.mul_(f) for share, f in zip(shares, factors, strict=True)])

    return combine


def _blend(chunk: Chunk, shares: "Sequence[Tensor]") -> "Tensor":
    """Every entry as a sum of those of the base and the models, the shares adding up to 1."""
    rest = 1 - shares[0]
    for share in shares[1:]:
        rest -= share
    result = rest.mul_(chunk.origin)
    for row, share in zip(chunk.rows, shares, strict=True):
        result.addcmul_(row, share)
    return result
