"""Layouts mean what their text says: positions, sizes, blocks and parts against the definition."""

import itertools
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onebasin.errors import SymmetryError
from onebasin.layout import AxisGroup, AxisLayout, Part, parts
from strategies import SIZES, Terms, positions, sums, text

NAMES = ["h", "layer1.0", "3x3", "ä", "-1", "attn:heads", "a/b", "0x"]


@given(sums())
def test_text_is_read_back(terms: Terms) -> None:
    """The text of a layout is read back as the same layout, hash included."""
    layout = AxisLayout.parse(text(terms))
    again = AxisLayout.parse(str(layout))

    assert again == layout
    assert hash(again) == hash(layout)
    assert str(again) == str(layout)


@given(st.text("ab12+*() ", max_size=12))
def test_any_text_is_a_layout_or_an_error(written: str) -> None:
    """Text is either refused by naming it or read as a layout that is read back from its own text."""
    try:
        layout = AxisLayout.parse(written)
    except SymmetryError as error:
        assert error.subject == f"layout {written!r}"  # noqa: PT017 - the other outcome is tested, too
    else:
        assert AxisLayout.parse(str(layout)) == layout


@pytest.mark.parametrize(
    "written",
    ["", " ", "a b", "2 2", "a*", "*a", "+a", "a +", "a**b", "a++b", "()", "(a", "a)", "a(b)", "(a)(b)", "2(a)"],
)
def test_what_is_no_layout_is_refused(written: str) -> None:
    """Text with something missing, or with something after its end, is refused whole."""
    with pytest.raises(SymmetryError, match=r"^layout .*: expected terms joined by \+"):
        AxisLayout.parse(written)


@given(sums())
def test_blocks_are_the_positions(terms: Terms) -> None:
    """Every position lies in one block, with the groups and coordinates that multiplying out by hand gives it."""
    layout = AxisLayout.parse(text(terms))
    expected = [[step for step in row if step[0] in SIZES] for row in positions(terms, SIZES)]
    found: dict[int, list[tuple[str, int]]] = {}
    for block in layout.blocks(SIZES):
        assert block.sizes == tuple(SIZES[f] if isinstance(f, str) else f for f in block.factors)
        for index in itertools.product(*map(range, block.sizes)):
            place = block.offset + sum(i * stride for i, stride in zip(index, block.strides, strict=True))
            assert place not in found
            found[place] = [(f, i) for f, i in zip(block.factors, index, strict=True) if isinstance(f, str)]

    assert [found[place] for place in sorted(found)] == expected
    assert sorted(found) == list(range(layout.size(SIZES)))


@given(sums())
def test_groups_of_a_layout_are_listed_once_in_order(terms: Terms) -> None:
    """The groups of a layout are those of its text, each once, in the order of their first mention."""
    layout = AxisLayout.parse(text(terms))
    mentioned = re.split(r"[\s+*()]+", text(terms))

    assert layout.groups == tuple(dict.fromkeys(word for word in mentioned if word in SIZES))


@given(st.lists(st.sampled_from(["a*2 + b", "3", "b*(a + 1)", "a", "1", "2*c*b"]), max_size=3))
def test_parts_cover_every_entry_once(axes: list[str]) -> None:
    """The views of all parts together reach every entry of a tensor exactly once, and writing to them writes to it."""
    layouts = [AxisLayout.parse(axis) for axis in axes]
    shape = [layout.size(SIZES) for layout in layouts]
    tensor = torch.zeros([*shape, 2])[..., 1]  # not contiguous, and not at the beginning of its storage
    for part in parts("w", layouts, SIZES):
        view = part.view(tensor)
        assert tuple(view.shape) == part.sizes
        assert len(part.factors) == len(part.axes) == view.ndim
        view += 1

    assert torch.equal(tensor, torch.ones(shape))


