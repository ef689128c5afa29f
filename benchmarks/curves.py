"""How small convolutional networks with BatchNorm are connected: lines, curves, elastic bands, a star, children.

    python benchmarks/curves.py --data-root DIR --runs DIR

Four networks (16, 32 and 32 channels, FashionMNIST, its first 10,000 training images) are trained from different seeds
into the folder, where they are not there already. Losses are those of the training images; the networks are reordered
to match the first one. The spawned pair shares its first epochs, as a positive control.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from onebasin import Evaluation, discover, match_many, open_checkpoint, profile_path, save_checkpoint
from onebasin.connectivity import (
    BandSchedule,
    Curve,
    Schedule,
    auto_neb,
    explore,
    fit_curve,
    fit_star,
    profile_curve,
    profile_star,
    spawning_onset,
)
from onebasin.tasks import Task, load_task

TASK = Path(__file__).parent / "tasks" / "fashion_convnet.py"
SEEDS = (0, 1, 2, 3)
EPOCHS, RATE, BATCH = 20, 3e-3, 128
CALIBRATION = 2000
POINTS = 21
Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]


def main() -> None:
    """Train what is missing, then connect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder that holds fashion-mnist/")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the networks")
    parser.add_argument("--epochs", type=int, default=20, help="of curves and the star")
    parser.add_argument("--steps", type=int, default=60, help="of a band, a cycle")
    parser.add_argument("--parts", nargs="+", default=["curves", "bands", "star", "children"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task(str(TASK), data_root=arguments.data_root)
    nets = [network(task, seed, arguments.runs) for seed in SEEDS]
    model = task.build_model()
    evaluation = Evaluation(task.evaluate, task.batches("train"), calibration_samples=CALIBRATION)
    symmetry = discover(model, task.example_inputs())
    start = time.perf_counter()
    aligned = [matching.apply(net) for matching, net in zip(match_many(nets, symmetry).matchings, nets, strict=True)]
    print(f"matched four networks in {time.perf_counter() - start:.0f} s\n")
    schedule = Schedule(arguments.epochs, 0.1)
    parts: dict[str, Callable[[], None]] = {
        "curves": lambda: lines_and_curves(task, model, nets, aligned, evaluation, schedule),
        "bands": lambda: bands(task, model, aligned, evaluation, arguments.steps),
        "star": lambda: star(task, model, aligned, evaluation, schedule),
        "children": lambda: children(task, evaluation),
    }
    for name in arguments.parts:
        parts[name]()


def network(task: Task, seed: int, folder: Path) -> dict[str, Tensor]:
    """The network of a seed, trained where it is not there."""
    path = folder / f"fashion_convnet_seed{seed}.safetensors"
    if not path.exists():
        start = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        model = task.build_model()
        trainer(task, EPOCHS)(model, range(EPOCHS), seed)
        save_checkpoint(model.state_dict(), path)
        print(f"trained {path.name} in {time.perf_counter() - start:.0f} s")
    return dict(open_checkpoint(path))


def images(task: Task) -> tuple[Tensor, Tensor]:
    """All training images and their labels."""
    inputs, labels = zip(*task.batches("train"), strict=True)  # type: ignore[misc]
    return torch.cat(inputs), torch.cat(labels)


def shuffled(task: Task, seed: int = 0) -> Batches:
    """Batches in another order every time."""
    x, y = images(task)
    generator = torch.Generator().manual_seed(seed)
    return lambda: ((x[rows], y[rows]) for rows in torch.randperm(len(x), generator=generator).split(BATCH))


def trainer(task: Task, total: int) -> Callable[[nn.Module, range, int], None]:
    """Adam with a rate that falls to nothing; the order of an epoch comes from the seed and the epoch."""
    x, y = images(task)

    def train(model: nn.Module, epochs: range, seed: int) -> None:
        model.train()
        optimizer = torch.optim.Adam(model.parameters())
        for epoch in epochs:
            optimizer.param_groups[0]["lr"] = RATE * (1 - epoch / total)
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1000 * seed + epoch))
            for rows in order.split(BATCH):
                sums = task.evaluate(model, (x[rows], y[rows]))
                optimizer.zero_grad()
                (sums["loss"] / sums["count"]).backward()
                optimizer.step()
        model.eval()

    return train


