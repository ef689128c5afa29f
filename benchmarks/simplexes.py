"""Simplex barriers of networks trained from different seeds, before and after bringing them together in several ways.

    python benchmarks/train_mnist.py --data-root DIR --out RUNS --seeds 0 1 2 3 4 5 6 7 8 9 10 11 --epochs 60
    python benchmarks/simplexes.py wide --data-root DIR --runs RUNS
    python benchmarks/simplexes.py narrow --data-root DIR
    python benchmarks/simplexes.py resnet --data-root DIR

`wide`: the MNIST MLPs 3x512, in disjoint triples and quadruples. `narrow`: MLPs of two hidden layers of 64 on
FashionMNIST, trained here on 13,000 images, in disjoint triples, as they are and with REPAIR at every point; and the
controls: networks spawned from one after half of their training, copies of one network in random orders, and these
matched. `resnet`: the same with the ResNet with BatchNorm of `tasks/fashion_resnet.py`. All print for every tuple and
method the simplex barrier in nats (the largest excess found over the interpolated losses of the vertices), then means
over tuples, and how much lower the joint permutations are than every other method, with the 95 % interval of a paired
bootstrap over tuples.

Permutations are searched with training images only: 10,000 to learn from, 1,000 others to judge by. Barriers are
measured on 2,000 further training images, and on 2,000 test images.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import onebasin as ob
from onebasin.connectivity import permuted_simplex, simplex_barrier, to_reference
from onebasin.tasks import load_task
from onebasin.tasks.protocol import classification_sums

Batches = list[tuple[Tensor, Tensor]]
State = dict[str, Tensor]
METHODS = ("naive", "to-reference", "merge-many", "cycle-consistent", "joint")
BATCH, CALIBRATION = 500, 1000
THOROUGH = {"samples": 48, "ascents": 4, "steps": 3}
QUICK = {"samples": 16, "ascents": 2, "steps": 2, "edge": 3}


class Data:
    """The images of a task in four parts: to learn from, to judge by, and to measure on."""

    def __init__(self, task: str, root: Path) -> None:
        self.task = load_task(task, data_root=root)
        rows = [torch.cat(parts) for parts in zip(*self.task.batches("train"), strict=True)]
        images, labels = (part[:13000].split((10000, 1000, 2000)) for part in rows)
        self.learn, self.judge, self.train = (batched(*part) for part in zip(images, labels, strict=True))
        test = [torch.cat(parts)[:2000] for parts in zip(*self.task.batches("test"), strict=True)]
        self.test = batched(*test)


def batched(x: Tensor, y: Tensor, size: int = BATCH) -> Batches:
    """Pairs of images and labels."""
    return list(zip(x.split(size), y.split(size), strict=True))


Matchings = dict[str, tuple[ob.Matching, ...]]


def without_data(models: Sequence[State], symmetry: ob.Symmetry) -> Matchings:
    """The networks as they are, and brought together by their weights."""
    return {
        "naive": tuple(symmetry.identity() for _ in models),
        "to-reference": to_reference(models, symmetry),
        "merge-many": ob.match_many(models, symmetry, "merge-many").matchings,
        "cycle-consistent": ob.match_many(models, symmetry).matchings,
    }


def together(
    model: nn.Module, models: Sequence[State], known: Matchings, data: Data, epochs: int, policy: str
) -> dict[str, list[State]]:
    """The networks brought together by their weights, and jointly, judged as they are going to be measured."""
    symmetry = known["naive"][0].symmetry
    joint = permuted_simplex(
        model,
        models,
        symmetry,
        batches=data.learn,
        evaluate=classification_sums,
        validation=data.judge,
        starts=[known["to-reference"], known["merge-many"], known["cycle-consistent"], "hierarchical"],
        epochs=epochs,
        samples=16,
        batchnorm=policy,
        calibration_samples=CALIBRATION,
    )
    found = known | {"joint": joint.matchings}
    return {name: [m.apply(s) for m, s in zip(rows, models, strict=True)] for name, rows in found.items()}


def rows_of(model: nn.Module, sets: dict[str, list[State]], data: Data, policy: str) -> dict[str, tuple[float, ...]]:
    """For every method the barrier on training images with its edges and mean, and the barrier on test images."""
    found = {}
    for name, vertices in sets.items():
        train = ob.Evaluation(classification_sums, data.train, batchnorm=policy, calibration=data.judge)
        test = ob.Evaluation(classification_sums, data.test, batchnorm=policy, calibration=data.judge)
        profile = simplex_barrier(model, vertices, train, **THOROUGH)
        other = simplex_barrier(model, vertices, test, **QUICK)
        error = other.error_barrier or 0.0
        found[name] = (profile.barrier, profile.edge_barrier, profile.mean, profile.barycentre, other.barrier, error)
    return found


def show(title: str, rows: dict[str, tuple[float, ...]]) -> None:
    """A tuple's rows."""
    for name, row in rows.items():
        print(f"{title:<22}{name:<18}" + "".join(f"{x:>10.4f}" for x in row[:5]) + f"{100 * row[5]:>10.2f}", flush=True)


