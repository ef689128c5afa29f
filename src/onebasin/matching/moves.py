"""What a reordering changes: the slices of a term that move, and what they were worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onebasin.apply import permute_part
from onebasin.layout import AxisGroup
from onebasin.matching.problem import Mode, Term
from onebasin.similarity import dot, inner_products
from onebasin.symmetry import Matching


@dataclass(frozen=True, slots=True)
class Move:
    """The slices of one term that a relative reordering of one group changes.

    Attributes:
        term: the term.
        dims: the dimensions that number the slices.
        a: A's slices, `[k, rest...]`: the slices first, then all other dimensions in order.
        difference: B's slices that come there less those that stand there, in aligned coordinates; at least float32.
        gain: what the term gains, in float64.
    """

    term: Term
    dims: tuple[int, ...]
    a: Tensor
    difference: Tensor
    gain: float

    @classmethod
    def of(
        cls,
        term: Term,
        mode: Mode,
        index: Tensor,
        groups: Mapping[str, AxisGroup],
        current: Matching,
    ) -> "Move":
        """Gather the slices.

        Args:
            term: the term.
            mode: the one place where the group reorders it.
            index: `[m]` relative, in gather form: where each member comes from in aligned coordinates.
            groups: every group of the symmetry.
            current: what aligns B so far.
        """
        places = (index != torch.arange(len(index))).nonzero().reshape(-1)
        comes = index[places]
        if not term.apart(mode, groups):
            b = permute_part(term.b, term.part, groups, current.permutations)
            new, old = slices(b, mode.dims, comes), slices(b, mode.dims, places)
            del b
        else:
            # Only the slices are gathered and aligned, not the whole term.
            given = torch.from_numpy(current.members(mode.group))
            part = term.part.sliced(mode.dims, len(places))
            new, old = (
                permute_part(slices(term.b, mode.dims, given[where]), part, groups, current.permutations)
                for where in (comes, places)
            )
        a = slices(term.a, mode.dims, places)
        gain = term.weight * (dot(a, new) - dot(a, old))
        difference = (new if new.dtype == torch.float64 else new.float()).sub_(old)
        return cls(term, mode.dims, a, difference, gain)

    def change(self, dims: Sequence[int]) -> Tensor | None:
        """How the scores of other dimensions change; None where they are not apart from these."""
        if set(dims) & set(self.dims):
            return None
        rest = [dim for dim in range(self.term.a.ndim) if dim not in self.dims]
        where = [1 + rest.index(dim) for dim in dims]
        return inner_products(self.a.to(self.difference.dtype), self.difference, where).mul_(self.term.weight)


def slices(tensor: Tensor, dims: tuple[int, ...], places: Tensor) -> Tensor:
    """The slices of a tensor at some members: `[k, rest...]`.

    Args:
        tensor: any.
        dims: the dimensions that number the members, read row by row.
        places: `[k]` int64.
    """
    places = places.to(tensor.device)
    if len(dims) == 1:
        return tensor.index_select(dims[0], places).movedim(dims[0], 0)
    rest = [dim for dim in range(tensor.ndim) if dim not in dims]
    where = np.unravel_index(places.cpu().numpy(), [tensor.shape[dim] for dim in dims])
    return tensor.permute([*dims, *rest])[tuple(torch.from_numpy(w).to(tensor.device) for w in where)]
