"""Symmetries and their elements form a group that acts on tensors, and say so when they do not fit."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from onebasin import AxisGroup, AxisLayout, AxisRef, Matching, Permutation, Status, Symmetry
from onebasin.errors import MismatchError, SymmetryError
from strategies import SEEDS, elements, normal, numbered, same, symmetries, written

MLP = written(
    [AxisGroup("h", 4), AxisGroup("g", 3)],
    {"w1": "h,5", "b1": "h", "w2": "g,h", "w3": "2,g", "again": "2,g", "steps": "", "mean": "h"},
    pins={AxisRef("w1", 1): "an input", AxisRef("w3", 0): "an output"},
    tied=(("w3", "again"),),
    buffers=frozenset({"mean", "steps"}),
)
WREATHS = {
    "flat": ([AxisGroup("h", 4)], "h", 24),
    "of one": ([AxisGroup("h", 1)], "h", 1),
    "heads": ([AxisGroup("h", 3), AxisGroup("u", 2, ("h",))], "h*u", 6 * 2**3),
    "fixed heads": ([AxisGroup("h", 2, (), fixed=True), AxisGroup("u", 3, ("h",))], "h*u", 6**2),
    "fixed units": ([AxisGroup("h", 3), AxisGroup("u", 2, ("h",), fixed=True)], "h*u", 6),
    "queries": ([AxisGroup("k", 2), AxisGroup("q", 2, ("k",)), AxisGroup("u", 2, ("k", "q"))], "k*q*u", 2 * 4 * 16),
    "siblings": ([AxisGroup("h", 2), AxisGroup("u", 2, ("h",)), AxisGroup("v", 2, ("h",))], "h*(u + v)", 2 * 4 * 4),
    "two": ([AxisGroup("g", 3), AxisGroup("h", 2)], "g*h", 12),
    "crossed": ([AxisGroup("a", 2), AxisGroup("b", 2), AxisGroup("x", 2, ("a", "b"))], "a*b*x", 2 * 2 * 16),
}


def pair(data: DataObject) -> tuple[Matching, Matching, Symmetry]:
    """Two elements of one random symmetry."""
    symmetry = data.draw(symmetries())
    return data.draw(elements(symmetry)), data.draw(elements(symmetry)), symmetry


@given(st.data())
def test_composing_is_applying_one_after_the_other(data: DataObject) -> None:
    """Applying m2 and then m1 is applying m1 composed with m2."""
    one, two, symmetry = pair(data)
    state = numbered(symmetry)

    assert same(one.compose(two).apply(state), one.apply(two.apply(state)))


@given(st.data())
def test_inverse_undoes(data: DataObject) -> None:
    """An element and its inverse compose to the identity in either order, and the inverse brings tensors back."""
    one, _, symmetry = pair(data)
    state = numbered(symmetry)

    assert same(one.inverse().apply(one.apply(state)), state)
    assert one.compose(one.inverse()).is_identity
    assert one.inverse().compose(one).is_identity
    assert one.inverse().inverse().permutations == one.permutations


@given(st.data())
def test_composition_is_associative_with_a_neutral_element(data: DataObject) -> None:
    """The elements are a group: composition is associative, the identity neutral, inverses turn the order round."""
    one, two, symmetry = pair(data)
    three, identity = data.draw(elements(symmetry)), symmetry.identity()

    assert one.compose(two).compose(three).permutations == one.compose(two.compose(three)).permutations
    assert one.compose(identity).permutations == identity.compose(one).permutations == one.permutations
    assert one.compose(two).inverse().permutations == two.inverse().compose(one.inverse()).permutations
    assert identity.is_identity
    assert same(identity.apply(numbered(symmetry)), numbered(symmetry))


@pytest.mark.parametrize("case", WREATHS)
def test_log_order_counts_the_reorderings(case: str) -> None:
    """The exponential of the log order is the number of tensors that can be reached from one, found by trying."""
    groups, axis, order = WREATHS[case]
    symmetry = written(groups, {"w": axis})
    moves = [symmetry.random(seed) for seed in range(20)]
    start = tuple(range(symmetry.shape("w")[0]))
    reached, new = {start}, [start]
    while new:
        tensor = torch.tensor(new.pop())
        for move in moves:
            found = tuple(move.apply({"w": tensor})["w"].tolist())
            if found not in reached:
                reached.add(found)
                new.append(found)

    assert len(reached) == order
    assert math.isclose(symmetry.log_order, math.log(order), abs_tol=1e-9)


def test_log_order_of_a_large_network_is_finite() -> None:
    """Where the number of reorderings would overflow, its logarithm is right."""
    symmetry = written([AxisGroup("h", 4096)], {"w": "h,h"})

    assert math.isclose(symmetry.log_order, sum(math.log(n) for n in range(1, 4097)), rel_tol=1e-12)


@given(symmetries(), SEEDS)
def test_random_elements_fit_and_repeat(symmetry: Symmetry, seed: int) -> None:
    """A random element depends on the seed alone, respects fixed groups, and carries its seed and method."""
    element = symmetry.random(seed)

    assert element == symmetry.random(seed)
    assert all(element.permutations[name].is_identity for name, group in symmetry.groups.items() if group.fixed)
    assert (element.method, element.seed, element.status) == ("random", seed, Status.GIVEN)


def test_random_elements_are_uniform() -> None:
    """All 48 elements of three heads with two units come up, about equally often."""
    groups, axis, order = WREATHS["heads"]
    symmetry = written(groups, {"w": axis})
    drawn = [str(symmetry.random(seed).permutations) for seed in range(40 * order)]
    counts = np.unique(drawn, return_counts=True)[1]

    assert len(counts) == order
    assert float(((counts - 40) ** 2 / 40).sum()) < 93.0  # chi-squared, 47 degrees of freedom, p < 0.0001


def test_random_moves_only_what_it_should() -> None:
    """Only the groups asked for move, as they do when all move; no other draw depends on the choice."""
    full, only = MLP.random(5), MLP.random(5, only=["g"])

    assert not full.permutations["h"].is_identity
    assert only.permutations["h"].is_identity
    assert only.permutations["g"] == full.permutations["g"] != MLP.identity().permutations["g"]


def test_random_refuses_unknown_groups() -> None:
    """A misspelt group is an error."""
    with pytest.raises(SymmetryError, match="hh"):
        MLP.random(3, only=["hh"])


SCRIPT = """
import sys
from pathlib import Path
import torch
from onebasin import AxisGroup, AxisLayout, Symmetry, match, merge, save_checkpoint
torch.set_num_threads(1)
names = ["h", "q", "u", "v", "zz", "aa"]
inside = {"q": ("h",), "u": ("h", "q"), "v": ("h",)}
symmetry = Symmetry(
    {name: AxisGroup(name, 3, inside.get(name, ())) for name in names},
    {t: tuple(map(AxisLayout.parse, axes)) for t, axes in
     {"a": ["h*q*u", "zz"], "b": ["aa", "h*v"], "c": ["zz", "aa"], "mean": ["h"], "d": ["h", "zz"]}.items()},
    buffers=frozenset({"mean", "c", "d"}),
)
a, b = ({n: torch.randn(symmetry.shape(n), generator=torch.Generator().manual_seed(s)) for n in "abcd"} for s in (1, 2))
a["mean"] = b["mean"] = torch.ones(3)
folder = Path(sys.argv[1])
symmetry.save(folder / "symmetry.json")
symmetry.random(5).save(folder / "random.json")
found = match(a, b, symmetry, seed=3)
found.save(folder / "match.json")
save_checkpoint(merge([a, found.apply(b)]), folder / "merged.safetensors")
"""


def test_same_seed_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Two processes that hash strings differently write the same symmetry, elements, matching and merged tensors."""
    folders = [tmp_path / name for name in ("1", "2")]  # which are their hash seeds, too
    for folder in folders:
        folder.mkdir()
    runs = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, folder], env=os.environ | {"PYTHONHASHSEED": folder.name})
        for folder in folders
    ]
    assert [run.wait() for run in runs] == [0, 0]
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)

    assert sorted(one) == ["match.json", "merged.safetensors", "random.json", "symmetry.json"]
    assert one == two