def lines_and_curves(
    task: Task,
    model: nn.Module,
    nets: Sequence[dict[str, Tensor]],
    aligned: Sequence[dict[str, Tensor]],
    evaluation: Evaluation,
    schedule: Schedule,
) -> None:
    """Between the first two networks."""
    print(f"{'path':<28}{'ends':>16}{'max loss':>10}{'over ends':>11}{'max error':>11}{'length':>8}{'seconds':>9}")
    shapes = {"as they are": (("bezier", 1),), "reordered": (("bezier", 1), ("polygonal", 1))}
    for name, other in (("as they are", nets[1]), ("reordered", aligned[1])):
        start = time.perf_counter()
        line = profile_path(model, nets[0], other, evaluation, lams=POINTS)
        row(f"line, {name}", line.loss, line.error, "", start)
        for kind, bends in shapes[name]:
            start = time.perf_counter()
            curve: Curve = fit_curve(
                model, nets[0], other, shuffled(task), task.evaluate, kind=kind, bends=bends, schedule=schedule
            )
            profile = profile_curve(curve, model, evaluation, POINTS)
            row(f"{kind} {bends}, {name}", profile.loss, profile.error, f"{profile.straightness:.2f}", start)
    print()


def row(name: str, losses: Sequence[float], errors: Sequence[float], length: str, start: float) -> None:
    """A row of the table: how the highest loss compares with the worse end."""
    ends, top = (losses[0], losses[-1]), max(losses)
    print(
        f"{name:<28}{ends[0]:>8.4f}{ends[1]:>8.4f}{top:>10.4f}{top / max(ends) - 1:>10.1%} {max(errors):>10.1%}"
        f"{length:>8}{time.perf_counter() - start:>9.0f}"
    )


def bands(
    task: Task, model: nn.Module, aligned: Sequence[dict[str, Tensor]], evaluation: Evaluation, steps: int
) -> None:
    """The tree of passes over all four networks, one band more than it takes."""
    names = [f"seed{seed}" for seed in SEEDS]
    places = dict(zip(names, aligned, strict=True))
    schedule = BandSchedule(cycles=4, steps=steps, rate=0.1, between=3)
    losses = {name: profile_path(model, net, net, evaluation, lams=2).loss[0] for name, net in places.items()}
    print(f"{'band':<16}{'ends':>16}{'line':>10}{'saddle':>10}{'over ends':>11}{'times ends':>12}{'seconds':>9}")

    def connect(a: str, b: str) -> float:
        start = time.perf_counter()
        ends = (places[a], places[b])
        band = auto_neb(model, *ends, shuffled(task), task.evaluate, evaluation=evaluation, schedule=schedule)
        worse = max(losses[a], losses[b])
        print(
            f"{a}-{b:<10}{losses[a]:>8.4f}{losses[b]:>8.4f}{band.saddles[0]:>10.4f}{band.saddle:>10.4f}"
            f"{band.saddle - worse:>11.4f}{band.saddle / worse:>12.2f}{time.perf_counter() - start:>9.0f}"
        )
        return band.saddle

    tree = explore(losses, connect, len(names))
    print("tree: " + ", ".join(f"{a}-{b} {saddle:.4f}" for a, b, saddle in tree.edges))
    for a, b in itertools.combinations(names, 2):
        print(f"  {a} to {b}: {tree.saddle(a, b):.4f}")
    print()


def star(
    task: Task, model: nn.Module, aligned: Sequence[dict[str, Tensor]], evaluation: Evaluation, schedule: Schedule
) -> None:
    """A centre for three networks, measured on the fourth as well."""
    start = time.perf_counter()
    found = fit_star(model, aligned[:3], shuffled(task), task.evaluate, schedule=schedule)
    profile = profile_star(
        found.centre, {f"seed{s}": net for s, net in zip(SEEDS, aligned, strict=True)}, model, evaluation
    )
    print(f"star of three, {time.perf_counter() - start:.0f} s; loss barrier from the centre, and between the networks")
    for name, barrier in profile.barriers().items():
        others = [net for number, net in enumerate(aligned) if f"seed{number}" != name]
        own = aligned[int(name.removeprefix("seed"))]
        between = [profile_path(model, own, other, evaluation, lams=11).loss_barrier() for other in others]
        held = "held out" if name == "seed3" else ""
        print(f"  {name}: {barrier:.4f}, {sum(between) / len(between):.4f} {held}")
    print()


def children(task: Task, evaluation: Evaluation, epochs: int = 8) -> None:
    """Two children of one parent, by the epoch at which they part."""
    start = time.perf_counter()
    torch.manual_seed(0)
    found = spawning_onset(task.build_model(), trainer(task, epochs), evaluation, (0, 1, 4), epochs)
    print(f"children, {epochs} epochs in all, {time.perf_counter() - start:.0f} s; barriers above the mean of the two")
    losses = found.barriers("loss")
    for after, error in found.barriers().items():
        print(f"  parted after {after}: loss {losses[after]:.4f}, error {error:.2%}")
    print(f"  onset: {found.onset}")


if __name__ == "__main__":
    main()
