"""Is a planted permutation recovered exactly? B is A with its units shuffled; weight matching must undo it.

    python benchmarks/planted.py [--seeds 5]

Prints one row a network: seeds recovered exactly, the share of units back in place, sweeps and seconds.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

import onebasin as ob

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo  # the networks of the tests, in their published size

NETWORKS = {
    "MLP 784-512-512-512-10": (lambda: zoo.mlp(784, 512, 512, 512, 10), (2, 784)),
    "ResNet20 x4": (lambda: zoo.ResNet20(64), (2, 3, 32, 32)),
    "VGG16": (zoo.vgg16, (2, 3, 32, 32)),
    "ResNet50": (zoo.ResNet50, (2, 3, 64, 64)),
}


def main() -> None:
    """Plant, match, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print(f"{'network':<26}{'recovered':>11}{'units back':>12}{'sweeps':>8}{'seconds':>9}")
    for name, (build, shape) in NETWORKS.items():
        exact, back, total, sweeps, seconds = 0, 0, 0, 0, 0.0
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            model = build()
            symmetry = ob.discover(model, (torch.zeros(shape),))
            planted = symmetry.random(seed)
            started = time.perf_counter()
            matching = ob.match(model, planted.apply(model), symmetry, seed=seed)
            seconds += time.perf_counter() - started
            left = matching.compose(planted).permutations
            here = {group: p.index == range(p.size) for group, p in left.items()}
            exact += all(row.all() for row in here.values())
            back += sum(int(row.sum()) for row in here.values())
            total += sum(row.size for row in here.values())
            sweeps += len(matching.history) - 1
        n = options.seeds
        print(f"{name:<26}{exact:>6} of {n}{back / total:>12.2%}{sweeps / n:>8.1f}{seconds / n:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
