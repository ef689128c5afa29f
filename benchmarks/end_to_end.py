"""Weight matching of digits MLPs 64-n-n-n-10 from two seeds, beside the plain way: full products and SciPy.

    python benchmarks/end_to_end.py [--widths 1024 2048] [--repeats 3]

Both take the same steps in the same order, so that they end at the same place. CPU seconds, medians of runs that take
turns.
"""

import argparse
import itertools
import statistics
import time

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

import onebasin as ob
from assignment import trained

Layers = list[tuple[NDArray[np.float32], NDArray[np.float32]]]


def plain(a: Layers, b: Layers, seed: int) -> float:
    """Coordinate ascent as in the paper: every score anew, every assignment from nothing; the objective."""
    hidden = len(a) - 1
    sizes = [len(bias) for _, bias in a[:-1]]
    index = [np.arange(size) for size in sizes]
    generator, first = np.random.default_rng(seed), True

    def moved(k: int, *, rows: bool = True, columns: bool = True) -> NDArray[np.float32]:
        weight = b[k][0]
        weight = weight[index[k]] if rows and k < hidden else weight
        return weight[:, index[k - 1]] if columns and k else weight

    while True:
        improved = False
        for k in range(hidden) if first else generator.permutation(hidden):
            scores = a[k][0] @ moved(k, rows=False).T + np.outer(a[k][1], b[k][1])
            scores += a[k + 1][0].T @ moved(k + 1, columns=False)
            found = linear_sum_assignment(scores, maximize=True)[1]
            rows = np.arange(sizes[k])
            gain = float((scores[rows, found].astype(np.float64) - scores[rows, index[k]]).sum())
            if gain > 1e-6 * sizes[k] ** 0.5 and not np.array_equal(found, index[k]):
                index[k], improved = found, True
        first = False
        if not improved:
            break
    weights = sum(float((a[k][0].astype(np.float64) * moved(k)).sum()) for k in range(hidden + 1))
    return weights + sum(float(a[k][1].astype(np.float64) @ b[k][1][index[k]]) for k in range(hidden))


def main() -> None:
    """One row a width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'width':>6}{'plain s':>10}{'match s':>10}{'ratio':>8}"
        f"{'plain objective':>18}{'match objective':>18}{'sweeps':>8}"
    )
    for n in options.widths:
        nets = [trained(n, seed) for seed in (1, 2)]
        groups = [ob.AxisGroup(f"h{k}", n) for k in range(3)]
        names = ["64", "h0", "h1", "h2", "10"]
        layouts = {}
        for k, (fan_in, fan_out) in enumerate(itertools.pairwise(names)):
            layouts[f"{k}.weight"] = (ob.AxisLayout.parse(fan_out), ob.AxisLayout.parse(fan_in))
            layouts[f"{k}.bias"] = (ob.AxisLayout.parse(fan_out),)
        symmetry = ob.Symmetry({group.name: group for group in groups}, layouts)
        a, b = (
            {
                f"{k}.{what}": torch.from_numpy(x)
                for k, row in enumerate(net)
                for what, x in zip(("weight", "bias"), row, strict=True)
            }
            for net in nets
        )
        times, objectives, sweeps = ([], []), ([], []), 0
        for _ in range(options.repeats):
            started = time.process_time()
            objectives[0].append(plain(*nets, 0))
            times[0].append(time.process_time() - started)
            started = time.process_time()
            found = ob.match(a, b, symmetry, "weight")
            times[1].append(time.process_time() - started)
            objectives[1].append(found.objective or 0.0)
            sweeps = len(found.history) - 1
        slow, fast = (statistics.median(row) for row in times)
        figures = f"{slow:>10.2f}{fast:>10.3f}{slow / fast:>8.1f}{objectives[0][0]:>18.6f}{objectives[1][0]:>18.6f}"
        print(f"{n:>6}{figures}{sweeps:>8}", flush=True)


if __name__ == "__main__":
    main()