def test_a_view_holds_the_entries_of_its_block() -> None:
    """In queries, keys and values interleaved head by head, each block picks its own rows, head by head."""
    layouts = (AxisLayout.parse("h*(d + d + 1)"), AxisLayout.parse("2"))
    tensor = torch.arange(20).reshape(10, 2)
    views = [part.view(tensor).tolist() for part in parts("qkv", layouts, {"h": 2, "d": 2})]

    assert views == [
        [[[0, 1], [2, 3]], [[10, 11], [12, 13]]],
        [[[4, 5], [6, 7]], [[14, 15], [16, 17]]],
        [[8, 9], [18, 19]],
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(a)", "a"),
        ("a*1", "a"),
        ("1*1", "1"),
        ("(1)", "1"),
        ("2*3*a*4*5", "6*a*20"),
        ("2 + 3 + a + 1 + (2 + 2*2)", "5+a+7"),
        ("(a + 2) + 3", "a + 5"),
        ("(a + b)*1", "a + b"),
        ("a*(2 + 3)", "a*5"),
        ("a*(b*2)*3", "a*b*6"),
        ("a*((b + 1))", "a*(b+1)"),
        ("(((a)))*((2))", "a*2"),
    ],
)
def test_spellings_of_one_layout_are_equal(one: str, other: str) -> None:
    """Parentheses that can be opened and fixed sizes that can be joined make no difference."""
    assert AxisLayout.parse(one) == AxisLayout.parse(other)
    assert hash(AxisLayout.parse(one)) == hash(AxisLayout.parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a*2", "2*a"),
        ("a*b", "b*a"),
        ("a*(b + b)", "a*b + a*b"),
        ("a + a", "2*a"),
        ("a + 1", "1 + a"),
        ("a*2", "a + a"),
    ],
)
def test_layouts_that_differ_are_not_equal(one: str, other: str) -> None:
    """Order, interleaving and repetition are part of a layout."""
    assert AxisLayout.parse(one) != AxisLayout.parse(other)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_read_as_names(name: str) -> None:
    """Whatever a group may be called, a layout reads as that group."""
    assert AxisGroup(name, 3).name == name
    assert AxisLayout.parse(f"2*{name}+{name}").groups == (name,)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a*", "(a)", "\n", "7", "a\t"])
def test_names_that_no_layout_can_hold_are_refused(name: str) -> None:
    """A group cannot have a name that its layout's text would not read as a name."""
    with pytest.raises(SymmetryError, match="a name without white space"):
        AxisGroup(name, 3)


@pytest.mark.parametrize(
    ("axes", "dim", "inside", "expected"),
    [
        (("h*u",), 1, ("h",), (0,)),
        (("h", "u"), 1, ("h",), (0,)),
        (("u", "h"), 0, ("h",), (1,)),
        (("u*h",), 0, ("h",), (1,)),  # the only one, even though it stands inside
        (("h*h*u",), 2, ("h",), (1,)),  # the nearest outside
        (("h", "h*u"), 2, ("h",), (1,)),  # the same axis before others
        (("k*2*q", "d*u"), 4, ("k", "q", "d"), (0, 2, 3)),
        (("d", "q", "k"), 0, ("k", "q"), (2, 1)),
        (("h*u*h",), 1, ("h",), (0,)),
    ],
)
def test_context_is_the_nearest_group_around(
    axes: tuple[str, ...], dim: int, inside: tuple[str, ...], expected: tuple[int, ...]
) -> None:
    """A nested group finds those around it outside on its own axis, nearest first, and then anywhere."""
    sizes = dict.fromkeys("hukqd", 2)
    (part,) = parts("w", [AxisLayout.parse(axis) for axis in axes], sizes)

    assert part.context(dim, inside) == expected


@pytest.mark.parametrize(("axes", "found"), [(("u",), 0), (("u", "2"), 0), (("u", "h", "h"), 2), (("u*h*h",), 2)])
def test_context_must_be_one(axes: tuple[str, ...], found: int) -> None:
    """Where the group around is missing or stands in two places, the axis is named."""
    (part,) = parts("fc.weight", [AxisLayout.parse(axis) for axis in axes], {"h": 2, "u": 2})

    with pytest.raises(SymmetryError, match=rf"^fc\.weight:0: expected group u .* found {found} of h"):
        part.context(0, ("h",))


def test_a_scalar_has_one_empty_part() -> None:
    """A tensor without axes is one part without dimensions."""
    assert parts("s", (), {}) == [Part("s", ())]
    assert parts("s", (), {})[0].view(torch.tensor(3.0)).shape == ()


def test_nothing_joined_with_one_is_one() -> None:
    """A fixed size of 0 beside one of 1 is 1."""
    assert AxisLayout.parse("0 + 1") == AxisLayout.parse("1")


@pytest.mark.parametrize("written", ["²", "a*¹", "①"])
def test_digits_that_are_no_numbers_are_names_or_refused(written: str) -> None:
    """Superscripts and the like do not break the parser."""
    try:
        layout = AxisLayout.parse(written)
    except SymmetryError:
        return
    assert AxisLayout.parse(str(layout)) == layout
