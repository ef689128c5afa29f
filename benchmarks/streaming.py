"""Merging of Llama-shaped checkpoints: processor seconds and memory, beside mergekit and cp; kills and damaged files.

    python benchmarks/streaming.py [--shards 1 10] [--mergekit PATH/TO/mergekit-yaml] [--repeats 2]
    python benchmarks/streaming.py --large 10            one merger of checkpoints of 10 GB, which take no disk
    python benchmarks/streaming.py --kills 50            kill -9 at random moments, then the same command
    python benchmarks/streaming.py --match 2 6 12        match a reordered copy: memory beside the size of the files
    python benchmarks/streaming.py --mutations 2000      damaged files: read, or refused in one line

The checkpoints are bfloat16 of about 1 GB: hidden size 1024, 24 layers, intermediate size 4608, vocabulary 32000. All
programs run as processes of their own, interleaved, so that loading torch counts and a busy machine is busy for all.
Processor seconds are those of the process and its children, memory is the most that was anonymous (RssAnon) in looks
every 10 ms. About 5 GB of disk are used under --folder (with --large so many as it says) and given back.
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

import onebasin as ob
from onebasin.checkpoint import save_checkpoint

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from checkpoint.mutations import PICKLE, SAFETENSORS, mutated, outcome, save_small

HIDDEN, LAYERS, INTERMEDIATE, VOCABULARY = 1024, 24, 4608, 32000
ONEBASIN = [sys.executable, "-m", "onebasin"]
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "intermediate_size": INTERMEDIATE,
    "vocab_size": VOCABULARY,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
PAIR = "models: [{model: A, parameters: {weight: 0.6}}, {model: B, parameters: {weight: 0.4}}]"
METHODS = {
    "linear": f"{{merge_method: linear, {PAIR}}}",
    "slerp": "{merge_method: slerp, base_model: A, models: [{model: A}, {model: B}], parameters: {t: 0.4}}",
    "ties": f"{{merge_method: ties, base_model: BASE, {PAIR}, parameters: {{density: 0.5}}}}",
}


def shapes(layers: int = LAYERS) -> dict[str, tuple[int, ...]]:
    """The tensors of a Llama."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for k in range(layers):
        layer = f"model.layers.{k}."
        found |= {f"{layer}self_attn.{x}_proj.weight": (HIDDEN, HIDDEN) for x in "qkvo"}
        found |= {f"{layer}mlp.{x}_proj.weight": (INTERMEDIATE, HIDDEN) for x in ("gate", "up")}
        found |= {f"{layer}mlp.down_proj.weight": (HIDDEN, INTERMEDIATE)}
        found |= {f"{layer}{x}_layernorm.weight": (HIDDEN,) for x in ("input", "post_attention")}
    return found | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def make(folder: Path, seed: int, shards: int) -> None:
    """Write a checkpoint of random weights."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    params = {}
    for name, shape in shapes().items():
        params[name] = torch.empty(shape, dtype=torch.bfloat16)
        params[name].copy_(torch.randn(shape, generator=generator).mul_(0.02))
    size = sum(tensor.nbytes for tensor in params.values())
    save_checkpoint(params, folder / "model.safetensors", shard_bytes=None if shards == 1 else size // shards)
    (folder / "config.json").write_text(json.dumps(CONFIG))


def make_sparse(folder: Path, gigabytes: float) -> None:
    """Write a checkpoint of zeros that takes no disk."""
    folder.mkdir()
    layer = sum(2 * torch.Size(s).numel() for n, s in shapes().items() if ".0." in n)
    header, end = {}, 0
    for name, shape in shapes(round(gigabytes * 1e9 / layer)).items():
        span = [end, end + 2 * torch.Size(shape).numel()]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": span}
        end = span[1]
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


class Cost(NamedTuple):
    """What a process took."""

    seconds: float
    wall: float
    megabytes: float


def measure(command: Sequence[str | Path]) -> Cost:
    """Run a process and watch it.

    Raises:
        RuntimeError: it failed.
    """
    started, most = time.perf_counter(), 0
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(list(map(str, command)), stdout=said, stderr=said, env=environment)
        status = Path(f"/proc/{process.pid}/status")
        while True:
            gone, code, usage = os.wait4(process.pid, os.WNOHANG)
            if gone:
                break
            rows = [row for row in status.read_text().splitlines() if row.startswith("RssAnon")]
            most = max([most, *(int(row.split()[1]) for row in rows)])
            time.sleep(0.01)
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{command}: {said.read().decode()[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - started, most / 1000)


def clear(path: Path) -> None:
    """Remove a folder of files, if there is one."""
    for file in sorted(path.rglob("*"), reverse=True) if path.exists() else ():
        file.rmdir() if file.is_dir() else file.unlink()
    if path.exists():
        path.rmdir()


def compare(folder: Path, shards: int, mergekit: str | None, repeats: int) -> None:
    """A table of methods and programs; of several runs the least of each."""
    names = {"BASE": 0, "A": 1, "B": 2}
    for name, seed in names.items():
        make(folder / name, seed, shards)
    print(f"\n{shards} shard{'' if shards == 1 else 's'}: {'CPU s':>26}{'wall s':>9}{'anonymous MB':>14}")
    out = folder / "out"
    commands: dict[str, list[str | Path]] = {"cp of one": ["cp", "-r", folder / "A", out]}
    for method, text in METHODS.items():
        recipe = folder / f"{method}.yaml"
        placed = re.sub(r" (A|B|BASE)\b", lambda found: f" {folder / found[1]}", text)
        recipe.write_text(placed.replace("{merge_method", "{dtype: bfloat16, merge_method"))
        commands[f"onebasin {method}"] = [*ONEBASIN, "run", recipe, "--out", out, "--threads", "1"]
        if mergekit:
            commands[f"mergekit {method}"] = [mergekit, recipe, out, "--no-copy-tokenizer"]
    for name in ("--help", "merge --help"):
        commands[f"onebasin {name}"] = [*ONEBASIN, *name.split()]
    found: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            found[name].append(measure(command))
            clear(out)
    for name, costs in found.items():
        least = Cost(*map(min, zip(*costs, strict=True)))
        print(f"{name:<28}{least.seconds:>11.2f}{least.wall:>9.1f}{least.megabytes:>14.0f}", flush=True)
    for name in names:
        clear(folder / name)


def large(folder: Path, gigabytes: float) -> None:
    """Merge two checkpoints of any size."""
    for name in "AB":
        make_sparse(folder / name, gigabytes)
    rest = ["--no-align", "--max-shard-size", "2GB", "--out", folder / "out"]
    for method in ("mean", "slerp"):
        cost = measure([*ONEBASIN, "merge", folder / "A", folder / "B", "--method", method, *rest])
        figures = f"{cost.seconds:.1f} CPU s, {cost.wall:.1f} s, {cost.megabytes:.0f} MB anonymous"
        print(f"{gigabytes:g} GB, {method}: {figures}", flush=True)
        clear(folder / "out")


def matched(folder: Path, layers: int) -> None:
    """Match a checkpoint with a reordered copy, both read from disk: memory must not grow with their size."""
    groups = [ob.AxisGroup("stream", HIDDEN), *(ob.AxisGroup(f"units{k}", INTERMEDIATE) for k in range(layers))]
    layouts = {}
    for name, shape in shapes(layers).items():
        units = f"units{name.split('.')[2]}" if ".layers." in name else ""
        axes = [units if size == INTERMEDIATE else "stream" if size == HIDDEN else str(size) for size in shape]
        if "self_attn" in name:  # heads stay where they are
            axes = ["stream", str(HIDDEN)] if name.endswith("o_proj.weight") else [str(HIDDEN), "stream"]
        layouts[name] = tuple(ob.AxisLayout.parse(axis) for axis in axes)
    symmetry = ob.Symmetry({group.name: group for group in groups}, layouts)
    symmetry.save(folder / "symmetry.json")
    generator = torch.Generator().manual_seed(0)
    a = {n: torch.randn(s, generator=generator).mul_(0.02).bfloat16() for n, s in shapes(layers).items()}
    save_checkpoint(a, folder / "a.safetensors")
    save_checkpoint(symmetry.random(1).apply(a), folder / "b.safetensors")
    del a
    files = [folder / "a.safetensors", folder / "b.safetensors"]
    rest = ["--symmetry", folder / "symmetry.json", "--match-method", "weight", "--out", folder / "m.json", "--json"]
    cost = measure([*ONEBASIN, "match", *files, *rest])
    found = ob.Matching.load(folder / "m.json")
    gigabytes = sum(file.stat().st_size for file in files) / 1e9
    figures = f"{cost.seconds:.1f} CPU s, {cost.wall:.1f} s, {cost.megabytes:.0f} MB anonymous, {found.share:.1%}"
    print(f"match, {layers} layers, {gigabytes:.2f} GB in two files: {figures} of the upper bound", flush=True)


def digests(folder: Path) -> dict[str, str]:
    """What is in the files of a folder, hidden ones left out."""
    files = [path for path in folder.glob("*") if not path.name.startswith(".")] if folder.exists() else []
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kills(folder: Path, count: int) -> None:
    """Kill mergers at random moments, look at what they left, and let the same command finish."""
    for seed, name in enumerate("AB"):
        folder.joinpath(name).mkdir()
        params = {f"layers.{k}.w": torch.randn(1 << 20).bfloat16() for k in range(100)}
        save_checkpoint(params, folder / name / "model.safetensors", metadata={"seed": str(seed)})
    out = folder / "out"
    command = [*ONEBASIN, "merge", folder / "A", folder / "B", "--no-align", "--max-shard-size", "20MB", "--out", out]
    measure(command)
    expected = digests(out)
    clear(out)
    draw, results = random.Random(0), Counter[str]()  # noqa: S311 - no secrets
    span = working(command, out, None)
    for _ in range(count):
        clear(out)
        working(command, out, draw.uniform(0, 1.1) * span)
        left = digests(out)
        results["half files under a final name"] += sum(expected.get(name) != digest for name, digest in left.items())
        kept = list(out.glob(".*.onebasin/*.safetensors"))
        results["with finished shards" if kept else "with all in place" if left else "with nothing finished"] += 1
        measure(command)
        results["finished with other bytes"] += digests(out) != expected
    print(f"{count} kills: {dict(results)}")


def working(command: Sequence[str | Path], out: Path, until: float | None) -> float:
    """Run a merger and kill it so many seconds after it began to write; the seconds from then to its end."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(out.glob(".*.onebasin")) and process.poll() is None:
        time.sleep(0.002)
    began = time.perf_counter()
    if until is not None:
        time.sleep(until)
        process.send_signal(signal.SIGKILL)
    process.wait()
    return time.perf_counter() - began


