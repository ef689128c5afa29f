"""The structure of known architectures, asserted tensor by tensor and axis by axis."""

from collections.abc import Mapping
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import onebasin as ob
from architectures.catalogue import build
from architectures.entry import load
from architectures.from_torch import Recurrent
from cases import Groups, log_order
from zoo import Decoder


def transformers() -> ModuleType:
    """The package; skips the test where it cannot be imported."""
    try:
        return load("transformers")
    except ImportError as error:
        pytest.skip(str(error))


def tokens() -> Mapping[str, Tensor]:
    """A batch of two texts, as shapes only."""
    return {"input_ids": torch.zeros(2, 7, dtype=torch.long, device="meta")}


def axis(symmetry: ob.Symmetry, tensor: str, number: int = 0) -> str:
    """The layout of one axis, as people write it."""
    return str(symmetry.layouts[tensor][number])


def check_groups(symmetry: ob.Symmetry, expected: Mapping[str, tuple[int, tuple[str, ...]]]) -> None:
    """Assert that exactly these groups move, with these sizes, nested in these."""
    assert expected == {g.name: (g.size, g.inside) for g in symmetry.groups.values() if not g.fixed}


def test_gpt2_small() -> None:
    """A layer of GPT-2 small has 3072 MLP units and 12 heads, 64 units in each for values, 64 for queries and keys."""
    hf = transformers()
    with torch.device("meta"):
        model = hf.GPT2LMHeadModel(hf.GPT2Config(n_layer=2))

    symmetry = ob.discover(model, kwargs=tokens())

    stream = axis(symmetry, "transformer.wte.weight", 1)
    groups: dict[str, tuple[int, tuple[str, ...]]] = {stream: (768, ())}
    for layer in ("transformer.h.0", "transformer.h.1"):
        heads, qk, v, mlp = (
            f"{layer}.{n}" for n in ("attn.c_attn", "attn.c_attn.units", "attn.c_attn.units.2", "mlp.c_fc")
        )
        groups |= {heads: (12, ()), qk: (64, (heads,)), v: (64, (heads,)), mlp: (3072, ())}
        fused = f"{heads}*{qk} + {heads}*{qk} + {heads}*{v}"
        for tensor, axes in {
            "ln_1.weight": [stream],
            "attn.c_attn.weight": [stream, fused],
            "attn.c_attn.bias": [fused],
            "attn.c_proj.weight": [f"{heads}*{v}", stream],
            "ln_2.bias": [stream],
            "mlp.c_fc.weight": [stream, mlp],
            "mlp.c_proj.weight": [mlp, stream],
        }.items():
            assert axes == [str(layout) for layout in symmetry.layouts[f"{layer}.{tensor}"]]
    check_groups(symmetry, groups)
    for tensor in ("transformer.wpe.weight", "lm_head.weight"):
        assert stream == axis(symmetry, tensor, 1)
    assert ("transformer.wte.weight", "lm_head.weight") in symmetry.tied


def test_llama() -> None:
    """A layer of Llama has key heads, query heads and value units in each, and MLP units; what rotates stays."""
    hf = transformers()
    config = hf.LlamaConfig(
        hidden_size=512, intermediate_size=1792, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2
    )
    with torch.device("meta"):
        model = hf.LlamaForCausalLM(config)

    symmetry = ob.discover(model, kwargs=tokens())

    stream = axis(symmetry, "model.embed_tokens.weight", 1)
    groups: dict[str, tuple[int, tuple[str, ...]]] = {stream: (512, ())}
    for layer in ("model.layers.0", "model.layers.1"):
        attention = f"{layer}.self_attn"
        kv, query, v = f"{attention}.q_proj", f"{attention}.q_proj.units", f"{attention}.v_proj.units"
        mlp = f"{layer}.mlp.gate_proj"
        groups |= {kv: (2, ()), query: (4, (kv,)), v: (64, (kv,)), mlp: (1792, ())}
        for tensor, axes in {
            "self_attn.q_proj.weight": [f"{kv}*{query}*64", stream],
            "self_attn.k_proj.weight": [f"{kv}*64", stream],
            "self_attn.v_proj.weight": [f"{kv}*{v}", stream],
            "self_attn.o_proj.weight": [stream, f"{kv}*{query}*{v}"],
            "mlp.gate_proj.weight": [mlp, stream],
            "mlp.up_proj.weight": [mlp, stream],
            "mlp.down_proj.weight": [stream, mlp],
            "input_layernorm.weight": [stream],
        }.items():
            assert axes == [str(layout) for layout in symmetry.layouts[f"{layer}.{tensor}"]]
        for tensor in ("q_proj.weight", "k_proj.weight"):
            assert "rotary_emb" in symmetry.pins[ob.AxisRef(f"{attention}.{tensor}", 0)]
    check_groups(symmetry, groups)
    assert stream == axis(symmetry, "lm_head.weight", 1)


