"""Ensembles at 1, 2, 4 and 8 forwards: vertices, points of their aligned simplex, snapshots and averages.

    python benchmarks/train_mnist.py --data-root DIR --out RUNS --seeds 0 1 2 3 --epochs 60
    python benchmarks/ensembles.py --data-root DIR --runs RUNS

Networks are MLPs 784-512-512-512-10 on MNIST that saw all 60,000 training images. Temperatures are fitted on the 5,000
test images at even places, and all figures are those of the 5,000 at odd ones. The networks are aligned twice:
cycle-consistently, without data, and with permutations learned from training images (`--learned-epochs`). Beside them
stand the greedy soup (chosen on the images at even places), points of a simplex grown around the first network (ESPRO),
points of a complex in which one trained network joins all four, and a star's centre. FGE and SWA go on from the first
network (SGD, momentum 0.9, weight decay 5e-4, rates 0.05 to 0.01, one epoch a cycle, batches of 100), and, since a
network that fits its training data hardly moves, also from a fresh one of 3 epochs. Columns: F forwards, accuracy in %,
negative log-likelihood in nats, calibration error (15 bins), Brier score, the same at the fitted temperature, the share
of images on which two members differ in %, and DEE, as many independent networks do the same; seconds are those of
making a contender.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

import onebasin as ob
from onebasin.connectivity import (
    EnsembleTable,
    Schedule,
    cyclic,
    ensemble_table,
    fit_complex,
    fit_simplex,
    fit_star,
    snapshot_average,
)
from onebasin.merging import greedy
from onebasin.tasks import Task, load_task, train
from onebasin.tasks.train import gather

State = Mapping[str, Tensor]
Data = tuple[Tensor, ...]


def shuffled(data: Data, size: int, seed: int) -> Callable[[], Iterator[Data]]:
    """Batches of a size, in another order every time."""
    generator = torch.Generator().manual_seed(seed)

    def batches() -> Iterator[Data]:
        for chosen in torch.randperm(len(data[0]), generator=generator).split(size):
            yield tuple(tensor[chosen] for tensor in data)

    return batches


def halves(task: Task) -> tuple[list[Data], list[Data]]:
    """Test images at even and at odd places."""
    data = gather(task, ("test",))
    even, odd = ([tuple(parts) for parts in zip(*(t[k::2].split(1000) for t in data), strict=True)] for k in (0, 1))
    return even, odd


def snapshots(task: Task, start: State, data: Data, count: int, evaluation: ob.Evaluation) -> tuple[list[State], State]:
    """Snapshots of cyclic training, and their average."""
    begun = time.perf_counter()
    model = task.build_model()
    found = cyclic(model, start, shuffled(data, 100, 0), task.evaluate, cycles=count, epochs=1, weight_decay=5e-4)
    losses = ", ".join(f"{loss:.4f}" for loss in found.losses)
    print(f"  {count} cycles, training losses {losses}: {time.perf_counter() - begun:.0f} s", flush=True)
    return list(found.snapshots), snapshot_average(model, found.snapshots, evaluation)


def joined(
    task: Task, networks: Sequence[State], data: Data, epochs: int, evaluation: ob.Evaluation
) -> dict[str, Sequence[State]]:
    """What is trained between aligned networks, or chosen among them."""
    model, schedule, batches = task.build_model(), Schedule(epochs, 0.02, seed=0), shuffled(data, 250, 0)
    last = len(networks)

    def likelihood(params: State) -> float:
        return -ob.profile_path(
            model, params, params, ob.Evaluation(task.evaluate, evaluation.calibration), lams=2
        ).loss[0]

    makers: dict[str, Callable[[], Sequence[State]]] = {
        "greedy soup": lambda: [greedy(networks, likelihood).params],
        "ESPRO": lambda: fit_simplex(model, networks[:1], batches, task.evaluate, 2, schedule=schedule).members(
            model, 8, evaluation
        ),
        "complex points": lambda: fit_complex(
            model, networks, [(k, last) for k in range(last)], batches, task.evaluate, schedule=schedule
        ).members(model, 8, evaluation),
        "star centre": lambda: [fit_star(model, networks, batches, task.evaluate, schedule=schedule).centre],
    }
    found = {}
    for name, make in makers.items():
        begun = time.perf_counter()
        found[name] = make()
        print(f"  {name}: {time.perf_counter() - begun:.0f} s", flush=True)
    return found


def show(table: EnsembleTable) -> None:
    """Print a table, the comparisons, and the sentences."""
    heads = (
        f"{'F':>3}{'acc %':>8}{'NLL':>9}{'ECE':>8}{'Brier':>8}{'NLL, T':>9}{'ECE, T':>8}{'T':>6}{'differ':>8}{'DEE':>6}"
    )
    print(f"  {'ensemble':<22}{heads}")
    for row in table.rows:
        dee = "<1" if row.equivalent == 0 else ">n" if math.isinf(row.equivalent) else f"{row.equivalent:.1f}"
        raw = f"{100 * (1 - row.error):>8.2f}{row.nll:>9.4f}{row.ece:>8.4f}{row.brier:>8.4f}"
        fitted = f"{row.calibrated_nll:>9.4f}{row.calibrated_ece:>8.4f}{row.temperature:>6.2f}"
        print(f"  {row.name:<22}{row.forwards:>3}{raw}{fitted}{100 * row.disagreement:>8.2f}{dee:>6}")
    print("  simplex points less vertices, 95 % intervals of paired bootstrap samples")
    for row in table.comparisons:
        figures = f"{row.difference:>+9.4f} [{row.low:+.4f}, {row.high:+.4f}]"
        print(f"    F = {row.forwards}  {row.measure:<16}{figures}")
    for sentence in table.statement():
        print(f"  {sentence}", flush=True)


def aligned(task: Task, networks: Sequence[State], data: Data, epochs: int) -> Iterator[tuple[str, list[State], float]]:
    """The networks in the first one's coordinates."""
    model = task.build_model()
    symmetry = ob.discover(model, task.example_inputs())
    begun = time.perf_counter()
    universe = ob.match_many(networks, symmetry)
    yield "cycle-consistent", [*map(_apply, universe.matchings, networks)], time.perf_counter() - begun
    if epochs:
        begun = time.perf_counter()
        learned = ob.learn_universe(
            model,
            networks,
            symmetry,
            shuffled(tuple(tensor[:20000] for tensor in data), 250, 0),
            task.evaluate,
            epochs=epochs,
            validation=[tuple(tensor[-5000:] for tensor in data)],
        )
        moved = [networks[0], *map(_apply, learned, networks[1:])]
        yield "learned", moved, time.perf_counter() - begun


