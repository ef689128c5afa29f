"""What a profile of 25 points costs beside 25 plain evaluations of a model.

    python benchmarks/profile_cost.py --data-root DIR [--rounds 3] [--images 256] [--threads 1] [--only TEXT]

A plain evaluation is `load_state_dict` and a loop over the batches in eval mode without gradients. A profile makes the
25 sums of two networks as well. Both are timed in turn, in processor time; shown are medians and the median of the
ratios of neighbours. `predict` is the profile that knows every sample by itself, with intervals, calibration error and
Brier score; its plain evaluation is the same loop. Networks are untrained: only their cost counts.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from onebasin import Evaluation, profile_path
from onebasin.tasks import Task, load_task, predictor

POINTS = 25


def main() -> None:
    """Print one row a network and kind of profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder that holds mnist/ and CIFAR-10's")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=256, help="of CIFAR-10, in two batches")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows whose names hold it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    mnist = load_task("mnist", data_root=arguments.data_root)
    cifar = load_task("cifar10", data_root=arguments.data_root)
    x, y = next(iter(cifar.batches("test")))
    half = arguments.images // 2
    few = [(x[:half], y[:half]), (x[half : 2 * half], y[half : 2 * half])]
    print(f"{'':30}{'plain, s':>10}{'profile, s':>12}{'ratio':>8}")
    for name, task, batches in (("MNIST MLP 3x512", mnist, list(mnist.batches("test"))), ("ResNet-20", cifar, few)):
        for kind in ("evaluate", "predict"):
            if arguments.only in f"{name}, {kind}":
                compare(f"{name}, {kind}", task, batches, predictive=kind == "predict", rounds=arguments.rounds)


def compare(name: str, task: Task, batches: Iterable[object], *, predictive: bool, rounds: int) -> None:
    """Time both in turn and print a row."""
    torch.manual_seed(0)
    model, a, b = (task.build_model() for _ in range(3))
    state = {key: tensor.clone() for key, tensor in a.state_dict().items()}
    evaluation = Evaluation(task.evaluate, batches, predictor(task) if predictive else None, "keep")

    def plain() -> None:
        for _ in range(POINTS):
            evaluate(task, model, state, batches)

    def profile() -> None:
        profile_path(model, a, b, evaluation, lams=POINTS)

    evaluate(task, model, state, batches)  # the first pass warms up
    times = [(seconds(plain), seconds(profile)) for _ in range(rounds)]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    ratio = statistics.median(second / first for first, second in times)
    print(f"{name:30}{medians[0]:>10.2f}{medians[1]:>12.2f}{ratio:>8.3f}", flush=True)


def evaluate(task: Task, model: nn.Module, state: dict[str, Tensor], batches: Iterable[object]) -> float:
    """The mean loss of a state."""
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        sums = [task.evaluate(model, batch) for batch in batches]
    return sum(float(s["loss"]) for s in sums) / sum(float(s["count"]) for s in sums)


def seconds(function: Callable[[], None]) -> float:
    """Processor time of a call."""
    started = time.process_time()
    function()
    return time.process_time() - started


if __name__ == "__main__":
    main()
