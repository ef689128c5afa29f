"""How long does discovery take? Models in their published size, without weights, each in a fresh process.

    python benchmarks/discovery_speed.py [--profile NAME]

Prints seconds of the first `discover` of a process beside the bar, those of a second one (the first also imports the
parts of torch that make fake tensors, where nothing has done so before), and the peak memory of the process in GiB.
Building the model is not counted. Needs transformers. With --profile one model is run in this process under cProfile
instead.
"""

import argparse
import cProfile
import json
import pstats
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

import onebasin as ob

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo  # the networks of the tests, in their published size
from architectures.entry import load  # imports packages around the defects of a bare machine

Model = tuple[nn.Module, tuple[Tensor, ...], Mapping[str, Tensor]]


def _image_model(model: nn.Module) -> Model:
    return model, (torch.empty(1, 3, 224, 224),), {}


def _language_model(model: nn.Module) -> Model:
    return model, (), {"input_ids": torch.zeros(1, 16, dtype=torch.long)}


def llama_70b() -> Model:
    """Llama 70B: 80 layers of 64 query heads in 8 groups, a stream of 8192."""
    hf = load("transformers")
    config = hf.LlamaConfig(
        hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8
    )
    return _language_model(hf.LlamaForCausalLM(config))


def vit_b_16() -> Model:
    """The ViT-B/16 for images of 224 x 224 in 1000 classes."""
    hf = load("transformers")
    return _image_model(hf.ViTForImageClassification(hf.ViTConfig(num_labels=1000)))


def gpt2() -> Model:
    """GPT-2 small."""
    hf = load("transformers")
    return _language_model(hf.GPT2LMHeadModel(hf.GPT2Config()))


MODELS: dict[str, tuple[Callable[[], Model], float, float | None]] = {
    "ResNet50": (lambda: _image_model(zoo.ResNet50()), 1.0, None),
    "ViT-B/16": (vit_b_16, 1.5, None),
    "GPT-2 small": (gpt2, 1.5, None),
    "Llama 70B": (llama_70b, 60.0, 2.0),
}
"""How to build each model on the meta device, its bar in seconds and, where there is one, in GiB."""


def run(name: str) -> dict[str, float]:
    """Build one model without weights and discover it, in this process."""
    with torch.device("meta"):
        model, args, kwargs = MODELS[name][0]()
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        symmetry = ob.discover(model.eval(), args, kwargs)
        seconds.append(time.perf_counter() - started)
    return {
        "first": seconds[0],
        "second": seconds[1],
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,  # the system counts KiB
        "groups": len(symmetry.groups),
        "log_order": symmetry.log_order,
    }


def profile(name: str) -> None:
    """Show where the time goes: the 15 largest by cumulative and by own time."""
    with torch.device("meta"):
        model, args, kwargs = MODELS[name][0]()
    with cProfile.Profile() as recorded:
        ob.discover(model.eval(), args, kwargs)
    for key in ("cumulative", "tottime"):
        pstats.Stats(recorded).strip_dirs().sort_stats(key).print_stats(15)


def main() -> None:
    """One process a model, one row a process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=MODELS, metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--one", choices=MODELS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.profile:
        profile(options.profile)
        return
    if options.one:
        print(json.dumps(run(options.one)))
        return
    print(f"{'model':<14}{'groups':>8}{'log_order':>14}{'seconds':>10}{'bar':>7}{'again':>8}{'GiB':>8}{'bar':>6}")
    for name, (_, seconds, gib) in MODELS.items():
        command = [sys.executable, __file__, "--one", name]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(printed.stdout)
        bar = "" if gib is None else f"{gib:g}"
        print(
            f"{name:<14}{found['groups']:>8}{found['log_order']:>14.1f}{found['first']:>10.2f}{seconds:>7g}"
            f"{found['second']:>8.2f}{found['gib']:>8.2f}{bar:>6}",
            flush=True,
        )


if __name__ == "__main__":
    main()