def _apply(matching: ob.Matching, network: State) -> State:
    return matching.apply(network)


def main() -> None:
    """One table an alignment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--learned-epochs", type=int, default=2, help="0 for none")
    parser.add_argument(
        "--trained-epochs", type=int, default=5, help="of ESPRO's vertices, the complex's and the star's"
    )
    parser.add_argument("--snapshots", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task("mnist", data_root=options.data_root)
    networks = [dict(ob.open_checkpoint(options.runs / f"mnist_mlp_seed{seed}.safetensors")) for seed in options.seeds]
    data = gather(task, ("train",))
    even, odd = halves(task)
    evaluation = ob.Evaluation(task.evaluate, odd, task.predict, calibration=even, temperature=True)
    contenders: dict[str, Sequence[State]] = {}
    print("cyclic training")
    fresh = train(task, seed=100, epochs=3, batch_size=512).state_dict()
    for name, start in (("", networks[0]), (", fresh", fresh)):
        made, average = snapshots(task, start, data, options.snapshots, evaluation)
        contenders |= {f"FGE{name}": made, f"SWA{name}": [average]}
    for name, moved, seconds in aligned(task, networks, data, options.learned_epochs):
        print(f"{name}: {seconds:.1f} s")
        given = contenders | joined(task, moved, data, options.trained_epochs, evaluation)
        show(ensemble_table(task.build_model(), moved, evaluation, unaligned=networks, contenders=given))


if __name__ == "__main__":
    main()
