"""CPU time of our assignment solver against SciPy's, measured in one run, the two taking turns.

    python benchmarks/assignment.py [--sizes 512,1024,2048,4096] [--sequences 512,1024,2048]
    python benchmarks/assignment.py --check 10000

The first prints a table of one problem at a time (the median of its instances) and one of whole coordinate descents, in
which each problem starts from what its layer gave in the sweep before. The instances:

    gaussian    independent entries
    planted     a hidden permutation whose entries are as large as the largest others
    structured  inner products of features with a power-law spectrum, a common mean and log-normal norms
    real        from weight-matching two MLPs 64-n-n-n-10 trained on scikit-learn's digits, the first and a later sweep

`--check` compares the values with SciPy's on that many random problems, cold and warm, on every path of this machine.
"""

import argparse
import itertools
import platform
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from torch import nn

from onebasin.assignment import Assignment, solve
from onebasin.assignment.exact import PATHS, solve_on

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "assignment"))
from problems import KINDS, moved, problem  # what the tests solve

Scores = NDArray[np.float32]
EPOCHS = 15


def gaussian(n: int, seed: int) -> Scores:
    """Independent entries."""
    return np.random.default_rng(seed).standard_normal((n, n), np.float32)


def planted(n: int, seed: int) -> Scores:
    """A permutation whose entries stand as high as the largest of a row of noise."""
    scores = gaussian(n, seed)
    scores[np.arange(n), np.random.default_rng(seed).permutation(n)] += np.float32(np.sqrt(2 * np.log(n)))
    return scores


def structured(n: int, seed: int) -> Scores:
    """Inner products of features that look like those of networks."""
    generator = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(1 + np.arange(256))
    a, b = (
        (generator.normal(size=(n, 256)) + generator.normal(size=256) / 2) * np.exp(generator.normal(size=(n, 1)) / 2)
        for _ in "ab"
    )
    return ((a * spectrum) @ (b * spectrum).T).astype(np.float32)


