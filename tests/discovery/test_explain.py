"""Questions a person asks about a symmetry, answered with a chain of operations."""

import pickle

import pytest
import torch

import onebasin as ob
import zoo


@pytest.fixture(scope="module")
def resnet() -> ob.Symmetry:
    """A small residual network."""
    return ob.discover(zoo.ResNet20(4), (torch.zeros(2, 3, 16, 16),))


def test_a_pin_leads_to_its_cause(resnet: ob.Symmetry) -> None:
    """The answer names the cause, the steps name the operation with module and line."""
    found = resnet.explain("conv1.weight", 1)

    assert "cannot move: an input of the model" in found.answer
    assert "convolution in conv1 (zoo.py:" in found.steps[-1].operation


def test_two_ends_of_a_stream_are_led_to_each_other(resnet: ob.Symmetry) -> None:
    """A residual stream is a chain of additions."""
    found = resnet.explain("blocks.2.conv2.weight", 0, to="conv1.weight")

    assert "moves together with conv1.weight:0" in found.answer
    assert all(step.operation.startswith("add in blocks.") for step in found.steps)
    assert found.steps[-1].reaches == "conv1.weight:0"


def test_strangers_have_no_chain(resnet: ob.Symmetry) -> None:
    """Hidden units of one block have nothing to do with those of another."""
    assert "does not move together" in resnet.explain("blocks.0.conv1.weight", 0, to="blocks.1.bn1.weight").answer


def test_a_free_axis_lists_its_company(resnet: ob.Symmetry) -> None:
    """All tensors that the axis shares its group with, and no other."""
    found = resnet.explain("blocks.0.conv1.weight", 0)

    company = "blocks.0.bn1.bias, blocks.0.bn1.running_mean, blocks.0.bn1.running_var, blocks.0.bn1.weight"
    assert found.answer == f"can move, together with {company}, blocks.0.conv2.weight"


def test_every_pin_and_every_tie_of_the_symmetry_has_a_chain(resnet: ob.Symmetry) -> None:
    """Whatever the symmetry says, the explanation agrees."""
    for name, layouts in resnet.layouts.items():
        for axis, layout in enumerate(layouts):
            found = resnet.explain(name, axis)
            if resnet.shape(name)[axis] > 1:
                assert ("cannot move" in found.answer) == bool(not layout.groups)


def test_shared_heads_do_not_lead_to_other_segments() -> None:
    """Queries and values are cut from one projection: a value's units are tied to the output, a query's are not."""
    model = zoo.Decoder(fused=False)
    symmetry = ob.discover(model, (torch.zeros(1, 6, dtype=torch.long),))

    assert "moves together" in symmetry.explain("attention.0.v.weight", 0, to="attention.0.out.weight").answer
    assert "does not move" in symmetry.explain("attention.0.v.weight", 0, to="up.0.weight").answer


def test_tied_names_answer_alike() -> None:
    """Both names of a tied tensor can be asked about."""
    symmetry = ob.discover(zoo.Decoder(), (torch.zeros(1, 6, dtype=torch.long),))

    assert symmetry.explain("head.weight", 0).answer == symmetry.explain("embed.weight", 0).answer


def test_questions_that_cannot_be_answered(resnet: ob.Symmetry) -> None:
    """An unknown tensor, an axis too many, and a symmetry that came from elsewhere each say so."""
    with pytest.raises(ob.OneBasinError, match=r"nothing.weight:0: expected a tensor of the model .* found neither"):
        resnet.explain("nothing.weight")
    with pytest.raises(ob.OneBasinError, match="found 4 axes"):
        resnet.explain("conv1.weight", 4)
    with pytest.raises(ob.OneBasinError, match="found one from a file"):
        pickle.loads(pickle.dumps(resnet)).explain("conv1.weight")
