"""Every group shows itself where its probe says, in the order of the symmetry, for inputs of any size."""

import dataclasses
import functools
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import onebasin as ob
import zoo
from architectures.catalogue import build
from cases import NETWORKS, Net
from equivariance import Outcome, activations, check_law, poisoned
from onebasin.discovery import find_probes, watch
from programs import Program

TOLERANCE = 1e-10

# Groups without a probe, and why no tensor shows them alone.
UNSEEN = {
    # Wherever these are, the units inside them are, too; matching what is inside matches them.
    "einsum over heads": {"w"},
    "grouped convolution": {"0.weight"},
    "transposed convolutions": {"0.weight"},
    "channel shuffle": {"0.weight", "0.weight.units"},
    "softmax inside heads": {"a"},
    "decoder, fused attention": {"attention.0.q", "attention.1.q"},
    "decoder, attention written out": {"attention.0.q", "attention.1.q"},
    # Twice on the same axis.
    "two ways to open an axis": {"a"},
    # Channels and hidden positions, both moving, in every tensor.
    "twin/mixer": {"blocks.0.tokens.0", "blocks.1.tokens.0"},
    # Heads whose scores are those of units against units.
    "twin/xcit": {"blocks.0.qkv", "blocks.1.qkv"},
    # The rows that an expert sees are others in each network.
    "torch/experts_by_index": {"experts.0.0", "experts.1.0", "experts.2.0"},
    "transformers/mixtral": {f"model.layers.{n}.mlp.experts.gate_up_proj.units" for n in range(2)},
    # Of relative positions, the same for all inputs.
    "transformers/deberta": {"deberta.encoder.rel_embeddings"},
    # The groups of a grouped convolution on the residual stream.
    "transformers/wav2vec2": {"wav2vec2.feature_projection.projection"},
}

ARCHITECTURES = [
    *(f"torch/{name}" for name in ("lstm_both_ways", "gru_deep", "cells", "transformer", "experts_by_index")),
    *(f"twin/{name}" for name in ("densenet", "shufflenet", "swin", "mixer", "xcit", "unet")),
    *(
        f"transformers/{name}"
        for name in ("gpt2", "llama", "mixtral", "bert", "deberta", "t5", "vit", "wav2vec2", "mamba")
    ),
]


@functools.cache
def _architecture(name: str) -> Outcome:
    try:
        model, args, kwargs = build(name)
    except ImportError as error:
        pytest.skip(str(error))
    return check_law(model, args, kwargs)


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_move_with_the_weights(name: str) -> None:
    """On every network of the table, what a probe shows of a moved network is what it showed before, moved."""
    case = NETWORKS[name]
    found = check_law(case.model(), case.inputs())

    assert found.error < TOLERANCE
    assert found.unseen == UNSEEN.get(name, set())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_activations_of_architectures_move_with_the_weights(name: str) -> None:
    """The same on architectures of torch and of transformers."""
    found = _architecture(name)

    assert found.error < TOLERANCE
    assert found.unseen == UNSEEN.get(name, set())


# It looks at four rows by number, or lets four through.
FOUR_ROWS = {"rows let through by a mask"}


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - FOUR_ROWS))
def test_other_batch_sizes(name: str) -> None:
    """A batch more than twice as large is read as well, with as many more samples."""
    case = NETWORKS[name]
    (x,) = case.inputs()
    found = check_law(case.model(), (x,), run=(torch.cat([x, x.flip(0), x[:1]]),), members=1)

    assert found.error < TOLERANCE
    factor = (2 * len(x) + 1) / len(x)
    if name != "gathered across":  # It keeps four rows.
        assert found.samples == {group: factor * probe.samples for group, probe in found.probes.items()}


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm, both directions, two layers", "transformer encoder"])
def test_other_lengths(name: str) -> None:
    """Sequences of another length are read as well, recurrent layers included."""
    case = NETWORKS[name]
    (x,) = case.inputs()

    found = check_law(case.model(), (x,), run=(torch.cat([x, x, x[:, :1]], 1),))

    assert found.error < TOLERANCE


