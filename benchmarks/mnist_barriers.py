"""Barriers between MNIST networks trained from different seeds, before and after weight matching.

    python benchmarks/train_mnist.py --data-root DIR --out RUNS --seeds 0 1 2 3 4 5 --epochs 60
    python benchmarks/mnist_barriers.py --data-root DIR --runs RUNS

Prints, for the pairs (0, 1), (2, 3), (4, 5): test accuracy of the ends and both midpoints in %, and the test loss
barrier (linear baseline, 25 points) of the straight line without and with alignment.
"""

import argparse
from pathlib import Path

import onebasin as ob
from onebasin.tasks import load_task


def main() -> None:
    """One row a pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    options = parser.parse_args()
    task = load_task("mnist", data_root=options.data_root)
    model = task.build_model()
    symmetry = ob.discover(model, task.example_inputs())
    titles = ("a", "b", "naive mid", "aligned mid", "naive barrier", "aligned barrier")
    print(f"{'seeds':<8}" + "".join(f"{title:>16}" for title in titles))
    for first in (0, 2, 4):
        a, b = (options.runs / f"mnist_mlp_seed{seed}.safetensors" for seed in (first, first + 1))
        ends = {"naive": b, "aligned": ob.match(a, b, symmetry).apply(b)}
        naive, aligned = (
            ob.profile_path(model, a, end, ob.Evaluation(task.evaluate, task.batches("test"))) for end in ends.values()
        )
        figures = [100 * (1 - error) for error in (naive.error[0], naive.error[-1], naive.error[12], aligned.error[12])]
        barriers = (naive.loss_barrier(), aligned.loss_barrier())
        shown = "".join(f"{x:>16.2f}" for x in figures) + "".join(f"{x:>16.4f}" for x in barriers)
        print(f"{first}, {first + 1:<5}{shown}", flush=True)


if __name__ == "__main__":
    main()
