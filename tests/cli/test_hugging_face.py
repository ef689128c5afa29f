"""Folders of Hugging Face: the merged folder loads with transformers and has settings and tokenizer."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cli.networks import Run
from onebasin import merge
from onebasin.checkpoint import open_checkpoint

transformers = pytest.importorskip("transformers")


def small_llama(seed: int) -> nn.Module:
    """A Llama of two tiny layers with random weights."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        dtype="float32",
    )
    return transformers.LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models and their common ancestor, the first with a tokenizer and other files beside it."""
    root = tmp_path_factory.mktemp("llamas")
    for seed in range(3):
        small_llama(seed).save_pretrained(root / str(seed))
    texts = {"tokenizer.json": "{}", "special_tokens_map.json": "{}", "merges.txt": "a b", "chat_template.jinja": "x"}
    for name, text in texts.items():
        (root / "0" / name).write_text(text, encoding="utf-8")
    (root / "0" / "tokenizer.model").write_bytes(b"\x00\xff")
    (root / "0" / "training_args.bin").write_bytes(b"left")
    (root / "0" / ".hidden.json").write_text("left", encoding="utf-8")
    return [root / str(seed) for seed in range(3)]


def logits(folder: Path, params: dict[str, Tensor] | None = None) -> Tensor:
    """What the model of a folder says of some tokens, with other tensors if they are given."""
    model = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    if params is not None:
        model.load_state_dict(params)
    with torch.no_grad():
        found: Tensor = model(torch.arange(10)[None]).logits
    return found


@pytest.mark.parametrize("options", [(), ("--max-shard-size", "5kB", "--threads", "3")])
def test_merged_folder_loads(options: tuple[str, ...], folders: list[Path], run: Run, tmp_path: Path) -> None:
    """The folder computes what the merged tensors compute, and keeps every file of settings, but no others."""
    out = tmp_path / "merged"
    result = run("merge", *folders[:2], "--base", folders[2], "--method", "ties", "--out", out, *options)
    assert result.exit_code == 0, result.stderr
    expected = merge(folders[:2], "ties", base=folders[2])

    assert torch.equal(logits(out), logits(folders[0], expected))
    names = {path.name for path in out.iterdir()}
    kept = {"config.json", "generation_config.json", "tokenizer.json", "special_tokens_map.json", "merges.txt"}
    kept |= {"chat_template.jinja", "tokenizer.model", "onebasin.recipe.yaml"}
    assert {name for name in names if not name.startswith("model")} == kept
    assert all(
        (out / name).read_bytes() == (folders[0] / name).read_bytes() for name in kept - {"onebasin.recipe.yaml"}
    )
    assert all(path.stat().st_size < 7000 for path in out.glob("model-*")) if options else True


def test_dtype_is_told_to_transformers(folders: list[Path], run: Run, tmp_path: Path) -> None:
    """With --dtype the settings say in which dtype the weights are, and they are loaded in it."""
    out = tmp_path / "merged"
    result = run("merge", *folders[:2], "--no-align", "--dtype", "bfloat16", "--out", out)
    assert result.exit_code == 0, result.stderr

    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    assert set(open_checkpoint(out).dtypes().values()) == {torch.bfloat16}
    assert transformers.LlamaForCausalLM.from_pretrained(out).dtype == torch.bfloat16


def test_file_gets_no_settings(folders: list[Path], run: Run, tmp_path: Path) -> None:
    """Where the output is a file, only the recipe lies beside it."""
    run("merge", *folders[:2], "--no-align", "--out", tmp_path / "m.safetensors")

    assert {path.name for path in tmp_path.iterdir()} == {"m.safetensors", "m.safetensors.recipe.yaml"}


def test_folder_of_an_input_is_refused(folders: list[Path], run: Run) -> None:
    """A folder that holds one of the networks is not written to."""
    before = {path.name: path.read_bytes() for path in folders[1].iterdir()}
    result = run("merge", *folders[:2], "--no-align", "--out", folders[1])

    assert result.exit_code == 2
    assert "expected another folder than the inputs'" in result.stderr
    assert {path.name: path.read_bytes() for path in folders[1].iterdir()} == before