@cache
def trained(n: int, seed: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weights and biases of an MLP 64-n-n-n-10 after some epochs of AdamW on the digits."""
    torch.manual_seed(seed)
    x, y = (torch.tensor(data) for data in load_digits(return_X_y=True))
    x = x.float() / 16
    widths = (64, n, n, n, 10)
    linear = [nn.Linear(i, o) for i, o in itertools.pairwise(widths)]
    net = nn.Sequential(*(module for layer in linear for module in (layer, nn.ReLU())))[:-1]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    return [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in linear]


def descent(n: int, most: int) -> Iterator[tuple[int, Scores]]:
    """The problems of a coordinate descent on the weights of two trained MLPs, each with its layer."""
    a, b = trained(n, 1), trained(n, 2)
    index, warm = [np.arange(n)] * 3, dict[int, Assignment]()
    generator, still, count = np.random.default_rng(0), 0, 0
    while still < 3 and count < most:  # noqa: PLR2004 - the hidden layers
        for layer in generator.permutation(3):
            into = b[layer][0][:, index[layer - 1]] if layer else b[layer][0]
            out = b[layer + 1][0][index[layer + 1]] if layer < 2 else b[layer + 1][0]  # noqa: PLR2004
            scores = a[layer][0] @ into.T + np.outer(a[layer][1], b[layer][1]) + a[layer + 1][0].T @ out
            yield layer, scores
            warm[layer] = solve(scores, warm.get(layer))
            count += 1
            still = still + 1 if np.array_equal(warm[layer].index, index[layer]) else 0
            index[layer] = warm[layer].index


def seconds(call: Callable[[], object]) -> float:
    """CPU time of a call."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def scipy_value(scores: NDArray[np.floating]) -> float:
    """The optimum as SciPy finds it."""
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return float(scores[rows, columns].astype(np.float64).sum())


def measured(instances: list[Scores], repeats: int) -> NDArray[np.float64]:
    """`[2, instances, repeats]` CPU seconds, ours and SciPy's, taken in turn."""
    turns = [
        [(seconds(lambda s=s: solve(s)), seconds(lambda s=s: scipy_value(s))) for _ in range(repeats)]
        for s in instances
    ]
    return np.moveaxis(np.array(turns), 2, 0)


def cold(sizes: list[int], repeats: int) -> None:
    """The table of single problems."""
    print(f"{'n':>6} {'scores':<12}{'SciPy ms':>10}{'ours ms':>10}{'ratio':>8}")
    for n in sizes:
        ratios = []
        for name, instances in instances_of(n).items():
            ours, theirs = (np.median(times, axis=1) for times in measured(instances, repeats))
            ratios.append(float(np.median(theirs / ours)))
            line = f"{n:>6} {name:<12}{1e3 * np.median(theirs):>10.1f}{1e3 * np.median(ours):>10.2f}"
            print(f"{line}{ratios[-1]:>7.1f}x", flush=True)
        print(f"{n:>6} {'median':<12}{'':>20}{np.median(ratios):>7.1f}x", flush=True)


def instances_of(n: int) -> dict[str, list[Scores]]:
    """The problems of one size."""
    made = {make.__name__: [make(n, seed) for seed in range(2)] for make in (gaussian, planted, structured)}
    return made | {"real": [scores for k, (_, scores) in enumerate(descent(n, 13)) if k in {0, 1, 2, 12}]}


def sequences(sizes: list[int], most: int) -> None:
    """The table of whole descents."""
    print(f"\n{'n':>6} {'problems':>9}{'SciPy s':>10}{'ours s':>10}{'ratio':>8}  all in turn, ours warm")
    for n in sizes:
        warm, ours, theirs, count = dict[int, Assignment](), 0.0, 0.0, 0
        for layer, scores in descent(n, most):
            begin = time.process_time()
            warm[layer] = solve(scores, warm.get(layer))
            ours += time.process_time() - begin
            theirs += seconds(lambda s=scores: scipy_value(s))
            count += 1
        print(f"{n:>6} {count:>9}{theirs:>10.2f}{ours:>10.3f}{theirs / ours:>7.1f}x", flush=True)


def check(count: int) -> None:
    """Values and bounds on random problems, each cold and from a similar one, on every path in turn."""
    for seed in range(count):
        path, warm = PATHS[seed // len(KINDS) % len(PATHS)], None
        scores = problem(seed, None if seed % 41 else 600)
        for turn in "cold", "warm":
            warm = solve_on(path, scores, warm)
            value = scipy_value(scores)
            slack = 1e-9 * abs(value) + 1e-12 * len(scores) * float(np.abs(scores).max())
            if not (abs(warm.value - value) <= slack and warm.value <= warm.bound <= value + slack):
                raise SystemExit(f"problem {seed}, {turn}, {path}: {warm.value} <= {warm.bound}, SciPy {value}")
            scores = moved(scores, np.random.default_rng(seed))
    print(f"{count} problems, cold and warm, on {', '.join(PATHS)}: all values are SciPy's, all bounds meet them")


def processor() -> str:
    """The name of the machine's processor, where the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    """Read the options, measure or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=numbers, default=[512, 1024, 2048, 4096])
    parser.add_argument("--sequences", type=numbers, default=[512, 1024, 2048])
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each problem")
    parser.add_argument("--most", type=int, default=60, help="problems of a sequence")
    parser.add_argument("--check", type=int, metavar="COUNT", help="check so many random problems instead")
    options = parser.parse_args()
    if options.check:
        check(options.check)
        return
    torch.set_num_threads(1)
    print(f"{processor()}, path {PATHS[-1]}, NumPy {np.__version__}, SciPy {scipy.__version__}; CPU time, one thread\n")
    cold(options.sizes, options.repeats)
    sequences(options.sequences, options.most)


if __name__ == "__main__":
    main()
