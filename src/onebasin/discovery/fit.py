"""Recognise a symmetry that was given, from a file perhaps, in the one that was found on the model."""

from collections.abc import Mapping

from onebasin.errors import MismatchError
from onebasin.layout import AxisGroup, AxisLayout
from onebasin.symmetry import Symmetry


def fit(found: Symmetry, given: Symmetry, label: str) -> dict[str, str | None]:
    """What the groups found on a model are called in a given symmetry of it.

    The given one may move less: groups may be left in place, tied to each other, or moved alike everywhere although
    they could move differently inside every member of another group.

    Args:
        found: on the model.
        given: lists the same tensors.
        label: what to call the model in an error.

    Returns:
        a name for every group found; None for those that are left in place.

    Raises:
        MismatchError: if the given symmetry moves what cannot move, or not together what must.
    """
    names: dict[str, str | None] = dict.fromkeys(found.groups)
    for tensor, layouts in found.layouts.items():
        for mine, other in zip(layouts, given.layouts[tensor], strict=True):
            places = _places(other, given)
            for place, name in _places(mine, found).items():
                names[name] = names[name] or places.get(place)
    known = set(names.values())
    idle = {name for name, group in given.groups.items() if group.size == 1 or (group.fixed and name not in known)}
    others = {name: None if name in idle else name for name in given.groups}
    for tensor, layouts in found.layouts.items():
        for axis, (mine, other) in enumerate(zip(layouts, given.layouts[tensor], strict=True)):
            if renamed(mine, names, found.sizes) != renamed(other, others, given.sizes):
                raise _misfit(f"{label}: {tensor}:{axis}", str(mine), str(other))
    for name, group in found.groups.items():
        moved = given.groups.get(names[name] or "")
        around = {names[outer] for outer in group.inside}
        if moved is not None and not (around.issuperset(moved.inside) and (moved.fixed or not group.fixed)):
            raise _misfit(f"{label}: group {moved.name}", _nesting(group), _nesting(moved))
    return names


def renamed(layout: AxisLayout, names: Mapping[str, str | None], sizes: Mapping[str, int]) -> AxisLayout:
    """A layout with its groups renamed, those named None replaced by their sizes."""

    def factor(given: int | str | AxisLayout) -> int | str | AxisLayout:
        if isinstance(given, AxisLayout):
            return renamed(given, names, sizes)
        return names[given] or sizes[given] if isinstance(given, str) else given

    return AxisLayout.of(*([factor(given) for given in term] for term in layout.terms))


def _places(layout: AxisLayout, symmetry: Symmetry) -> dict[tuple[int, int, int], str]:
    """The groups of an axis by where they stand: the first position of their block, the step, and the size."""
    return {
        (block.offset, stride, size): factor
        for block in layout.blocks(symmetry.sizes)
        for factor, size, stride in zip(block.factors, block.sizes, block.strides, strict=True)
        if isinstance(factor, str)
    }


def _nesting(group: AxisGroup) -> str:
    return f"{'a fixed' if group.fixed else 'a moving'} group inside ({', '.join(group.inside)})"


def _misfit(subject: str, expected: str, found: str) -> MismatchError:
    return MismatchError(
        subject,
        expected=f"{expected}, as found on the model, or less",
        found=found,
        remedy="discover the symmetry on this model, or correct it",
    )
