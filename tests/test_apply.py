"""Moving tensors: against the definition, entry by entry, and without touching what was given."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from torch import Tensor

from onebasin import AxisGroup, Matching, Permutation, Symmetry
from onebasin.apply import permute_part, permute_stream, permute_tensor
from strategies import elements, identical, moved, moved_state, numbered, same, symmetries, written

HEADS = written(
    [AxisGroup("r", 3), AxisGroup("h", 2), AxisGroup("u", 3, ("h",))],
    {"emb": "5,r", "q": "h*(u + u + 1),r", "o": "r,h,u", "b": "h*u", "s": "", "n": "4"},
)
MEMBER = Matching(
    HEADS, {"r": Permutation([2, 0, 1]), "h": Permutation([1, 0]), "u": Permutation([[1, 2, 0], [0, 2, 1]])}
)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]


@given(st.data())
def test_moving_follows_the_definition(data: DataObject) -> None:
    """Every entry of every tensor comes from where p[i] and q[i, j] say, whatever the layouts and nesting."""
    member = data.draw(symmetries().flatmap(elements))
    state = numbered(member.symmetry)

    assert same(member.apply(state), moved_state(state, member))


def test_units_move_with_their_heads() -> None:
    """Written by hand: head 1 comes first with its units in order, then head 0 with its units turned round."""
    s = written([AxisGroup("h", 2), AxisGroup("u", 3, ("h",))], {"w": "h*u", "x": "u,h"})
    member = Matching(s, {"h": Permutation([1, 0]), "u": Permutation([[0, 1, 2], [2, 1, 0]])})
    out = member.apply({"w": torch.arange(6), "x": torch.arange(6).reshape(2, 3).T})

    assert out["w"].tolist() == [3, 4, 5, 2, 1, 0]
    assert out["x"].T.tolist() == [[3, 4, 5], [2, 1, 0]]


def test_units_of_queries_move_with_both_groups_around() -> None:
    """Written by hand: groups of keys, queries inside them, and units inside those, on two axes."""
    s = written([AxisGroup("k", 2), AxisGroup("q", 2, ("k",)), AxisGroup("u", 2, ("k", "q"))], {"w": "k*u,q"})
    # Result [k, u, q] = w[p[k], r[k, q, u], t[k, q]], here with p = (1, 0), t[0] = (1, 0) and r[0, 1] = (1, 0).
    member = Matching(
        s,
        {
            "k": Permutation([1, 0]),
            "q": Permutation([[1, 0], [0, 1]]),
            "u": Permutation([[[0, 1], [1, 0]], [[0, 1], [0, 1]]]),
        },
    )
    out = member.apply({"w": torch.arange(8).reshape(4, 2)})

    assert out["w"].tolist() == [[5, 6], [7, 4], [0, 1], [2, 3]]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int32, torch.complex64], ids=str)
def test_values_and_dtypes_are_kept(dtype: torch.dtype) -> None:
    """Tensors of every usual dtype, scalars included, are moved bit by bit."""
    state = numbered(HEADS, dtype)

    assert same(MEMBER.apply(state), moved_state(state, MEMBER))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32], ids=str)
def test_rare_dtypes_are_moved_too(dtype: torch.dtype) -> None:
    """Eight-bit floats and unsigned integers move like all others, nested groups included."""
    state = numbered(HEADS, dtype)

    assert same(MEMBER.apply(state), moved_state(state, MEMBER))


def awkward(tensor: Tensor, how: str) -> Tensor:
    """The same values in another memory layout."""
    match how:
        case "transposed":
            return tensor.mT.contiguous().mT
        case "sliced":
            return torch.stack([tensor.new_zeros(tensor.shape), tensor], dim=-1)[..., 1]
        case "offset":
            return torch.cat([tensor.new_zeros(3), tensor.reshape(-1)])[3:].view(tensor.shape)
        case _:
            return tensor.clone().requires_grad_()


@pytest.mark.parametrize("how", ["transposed", "sliced", "offset", "requires grad"])
def test_memory_layout_of_the_input_makes_no_difference(how: str) -> None:
    """Transposed, strided and offset inputs give what contiguous ones give: contiguous and outside autograd."""
    state = {name: tensor for name, tensor in numbered(HEADS, torch.float32).items() if tensor.ndim > 1}
    s = Symmetry(HEADS.groups, {name: HEADS.layouts[name] for name in state})
    member = Matching(s, MEMBER.permutations)
    out = member.apply({name: awkward(tensor, how) for name, tensor in state.items()})

    assert same(out, moved_state(state, member))
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in out.values())


def test_expanded_and_channels_last_inputs() -> None:
    """A tensor whose entries share memory and one in channels-last order are moved like any other."""
    s = written([AxisGroup("c", 4), AxisGroup("d", 3)], {"w": "c,d,2,2", "e": "c,d"})
    member = s.random(1)
    state = {
        "w": torch.arange(48).reshape(4, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "e": torch.arange(4)[:, None].expand(4, 3),
    }
    plain = {name: tensor.contiguous() for name, tensor in state.items()}

    assert same(member.apply(state), moved_state(plain, member))


@given(st.data())
def test_input_is_untouched_and_shares_no_memory(data: DataObject) -> None:
    """Moving, even by the identity, leaves its input as it was and gives tensors of their own."""
    member = data.draw(symmetries().flatmap(elements))
    state = numbered(member.symmetry, torch.float32)
    copies = {name: tensor.clone() for name, tensor in state.items()}
    versions = {name: tensor._version for name, tensor in state.items()}
    for out in (member.apply(state), member.symmetry.identity().apply(state)):
        for tensor in out.values():
            tensor.fill_(-1)

    assert same(state, copies)
    assert {name: tensor._version for name, tensor in state.items()} == versions


def tied_pair() -> tuple[Symmetry, Matching]:
    """A symmetry with two names for one tensor, and one of its elements that moves."""
    s = written([AxisGroup("h", 3)], {"a": "h,2", "c": "h", "b": "h,2"}, tied=(("a", "b"),))
    return s, Matching(s, {"h": Permutation([2, 0, 1])})


def test_tied_tensors_stay_tied_and_move_once() -> None:
    """Two names of one tensor give two names of one new tensor, moved once and not twice."""
    _, member = tied_pair()
    shared = torch.arange(6).reshape(3, 2)
    out = member.apply({"a": shared, "c": torch.arange(3), "b": shared})

    assert list(out) == ["a", "c", "b"]
    assert out["a"].data_ptr() == out["b"].data_ptr()
    assert out["b"].tolist() == [[4, 5], [0, 1], [2, 3]]


def test_tied_names_with_values_of_their_own_move_on_their_own() -> None:
    """Where the tensors under tied names differ, each is moved, and none is replaced by the other."""
    _, member = tied_pair()
    state = {"a": torch.zeros(3, 2), "c": torch.zeros(3), "b": torch.arange(6.0).reshape(3, 2)}
    out = member.apply(state)

    assert same(out, moved_state(state, member))


@pytest.mark.parametrize("present", ["a", "b"])
def test_one_of_two_tied_names_is_enough(present: str) -> None:
    """A checkpoint that lists a tied tensor once is moved as it is."""
    _, member = tied_pair()
    state = {present: torch.arange(6).reshape(3, 2), "c": torch.arange(3)}

    assert same(member.apply(state), moved_state(state, member))


@pytest.mark.parametrize("case", ["dtypes", "nan"])
def test_tied_names_are_recognised(case: str) -> None:
    """Equal values of another dtype keep their dtype, and a tensor that holds NaN stays tied."""
    _, member = tied_pair()
    a = torch.zeros(3, 2) if case == "dtypes" else torch.full((3, 2), torch.nan)
    out = member.apply({"a": a, "c": torch.zeros(3), "b": a.double() if case == "dtypes" else a})

    assert (out["b"].dtype is torch.float64) if case == "dtypes" else (out["a"] is out["b"])


def test_stream_takes_one_tensor_at_a_time() -> None:
    """The stream keeps the order, takes a tensor only when asked for it, and copies what has no layout."""
    taken: list[str] = []

    class Watched(dict[str, Tensor]):
        def items(self) -> Iterator[tuple[str, Tensor]]:
            for name, tensor in super().items():
                taken.append(name)
                yield name, tensor

    state = Watched(x=torch.arange(4), b=torch.arange(6), free=torch.zeros(2))
    stream = permute_stream(
        state, {"b": HEADS.layouts["b"], "x": HEADS.layouts["n"]}, HEADS.groups, MEMBER.permutations
    )
    assert taken == []
    assert next(stream)[0] == "x"
    assert taken == ["x"]
    rest = dict(stream)

    assert list(rest) == ["b", "free"]
    assert torch.equal(rest["free"], state["free"])
    assert rest["free"].data_ptr() != state["free"].data_ptr()


def test_groups_without_a_permutation_stay() -> None:
    """Permutations may be given for some groups only; units then move inside heads that stay."""
    only = {"u": MEMBER.permutations["u"]}
    tensor = torch.arange(6)
    index = {"u": only["u"].index, "h": np.arange(2), "r": np.arange(3)}

    out = permute_tensor("b", tensor, HEADS.layouts["b"], HEADS.groups, only)

    assert torch.equal(out, moved(tensor, HEADS.layouts["b"], HEADS.groups, index))


def test_skipped_dimensions_of_a_part_stay() -> None:
    """A dimension of a part that is skipped stays, and units are looked up in heads that have not moved."""
    (part,) = HEADS.parts("o")
    tensor = torch.arange(18).reshape(3, 2, 3)
    index = {name: permutation.index for name, permutation in MEMBER.permutations.items()}
    out = permute_part(tensor, part, HEADS.groups, MEMBER.permutations, skip=(1,))

    assert torch.equal(out, moved(tensor, HEADS.layouts["o"], HEADS.groups, index | {"h": np.arange(2)}))


def test_a_part_that_does_not_move_is_the_view_itself() -> None:
    """Where every permutation is the identity, no copy is made of a part."""
    (part,) = HEADS.parts("o")
    view = torch.zeros(3, 2, 3)

    assert permute_part(view, part, HEADS.groups, HEADS.identity().permutations) is view


@pytest.mark.parametrize("source", ["module", "path"])
def test_modules_and_files_are_taken(source: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A module and a checkpoint's path give what the module's state dict gives."""
    s = written([AxisGroup("h", 4)], {"0.weight": "h,3", "0.bias": "h", "1.weight": "2,h", "1.bias": "2"})
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    member = Matching(s, {"h": Permutation([3, 0, 1, 2])})
    path = tmp_path_factory.mktemp("apply") / "b.pt"
    torch.save(model.state_dict(), path)
    out = member.apply(model if source == "module" else path)

    assert same(out, member.apply(dict(model.state_dict())))
    assert not identical(out["0.weight"], model[0].weight)
    x = torch.randn(5, 3, dtype=torch.float64)
    expected = model.double()(x)
    model.load_state_dict(out)
    torch.testing.assert_close(model(x), expected)


def test_promised_values_are_moved() -> None:
    """Conjugate and negative views, which only promise their values, move as copies of them would."""
    s = written([AxisGroup("h", 4)], {"w": "h,2"})
    element = s.random(3)
    numbers = torch.randn(4, 2, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))

    assert torch.equal(element.apply({"w": numbers.conj()})["w"], element.apply({"w": numbers})["w"].conj())
    assert torch.equal(element.apply({"w": numbers.conj().imag})["w"], -element.apply({"w": numbers.imag})["w"])


def test_tensors_that_share_memory_stay_tied() -> None:
    """Two names of one tensor move once and stay one, where the symmetry does not know of the tie."""
    s = written([AxisGroup("h", 4)], {"embed": "5,h", "head": "5,h"})
    tensor = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    moved_once = s.random(1).apply({"embed": tensor, "head": tensor})

    assert moved_once["embed"] is moved_once["head"]
