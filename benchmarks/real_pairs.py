"""Average pairs of real public checkpoints: nothing done, aligned, and with BatchNorm's statistics re-estimated.

    python benchmarks/real_pairs.py --checkpoints DIR --data-root DIR [--refit 2000]

DIR of the checkpoints holds mnist_mlp_otfusion/, mnist_mlp_noniid/, cifar10_resnet20/ and group_transformer/; the data
root the data sets in their official formats. Prints test accuracy in % for the ends, for midpoints without and with
alignment, each with and without re-estimation (from 5,000 training images), and the relative error of the proof. With
--refit N both midpoints are also refitted with N unlabeled training images (minutes for a ResNet; corrections.py shows
all corrections).
"""

import argparse
import time
from pathlib import Path

from torch import nn

import onebasin as ob
from onebasin.correction import refit
from onebasin.tasks import Task, averages, load_task

TASKS = Path(__file__).parent / "tasks"
PAIRS = [
    ("mnist_mlp_otfusion", str(TASKS / "mnist_otfusion.py"), "model_0", "model_1"),
    ("mnist_mlp_noniid", str(TASKS / "mnist_noniid.py"), "split-by-2_0", "split-by-2_1"),
    ("mnist_mlp_noniid", str(TASKS / "mnist_noniid.py"), "split-by-4_0", "split-by-4_1"),
    ("mnist_mlp_noniid", str(TASKS / "mnist_noniid.py"), "split-by-8_0", "split-by-8_1"),
    ("cifar10_resnet20", "cifar10", "DanSun18_run_8_8-1", "DanSun18_run_8_8-2"),
    ("cifar10_resnet20", "cifar10", "akamaster", "Zheng-Jiakun"),
    ("group_transformer", str(TASKS / "group_transformer.py"), "C113_seed1", "C113_seed2"),
]


def accuracy(task: Task, model: nn.Module, params: dict, *, reestimate: bool) -> float | None:
    """Test accuracy in %; None where there is no BatchNorm to re-estimate."""
    model.load_state_dict(params, strict=False)
    if reestimate and not ob.reestimate_batchnorm(model, task.batches("train"), task.evaluate, samples=5000):
        return None
    return 100 * averages(task, model)["correct"]


def main() -> None:
    """One row a pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--refit", type=int, default=0, metavar="N", help="refit with N training images, too")
    options = parser.parse_args()
    refitted = ("naive+refit", "aligned+refit") if options.refit else ()
    titles = ("a", "b", "naive", "naive+BN", "aligned", "aligned+BN", *refitted, "seconds", "proof")
    print(f"{'pair':<44}" + "".join(f"{title:>14}" for title in titles))
    for folder, spec, first, second in PAIRS:
        task = load_task(spec, data_root=options.data_root)
        model = task.build_model()
        a, b = (
            {**model.state_dict(), **ob.open_checkpoint(options.checkpoints / folder / f"{name}.safetensors")}
            for name in (first, second)
        )
        symmetry = ob.discover(model, task.example_inputs())
        proof = ob.verify(model, symmetry, task.example_inputs())
        started = time.perf_counter()
        moved = ob.match(a, b, symmetry).apply(b)
        seconds = time.perf_counter() - started
        naive, aligned = ob.merge([a, b]), ob.merge([a, moved])
        figures = [accuracy(task, model, params, reestimate=False) for params in (a, b)]
        for params in (naive, aligned):
            figures += [accuracy(task, model, params, reestimate=flag) for flag in (False, True)]
        for params, other in ((naive, b), (aligned, moved))[: len(refitted)]:
            found = refit(model, params, [a, other], task.batches("train"), task.evaluate, samples=options.refit)
            figures.append(accuracy(task, model, found.params, reestimate=False))
        shown = "".join(f"{'-':>14}" if figure is None else f"{figure:>14.2f}" for figure in figures)
        print(
            f"{folder + ' ' + first + ' ' + second:<44.44}{shown}{seconds:>14.2f}{proof.max_relative_error:>14.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