def summary(title: str, tuples: Sequence[dict[str, tuple[float, ...]]]) -> None:
    """Means over tuples, and the joint permutations against every other method."""
    means = {name: tuple(np.mean([rows[name] for rows in tuples], axis=0)) for name in METHODS}
    show(f"{title}, mean", means)
    generator = np.random.default_rng(0)
    drawn = generator.integers(len(tuples), size=(10000, len(tuples)))
    joint = np.array([rows["joint"][0] for rows in tuples])
    for name in METHODS[:-1]:
        other = np.array([rows[name][0] for rows in tuples])
        lower = 1 - joint[drawn].mean(1) / other[drawn].mean(1)
        low, high = np.percentile(lower, (2.5, 97.5))
        print(
            f"{title}: joint lower than {name} by {100 * (1 - joint.mean() / other.mean()):.0f} % "
            f"({100 * low:.0f} to {100 * high:.0f}), in {int((joint < other).sum())} of {len(tuples)} tuples",
            flush=True,
        )


def header() -> None:
    """The heads of all tables."""
    heads = ("barrier", "edges", "mean", "centre", "test", "err %")
    print(f"{'tuple':<22}{'method':<18}" + "".join(f"{head:>10}" for head in heads), flush=True)


def wide(options: argparse.Namespace) -> None:
    """The MNIST MLPs 3x512."""
    data = Data("mnist", options.data_root)
    model = data.task.build_model()
    symmetry = ob.discover(model, data.task.example_inputs())
    header()
    for n in options.sizes:
        tuples = []
        for first in range(options.first * n, (options.first + options.tuples) * n, n):
            seeds = list(range(first, first + n))
            models = [ob.merge([options.runs / f"mnist_mlp_seed{seed}.safetensors"]) for seed in seeds]
            sets = together(model, models, without_data(models, symmetry), data, options.epochs, "keep")
            tuples.append(rows_of(model, sets, data, "keep"))
            show(f"seeds {seeds[0]} to {seeds[-1]}", tuples[-1])
        summary(f"n = {n}", tuples)


@dataclass(frozen=True)
class Kind:
    """A network that is trained here.

    Attributes:
        task: of its data.
        build: the architecture.
        optimizer: of its parameters.
        batch: images a step.
    """

    task: str
    build: Callable[[], nn.Module]
    optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer]
    batch: int


def perceptron() -> nn.Module:
    """Two hidden layers of 64."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


RESNET = str(Path(__file__).parent / "tasks" / "fashion_resnet.py")
KINDS = {
    "narrow": Kind("fashion-mnist", perceptron, partial(torch.optim.Adam, lr=1e-3), 100),
    "resnet": Kind(
        RESNET,
        lambda: load_task(RESNET).build_model(),
        partial(torch.optim.SGD, lr=0.03, momentum=0.9, nesterov=True, weight_decay=1e-3),
        64,
    ),
}


def trained(kind: Kind, data: Data, seed: int, span: range, total: int, start: State | None = None) -> State:
    """A network after some of all epochs, from its seed or from given weights on, with a rate that falls to 0.

    The seed decides the order of the images, too.
    """
    torch.manual_seed(seed)
    model = kind.build().train()
    if start is not None:
        model.load_state_dict(start)
    optimizer = kind.optimizer(model.parameters())
    highest = optimizer.param_groups[0]["lr"]
    x, y = (torch.cat(parts) for parts in zip(*data.learn, *data.judge, *data.train, strict=True))
    for epoch in span:
        optimizer.param_groups[0]["lr"] = highest * (0.5 + 0.5 * math.cos(math.pi * epoch / total))
        for chosen in torch.randperm(len(x)).split(kind.batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def small(kind: Kind, options: argparse.Namespace) -> None:
    """Networks trained here, and the controls."""
    data = Data(kind.task, options.data_root)
    model = kind.build().eval()
    symmetry = ob.discover(model, data.task.example_inputs())
    n, count, total = 3, options.tuples * 3, options.training
    models = [trained(kind, data, seed, range(total), total) for seed in range(count)]
    header()
    tables: dict[str, list[dict[str, tuple[float, ...]]]] = {policy: [] for policy in options.policies}
    for first in range(0, count, n):
        chosen = models[first : first + n]
        known = without_data(chosen, symmetry)
        for policy, rows in tables.items():
            sets = together(model, chosen, known, data, options.epochs, policy)
            rows.append(rows_of(model, sets, data, policy))
            show(f"seeds {first} to {first + n - 1}, {policy}", rows[-1])
    for policy, rows in tables.items():
        summary(policy, rows)
    half = trained(kind, data, 100, range(total // 2), total)
    spawned = [trained(kind, data, 200 + k, range(total // 2, total), total, half) for k in range(n)]
    copies = [models[0], *(symmetry.random(k).apply(models[0]) for k in range(1, n))]
    controls = {
        "spawned": spawned,
        "random copies": copies,
        "copies, matched": [m.apply(s) for m, s in zip(to_reference(copies, symmetry), copies, strict=True)],
    }
    show("control", rows_of(model, controls, data, "keep"))


def main() -> None:
    """One part of the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("wide", *KINDS))
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--runs", type=Path, help="folder of the checkpoints of train_mnist.py")
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 4], help="networks in a tuple, for wide")
    parser.add_argument("--first", type=int, default=0, help="the first tuple, for wide")
    parser.add_argument("--tuples", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4, help="of the joint search")
    parser.add_argument(
        "--policies", nargs="+", default=["keep", "repair"], help="but for wide: as they are, and with REPAIR"
    )
    parser.add_argument("--training", type=int, default=16, help="epochs of the networks trained here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    wide(options) if options.part == "wide" else small(KINDS[options.part], options)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
