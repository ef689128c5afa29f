"""A symmetry group of an architecture, and its elements."""

import dataclasses
import enum
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from onebasin import symmetry_json
from onebasin.apply import permute_stream, permute_tensor
from onebasin.checkpoint import Source, as_given, load_params, tied_names
from onebasin.errors import OptionError, SymmetryError
from onebasin.explanation import Explainer, Explanation
from onebasin.json_file import read_json, write_json
from onebasin.layout import AxisGroup, AxisLayout, Part, parts
from onebasin.permutation import Permutation
from onebasin.symmetry.consistency import check_groups, check_layouts, check_lists, check_shapes, fail


class AxisRef(NamedTuple):
    """One axis of one tensor; written `tensor:axis`, as in `layer1.0.conv1.weight:0`."""

    tensor: str
    axis: int

    def __str__(self) -> str:
        """The form used in files and on the command line."""
        return f"{self.tensor}:{self.axis}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the form that `str` writes.

        Raises:
            SymmetryError: if it is not a name, a colon and a number.
        """
        name, colon, axis = text.rpartition(":")
        if not colon or not re.fullmatch("[0-9]+", axis):
            raise SymmetryError(
                text, expected="TENSOR:AXIS such as fc1.weight:0", found=repr(text), remedy="correct the axis"
            )
        return cls(name, int(axis))


@dataclass(frozen=True)
class Symmetry:
    """Which axes of which tensors can be permuted together without changing the network's function.

    Attributes:
        groups: every axis group by its name, in the order of the data flow.
        layouts: for every tensor of the state dict, one layout an axis.
        pins: for every axis that holds something fixed, the reason why it cannot move.
        tied: names that are one tensor (tied weights), a row each.
        buffers: tensors that are moved but carry no information to score, such as BatchNorm's running statistics.
        explainer: the memory of the discovery, for `explain`; not saved.
    """

    groups: Mapping[str, AxisGroup]
    layouts: Mapping[str, tuple[AxisLayout, ...]]
    pins: Mapping[AxisRef, str] = field(default_factory=dict)
    tied: tuple[tuple[str, ...], ...] = ()
    buffers: frozenset[str] = frozenset()
    explainer: Explainer | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check that the symmetry does not contradict itself.

        Raises:
            SymmetryError: naming the group, tensor or axis at fault.
        """
        check_groups(self.groups)
        check_layouts(self.layouts, self.groups)
        check_lists(self.layouts, self.tied, self.buffers)
        for ref in self.pins:
            if not 0 <= ref.axis < len(self.layouts.get(ref.tensor, ())):
                fail(f"pins: {ref}", "a pin on an axis that has a layout", "no such axis", "correct or remove the pin")

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every group."""
        return {name: group.size for name, group in self.groups.items()}

    @property
    def log_order(self) -> float:
        """The natural logarithm of the number of distinct reorderings: the sum of ln n! over all groups.

        A nested group counts once for every combination of members of the groups around it.
        """
        return sum(
            math.prod(self.context_sizes(group)) * math.lgamma(group.size + 1)
            for group in self.groups.values()
            if not group.fixed
        )

    def context_sizes(self, group: AxisGroup) -> tuple[int, ...]:
        """The sizes of the groups that `group` is nested in."""
        return tuple(self.groups[name].size for name in group.inside)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape that tensor `name` must have."""
        return tuple(layout.size(self.sizes) for layout in self.layouts[name])

    def parts(self, name: str) -> list[Part]:
        """The parts that tensor `name` falls into; see `onebasin.layout`."""
        return parts(name, self.layouts[name], self.sizes)

    def check(self, params: Mapping[str, Tensor], label: str) -> None:
        """Check that the tensors of `params` are those the symmetry speaks of, with the same shapes.

        Args:
            params: a state dict.
            label: what to call it in an error, such as a file's name.

        Raises:
            MismatchError: naming the tensor that is missing, has another shape or is not listed.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in params.items()}
        check_shapes(shapes, label, self.layouts, self.sizes, self.tied)

    def explain(self, tensor: str, axis: int = 0, to: str | None = None) -> Explanation:
        """Why an axis cannot move, or with what and why it moves: a chain of operations with the user's lines.

        Args:
            tensor: a name of the state dict.
            axis: counted from 0.
            to: another tensor, to ask why the two move together.

        Raises:
            OptionError: if there is no such tensor or axis, or the symmetry was loaded from a file, which keeps the
                reasons of pins but not the chains.
        """
        if self.explainer is None:
            raise OptionError(
                "explain", expected="a symmetry just discovered", found="one from a file", remedy="discover it again"
            )
        return self.explainer.explain(tensor, axis, to)

    def identity(self) -> "Matching":
        """The element that moves nothing."""
        return Matching(
            self,
            {g.name: Permutation.identity(g.size, self.context_sizes(g)) for g in self.groups.values()},
        )

    def random(self, seed: int, only: Iterable[str] | None = None) -> "Matching":
        """A uniformly random element of the symmetry group.

        Args:
            seed: same seed, same element, in every process.
            only: the groups to move; all others stay in place. None moves all.

        Raises:
            SymmetryError: if one of `only` is not a group.
        """
        generator = np.random.default_rng(seed)
        chosen = set(self.groups if only is None else only)
        for name in chosen - self.groups.keys():
            fail(f"group {name}", "a group of the symmetry", "an unknown one", f"choose from {', '.join(self.groups)}")
        permutations = {}
        for group in self.groups.values():
            drawn = Permutation.random(group.size, generator, self.context_sizes(group))
            moves = group.name in chosen and not group.fixed
            permutations[group.name] = drawn if moves else Permutation.identity(group.size, self.context_sizes(group))
        return Matching(self, permutations, seed=seed, method="random")

    def save(self, path: str | Path) -> None:
        """Write the JSON form to `path`; an existing file is replaced whole or not at all."""
        write_json(Path(path), self.to_json())

    def to_json(self) -> dict[str, object]:
        """The JSON form; see `onebasin.symmetry_json`."""
        pins = {str(axis): reason for axis, reason in self.pins.items()}
        return symmetry_json.dump_symmetry(self.groups, self.layouts, pins, self.tied, self.buffers)

    @classmethod
    def load(cls, path: str | Path, checkpoint: Source | None = None) -> Self:
        """Read the JSON form, written by `save` or by hand.

        Args:
            path: the file.
            checkpoint: where given, the symmetry is checked against it, tensor by tensor.

        Raises:
            CheckpointError: if the file cannot be read.
            SymmetryError: if it is not a symmetry, or contradicts itself.
            MismatchError: if it does not fit the checkpoint.
        """
        symmetry = cls.from_json(read_json(Path(path)), str(path))
        if checkpoint is not None:
            symmetry.check(load_params(checkpoint), str(path))
        return symmetry

    @classmethod
    def from_json(cls, data: object, label: str) -> Self:
        """Build from parsed JSON; `label` names its source in errors."""
        parsed = symmetry_json.parse_symmetry(data, label)
        try:
            pins = {AxisRef.parse(axis): reason for axis, reason in parsed.pins.items()}
        except SymmetryError as error:
            raise error.within(f"{label}: pins") from None
        try:
            return cls(parsed.groups, parsed.layouts, pins, parsed.tied, parsed.buffers)
        except SymmetryError as error:
            raise error.within(label) from None

    def __getstate__(self) -> dict[str, object]:
        """What travels to other processes: plain data, without the memory of the discovery."""
        return {**self.__dict__, "explainer": None}

    def __repr__(self) -> str:
        """Counts and the logarithm of the order."""
        return f"Symmetry({len(self.groups)} groups, {len(self.layouts)} tensors, log_order={self.log_order:.1f})"


class Status(enum.Enum):
    """Why a search stopped; the value says what it means and what to do."""

    OPTIMAL = "optimal: the objective has reached its upper bound, no reordering is better"
    CONVERGED = "converged: no group's best reordering, the others fixed, improves the objective any more"
    MAX_SWEEPS = "stopped at the limit of sweeps; raise max_sweeps to go on"
    EPOCHS = "stopped after the last epoch; raise epochs to go on"
    INTERRUPTED = "interrupted; the matching is valid and the best reached so far, run again to go on"
    GIVEN = "given, not searched for"


@dataclass(frozen=True, slots=True)
class Trial:
    """One of the searches that were tried, the best of which was kept.

    Attributes:
        name: from where it started.
        objective: what it reached.
        sweeps: passes over all groups.
    """

    name: str
    objective: float
    sweeps: int


@dataclass(frozen=True)
class Matching:
    """One element of a symmetry group: a permutation for every axis group, and how it was found.

    Attributes:
        symmetry: the group it belongs to.
        permutations: one a group, `[*sizes of the groups around, n]`, in gather form.
        objective: the value reached, where a search found it.
        history: the objective after every sweep, beginning with the start.
        status: why the search stopped.
        seconds: the time spent in each part of the search; not saved, so that the same seed gives the same bytes.
        method: the algorithm that found it.
        seed: the seed it was started from.
        bound: no element of the group has a larger objective than this.
        gaps: for every group that was searched, how much more reordering it and what is nested in it could at most
            gain, all others fixed: the dual certificate of its last assignment. Rounding apart it is 0 where converged.
        tried: the searches among which this one was the best.
    """

    symmetry: Symmetry
    permutations: Mapping[str, Permutation]
    objective: float | None = None
    history: tuple[float, ...] = ()
    status: Status = Status.GIVEN
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)
    method: str = "given"
    seed: int | None = None
    bound: float | None = None
    gaps: Mapping[str, float] = field(default_factory=dict)
    tried: tuple[Trial, ...] = ()

    def __post_init__(self) -> None:
        """Check that every group has a permutation of the right shape.

        Raises:
            SymmetryError: naming the group at fault.
        """
        for group in self.symmetry.groups.values():
            shape = (*self.symmetry.context_sizes(group), group.size)
            given = self.permutations.get(group.name)
            if given is None or given.index.shape != shape:
                found = "none" if given is None else f"shape {given.index.shape}"
                fail(f"group {group.name}", f"a permutation of shape {shape}", found, "pass one for every group")
            elif group.fixed and not given.is_identity:
                fail(f"group {group.name}", "the identity, since the group is fixed", "a permutation", "leave it out")
        for name in self.permutations.keys() - self.symmetry.groups.keys():
            fail(f"group {name}", "a group of the symmetry", "an unknown one", "remove it")

    @property
    def share(self) -> float | None:
        """The share of its upper bound that the objective has reached; None where either is unknown or not positive."""
        if self.objective is None or self.bound is None or self.bound <= 0:
            return None
        return self.objective / self.bound

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return all(permutation.is_identity for permutation in self.permutations.values())

    def apply(self, b: Source) -> dict[str, Tensor]:
        """The function of `b` in the coordinates it was matched to.

        Args:
            b: a module, its state dict, or a checkpoint's path. Not modified.

        Returns:
            New tensors under the names, dtypes, devices and order of `b` (NumPy arrays if `b` is a mapping of these);
            tied tensors stay tied.

        Raises:
            MismatchError: if `b` does not fit the symmetry.
        """
        params = load_params(b)
        self.symmetry.check(params, str(b) if isinstance(b, str | Path) else "b")
        s = self.symmetry
        # Tensors that share memory move as one, also where the symmetry does not know of it.
        shared = [row for row in tied_names(params) if len({s.layouts[name] for name in row}) == 1]
        return as_given(b, dict(permute_stream(params, s.layouts, s.groups, self.permutations, (*s.tied, *shared))))

    def move(self, name: str, tensor: Tensor) -> Tensor:
        """One tensor of `b` in the coordinates it was matched to, as a copy; unchecked, see `apply`."""
        s = self.symmetry
        return permute_tensor(name, tensor, s.layouts.get(name, ()), s.groups, self.permutations)

    def compose(self, other: "Matching") -> "Matching":
        """The element that acts as `other` first and then as this one.

        With p over i and q over [i, j] nested in it: first (p2, q2), then (p1, q1) gives p[i] = p2[p1[i]] and
        q[i, j] = q2[p1[i], q1[i, j]], as the members of the outer group have moved in between.

        Raises:
            SymmetryError: if the two belong to different symmetries.
        """
        if other.symmetry.groups != self.symmetry.groups:
            fail("compose", "two matchings of one symmetry", "different groups", "use one symmetry for both")
        composed = {
            name: Permutation(other.permutations[name].index[(*self._context(name), p.index)])
            for name, p in self.permutations.items()
        }
        return Matching(self.symmetry, composed)

    def inverse(self) -> "Matching":
        """The element that undoes this one."""
        inverted: dict[str, Permutation] = {}
        for group in sorted(self.symmetry.groups.values(), key=lambda g: len(g.inside)):
            rows = self.permutations[group.name].inverse()
            # Where a member of the outer groups came from, there its inner permutation is undone.
            index = rows.index[_gather(group, self.symmetry.groups, inverted)] if group.inside else rows.index
            inverted[group.name] = Permutation(index)
        return Matching(self.symmetry, {name: inverted[name] for name in self.permutations})

    def members(self, name: str) -> NDArray[np.int64]:
        """Where every member of a group is taken from, counted over all members of the groups around it.

        Returns:
            `[m]` int64, m the product of the sizes of the groups around and its own; members are numbered row by row.
        """
        group = self.symmetry.groups[name]
        rows = np.broadcast_arrays(*self._context(name), self.permutations[name].index)
        sizes = (*self.symmetry.context_sizes(group), group.size)
        return np.ravel_multi_index(tuple(rows), sizes).reshape(-1)

    def _context(self, name: str) -> tuple[NDArray[np.int64], ...]:
        group = self.symmetry.groups[name]
        return tuple(axis[..., None] for axis in _gather(group, self.symmetry.groups, self.permutations))

    def save(self, path: str | Path) -> None:
        """Write the JSON form, symmetry included, to `path`; an existing file is replaced whole or not at all."""
        found = {
            "method": self.method,
            "seed": self.seed,
            "objective": self.objective,
            "history": list(self.history),
            "status": self.status.name.lower(),
            "bound": self.bound,
            "gaps": dict(self.gaps),
            "tried": [dataclasses.asdict(trial) for trial in self.tried],
        }
        permutations = {name: permutation.index.tolist() for name, permutation in self.permutations.items()}
        write_json(
            Path(path),
            {
                "format": symmetry_json.MATCHING,
                **found,
                "permutations": permutations,
                "symmetry": self.symmetry.to_json(),
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file cannot be read.
            SymmetryError: if it is not a matching, or contradicts itself.
        """
        parsed = symmetry_json.parse_matching(read_json(Path(path)), str(path), [s.name.lower() for s in Status])
        permutations = {}
        for name, index in parsed.permutations.items():
            try:
                permutations[name] = Permutation(index)
            except SymmetryError as error:
                raise error.within(f"{path}: permutations: {name}") from None
        return cls(
            Symmetry.from_json(parsed.symmetry, str(path)),
            permutations,
            objective=parsed.objective,
            history=parsed.history,
            status=Status[parsed.status.upper()],
            method=parsed.method,
            seed=parsed.seed,
            bound=parsed.bound,
            gaps=parsed.gaps,
            tried=tuple(Trial(*row) for row in parsed.tried),
        )

    def replace(self, **changes: object) -> Self:
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        """Method, objective and status."""
        moved = sum(not permutation.is_identity for permutation in self.permutations.values())
        value = "" if self.objective is None else f", objective={self.objective:.6g}"
        return f"Matching({self.method}, {moved} of {len(self.permutations)} groups move{value}, {self.status.name})"


def _gather(
    group: AxisGroup, groups: Mapping[str, AxisGroup], permutations: Mapping[str, Permutation]
) -> tuple[NDArray[np.int64], ...]:
    """For every combination of members around `group`, where those members are taken from.

    Returns:
        one array a surrounding group, each broadcastable to the sizes of all of them.
    """
    grid = dict(zip(group.inside, np.indices([groups[n].size for n in group.inside], sparse=True), strict=True))
    return tuple(
        permutations[name].index[(*(grid[outer] for outer in groups[name].inside), grid[name])] for name in group.inside
    )