def test_other_images() -> None:
    """A network that pools over all positions takes images of another size."""
    found = check_law(zoo.ResNet20(4), (torch.randn(2, 3, 16, 16),), run=(torch.randn(3, 3, 20, 12),))

    assert found.error < TOLERANCE


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(choices=st.lists(st.integers(0, 10_000), min_size=6, max_size=40), flat=st.booleans())
def test_random_programs_keep_the_law(choices: list[int], flat: bool) -> None:
    """Whatever the program, no probe is emitted that breaks the law."""
    x = torch.randn((2, 8) if flat else (2, 6, 8), generator=torch.Generator().manual_seed(0))

    assert check_law(Program(choices, x), (x,)).error < TOLERANCE


def test_programs_have_probes() -> None:
    """The programs are not so odd that there is nothing to see: most groups have a probe, many nested ones."""
    seen, nested, unseen = 0, 0, 0
    for seed in range(30):
        draw = random.Random(seed)
        x = torch.randn((2, 6, 8), generator=torch.Generator().manual_seed(seed))
        model = Program([draw.randrange(10_000) for _ in range(24)], x)
        symmetry = ob.discover(model, (x,))
        probes = find_probes(model, symmetry, (x,))
        seen += len(probes)
        nested += sum(bool(probe.inside) for probe in probes.values())
        unseen += sum(not group.fixed for group in symmetry.groups.values()) - len(probes)

    assert seen > 4 * unseen
    assert nested > seen / 10


def test_a_probe_in_a_wrong_place_breaks_the_law() -> None:
    """The law is no empty word: where two groups of one size change places it fails."""
    model, x = poisoned(zoo.mlp(6, 8, 8, 3)), torch.randn(5, 6, dtype=torch.float64)
    symmetry = ob.discover(model, (x,))
    first, second = find_probes(model, symmetry, (x,)).values()
    swapped = {first.group: dataclasses.replace(first, place=second.place)}
    member = symmetry.random(1, only=[second.group])
    moved = poisoned(model)
    moved.load_state_dict(member.apply(model))

    before, after = activations(model, swapped, (x,)), activations(moved, swapped, (x,))

    assert (before[first.group] - after[first.group]).abs().max() > 0.1


# Which tensor


def _place(model: nn.Module, *inputs: Tensor) -> dict[str, tuple[str, str, int]]:
    """Module, operation and samples of every probe."""
    probes = find_probes(model, ob.discover(model, inputs), inputs)
    return {
        name: (probe.place.module, probe.place.operation.removeprefix("aten::"), probe.samples)
        for name, probe in probes.items()
    }


def test_after_the_activation_function_and_before_pooling() -> None:
    """Hidden units are read behind their activation function, channels before their positions are pooled."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5), nn.GELU(),
        nn.Linear(5, 2),
    )  # fmt: skip

    assert _place(model, torch.randn(2, 3, 8, 8)) == {"0.weight": ("2", "relu", 72), "5.weight": ("6", "gelu", 2)}


def test_the_last_state_of_a_stream() -> None:
    """A residual stream is read at the end of its stage, where all branches have been added."""
    found = _place(zoo.ResNet20(4), torch.randn(2, 3, 16, 16))

    assert found["conv1"] == ("blocks.2", "relu", 512)
    assert found["blocks.0.conv1"] == ("blocks.0", "relu", 512)


def test_heads_are_read_off_their_scores() -> None:
    """Heads alone are seen in the scores of attention, fused or not, for every pair of positions."""
    model = nn.Sequential(
        nn.Linear(5, 16), nn.TransformerEncoderLayer(16, 2, 20, batch_first=True), nn.Linear(16, 3)
    ).eval()  # fmt: skip
    module, operation, samples = _place(model, torch.randn(2, 4, 5))["1.self_attn.in_proj"]

    assert (module, samples) == ("1.self_attn", 2 * 4 * 4)
    assert "softmax" in operation


def test_weights_are_no_activations() -> None:
    """A tensor computed from weights alone is not taken, however many entries it has."""
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(60, 8)), nn.ReLU(), nn.Linear(8, 3))

    assert _place(model, torch.randn(2, 60)) == {"0.parametrizations.weight.original1": ("1", "relu", 2)}


def test_tensors_made_to_be_filled_are_not_read() -> None:
    """Where the entries are written into a tensor of zeros, the zeros say nothing."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        filled = torch.zeros_like(h)
        filled[:, :] = h
        return self.b(filled)

    model = Net(forward, a=nn.Linear(6, 8), b=nn.Linear(8, 3))

    assert _place(model, torch.randn(4, 6)) == {"a": ("", "relu", 4)}