def test_counters_may_be_missing() -> None:
    """BatchNorm's counter of batches may be missing; another single number, such as a learned scale, may not."""
    s = written([AxisGroup("h", 2)], {"w": "h", "bn.num_batches_tracked": "", "logit_scale": ""})
    state = normal(s, 0)
    state.pop("bn.num_batches_tracked")
    s.check(state, "a")
    state.pop("logit_scale")
    with pytest.raises(MismatchError, match="a: logit_scale: expected a tensor of this name"):
        s.check(state, "a")


@given(symmetries(), SEEDS)
def test_states_that_fit_pass_the_check(symmetry: Symmetry, seed: int) -> None:
    """A state dict of the shapes that the symmetry tells passes, with or without one of two tied names."""
    state = normal(symmetry, seed)
    symmetry.check(state, "a")
    state.pop("t0.again", None)
    symmetry.check(state, "a")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w2": None}, r"^b\.pt: w2: expected a tensor of this name.*found none"),
        ({"w3": None, "again": None}, r"^b\.pt: w3: expected a tensor of this name"),
        ({"mean": None}, r"^b\.pt: mean: expected a tensor of this name"),
        ({"extra": torch.zeros(2)}, r"^b\.pt: extra: expected only tensors the symmetry lists"),
        ({"w2": torch.zeros(4, 3)}, r"^b\.pt: w2: expected shape \(3, 4\), axis 0 being g, found shape \(4, 3\)"),
        ({"again": torch.zeros(3, 2)}, r"^b\.pt: again: expected shape \(2, 3\), found shape \(3, 2\)"),
        ({"w2": torch.zeros(12)}, r"^b\.pt: w2: expected shape \(3, 4\), axis 0 being g, found shape \(12,\)"),
        ({"steps": torch.zeros(1)}, r"^b\.pt: steps: expected shape \(\), found shape \(1,\)"),
    ],
)
def test_states_that_do_not_fit_are_named(changes: dict[str, torch.Tensor | None], message: str) -> None:
    """A tensor that is missing, extra or of another shape is named with what to call the checkpoint."""
    state = {name: tensor for name, tensor in (normal(MLP, 0) | changes).items() if tensor is not None}

    with pytest.raises(MismatchError, match=message):
        MLP.check(state, "b.pt")