def mutations(folder: Path, count: int) -> None:
    """Read damaged files and merge them with a whole one."""
    results, slowest = Counter[str](), 0.0
    for suffix, kinds in ((".safetensors", SAFETENSORS), (".pt", PICKLE)):
        partner, path = folder / f"partner{suffix}", folder / f"m{suffix}"
        data = save_small(partner)
        for seed in range(count // 2):
            path.write_bytes(mutated(data, seed, kinds))
            started = time.perf_counter()
            line = outcome(path, partner, folder / "out.safetensors")
            slowest = max(slowest, time.perf_counter() - started)
            results[f"{suffix} {'merged' if line == 'merged' else 'refused in one line'}"] += 1
    print(f"{count} damaged files: {dict(results)}; the slowest took {slowest:.2f} s")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="*", default=[1, 10])
    parser.add_argument("--mergekit", help="the program mergekit-yaml, to run beside")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where there is room; a temporary folder if left out")
    parser.add_argument("--large", type=float, metavar="GB")
    parser.add_argument("--match", type=int, nargs="*", default=[], metavar="LAYERS")
    parser.add_argument("--kills", type=int, metavar="N")
    parser.add_argument("--mutations", type=int, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        for job, wanted in ((large, options.large), (kills, options.kills), (mutations, options.mutations)):
            if wanted:
                job(folder, wanted)
                return
        for layers in options.match:
            matched(folder, layers)
        if options.match:
            return
        for shards in options.shards:
            compare(folder, shards, options.mergekit, options.repeats)


if __name__ == "__main__":
    main()
