"""Averages of whole tensors: the weighted mean, and the line and the arc between two."""

import math
from typing import TYPE_CHECKING

from onebasin.errors import OptionError
from onebasin.merging.method import PerModel, method
from onebasin.merging.rule import Rule, Shares

if TYPE_CHECKING:
    from onebasin.merging.stack import Stack

PARALLEL = 0.9995
"""Tensors whose cosine is beyond this are merged on the line: there the arc is the line to the last digit that counts,
and between opposite tensors there is no one arc."""


@method()
def mean(stack: "Stack", *, weights: PerModel = (1.0,), normalize: bool = True) -> Rule:
    """The weighted average; with equal weights the uniform soup of Wortsman et al. (2022).

    Args:
        stack: one tensor of every model.
        weights: a number a model, relative to each other.
        normalize: divide the weights by their sum.
    """
    return Shares(normalized(weights) if normalize else tuple(weights))


@method(count=2)
def lerp(stack: "Stack", *, lam: float = 0.5) -> Rule:
    """The point (1 - lam) a + lam b of the line through two networks; exact at both ends.

    Args:
        stack: one tensor of both models.
        lam: 0 is A, 1 is B.
    """
    return Shares((1 - lam, lam))


@method(count=2)
def slerp(stack: "Stack", *, lam: float = 0.5) -> Rule:
    """The point of the arc between two tensors, seen as two long vectors (Shoemake, 1985).

    With the angle theta between a and b it is (sin((1 - lam) theta) a + sin(lam theta) b) / sin(theta). Each tensor
    has its own angle. Where they are all but parallel or opposite, or one is zero, it is the point of the line.

    Args:
        stack: one tensor of both models.
        lam: 0 is A, 1 is B.
    """
    (aa, ab), (_, bb) = stack.inner_products()
    size = math.sqrt(aa) * math.sqrt(bb)
    cosine = ab / size if size > 0 else 1.0
    if not abs(cosine) <= PARALLEL:
        return Shares((1 - lam, lam))
    theta = math.acos(cosine)
    return Shares((math.sin((1 - lam) * theta) / math.sin(theta), math.sin(lam * theta) / math.sin(theta)))


def normalized(weights: PerModel) -> tuple[float, ...]:
    """Weights divided by their sum.

    Raises:
        OptionError: if the sum is not positive.
    """
    total = sum(weights)
    if not 0 < total < math.inf:
        raise OptionError(
            "weights",
            expected=f"{len(weights)} numbers with a positive sum",
            found=str(list(weights)),
            remedy="pass one weight a model",
        )
    return tuple(weight / total for weight in weights)