def test_bert_base() -> None:
    """A layer of BERT base has 12 heads with 64 + 64 units in each and 3072 MLP units; one stream goes through all."""
    hf = transformers()
    with torch.device("meta"):
        model = hf.BertForMaskedLM(hf.BertConfig(num_hidden_layers=2))

    symmetry = ob.discover(model, kwargs=tokens())

    stream = axis(symmetry, "bert.embeddings.word_embeddings.weight", 1)
    groups: dict[str, tuple[int, tuple[str, ...]]] = {stream: (768, ())}
    for layer in ("bert.encoder.layer.0", "bert.encoder.layer.1"):
        attention = f"{layer}.attention.self"
        heads, qk, v = f"{attention}.query", f"{attention}.query.units", f"{attention}.value.units"
        mlp = f"{layer}.intermediate.dense"
        groups |= {heads: (12, ()), qk: (64, (heads,)), v: (64, (heads,)), mlp: (3072, ())}
        for name, units in (("query", qk), ("key", qk), ("value", v)):
            assert f"{heads}*{units}" == axis(symmetry, f"{attention}.{name}.bias")
        assert f"{heads}*{v}" == axis(symmetry, f"{layer}.attention.output.dense.weight", 1)
        assert [stream, mlp] == [str(part) for part in symmetry.layouts[f"{layer}.output.dense.weight"]]
    check_groups(symmetry, groups)
    # The head's own layer reads the stream and writes what the embeddings, to which the output is tied, compare with.
    assert [stream, stream] == [str(part) for part in symmetry.layouts["cls.predictions.transform.dense.weight"]]


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_gates_of_recurrent_layers(kind: type[nn.RNNBase], gates: int) -> None:
    """One permutation moves all gates' rows and the hidden columns; each layer and direction has its own."""
    model = Recurrent(kind, num_layers=2, bidirectional=True)

    symmetry = ob.discover(model, (torch.randn(2, 5, 6),))

    units = {(layer, tail): f"body.weight_ih_l{layer}{tail}" for layer in (0, 1) for tail in ("", "_reverse")}
    check_groups(symmetry, dict.fromkeys(units.values(), (8, ())))
    for (layer, tail), name in units.items():
        rows = " + ".join([name] * gates)
        read = f"{units[0, '']} + {units[0, '_reverse']}" if layer else "6"
        assert [rows, read] == [str(part) for part in symmetry.layouts[f"body.weight_ih_l{layer}{tail}"]]
        assert [rows, name] == [str(part) for part in symmetry.layouts[f"body.weight_hh_l{layer}{tail}"]]
        assert rows == axis(symmetry, f"body.bias_ih_l{layer}{tail}") == axis(symmetry, f"body.bias_hh_l{layer}{tail}")
    assert f"{units[1, '']} + {units[1, '_reverse']}" == axis(symmetry, "head.weight", 1)


def test_tied_embeddings_share_the_stream() -> None:
    """The output layer that is the embedding has the stream's columns, and rows that stay."""
    symmetry = ob.discover(Decoder(), (torch.zeros(2, 6, dtype=torch.long),))

    assert (("embed.weight", "head.weight"),) == symmetry.tied
    assert symmetry.layouts["embed.weight"] == symmetry.layouts["head.weight"]
    assert [17, 24] == [layout.size(symmetry.sizes) for layout in symmetry.layouts["head.weight"]]
    stream = symmetry.groups[axis(symmetry, "head.weight", 1)]
    assert (24, ()) == (stream.size, stream.inside)
    assert "entries are chosen by number" in symmetry.pins[ob.AxisRef("embed.weight", 0)]


HEADS = [2, (2, 4), (2, 4)]  # of a stream of 8: two heads, four units in each for queries and keys, four for values
BRANCHES = [4, 3, 5, 2, 6, 7]  # of one Inception block: outputs of four branches, and what two of them have inside
TWINS: Mapping[str, Groups] = {
    # A stem and transition, and for every layer its bottleneck and what it adds.
    "densenet": [6, 7, *[6, 3] * 5],
    # The stream, and for every block what is widened and what is squeezed.
    "inverted_residual": [6, 12, 4, 10, 3],
    # Two streams; two blocks of two heads, one of three.
    "swin": [8, *HEADS, 16, *HEADS, 16, 12, 3, (3, 4), (3, 4), 24],
    # Positions are mixed by hidden units of their own.
    "mixer": [8, 5, 12, 6, 10],
    # A value and its gate move together.
    "gmlp": [8, 6, 5],
    # Query units are output units; key units are value units.
    "xcit": [8, *HEADS, 4, (4, 2), (4, 2)],
    # The sums tie every branch to its stream.
    "hrnet": [6, 10],
    "inception": [6, *BRANCHES, *BRANCHES],
    # Three levels; on the way up both what comes from below and the result of joining are free.
    "unet": [4, 6, 8, 6, 6, 4, 4],
}


@pytest.mark.parametrize("name", TWINS)
def test_twins_have_the_groups_worked_out_by_hand(name: str) -> None:
    """All groups that a person finds are found, and no others."""
    model, args, _ = build(f"twin/{name}")

    symmetry = ob.discover(model, args)

    assert log_order(TWINS[name]) == pytest.approx(symmetry.log_order)
    assert len(TWINS[name]) == sum(not group.fixed for group in symmetry.groups.values())
