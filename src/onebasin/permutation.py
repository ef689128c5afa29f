"""Permutations as immutable index arrays, in gather form: `aligned[i] = b[index[i]]`."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onebasin.errors import SymmetryError


@dataclass(frozen=True, eq=False, slots=True)
class Permutation:
    """A reordering of n things, or one for every member of the groups they are nested in.

    Gather form, equal to SciPy's `col_ind` for `similarity[unit of a, unit of b]` maximised: position `i` of the
    result is taken from position `index[i]`. Leading dimensions, where there are any, run over the members of the
    groups around (see `AxisGroup.inside`), counted in the coordinates of the result.

    Attributes:
        index: `[..., n]` int64, read-only; every row along the last axis is a permutation of 0..n-1.
    """

    index: NDArray[np.int64]

    def __init__(self, index: ArrayLike) -> None:
        """Copy and check `index`, any integer array of shape `[..., n]`.

        Raises:
            SymmetryError: if a row is not a permutation of 0..n-1.
        """
        try:
            given = np.asarray(index)
        except ValueError:  # rows of different lengths
            given = np.asarray(None)
        whole = given.dtype.kind in "iu" or given.size == 0
        n = given.shape[-1] if given.ndim else 1
        array = np.array(given if whole else [-1] * n, dtype=np.int64, ndmin=1)
        if not (np.sort(array.reshape(-1, n) if n else array) == np.arange(n)).all():
            raise SymmetryError(
                "permutation",
                expected=f"every number from 0 to {n - 1} once",
                found=str(index).replace("\n", " ")[:60],
                remedy="pass gather indices: position i of the result is taken from position index[i]",
            )
        array.setflags(write=False)
        object.__setattr__(self, "index", array)

    @classmethod
    def identity(cls, n: int, context: tuple[int, ...] = ()) -> Self:
        """The permutation that moves nothing, of shape `[*context, n]`."""
        return cls(np.broadcast_to(np.arange(n), (*context, n)))

    @classmethod
    def random(cls, n: int, generator: np.random.Generator, context: tuple[int, ...] = ()) -> Self:
        """Uniformly random permutations, independent for every member of the context; consumes `generator`."""
        return cls(generator.permuted(np.broadcast_to(np.arange(n), (*context, n)), axis=-1))

    @property
    def size(self) -> int:
        """How many things are reordered, n."""
        return int(self.index.shape[-1])

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return bool((self.index == np.arange(self.size)).all())

    def inverse(self) -> "Permutation":
        """The permutation that undoes this one, row by row."""
        return Permutation(np.argsort(self.index, axis=-1))

    def __eq__(self, other: object) -> bool:
        """Whether both move everything alike."""
        return isinstance(other, Permutation) and np.array_equal(self.index, other.index)

    def __hash__(self) -> int:
        """A hash that does not depend on the process."""
        return int.from_bytes(self.index.tobytes()[:64], "little") % (2**61 - 1)

    def __reduce__(self) -> tuple[object, ...]:
        """Built anew where it arrives: NumPy's own pickles forget that the array is read-only."""
        return (type(self), (self.index,))

    def __repr__(self) -> str:
        """Size and the first entries."""
        return f"Permutation({np.array2string(self.index, threshold=8, separator=', ')})"
