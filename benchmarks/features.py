"""Layer by layer: features of an average against the average of features (LLFC), with controls.

    python benchmarks/train_mnist.py --data-root DIR --out RUNS --seeds 0 1 2 3 4 5 --epochs 60
    python benchmarks/features.py --data-root DIR --runs RUNS

Networks are MLPs 784-512-512-512-10 on MNIST, figures those of the 10,000 test images, at lam = 1/2. For every layer:
`1-cos` of the features of the average against the average of features (signed, mean over images), `apart`, 1-cos of the
two networks' own features, `c`, the coefficient between the two sides, and `gain`, how often the unmatched networks'
`apart` holds the `1-cos`: the bar is 5 on every layer. The first layer before its activation is linear in the
parameters, so its 1-cos is rounding alone.

Spawned pair: two networks that share their first 2 epochs and are then trained for 3 more on images in different
orders. Matched pairs: networks of different seeds, as they are, with one of them randomly reordered, and matched: by
weights, by the best search without data, by activations of 5,000 training images, and by both halves. The last table is
what stitching (a's features in b's tail, test loss) and CKA say about the first pair, naive and matched.
"""

import argparse
import copy
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

import onebasin as ob
from onebasin.connectivity import (
    FeatureLinearity,
    commutativity,
    feature_linearity,
    feature_similarity,
    stitch,
    weak_additivity,
)
from onebasin.tasks import Task, load_task, train

State = Mapping[str, Tensor]
BATCH = 512
ROUNDING = 1e-12


class From:
    """A task whose training begins at a network."""

    def __init__(self, task: Task, network: nn.Module) -> None:
        self.task, self.name, self.network = task, task.name, network
        self.evaluate, self.batches, self.example_inputs = task.evaluate, task.batches, task.example_inputs

    def build_model(self) -> nn.Module:
        """A copy of the network."""
        return copy.deepcopy(self.network)


def spawned(task: Task) -> tuple[State, State]:
    """Two networks of one beginning."""
    parent = train(task, seed=0, epochs=2, batch_size=BATCH)
    a, b = (train(From(task, parent), seed=seed, epochs=3, batch_size=BATCH).state_dict() for seed in (1, 2))
    return a, b


def matched(task: Task, symmetry: ob.Symmetry, a: State, b: State) -> Iterator[tuple[str, State, float]]:
    """The second network in the first one's coordinates, by method, with seconds."""
    for name in ("weight", "best"):
        begun = time.perf_counter()
        found = ob.match(a, b, symmetry, name).apply(b)
        yield name, found, time.perf_counter() - begun
    begun = time.perf_counter()
    given = ob.activation_similarity(
        task.build_model(),
        a,
        b,
        symmetry,
        task.batches("train"),
        task.evaluate,
        args=task.example_inputs(),
        samples=5000,
    )
    for name, alpha in (("activations", 1.0), ("half and half", 0.5)):
        found = ob.match(a, b, symmetry, activations=given.similarity, alpha=alpha).apply(b)
        yield name, found, time.perf_counter() - begun
        begun = time.perf_counter()


def show(name: str, found: FeatureLinearity, unmatched: FeatureLinearity, seconds: float = 0.0) -> float:
    """Print a table and give the least gain of all layers."""
    print(f"  {name} ({seconds:.1f} s)")
    print(f"    {'layer':<8}{'1-cos':>11}{'+-':>11}{'apart':>11}{'c':>8}{'relative':>10}{'gain':>8}")
    gains = []
    for k, layer in enumerate(found.layers):
        defect, apart = found.defect[k], unmatched.baseline[k]
        gains.append(apart / defect if defect > ROUNDING else math.inf)
        row = f"{defect:>11.2e}{found.spread[k]:>11.2e}{found.baseline[k]:>11.2e}{found.coefficient[k]:>8.3f}"
        print(f"    {layer:<8}{row}{found.relative[k]:>10.3f}{gains[-1]:>8.1f}", flush=True)
    print(f"    least gain {min(gains):.1f}")
    return min(gains)


def conditions(model: nn.Module, evaluation: ob.Evaluation, pairs: Mapping[str, tuple[State, State]]) -> None:
    """The two conditions, stitching and CKA for several pairs."""
    for name, (a, b) in pairs.items():
        commuting, additive = (
            measure(model, [a, b], evaluation, samples=2000) for measure in (commutativity, weak_additivity)
        )
        similar = feature_similarity(model, a, b, evaluation, samples=2000)
        stitched = stitch(model, a, b, evaluation, samples=2000)
        print(f"  {name}: 2,000 images; b by itself has loss {stitched.tail[0]:.3f}")
        print(f"    {'layer':<8}{'commutator':>12}{'additivity':>12}{'stitched':>10}{'CKA':>8}{'angle':>8}")
        for k, layer in enumerate(stitched.layers):
            first = {**dict(zip(commuting.layers, commuting.figures["commutator"], strict=True))}.get(layer)
            second = {**dict(zip(additive.layers, additive.figures["defect"], strict=True))}.get(layer)
            row = "".join(f"{'' if value is None else f'{value:.2e}':>12}" for value in (first, second))
            rest = f"{similar.figures['cka'][k]:>8.3f}{similar.figures['angle'][k]:>8.3f}"
            print(f"    {layer:<8}{row}{stitched.loss[k]:>10.3f}{rest}", flush=True)


def main() -> None:
    """One table a set of networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5], help="pairs in a row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task("mnist", data_root=options.data_root)
    model = task.build_model()
    symmetry = ob.discover(model, task.example_inputs())
    evaluation = ob.Evaluation(task.evaluate, task.batches("test"))

    a, b = spawned(task)
    print("spawned pair")
    found = feature_linearity(model, [a, b], evaluation)
    show("as they are", found, found)
    moved = symmetry.random(0).apply(b)
    show("randomly reordered", feature_linearity(model, [a, moved], evaluation), found)

    least: dict[str, list[float]] = {}
    kept: dict[str, tuple[State, State]] = {}
    for first, second in zip(options.seeds[::2], options.seeds[1::2], strict=True):
        a, b = (
            dict(ob.open_checkpoint(options.runs / f"mnist_mlp_seed{seed}.safetensors")) for seed in (first, second)
        )
        print(f"seeds {first} and {second}")
        naive = feature_linearity(model, [a, b], evaluation)
        least.setdefault("unmatched", []).append(show("unmatched", naive, naive))
        moved = symmetry.random(0).apply(b)
        gain = show("randomly reordered", feature_linearity(model, [a, moved], evaluation), naive)
        least.setdefault("randomly reordered", []).append(gain)
        kept.setdefault("unmatched", (a, b))
        for name, other, seconds in matched(task, symmetry, a, b):
            gain = show(name, feature_linearity(model, [a, other], evaluation), naive, seconds)
            least.setdefault(name, []).append(gain)
            kept.setdefault(name, (a, other))
    print("least gain of all layers, a number a pair")
    for name, gains in least.items():
        print(f"  {name:<20}{''.join(f'{gain:>8.1f}' for gain in gains)}")
    print("the first pair")
    conditions(model, evaluation, {name: kept[name] for name in ("unmatched", "best")})


if __name__ == "__main__":
    main()
