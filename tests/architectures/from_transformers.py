"""Architectures of transformers: two layers, four heads, a stream of 32."""

from collections.abc import Callable, Mapping
from types import ModuleType

from torch import nn

from architectures.entry import Entry, Inputs, Picked, named

_TEXT = named(input_ids=(2, 7))
_PAIR = named(input_ids=(2, 7), decoder_input_ids=(2, 5))
_PIXELS = named(pixel_values=(2, 3, 32, 32))

_TINY = {"vocab_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32}
_BASE = {**_TINY, "hidden_size": 32, "intermediate_size": 48}
_GROUPED = {**_BASE, "num_key_value_heads": 2, "pad_token_id": 0}
_WIDE = {**_GROUPED, "head_dim": 8}
_TWO_SIDED = {
    **{f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in (("layers", 2), ("attention_heads", 4))},
    "d_model": 32,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "vocab_size": 64,
}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
_VISION = {**_BASE, "image_size": 32, "patch_size": 8}


def _entry(model: str, config: str, inputs: Callable[[], Inputs] = _TEXT, **options: object) -> Entry:
    return Entry(lambda package: getattr(package, model)(getattr(package, config)(**options)), inputs)


def _causal(family: str, options: Mapping[str, object] = _GROUPED, config: str = "", **more: object) -> Entry:
    return _entry(f"{family}ForCausalLM", config or f"{family}Config", **options, **more)


def _masked(family: str, **options: object) -> Entry:
    return _entry(f"{family}ForMaskedLM", f"{family}Config", **options)


def _images(family: str, inputs: Callable[[], Inputs] = _PIXELS, **options: object) -> Entry:
    return _entry(f"{family}ForImageClassification", f"{family}Config", inputs, **options)


def _clip(package: ModuleType) -> nn.Module:
    config = package.CLIPConfig(text_config=_BASE, vision_config=_VISION, projection_dim=16)
    return Picked(package.CLIPModel(config), "logits_per_image")


_DEEPSEEK = {
    "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 16,
    "q_lora_rank": 12, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 6,
}  # fmt: skip
_WAV2VEC = {
    "conv_dim": (8, 8, 8), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3), "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "apply_spec_augment": False, "layerdrop": 0.0,
}  # fmt: skip

TABLE = {
    "gpt2": _entry("GPT2LMHeadModel", "GPT2Config", vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32),
    "gpt_neox": _causal("GPTNeoX", _BASE),
    "opt": _causal("OPT", {**_TINY, "hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "bloom": _causal("Bloom", {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mpt": _causal("Mpt", {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 32}),
    "falcon": _causal("Falcon", {**_TINY, "hidden_size": 32, "ffn_hidden_size": 48}),
    "falcon_40b": _causal(
        "Falcon", {**_TINY, "hidden_size": 32, "ffn_hidden_size": 48}, new_decoder_architecture=True, num_kv_heads=2
    ),
    "llama": _causal("Llama"),
    "mistral": _causal("Mistral"),
    "qwen2": _causal("Qwen2"),
    "qwen3": _causal("Qwen3", _WIDE),
    "gemma": _causal("Gemma", _WIDE),
    "gemma2": _causal("Gemma2", _WIDE),
    "gemma3": _causal("Gemma3", _WIDE, config="Gemma3TextConfig"),
    "phi3": _causal("Phi3"),
    "mixtral": _causal("Mixtral", num_local_experts=4, num_experts_per_tok=2),
    "qwen2_moe": _causal("Qwen2Moe", num_experts=4, shared_expert_intermediate_size=20, **_EXPERTS),
    "deepseek_v3": _causal("DeepseekV3", _BASE, num_key_value_heads=4, **_DEEPSEEK, **_EXPERTS),
    "mamba": _causal("Mamba", {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}),
    "mamba2": _causal(
        "Mamba2", {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
        num_heads=8, head_dim=8, n_groups=2, chunk_size=8,
    ),
    "bert": _masked("Bert", **_BASE),
    "roberta": _masked("Roberta", **_BASE),
    "distilbert": _masked(
        "DistilBert", vocab_size=64, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=32
    ),
    "deberta": _masked("DebertaV2", **_BASE, relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "electra": _masked("Electra", **_BASE, embedding_size=16),
    "albert": _masked("Albert", **_BASE, embedding_size=16),
    "t5": _entry(
        "T5ForConditionalGeneration", "T5Config", _PAIR,
        vocab_size=64, d_model=32, d_ff=48, num_layers=2, num_heads=4, d_kv=8,
    ),
    "t5_gated": _entry(
        "T5ForConditionalGeneration", "T5Config", _PAIR,
        vocab_size=64, d_model=32, d_ff=48, num_layers=2, num_heads=4, d_kv=8,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    ),
    "bart": _entry("BartForConditionalGeneration", "BartConfig", _PAIR, **_TWO_SIDED, max_position_embeddings=32),
    "whisper": _entry(
        "WhisperForConditionalGeneration", "WhisperConfig", named(input_features=(2, 8, 20), decoder_input_ids=(2, 7)),
        **_TWO_SIDED, num_mel_bins=8, max_source_positions=10, max_target_positions=16,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    ),
    "vit": _images("ViT", **_VISION),
    "dinov2": _images("Dinov2", **_VISION),
    "convnext": _images("ConvNext", hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 2, 1]),
    "clip": Entry(_clip, named(input_ids=(2, 7), pixel_values=(2, 3, 32, 32))),
    "wav2vec2": _entry("Wav2Vec2ForCTC", "Wav2Vec2Config", named(input_values=(2, 400)), **{**_BASE, **_WAV2VEC}),
    "segformer": _entry(
        "SegformerForSemanticSegmentation", "SegformerConfig", _PIXELS,
        hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=12,
    ),
}  # fmt: skip
