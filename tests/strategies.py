"""Random layouts, symmetries and their elements for Hypothesis, and what they mean, written out index by index.

The second half is the oracle of the suites: slow Python loops straight from the definitions, sharing no code with the
library. A symmetry drawn here has chains of groups up to three deep, groups nested in two unrelated ones, fixed groups,
contexts on the same axis and on other axes, tied tensors and buffers.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import NDArray
from torch import Tensor

from onebasin import AxisGroup, AxisLayout, Matching, Permutation, Symmetry

ENTRIES = 200
"""The most entries a drawn tensor has: the oracle visits them one by one."""

Terms = list[list[object]]
"""A layout as people write it, before any simplification: a sum of products of sizes, names and sums."""

SIZES = {"a": 2, "b": 3, "c": 1, "d-1": 2}
"""The groups that `sums` speaks of."""

SEEDS = st.integers(0, 2**32 - 1)


def sums() -> SearchStrategy[Terms]:
    """Layouts over the groups of `SIZES`, with needless parentheses, factors of 1 and fixed neighbours."""
    leaf = st.integers(1, 3) | st.sampled_from(list(SIZES))
    inner: SearchStrategy[object] = st.recursive(
        leaf, lambda factor: st.lists(st.lists(factor, min_size=1, max_size=3), min_size=1, max_size=3), max_leaves=6
    )
    return st.lists(st.lists(inner, min_size=1, max_size=3), min_size=1, max_size=3)


def text(terms: Terms) -> str:
    """The text of a layout, every inner sum in parentheses."""
    return " + ".join("*".join(f"({text(f)})" if isinstance(f, list) else str(f) for f in term) for term in terms)


@st.composite
def symmetries(draw: DrawFn, *, crossed: bool = True) -> Symmetry:
    """Symmetries of one to four small tensors, some of them tied or buffers.

    Args:
        draw: given by Hypothesis.
        crossed: whether a group may be nested in two that are not nested in each other.
    """
    groups = draw(_groups(crossed=crossed))
    layouts = {f"t{k}": draw(_axes(groups)) for k in range(draw(st.integers(1, 4)))}
    tied = ()
    if draw(st.booleans()):
        layouts["t0.again"] = layouts["t0"]
        tied = (("t0", "t0.again"),)
    free = [name for name in layouts if not name.startswith("t0")]
    return Symmetry(groups, layouts, tied=tied, buffers=frozenset(name for name in free if draw(st.booleans())))


@st.composite
def _groups(draw: DrawFn, *, crossed: bool) -> dict[str, AxisGroup]:
    sizes, fixed = st.sampled_from([2, 3, 2, 3, 1]), st.sampled_from([*[False] * 6, True])
    groups = {name: AxisGroup(name, draw(sizes), (), draw(fixed)) for name in "abc"[: draw(st.integers(1, 3))]}
    for number in range(draw(st.integers(0, 4))):
        outer = draw(st.sampled_from([group for group in groups.values() if len(group.inside) < 2]))
        name = f"{outer.name}{number}"
        groups[name] = AxisGroup(name, draw(sizes), (*outer.inside, outer.name), draw(fixed))
    if crossed and "b" in groups and draw(st.booleans()):
        around = draw(st.sampled_from([group for group in groups.values() if "b" in _chain(group)]))
        groups["x"] = AxisGroup("x", draw(sizes), ("a", *_chain(around)), draw(fixed))
    return groups


@st.composite
def _axes(draw: DrawFn, groups: Mapping[str, AxisGroup]) -> tuple[AxisLayout, ...]:
    nested = [group for group in groups.values() if group.inside]
    if nested and draw(st.booleans()):
        axes = draw(_split(draw(st.sampled_from(nested)), groups))
    else:
        axes = draw(st.lists(_axis(groups), max_size=3))
    sizes = {name: group.size for name, group in groups.items()}
    assume(math.prod(axis.size(sizes) for axis in axes) <= ENTRIES)
    return tuple(axes)


@st.composite
def _axis(draw: DrawFn, groups: Mapping[str, AxisGroup]) -> AxisLayout:
    """An axis on which every nested group stands inside those around it."""
    terms = []
    for _ in range(draw(st.integers(1, 2))):
        chains = draw(st.lists(st.sampled_from([_chain(group) for group in groups.values()]), max_size=2))
        factors: list[int | str | AxisLayout] = []
        for chain in chains:
            factors += draw(_spaced(chain))
        if chains and draw(st.booleans()):
            inside = [(group.name,) for group in groups.values() if group.inside == chains[-1]]
            choices = st.sampled_from([(1,), (2,), *inside])
            factors.append(AxisLayout.of(*draw(st.lists(choices, min_size=1, max_size=3))))
        terms.append(factors or [draw(st.integers(1, 3))])
    return AxisLayout.of(*terms)


@st.composite
def _split(draw: DrawFn, group: AxisGroup, groups: Mapping[str, AxisGroup]) -> list[AxisLayout]:
    """Axes over which a group and those around it are spread, or stand inside out, and perhaps one of other groups."""
    chain = _chain(group)
    cut = draw(st.integers(1, len(chain) - 1))
    outside = [draw(_spaced(chain[:cut])) for _ in range(draw(st.integers(1, 2)))]  # every block needs the context
    inside = [draw(_spaced(chain[cut:])), *([2] for _ in range(draw(st.integers(0, 1))))]
    axes = [AxisLayout.of(*outside), AxisLayout.of(*inside)]
    if draw(st.booleans()):
        axes = [AxisLayout.of([*inside[0], axes[0]])]  # the group first, those around it after it on the same axis
    others = {n: g for n, g in groups.items() if not {n, *g.inside}.intersection(chain)}
    if others and draw(st.booleans()):
        axes.append(draw(_axis(others)))
    return draw(st.permutations(axes))


def _chain(group: AxisGroup) -> tuple[str, ...]:
    return (*group.inside, group.name)


@st.composite
def _spaced(draw: DrawFn, chain: Sequence[str]) -> list[int | str | AxisLayout]:
    """The groups of a chain with a fixed size here and there."""
    factors: list[int | str | AxisLayout] = []
    for name in chain:
        factors += [name, 2] if draw(st.sampled_from([False, False, True])) else [name]
    return [2, *factors] if draw(st.sampled_from([False, False, False, True])) else factors


@st.composite
def elements(draw: DrawFn, symmetry: Symmetry) -> Matching:
    """An element of the symmetry: a few groups stay, the others move at random."""
    generator = np.random.default_rng(draw(SEEDS))
    moved = {}
    for group in symmetry.groups.values():
        shape = (*(symmetry.groups[name].size for name in group.inside), group.size)
        stays = group.fixed or draw(st.sampled_from([False, False, False, True]))
        moved[group.name] = np.argsort(np.zeros(shape) if stays else generator.random(shape), axis=-1, kind="stable")
    return Matching(symmetry, {name: Permutation(index) for name, index in moved.items()})


def numbered(symmetry: Symmetry, dtype: torch.dtype = torch.int64) -> dict[str, Tensor]:
    """A state dict in which every tensor's entries count from 0, so that each tells where it came from."""
    state = {
        name: torch.arange(math.prod(symmetry.shape(name))).reshape(symmetry.shape(name)).to(dtype)
        for name in symmetry.layouts
    }
    return _tie(symmetry, state)


