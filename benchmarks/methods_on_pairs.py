"""Every way of matching on pairs of real public checkpoints, and of bringing five networks together.

    python benchmarks/methods_on_pairs.py pairs --checkpoints DIR --data-root DIR [--only NAME]
    python benchmarks/methods_on_pairs.py many --checkpoints DIR --data-root DIR --runs RUNS

`pairs` prints for each pair and method the test accuracy in % of the midpoint, the rise of its test loss above the mean
of the ends (nats), the same with BatchNorm re-estimated from 5,000 training images where there is any, the share of the
objective's upper bound, and the seconds of the matching, activations included. `many` does so for the five ResNet-20 of
the folder and five MLPs of RUNS (`benchmarks/train_mnist.py`), merged into one.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

import onebasin as ob
from onebasin.matching.universe import STARTS
from onebasin.tasks import Task, averages, load_task

TASKS = Path(__file__).parent / "tasks"
PAIRS = [
    ("mnist_mlp_otfusion", str(TASKS / "mnist_otfusion.py"), "model_0", "model_1"),
    ("mnist_mlp_noniid", str(TASKS / "mnist_noniid.py"), "split-by-2_0", "split-by-2_1"),
    ("cifar10_resnet20", "cifar10", "DanSun18_run_8_8-1", "DanSun18_run_8_8-2"),
    ("cifar10_resnet20", "cifar10", "akamaster", "Zheng-Jiakun"),
    ("group_transformer", str(TASKS / "group_transformer.py"), "C113_seed1", "C113_seed2"),
]
WAYS: dict[str, dict[str, object]] = {
    "weight": {"method": "weight"},
    "best": {},
    "best, normalised": {"normalised": True},
    "frank-wolfe": {"method": "frank-wolfe"},
    "activations": {"alpha": 1.0},
    "mixed 0.5": {"alpha": 0.5},
}
SAMPLES = 5000
State = Mapping[str, Tensor]


def measured(task: Task, model: nn.Module, params: State) -> list[tuple[float, float] | None]:
    """Accuracy in % and loss on the test set, as it is and with BatchNorm re-estimated (None where there is none)."""
    figures: list[tuple[float, float] | None] = []
    for reestimate in (False, True):
        model.load_state_dict(params, strict=False)
        if reestimate and not ob.reestimate_batchnorm(model, task.batches("train"), task.evaluate, samples=SAMPLES):
            figures.append(None)
            continue
        found = averages(task, model)
        figures.append((100 * found["correct"], found["loss"]))
    return figures


def row(name: str, figures: list[tuple[float, float] | None], ends: float, rest: str) -> None:
    """Print one line."""
    cells = ["" if f is None else f"{f[0]:>9.2f}{f[1] - ends:>9.4f}" for f in figures]
    print(f"  {name:<20}{cells[0]:>18}{cells[1]:>18}{rest}", flush=True)


def pairs(options: argparse.Namespace) -> None:
    """One block a pair."""
    for folder, spec, first, second in PAIRS:
        if options.only and options.only not in f"{folder} {first} {second}":
            continue
        task = load_task(spec, data_root=options.data_root)
        model = task.build_model()
        files = [options.checkpoints / folder / f"{name}.safetensors" for name in (first, second)]
        a, b = ({**model.state_dict(), **ob.open_checkpoint(path)} for path in files)
        symmetry = ob.discover(model, task.example_inputs())
        found = [averages(task, loaded(model, params)) for params in (a, b)]
        ends = sum(f["loss"] for f in found) / 2
        print(f"{folder}: {first} {100 * found[0]['correct']:.2f}, {second} {100 * found[1]['correct']:.2f}")
        print(f"  {'':<20}{'midpoint':>9}{'barrier':>9}{'with BN':>9}{'barrier':>9}{'of bound':>10}{'seconds':>9}")
        row("naive", measured(task, model, ob.merge([a, b])), ends, "")
        for name, way in WAYS.items():
            started = time.perf_counter()
            given = dict(way)
            if "alpha" in given:
                given["activations"] = ob.activation_similarity(
                    model,
                    a,
                    b,
                    symmetry,
                    task.batches("train"),
                    task.evaluate,
                    args=task.example_inputs(),
                    samples=SAMPLES,
                ).similarity
            matching = ob.match(a, b, symmetry, **given)
            seconds = time.perf_counter() - started
            merged = ob.merge([a, matching.apply(b)])
            row(name, measured(task, model, merged), ends, f"{matching.share or 0:>10.1%}{seconds:>9.2f}")


def loaded(model: nn.Module, params: State) -> nn.Module:
    """The model with other weights."""
    model.load_state_dict(params, strict=False)
    return model


def many(options: argparse.Namespace) -> None:
    """Five networks of a kind into one."""
    sets = [
        ("five MNIST MLPs", "mnist", sorted(options.runs.glob("mnist_mlp_seed*.safetensors"))[:5]),
        ("five CIFAR-10 ResNet-20", "cifar10", sorted((options.checkpoints / "cifar10_resnet20").glob("*"))[:5]),
    ]
    for title, spec, files in sets:
        if options.only and options.only not in title:
            continue
        task = load_task(spec, data_root=options.data_root)
        model = task.build_model()
        states = [{**model.state_dict(), **ob.open_checkpoint(path)} for path in files]
        symmetry = ob.discover(model, task.example_inputs())
        found = [averages(task, loaded(model, params)) for params in states]
        ends = sum(f["loss"] for f in found) / len(found)
        print(f"{title}: " + ", ".join(f"{100 * f['correct']:.2f}" for f in found))
        print(
            f"  {'':<20}{'merged':>9}{'barrier':>9}{'with BN':>9}{'barrier':>9}{'objective':>12}{'cycles':>8}{'s':>8}"
        )
        row("naive", measured(task, model, ob.merge(states)), ends, "")
        for method in STARTS:
            universe = ob.match_many(states, symmetry, method)
            moved = [m.apply(state) for m, state in zip(universe.matchings, states, strict=True)]
            rest = f"{universe.objective:>12.2f}{universe.cycle_error:>8.3f}{universe.seconds:>8.1f}"
            row(method, measured(task, model, ob.merge(moved)), ends, rest)


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["pairs", "many"])
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--runs", type=Path, help="for many: the folder of trained MLPs")
    parser.add_argument("--only", help="only what has this in its name")
    options = parser.parse_args()
    {"pairs": pairs, "many": many}[options.part](options)


if __name__ == "__main__":
    main()
