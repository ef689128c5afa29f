"""Matching, measured: time and objective beside git-re-basin, planted permutations, memory.

    python benchmarks/matching.py time [--reference GIT_RE_BASIN --python PYTHON]
    python benchmarks/matching.py planted [--seeds 20]
    python benchmarks/matching.py toy [--seeds 50]
    python benchmarks/matching.py memory

`time` matches independent networks (kernels N(0, 1/fan_in), gains 1, biases 0, float32) and a planted ResNet-50.
Each of our figures is the first call in a fresh process, CPU seconds of all threads. With `--reference`, a checkout
of git-re-basin, its own `weight_matching` runs on the same weights, warm (second call), by a PYTHON that has JAX and
SciPy. `planted` adds noise of 4 standard deviations of each tensor to a reordered ResNet-20 x4; `toy` is a residual
stream that only all-ones weights anchor; `memory` is the peak above the two networks and the code loaded.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import onebasin as ob

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo  # the networks of the tests, in their published size
from strategies import written

CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP 3x512": (lambda: zoo.mlp(784, 512, 512, 512, 10), (2, 784)),
    "ResNet20 x4": (lambda: zoo.ResNet20(64), (2, 3, 32, 32)),
    "VGG16": (lambda: zoo.vgg16(hidden=(512, 512)), (2, 3, 32, 32)),
    "ResNet20 x16": (lambda: zoo.ResNet20(256), (2, 3, 32, 32)),
    "planted ResNet50": (zoo.ResNet50, (2, 3, 64, 64)),
}
METHODS = ("weight", "anneal", "best")
State = dict[str, Tensor]


def drawn(build: Callable[[], nn.Module], seed: int) -> State:
    """Weights by the generator of the module's text."""
    generator = torch.Generator().manual_seed(seed)
    state = {name: tensor.clone() for name, tensor in build().state_dict().items()}
    for name, tensor in state.items():
        if tensor.ndim > 1:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * tensor[0].numel() ** -0.5)
        elif name.endswith(("weight", "bias")):
            tensor.fill_(float(name.endswith("weight")))
    return state


def pair(case: str) -> tuple[State, State, ob.Symmetry]:
    """Two networks of a case and their symmetry."""
    build, shape = CASES[case]
    symmetry = ob.discover(build(), (torch.zeros(shape),))
    a = drawn(build, 0)
    return a, symmetry.random(0).apply(a) if case.startswith("planted") else drawn(build, 1), symmetry


def resident(line: str) -> int:
    """A figure of this process's memory, in bytes: VmRSS now, or VmHWM, the peak."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(text.split(f"{line}:")[1].split()[0])


def ours(case: str, method: str, *loaded: str) -> dict[str, float]:
    """Figures of one match, the first in this process; with `loaded`, after a small one that loads all code."""
    if loaded:
        small = zoo.mlp(4, 8, 3)
        ob.match(small, small, ob.discover(small, (torch.zeros(2, 4),)), method)
    a, b, symmetry = pair(case)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    held = resident("VmRSS")
    before, started = time.process_time(), time.perf_counter()
    found = ob.match(a, b, symmetry, method)
    peak = resident("VmHWM")
    return {
        "cpu": time.process_time() - before,
        "wall": time.perf_counter() - started,
        "objective": found.objective or 0.0,
        "share": found.share or 0.0,
        "above": peak - held,
        "networks": sum(t.numel() * t.element_size() for state in (a, b) for t in state.values()),
        "largest": 8.0 * max(group.size for group in symmetry.groups.values()) ** 2,
    }


def fresh(*arguments: str) -> dict[str, float]:
    """Run this script anew and read what it prints."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


REFERENCE = """
import json, sys, time, types
import jax, numpy as np
utils = types.ModuleType("utils")
utils.rngmix = lambda rng, x: jax.random.fold_in(rng, hash(x))
sys.modules["utils"] = utils
sys.path.insert(0, sys.argv[1])
from weight_matching import apply_permutation, permutation_spec_from_axes_to_perm, weight_matching
spec = permutation_spec_from_axes_to_perm({k: tuple(v) for k, v in json.load(open(sys.argv[2] + ".json")).items()})
stored = np.load(sys.argv[2])
a, b = ({k: jax.numpy.asarray(stored[f"{side}/{k}"]) for k in spec.axes_to_perm} for side in "ab")
for _ in range(2):
    started = time.process_time()
    perm = weight_matching(jax.random.PRNGKey(0), spec, a, b, silent=True)
    cpu = time.process_time() - started
moved = apply_permutation(spec, perm, b)
total = sum(float((np.asarray(a[k], np.float64) * np.asarray(moved[k], np.float64)).sum()) for k in a)
print(json.dumps({"cpu": cpu, "objective": total}))
"""


