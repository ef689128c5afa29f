"""Whether a symmetry contradicts itself, and whether tensors are those it speaks of."""

from collections.abc import Mapping, Sequence

from onebasin.errors import MismatchError, SymmetryError
from onebasin.layout import AxisGroup, AxisLayout, parts

Layouts = Mapping[str, tuple[AxisLayout, ...]]


def check_groups(groups: Mapping[str, AxisGroup]) -> None:
    """Check that every group is listed under its name and nested in listed groups, outermost first.

    Raises:
        SymmetryError: naming the group at fault.
    """
    try:
        for name, group in groups.items():
            _check_nesting(name, group, groups)
    except SymmetryError as error:
        raise error.within("groups") from None


def _check_nesting(name: str, group: AxisGroup, groups: Mapping[str, AxisGroup]) -> None:
    if name != group.name:
        fail(f"group {name}", "a group listed under its own name", group.name, "rename one of the two")
    if len(set(group.inside)) < len(group.inside):
        fail(f"group {name}", "every group around once", ", ".join(group.inside), "list it once under inside")
    for position, outer in enumerate(group.inside):
        if outer not in groups:
            fail(f"group {group.name}", "to be nested in a listed group", outer, "list the group or correct it")
        missing = [other for other in groups[outer].inside if other not in group.inside[:position]]
        if missing:
            fail(
                f"group {group.name}",
                f"{', '.join(missing)} before {outer} under inside, since {outer} is nested in it",
                ", ".join(group.inside),
                "list every group around, outermost first",
            )


def check_layouts(layouts: Layouts, groups: Mapping[str, AxisGroup]) -> None:
    """Check that layouts speak of listed groups, each where those it is nested in can be told.

    Raises:
        SymmetryError: naming the axis at fault.
    """
    sizes = {name: group.size for name, group in groups.items()}
    try:
        for name, axes in layouts.items():
            for axis, layout in enumerate(axes):
                for group in layout.groups:
                    if group not in groups:
                        fail(f"{name}:{axis}", "groups listed under groups", group, "list the group or correct it")
            for part in parts(name, axes, sizes):
                for dim, factor in enumerate(part.factors):
                    if isinstance(factor, str):
                        part.context(dim, groups[factor].inside)
    except SymmetryError as error:
        raise error.within("tensors") from None


def check_lists(layouts: Layouts, tied: Sequence[Sequence[str]], buffers: frozenset[str]) -> None:
    """Check that ties and buffers are tensors with layouts, and that tied ones are alike.

    Raises:
        SymmetryError: naming the tensor at fault.
    """
    for row in tied:
        for name in row:
            if name not in layouts or layouts[name] != layouts[row[0]]:
                found = str([str(layout) for layout in layouts[name]]) if name in layouts else "no layout"
                fail(f"tied: {name}", f"the layout of {row[0]}, to which it is tied", found, "correct it")
            if row.count(name) > 1 or sum(name in other for other in tied) > 1:
                fail(f"tied: {name}", "every name once", "it several times", "list it once")
    for name in buffers - layouts.keys():
        fail(f"buffers: {name}", "a buffer with a layout", "none", "add its layout or remove it from buffers")


def check_shapes(
    shapes: Mapping[str, tuple[int, ...]],
    label: str,
    layouts: Layouts,
    sizes: Mapping[str, int],
    tied: Sequence[Sequence[str]],
) -> None:
    """Check that tensors are those that layouts describe.

    Args:
        shapes: of the tensors, by name.
        label: what to call them in an error.
        layouts: what is expected.
        sizes: of all groups.
        tied: names of one tensor; one of each row is enough.

    Raises:
        MismatchError: naming the tensor that is missing, has another shape or is not listed.
    """
    replaced = {name for row in tied if any(other in shapes for other in row) for name in row}
    for name, axes in layouts.items():
        if name in shapes:
            _check_shape(f"{label}: {name}", shapes[name], axes, sizes)
        elif name not in replaced and not (name.endswith(_COUNTER) and not axes):
            raise MismatchError(
                f"{label}: {name}",
                expected="a tensor of this name, as in the symmetry",
                found="none",
                remedy="pass a checkpoint of the architecture the symmetry was discovered on",
            )
    for name in shapes:
        if name not in layouts:
            raise MismatchError(
                f"{label}: {name}",
                expected="only tensors the symmetry lists",
                found="one it does not know how to move",
                remedy="add its layout to the symmetry, or discover it again on this model",
            )


_COUNTER = "num_batches_tracked"
"""BatchNorm's counter of batches: older checkpoints lack it, and nothing depends on it."""


def _check_shape(subject: str, shape: tuple[int, ...], layouts: Sequence[AxisLayout], sizes: Mapping[str, int]) -> None:
    expected = tuple(layout.size(sizes) for layout in layouts)
    if shape == expected:
        return
    wrong = [axis for axis, (n, m) in enumerate(zip(shape, expected, strict=False)) if n != m]
    made = f", axis {wrong[0]} being {layouts[wrong[0]]}" if wrong and layouts[wrong[0]].groups else ""
    raise MismatchError(
        subject,
        expected=f"shape {expected}{made}",
        found=f"shape {shape}",
        remedy="pass a checkpoint of the architecture the symmetry was made for, or correct the symmetry",
    )


def fail(subject: str, expected: str, found: str, remedy: str) -> None:
    """Refuse a contradiction.

    Raises:
        SymmetryError: always.
    """
    raise SymmetryError(subject, expected=expected, found=found, remedy=remedy)
