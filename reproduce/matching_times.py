"""Weight matching needs no data and takes seconds."""

import time
from collections.abc import Iterator
from functools import partial

import torch
from chart import Chart
from harness import NOT_RUN, Claim, Outcome, Row, Work, main, not_run
from measures import Params, mean_std
from networks import VGG16, Build, ResNet20, vgg
from shared import CONVOLUTIONAL, build_mlp, convolutional, mlps, slug

import onebasin as ob

CLAIM = Claim(
    "matching_times",
    "Weight matching takes seconds",
    "Ainsworth, Hayase and Srinivasa (ICLR 2023): 3 s for the MLP, 194 s for ResNet20 of 32 times the width, on a V100",
    "MLP of 3 x 512 trained on MNIST; VGG16 and ResNet20-LN x1 ... x32 as initialised; the CPU and the GPU",
    "the same, small trained networks of 6 convolutions beside; up to x4; one core; three pairs",
    (28, 15),
    ("mnist", "fashion-mnist"),
)
METHODS = ("weight", "best")
PUBLISHED = {"MLP 3 x 512": "3", "ResNet20-LN x32": "194"}
FRESH: dict[str, Build] = {
    "VGG16": lambda: vgg(VGG16),
    **{f"ResNet20-LN x{width}": partial(ResNet20, width, "ln") for width in (1, 2, 4, 8, 16, 32)},
}
"""Networks as they are initialised."""
LARGE = ("ResNet20-LN x8", "ResNet20-LN x16", "ResNet20-LN x32")
Pairs = list[tuple[Params, Params]]
Plan = tuple[Build, tuple[int, ...], Pairs]


def pairs_of(nets: list[Params]) -> Pairs:
    """Three pairs of six networks."""
    return [(nets[k], nets[k + 1]) for k in (0, 2, 4)]


def fresh(build: Build) -> Pairs:
    """Three pairs of networks as they are initialised."""
    nets = []
    for seed in range(6):
        torch.manual_seed(seed)
        nets.append(build().state_dict())
    return pairs_of(nets)


def plans(work: Work) -> Iterator[tuple[str, Plan]]:
    """Name, architecture, the shape of an input and networks, one after another."""
    yield "MLP 3 x 512", (partial(build_mlp, "mnist"), (1, 28, 28), pairs_of(mlps(work, "mnist")[1]))
    for label, build in work.pick(CONVOLUTIONAL, {}).items():
        yield label, (build, (1, 14, 14), pairs_of(convolutional(work, label)[1]))
    for label, build in FRESH.items():
        if work.full or label not in LARGE:
            yield label, (build, (3, 32, 32), fresh(build))


def seconds(plan: Plan, device: str) -> dict[str, object]:
    """Of every method on every pair; a first, untimed call loads what a process needs once."""
    build, shape, pairs = plan
    model = build().eval()
    symmetry = ob.discover(model, (torch.zeros(2, *shape),))
    placed = [[{name: tensor.to(device) for name, tensor in net.items()} for net in pair] for pair in pairs]
    times: dict[str, list[float]] = {method: [] for method in METHODS}
    ob.match(placed[0][0], placed[0][1], symmetry, "weight")
    for method in METHODS:
        for a, b in placed:
            started = time.perf_counter()
            ob.match(a, b, symmetry, method)
            times[method].append(time.perf_counter() - started)
    return {"parameters": sum(tensor.numel() for tensor in model.parameters()), **times}


def run(work: Work) -> Outcome:
    """One row a network, its seconds on each device."""
    devices = ("cpu", "cuda") if work.device == "cuda" else ("cpu",)
    rows: list[Row] = []
    points: list[Row] = []
    for label, plan in plans(work):
        cells = {device: work.cell(f"{slug(label)}_{device}", partial(seconds, plan, device)) for device in devices}
        times = {
            f"{method}, {shown}, s": mean_std(cells[device][method]) if device in cells else NOT_RUN
            for device, shown in (("cpu", "CPU"), ("cuda", "GPU"))
            for method in METHODS
        }
        millions = f"{cells['cpu']['parameters'] / 1e6:.2f}"
        rows.append({"network": label, "million parameters": millions, **times, LAST: PUBLISHED.get(label, "")})
        points += [
            {"network": label, "seconds": value, "method": f"{method}, {device}"}
            for device, cell in cells.items()
            for method in METHODS
            for value in cell[method]
        ]
    missing = [label for label in LARGE if not work.full]
    rows += [not_run(rows[0], {"network": label, LAST: PUBLISHED.get(label, "")}) for label in missing]
    reading = (
        "`weight` is one coordinate ascent, `best` the default, which tries several searches and keeps the best. The "
        "times are those of whole calls after a first one, their bounds on the objective included. The networks of 32 x 32 "
        "pixels are as initialised, and have nothing in common. Cells marked as not run are those of --full."
    )
    return Outcome(rows, reading, Chart(points, "network", "seconds", "method"))


LAST = "published, V100, s"


if __name__ == "__main__":
    main(CLAIM, run)