def test_units_of_several_kinds_on_one_axis_are_not_read() -> None:
    """Queries, keys and values before they are parted share an axis on which each kind moves in its own way."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        q, k, v = torch.tanh(self.qkv(x).view(len(x), 5, 3, 2, 4)).permute(2, 0, 3, 1, 4).unbind()
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))

    found = check_law(Net(forward, qkv=nn.Linear(6, 24), out=nn.Linear(8, 3)), (torch.randn(2, 5, 6),))

    assert found.error < TOLERANCE
    assert len(found.probes) == 3
    assert all(probe.place.operation != "aten::tanh" for probe in found.probes.values())


def test_rows_in_an_order_of_the_network_are_no_samples() -> None:
    """Tokens sorted by a score, or picked by it, are others in each network; scattered back they are the same again."""

    def routed(self: nn.Module, x: Tensor) -> Tensor:
        order = self.score(x)[:, 0].sort()[1]
        back = torch.zeros_like(x[:, :4]).index_add(0, order, self.b(torch.relu(self.a(x[order]))))
        return self.d(torch.relu(self.c(back + x[:, :4])))

    model = Net(
        routed, score=nn.Linear(6, 1), a=nn.Linear(6, 8), b=nn.Linear(8, 4), c=nn.Linear(4, 7), d=nn.Linear(7, 3)
    )

    assert _place(model, torch.randn(5, 6)) == {"c": ("", "relu", 5)}
    assert _place(_picked(), torch.randn(5, 6)) == {"b": ("", "relu", 5)}


def _picked() -> nn.Module:
    """Hidden units of the rows with the largest scores, whose mean is given to hidden units of all rows."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        best = x[self.score(x)[:, 0].topk(3)[1]]
        return self.c(torch.relu(self.b(x + self.a(torch.relu(self.h(best))).mean(0, keepdim=True))))

    return Net(
        forward, score=nn.Linear(6, 1), h=nn.Linear(6, 9), a=nn.Linear(9, 6), b=nn.Linear(6, 8), c=nn.Linear(8, 3)
    )


# Attention that is left as it is


def test_positions_that_only_fused_attention_leaves_free() -> None:
    """Where scores of positions against positions would hide that positions move, attention is left as it is."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        positions = (x[:, :, None] * self.u).flatten(1)[..., None] * self.w  # 3 * 4 positions, of 5 numbers each
        q, k, v = (positions @ matrix for matrix in (self.q, self.k, self.v))
        mixed = functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return (mixed * self.g.flatten()[:, None]).sum((1, 2))[:, None]

    def weight(*shape: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1)))

    model = Net(forward, u=weight(3, 4), w=weight(5), q=weight(5, 5), k=weight(5, 5), v=weight(5, 5), g=weight(3, 4))
    found = check_law(model, (torch.randn(2, 3),))

    assert any(group.inside for group in found.symmetry.groups.values())
    assert all(probe.fused for probe in found.probes.values())
    assert found.error < TOLERANCE


# Watching


def test_every_call_is_watched_and_the_model_stays_as_it_is() -> None:
    """Every call inside the block is seen and none behind it, outputs are the same, and no switch is left turned."""
    model, x = zoo.ResNet20(4).eval(), torch.randn(3, 3, 16, 16)
    probes = find_probes(model, ob.discover(model, (x,)), (x,))
    calls: list[str] = []
    expected = model(x)
    switches = _switches()

    with watch(model, probes, lambda name, _: calls.append(name)):
        outputs = [model(x), model(x[:2])]
    model(x)

    assert len(calls) == 2 * len(probes)
    torch.testing.assert_close(outputs[0], expected)
    torch.testing.assert_close(outputs[1], expected[:2])
    assert _switches() == switches
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert outputs[0].grad_fn is None
    assert model(x).grad_fn is not None


def _switches() -> tuple[object, ...]:
    return (
        torch.backends.mha.get_fastpath_enabled(),
        torch._C._get_mkldnn_enabled(),
        torch._C._get_cudnn_enabled(),
        torch.is_grad_enabled(),
        torch.backends.cuda.flash_sdp_enabled(),
        torch.utils._python_dispatch._len_torch_dispatch_stack(),
        torch.overrides._len_torch_function_stack(),
    )


def test_a_call_that_fails_leaves_nothing_behind() -> None:
    """An error inside the model passes through, and the next call is watched as if nothing had happened."""
    model, x = zoo.mlp(6, 8, 3), torch.randn(4, 6)
    probes = find_probes(model, ob.discover(model, (x,)), (x,))
    switches, seen = _switches(), []

    with watch(model, probes, lambda name, _: seen.append(name)):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            model(torch.randn(4, 7))
        assert _switches() == switches
        model(x)

    assert seen == ["0.weight"]


def test_an_interrupted_call_leaves_nothing_behind() -> None:
    """Ctrl-C inside the model ends the watch, and no switch is left turned."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        if len(x) > 4:
            raise KeyboardInterrupt
        return self.b(torch.relu(self.a(x)))

    model, x = Net(forward, a=nn.Linear(6, 8), b=nn.Linear(8, 3)), torch.randn(4, 6)
    probes = find_probes(model, ob.discover(model, (x,)), (x,))
    switches = _switches()

    with pytest.raises(KeyboardInterrupt), watch(model, probes, lambda *_: None):
        model(torch.randn(5, 6))

    assert _switches() == switches