def test_apply_checks_what_it_is_given() -> None:
    """Applying an element to a state dict of another architecture is an error before anything moves."""
    with pytest.raises(MismatchError, match=r"^b: w2"):
        MLP.random(0).apply({"w1": torch.zeros(4, 5)} | {"w2": torch.zeros(1), "b1": torch.zeros(4)})


H, U = AxisGroup("h", 2), AxisGroup("u", 3, ("h",))


@pytest.mark.parametrize(
    ("groups", "tensors", "fields"),
    [
        ([U], {"w": "u"}, {}),
        ([H, U], {"w": "u"}, {}),
        ([H, U], {"w": "u,h,h"}, {}),
        ([H, U], {"w": "h + u"}, {}),
        ([H, U], {"w": "h*u + u"}, {}),
        ([H], {"w": "g"}, {}),
        ([AxisGroup("a", 2, ("b",)), AxisGroup("b", 2, ("a",))], {}, {}),
        ([AxisGroup("a", 2, ("a",))], {}, {}),
        ([H, U, AxisGroup("x", 2, ("u",))], {}, {}),
        ([H, U, AxisGroup("x", 2, ("u", "h"))], {}, {}),
        ([H], {"w": "h", "v": "2"}, {"tied": (("w", "v"),)}),
        ([H], {"w": "h"}, {"tied": (("w", "v"),)}),
        ([H], {"w": "h"}, {"buffers": frozenset({"v"})}),
        ([H], {"w": "h"}, {"pins": {AxisRef("w", 1): "?"}}),
        ([H], {"w": "h"}, {"pins": {AxisRef("v", 0): "?"}}),
    ],
)
def test_contradictions_are_refused(
    groups: list[AxisGroup], tensors: dict[str, str], fields: dict[str, object]
) -> None:
    """A symmetry whose groups, layouts, ties, buffers and pins do not fit together cannot be made."""
    with pytest.raises(SymmetryError):
        written(groups, tensors, **fields)