def normal(symmetry: Symmetry, seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """A state dict of standard normal entries, tied names sharing one tensor."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: torch.randn(symmetry.shape(name), generator=generator, dtype=torch.float64).to(dtype)
        for name in symmetry.layouts
    }
    return _tie(symmetry, state)


def _tie(symmetry: Symmetry, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {name: state[row[0]] for row in symmetry.tied for name in row}


def written(groups: Sequence[AxisGroup], tensors: Mapping[str, str], **fields: object) -> Symmetry:
    """A symmetry whose layouts are written as text, the axes of a tensor separated by commas."""
    layouts = {
        name: tuple(AxisLayout.parse(axis) for axis in axes.split(",")) if axes else ()
        for name, axes in tensors.items()
    }
    return Symmetry({group.name: group for group in groups}, layouts, **fields)


# The definitions.

Step = tuple[str, int]
"""One coordinate of a position along an axis: of a group, of a fixed factor (`#`), or which term of a sum (`+`)."""


def positions(terms: Sequence[Sequence[object]], sizes: Mapping[str, int]) -> list[tuple[Step, ...]]:
    """The coordinates of every position along an axis, in order: the first factor of a product varies slowest."""
    found: list[tuple[Step, ...]] = []
    for number, term in enumerate(terms):
        for choice in itertools.product(*(_factor_positions(factor, sizes) for factor in term)):
            found.append((("+", number), *itertools.chain.from_iterable(choice)))  # noqa: PERF401 - read in steps
    return found


def _factor_positions(factor: object, sizes: Mapping[str, int]) -> list[tuple[Step, ...]]:
    if isinstance(factor, int):
        return [(("#", i),) for i in range(factor)]
    if isinstance(factor, str):
        return [((factor, i),) for i in range(sizes[factor])]
    return positions(factor.terms if isinstance(factor, AxisLayout) else factor, sizes)


def moved(
    tensor: Tensor,
    layouts: Sequence[AxisLayout],
    groups: Mapping[str, AxisGroup],
    index: Mapping[str, NDArray[np.int64]],
) -> Tensor:
    """Reorder a tensor entry by entry: `result[.., i, .., j, ..] = tensor[.., p[i], .., q[i, j], ..]`."""
    sizes = {name: group.size for name, group in groups.items()}
    axes = [positions(layout.terms, sizes) for layout in layouts]
    places = [{steps: place for place, steps in enumerate(axis)} for axis in axes]
    result = torch.empty_like(tensor, memory_format=torch.contiguous_format)
    for target in np.ndindex(*tensor.shape):
        steps = [axes[axis][place] for axis, place in enumerate(target)]
        source = [
            tuple(
                (name, _taken(name, i, _members(steps, axis, k, groups[name].inside), index) if name in groups else i)
                for k, (name, i) in enumerate(steps[axis])
            )
            for axis in range(tensor.ndim)
        ]
        result[target] = tensor[tuple(places[axis][coordinates] for axis, coordinates in enumerate(source))]
    return result


def _taken(name: str, i: int, around: Sequence[int], index: Mapping[str, NDArray[np.int64]]) -> int:
    return int(index[name][(*around, i)])


def _members(steps: Sequence[Sequence[Step]], axis: int, k: int, inside: Sequence[str]) -> list[int]:
    """Which members of the groups around step `k` of an axis it lies in: nearest before it, or else anywhere."""
    found = []
    for name in inside:
        here = [i for other, i in steps[axis][:k] if other == name]
        there = [i for row in steps for other, i in row if other == name]
        found.append(here[-1] if here else there[0])
    return found


def moved_state(state: Mapping[str, Tensor], member: Matching) -> dict[str, Tensor]:
    """Every tensor of a state dict reordered entry by entry."""
    s = member.symmetry
    index = {name: permutation.index for name, permutation in member.permutations.items()}
    return {name: moved(tensor, s.layouts[name], s.groups, index) for name, tensor in state.items()}


def moving(symmetry: Symmetry, name: str) -> NDArray[np.bool_]:
    """For every entry of a tensor, whether its place depends on any group."""
    mask = np.zeros((), dtype=np.bool_)
    for layout in symmetry.layouts[name]:
        axis = [any(step in symmetry.groups for step, _ in row) for row in positions(layout.terms, symmetry.sizes)]
        mask = mask[..., None] | np.array(axis, dtype=np.bool_)
    return mask


def score(a: Mapping[str, Tensor], b: Mapping[str, Tensor], symmetry: Symmetry) -> float:
    """The objective of weight matching: entry times entry over what can move; buffers left out, tied tensors once."""
    again = {name for row in symmetry.tied for name in [n for n in row if n in a][1:]}
    total = 0.0
    for name in symmetry.layouts:
        if name in a and name not in symmetry.buffers and name not in again:
            product = a[name].double().numpy() * b[name].double().numpy()
            total += float(product[moving(symmetry, name)].sum())
    return total


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts hold the same names in the same order, dtypes, shapes and bits (-0 is not 0)."""
    return list(a) == list(b) and all(identical(a[name], b[name]) for name in a)


def identical(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same dtype, shape and bits."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    rows = [tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (a, b)]
    return torch.equal(*rows)