def reference(case: str, checkout: Path, python: str) -> dict[str, float]:
    """Figures of git-re-basin's own function on the same weights."""
    a, b, symmetry = pair(case)
    names = [name for name in symmetry.layouts if name not in symmetry.buffers and symmetry.shape(name)]
    axes = {n: [str(layout) if layout.groups else None for layout in symmetry.layouts[n]] for n in names}
    axes = {n: row for n, row in axes.items() if any(row)}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "weights.npz"))
        np.savez(path, **{f"{side}/{n}": state[n].numpy() for side, state in (("a", a), ("b", b)) for n in axes})
        Path(path + ".json").write_text(json.dumps(axes))
        done = subprocess.run(
            [python, "-c", REFERENCE, str(checkout / "src"), path], check=True, capture_output=True, text=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def table_of_times(options: argparse.Namespace) -> None:
    """CPU seconds and objectives, case by case."""
    print(f"{'case':<18}{'method':<14}{'CPU s':>8}{'ratio':>8}{'objective':>12}{'of bound':>10}", flush=True)
    for case in options.cases or CASES:
        theirs = reference(case, options.reference, options.python) if options.reference else None
        if theirs is not None:
            print(
                f"{case:<18}{'git-re-basin':<14}{theirs['cpu']:>8.2f}{1:>8.3f}{theirs['objective']:>12.2f}", flush=True
            )
        for method in METHODS:
            found = fresh("one", case, method)
            ratio = f"{found['cpu'] / theirs['cpu']:.3f}" if theirs else "-"
            print(
                f"{case:<18}{method:<14}{found['cpu']:>8.2f}{ratio:>8}"
                f"{found['objective']:>12.2f}{found['share']:>10.1%}",
                flush=True,
            )


def planted(seeds: int) -> None:
    """How often a permutation is recovered exactly through noise of 4 standard deviations."""
    build, shape = CASES["ResNet20 x4"]
    symmetry = ob.discover(build(), (torch.zeros(shape),))
    pairs = []
    for seed in range(seeds):
        a, element = drawn(build, seed), symmetry.random(seed)
        generator = torch.Generator().manual_seed(1000 + seed)
        b = {
            n: t + 4 * float(t.std()) * torch.randn(t.shape, generator=generator) if t.ndim else t
            for n, t in element.apply(a).items()
        }
        pairs.append((a, b, element))
    recovered("planted ResNet20 x4, noise 4 sigma", pairs, symmetry)


def toy(seeds: int) -> None:
    """How often a residual stream without anchors is recovered exactly."""
    groups = [ob.AxisGroup("stream", 64), ob.AxisGroup("h1", 128), ob.AxisGroup("h2", 128)]
    tensors = {"in": "stream,1", "out": "1,stream"}
    tensors |= {f"up{k}": f"h{k},stream" for k in (1, 2)} | {f"down{k}": f"stream,h{k}" for k in (1, 2)}
    symmetry = written(groups, tensors)
    pairs = []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        a = {n: torch.ones(symmetry.shape(n)) for n in ("in", "out")}
        a |= {
            n: torch.randn(symmetry.shape(n), generator=generator) * symmetry.shape(n)[1] ** -0.5
            for n in tensors
            if n not in a
        }
        element = symmetry.random(seed)
        pairs.append((a, element.apply(a), element))
    recovered("unanchored residual toy, no noise", pairs, symmetry)


def recovered(name: str, pairs: list[tuple[State, State, ob.Matching]], symmetry: ob.Symmetry) -> None:
    """Print how often each method finds the element that was planted."""
    print(f"{name}: exact, units back in place, CPU s each")
    for method in ("weight", "anneal", "frank-wolfe", "best"):
        exact, back, units, started = 0, 0, 0, time.process_time()
        for a, b, element in pairs:
            left = ob.match(a, b, symmetry, method).compose(element)
            exact += left.is_identity
            for index in (permutation.index for permutation in left.permutations.values()):
                back += int((index == np.arange(index.shape[-1])).sum())
                units += index.size
        each = (time.process_time() - started) / len(pairs)
        print(f"  {method:<12}{exact:>4} of {len(pairs)}{back / units:>10.2%}{each:>8.2f}", flush=True)


def table_of_memory() -> None:
    """The peak above both networks, and what the promise allows."""
    print(f"{'case':<18}{'method':<10}{'networks MiB':>14}{'peak above':>12}{'allowed':>9}  (MiB)")
    for case in CASES:
        for method in ("weight", "best"):
            found = {key: value / 2**20 for key, value in fresh("one", case, method, "loaded").items()}
            allowed = 0.5 * found["networks"] + found["largest"]
            print(f"{case:<18}{method:<10}{found['networks']:>14.1f}{found['above']:>12.1f}{allowed:>9.1f}", flush=True)


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["time", "planted", "toy", "memory", "one"])
    parser.add_argument("cases", nargs="*", help="for time: only these")
    parser.add_argument("--reference", type=Path, help="a checkout of git-re-basin")
    parser.add_argument("--python", default=sys.executable, help="a Python with JAX and SciPy")
    parser.add_argument("--seeds", type=int)
    options = parser.parse_args()
    if options.part == "one":
        print(json.dumps(ours(*options.cases)))
        return
    print(f"{os.cpu_count()} cores, PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    if options.part == "time":
        table_of_times(options)
    elif options.part == "planted":
        planted(options.seeds or 20)
    elif options.part == "toy":
        toy(options.seeds or 50)
    else:
        table_of_memory()


if __name__ == "__main__":
    main()