@pytest.mark.parametrize("case", ["key", "twice inside", "twice tied", "tied twice", "negative pin"])
def test_more_contradictions_are_refused(case: str) -> None:
    """Neither can one with a group under another's name or nested twice in one, a name tied twice, a pin before 0."""
    makers = {
        "key": lambda: Symmetry({"x": H}, {"w": (AxisLayout.parse("x"),)}),
        "twice inside": lambda: written([H, AxisGroup("u", 3, ("h", "h"))], {"w": "h*u"}),
        "twice tied": lambda: written([H], {"w": "h"}, tied=(("w", "w"),)),
        "tied twice": lambda: written([H], dict.fromkeys("wxv", "h"), tied=(("w", "x"), ("v", "w"))),
        "negative pin": lambda: written([H], {"w": "h"}, pins={AxisRef("w", -1): "?"}),
    }
    with pytest.raises(SymmetryError):
        makers[case]()


def test_shapes_and_sizes() -> None:
    """Sizes of groups, contexts and tensors follow from the groups."""
    s = written([H, U, AxisGroup("x", 4, ("h", "u"))], {"w": "h*u*x + 1,2*h*u", "s": ""})

    assert s.sizes == {"h": 2, "u": 3, "x": 4}
    assert s.context_sizes(s.groups["x"]) == (2, 3)
    assert (s.shape("w"), s.shape("s")) == ((25, 12), ())
    assert repr(s).startswith("Symmetry(3 groups, 2 tensors, log_order=")


@pytest.mark.parametrize(
    ("permutations", "message"),
    [
        ({"h": [0, 1]}, "group u: .*found none"),
        ({"h": [0, 1], "u": [0, 1, 2]}, r"group u: .*\(2, 3\), found shape \(3,\)"),
        ({"h": [0], "u": [[0, 1, 2]] * 2}, r"group h: .*\(2,\), found shape \(1,\)"),
        ({"h": [0, 1], "u": [[0, 1, 2]] * 2, "x": [0]}, "group x: .*a group of the symmetry"),
    ],
)
def test_elements_must_fit_the_symmetry(permutations: dict[str, list[int]], message: str) -> None:
    """An element needs one permutation of the right shape a group, and no other."""
    s = written([H, U], {"w": "h*u"})
    with pytest.raises(SymmetryError, match=message):
        Matching(s, {name: Permutation(index) for name, index in permutations.items()})


def test_fixed_groups_do_not_move() -> None:
    """A fixed group takes the identity and nothing else."""
    s = written([AxisGroup("h", 2, (), fixed=True)], {"w": "h"})

    assert s.random(0).is_identity
    assert Matching(s, {"h": Permutation([0, 1])}).is_identity
    with pytest.raises(SymmetryError, match="group h: expected the identity, since the group is fixed"):
        Matching(s, {"h": Permutation([1, 0])})


def test_elements_of_different_symmetries_do_not_compose() -> None:
    """Composing elements of two symmetries is an error."""
    with pytest.raises(SymmetryError, match="compose"):
        MLP.identity().compose(written([H], {"w": "h"}).identity())


@pytest.mark.parametrize("ref", [AxisRef("w", 0), AxisRef("a:b.c", 12), AxisRef("", 3)])
def test_axis_references_are_read_back(ref: AxisRef) -> None:
    """The text of a reference is read back, colons in the tensor's name included."""
    assert AxisRef.parse(str(ref)) == ref


@pytest.mark.parametrize("written_ref", ["w", "w:", "w:x", ":", "w:-1", "w:1.0", ""])
def test_what_is_no_axis_reference_is_refused(written_ref: str) -> None:
    """A reference without a name, a colon or a number is refused."""
    with pytest.raises(SymmetryError, match="TENSOR:AXIS"):
        AxisRef.parse(written_ref)


def test_a_superscript_is_no_axis() -> None:
    """A superscript digit is not taken for a number."""
    with pytest.raises(SymmetryError):
        AxisRef.parse("w:²")


def test_matchings_change_by_copies_and_are_shown_in_one_line() -> None:
    """A changed copy leaves the original, and the representation tells method, moving groups and objective."""
    element = MLP.random(0)
    changed = element.replace(objective=2.5, method="weight", status=Status.CONVERGED)

    assert element.objective is None
    assert repr(changed) == "Matching(weight, 2 of 2 groups move, objective=2.5, CONVERGED)"
    assert repr(MLP.identity()) == "Matching(given, 0 of 2 groups move, GIVEN)"
