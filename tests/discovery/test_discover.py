"""What is found on networks whose symmetries are known, and that discovery leaves no trace."""

import pytest
import torch
from torch import nn

import onebasin as ob
import zoo
from cases import NETWORKS, Net, log_order
from onebasin.tasks import load_task


@pytest.mark.parametrize("name", NETWORKS)
def test_finds_the_groups_worked_out_by_hand(name: str) -> None:
    """Every group of the table is found, and no other: both a missed and an invented one change log_order."""
    case = NETWORKS[name]

    symmetry = ob.discover(case.model(), case.inputs())

    assert log_order(case.groups) == pytest.approx(symmetry.log_order)
    assert len(case.groups) == sum(not group.fixed for group in symmetry.groups.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_found_is_proved(name: str) -> None:
    """Random members of every symmetry of the table leave the outputs as they are, in eval and in train mode."""
    case = NETWORKS[name]
    model = case.model()

    check = ob.verify(model, ob.discover(model, case.inputs()), case.inputs(), trials=2)

    if name != "random noise":
        assert check.max_relative_error < 1e-12
    assert check.ok
    assert ("eval", "train") == check.modes


PUBLISHED = {
    # Ainsworth et al.: one group a hidden layer; 13 convolutions and the hidden dense layer; 9 inner groups and 3
    # residual streams; torchvision's ResNet-50: 32 inner groups, 4 streams and the stem.
    "MLP": (lambda: zoo.mlp(784, 512, 512, 512, 10), (2, 784), 3, None),
    "VGG16": (zoo.vgg16, (2, 3, 32, 32), 14, None),
    "ResNet20": (zoo.ResNet20, (2, 3, 32, 32), 12, 1269.6),
    "ResNet20 with option-A shortcuts": (lambda: load_task("cifar10").build_model(), (2, 3, 32, 32), 14, 1065.4),
    "ResNet50": (zoo.ResNet50, (2, 3, 64, 64), 37, 59034.4),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_equals_hand_written_specifications(name: str) -> None:
    """The number of groups, and ln of the number of reorderings where it was published, are those of the field."""
    build, shape, groups, order = PUBLISHED[name]

    symmetry = ob.discover(build(), (torch.zeros(shape),))

    assert groups == len(symmetry.groups)
    if order is not None:
        assert order == pytest.approx(symmetry.log_order, abs=0.05)


def test_specification_of_the_mlp_axis_by_axis() -> None:
    """The layouts of an MLP are those that git-re-basin writes by hand."""
    symmetry = ob.discover(zoo.mlp(6, 8, 5, 3), (torch.zeros(2, 6),))

    shown = {name: [str(layout) for layout in axes] for name, axes in symmetry.layouts.items()}

    first, second = symmetry.groups
    assert shown == {
        "0.weight": [first, "6"],
        "0.bias": [first],
        "2.weight": [second, first],
        "2.bias": [second],
        "4.weight": ["3", second],
        "4.bias": ["3"],
    }


def test_fused_projection_is_a_sum_of_three() -> None:
    """Queries and keys share their units inside each head, values have their own; all three share the heads."""
    layer = nn.TransformerEncoderLayer(16, 2, 20, batch_first=True)

    symmetry = ob.discover(layer, (torch.zeros(2, 4, 16),))

    (heads,) = [g.name for g in symmetry.groups.values() if g.size == 2]
    keys, values = [g.name for g in symmetry.groups.values() if g.inside == (heads,)]
    assert str(symmetry.layouts["self_attn.in_proj_weight"][0]) == " + ".join(
        [f"{heads}*{keys}", f"{heads}*{keys}", f"{heads}*{values}"]
    )
    assert str(symmetry.layouts["self_attn.out_proj.weight"][1]) == f"{heads}*{values}"


def test_padded_shortcut_is_a_sum_of_segments() -> None:
    """An option-A shortcut splits the next stream into new channels, the old stream, and new channels."""
    symmetry = ob.discover(load_task("cifar10").build_model(), (torch.zeros(2, 3, 32, 32),))

    layout = symmetry.layouts["layer2.0.conv2.weight"][0]

    assert [symmetry.groups[name].size for name in layout.groups] == [8, 16, 8]
    assert layout.groups[1] == "conv1"


def test_buffers_and_ties_are_noted() -> None:
    """BatchNorm's statistics are buffers that move with their channels; tied weights are one row."""
    network = nn.Sequential(nn.Conv1d(2, 4, 1), nn.BatchNorm1d(4), nn.Conv1d(4, 2, 1))
    symmetry = ob.discover(network, (torch.zeros(2, 2, 3),))
    tied = ob.discover(zoo.Decoder(), (torch.zeros(1, 6, dtype=torch.long),))

    assert symmetry.buffers == {"1.running_mean", "1.running_var"}
    assert symmetry.layouts["1.running_mean"] == symmetry.layouts["0.bias"]
    assert tied.tied == (("embed.weight", "head.weight"),)


def test_pins_say_why_and_where() -> None:
    """Every fixed axis has a reason, and operations without a rule are named with the user's line."""
    model = Net(lambda s, x: s.b(torch.fft.rfft(s.a(x)).abs()), a=nn.Linear(6, 8), b=nn.Linear(5, 3))

    pins = {str(axis): reason for axis, reason in ob.discover(model, (torch.zeros(2, 6),)).pins.items()}

    assert "an input of the model" in pins["a.weight:1"]
    assert "an output of the model" in pins["b.weight:0"]
    assert "an operation without a rule: _fft_r2c" in pins["a.weight:0"]
    assert "test_discover.py:" in pins["a.weight:0"]


def test_unused_parameters_are_pinned() -> None:
    """A parameter that no output depends on stays, and the reason says so."""
    model = Net(lambda s, x: s.a(x), a=nn.Linear(6, 8), b=nn.Linear(8, 3))

    pins = {str(axis): reason for axis, reason in ob.discover(model, (torch.zeros(2, 6),)).pins.items()}

    assert "not used" in pins["b.weight:1"]


def test_auxiliary_heads_of_training_move_along() -> None:
    """A head that runs only in train mode shares the stream, so that training goes on from the moved network."""

    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.aux = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.relu(self.a(x))
            return self.b(h) + self.aux(h) if self.training else self.b(h)

    model = Auxiliary()
    symmetry = ob.discover(model, (torch.randn(4, 6),))

    assert symmetry.layouts["aux.weight"] == symmetry.layouts["b.weight"]
    assert ob.verify(model, symmetry, (torch.randn(4, 6),)).ok


def test_discovery_leaves_no_trace() -> None:
    """Weights, buffers, modes, gradients and the random generator are as they were."""
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Dropout(), nn.Conv1d(4, 2, 1))
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    x = torch.randn(2, 2, 5)
    state = torch.get_rng_state()

    symmetry = ob.discover(model, (x,))
    ob.verify(model, symmetry, (x,))

    assert torch.equal(state, torch.get_rng_state())
    assert [True, True, False, True, True] == [module.training for module in model.modules()]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_weights_are_copied() -> None:
    """A network of 4 TB is discovered: fake tensors cost no memory."""
    with torch.device("meta"):
        model = zoo.mlp(64, 1_000_000, 1_000_000, 10)

    symmetry = ob.discover(model, (torch.empty(2, 64, device="meta"),))

    assert [g.size for g in symmetry.groups.values()] == [1_000_000, 1_000_000]


def test_a_buffer_that_the_model_writes_to_is_put_back() -> None:
    """Calls counted in a buffer are not counted when the model is only recorded, whatever other buffers there are."""

    def counting(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.b(self.a(x) + self.wide.sum() + self.odd)

    buffers = {"calls": torch.zeros(()), "wide": torch.ones(1).expand(5), "odd": torch.tensor(torch.nan)}
    model = Net(counting, a=nn.Linear(6, 8), b=nn.Linear(8, 3), **buffers)
    ob.discover(model, (torch.zeros(2, 6),))

    assert model.calls == 0


def test_keyword_inputs() -> None:
    """Inputs may be given by name."""
    model = Net(lambda s, x: s.b(s.a(x)), a=nn.Linear(6, 8), b=nn.Linear(8, 3))

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *, features: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.inner(features)}

    symmetry = ob.discover(Named(), kwargs={"features": torch.zeros(2, 6)})

    assert [8] == [g.size for g in symmetry.groups.values()]


def test_a_model_that_does_not_run_is_one_clear_error() -> None:
    """The error names the model, quotes PyTorch and says what to do."""
    with pytest.raises(
        ob.OneBasinError, match=r"Sequential: expected a model that runs .* shapes cannot be multiplied"
    ):
        ob.discover(zoo.mlp(6, 8, 3), (torch.zeros(2, 7),))
