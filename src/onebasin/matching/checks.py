"""Whether networks can be matched."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase

from torch import Tensor

from onebasin.checkpoint import Source, check_finite, load_params
from onebasin.errors import MismatchError
from onebasin.symmetry import Symmetry


def comparable(
    models: Sequence[Source], symmetry: Symmetry, labels: Sequence[str] = ascii_lowercase
) -> list[Mapping[str, Tensor]]:
    """The state dicts of networks that a symmetry fits, checked.

    Args:
        models: the networks.
        symmetry: of all.
        labels: what to call those in errors that are not files, as many or more.

    Raises:
        MismatchError: if a tensor is missing, has another shape or dtype than in the first, or holds NaN or infinite
            values.
    """
    rows = zip(models, itertools.cycle(labels), strict=False)
    labels = [str(model) if isinstance(model, str | Path) else label for model, label in rows]
    states = [load_params(model) for model in models]
    for label, params in zip(labels, states, strict=True):
        symmetry.check(params, label)
        # A tensor that stays where it is, such as a causal mask, may hold infinities.
        check_finite(params, label, infinity=True)
        moving = {n: t for n, t in params.items() if any(layout.groups for layout in symmetry.layouts[n])}
        check_finite(moving, label)
        for name in symmetry.layouts:
            if name in params and name in states[0] and states[0][name].dtype != params[name].dtype:
                raise MismatchError(
                    f"{label}: {name}",
                    expected=f"{states[0][name].dtype}, as in {labels[0]}",
                    found=str(params[name].dtype),
                    remedy="convert one of the two",
                )
    return states
