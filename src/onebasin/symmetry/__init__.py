"""The permutation symmetries of an architecture, and the elements of that symmetry group.

A `Symmetry` says which axes of which tensors move together. A `Matching` is one way to move them: a permutation for
every group, found by matching, drawn at random or given by hand. Both are plain immutable data with a JSON form that a
person can read and write.
"""

from onebasin.symmetry.group import AxisRef as AxisRef
from onebasin.symmetry.group import Matching as Matching
from onebasin.symmetry.group import Status as Status
from onebasin.symmetry.group import Symmetry as Symmetry
from onebasin.symmetry.group import Trial as Trial

__all__ = ["AxisRef", "Matching", "Status", "Symmetry", "Trial"]