def test_a_model_that_calls_itself() -> None:
    """Only the outermost call counts as a forward pass."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self(x[:, :6]) if x.shape[1] > 6 else self.b(torch.relu(self.a(x)))

    model, x = Net(forward, a=nn.Linear(6, 8), b=nn.Linear(8, 3)), torch.randn(4, 7)
    found = check_law(model, (x,))

    assert found.error < TOLERANCE
    assert set(found.samples.values()) == {4}


def test_example_inputs_of_one_sample_do_not_mislead() -> None:
    """Heads folded into a batch of one look like heads alone; on two samples that is an error, no wrong answer."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        q, v = (layer(x).view(len(x), 5, 2, 4).transpose(1, 2).reshape(-1, 5, 4) for layer in (self.q, self.v))
        mixed = (q @ q.transpose(1, 2)).softmax(-1) @ v
        return self.out(mixed.view(len(x), 2, 5, 4).transpose(1, 2).flatten(2))

    model = Net(forward, q=nn.Linear(6, 8), v=nn.Linear(6, 8), out=nn.Linear(8, 3))
    x = torch.randn(2, 5, 6)
    symmetry = ob.discover(model, (x,))
    heads = next(name for name, group in symmetry.groups.items() if group.size == 2)
    probes = find_probes(model, symmetry, (x[:1],))

    assert heads not in find_probes(model, symmetry, (x,))
    with (
        pytest.raises(ob.OneBasinError, match=r"group q: expected activations .*a batch of two or more"),
        watch(model, {heads: probes[heads]}, lambda *_: None),
    ):
        model(x)


def test_other_operations_than_on_the_example_inputs() -> None:
    """A loop that runs more often has other operations at the same place; this is noticed, and said."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        h = self.a(x)
        for _ in range(x.shape[0]):
            h = torch.relu(h)
        return self.b(h)

    model, x = Net(forward, a=nn.Linear(6, 8), b=nn.Linear(8, 3)), torch.randn(3, 6)
    probes = find_probes(model, ob.discover(model, (x,)), (x,))

    with (
        pytest.raises(ob.OneBasinError, match=r"group a: expected relu 3 times in the model, .* found 2 times; pass"),
        watch(model, probes, lambda *_: None),
    ):
        model(x[:2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["lstm, both directions, two layers", "transformer encoder", "instance norm"])
def test_on_cuda(name: str) -> None:
    """On a CUDA device the same operations are seen as on the CPU, where the probes were found."""
    case = NETWORKS[name]
    model, inputs = poisoned(case.model(), torch.float32), case.inputs()
    probes = find_probes(model, ob.discover(model, inputs), inputs)
    expected = activations(model, probes, inputs)

    found = activations(model.cuda(), probes, [x.cuda() for x in inputs])

    for group, x in expected.items():
        torch.testing.assert_close(found[group].cpu(), x, rtol=1e-3, atol=1e-3)
