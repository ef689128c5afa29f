"""The merge methods once more, straight from the papers' equations: one entry after the other, in plain floats.

They share no code with the library. A tensor is a list of numbers, a model one such list, and what is kept of each
difference is given or found by sorting.
"""

import math
from collections.abc import Sequence

Vector = Sequence[float]


def arc(a: Vector, b: Vector, lam: float) -> list[float]:
    """Shoemake (1985), section 3.3: the great arc, through the angle between the two."""
    cosine = math.fsum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
    theta = math.acos(cosine)
    near, far = math.sin((1 - lam) * theta) / math.sin(theta), math.sin(lam * theta) / math.sin(theta)
    return [near * x + far * y for x, y in zip(a, b, strict=True)]


def added(base: Vector, models: Sequence[Vector], weights: Vector, scale: float) -> list[float]:
    """Ilharco et al. (2023), section 2: the base plus the scaled sum of weighted task vectors."""
    return [
        z + scale * math.fsum(w * (model[i] - z) for w, model in zip(weights, models, strict=True))
        for i, z in enumerate(base)
    ]


def trimmed(base: Vector, model: Vector, keep: int, skip: int = 0) -> list[float]:
    """The task vector with all but `keep` entries zero: those of the largest magnitudes, after the `skip` largest."""
    delta = [x - z for x, z in zip(model, base, strict=True)]
    order = sorted(range(len(delta)), key=lambda i: -abs(delta[i]))
    chosen = set(order[skip : skip + keep])
    return [d if i in chosen else 0.0 for i, d in enumerate(delta)]


def elected(
    base: Vector, deltas: Sequence[Vector], weights: Vector, scale: float, *, normalize: bool, count: bool = False
) -> list[float]:
    """Yadav et al. (2023), algorithm 1 from its second step on: elect a sign, average those of that sign."""
    merged = []
    for i, z in enumerate(base):
        moves = [w * delta[i] for w, delta in zip(weights, deltas, strict=True)]
        votes = [(m > 0) - (m < 0) for m in moves] if count else moves
        side = 1 if math.fsum(votes) >= 0 else -1
        part = [(w, m) for w, m in zip(weights, moves, strict=True) if m * side > 0]
        total = math.fsum(w for w, _ in part) if normalize else 1.0
        merged.append(z + scale * math.fsum(m for _, m in part) / total if part and total else z)
    return merged
