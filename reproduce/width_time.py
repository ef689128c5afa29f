"""Barriers fall with width and with training."""

import statistics
from functools import partial

from chart import Chart
from harness import Claim, Outcome, Row, Work, main, not_run
from measures import Data, Params, mean_std, on
from networks import Build, ResNet20, small_start
from trainer import Recipe

import onebasin as ob

CLAIM = Claim(
    "width_time",
    "Barriers modulo permutations fall with width, and open first and close later with training",
    "Ainsworth, Hayase and Srinivasa (ICLR 2023), sections 5.2-5.3 and figures 3-4",
    "MLP on MNIST x1/8 ... x4 and ResNet20 with LayerNorm on CIFAR-10 x1 ... x16, 25 points",
    "MLP x1/8 ... x4 on 5,000 MNIST images, 10 epochs; 1 to 16 epochs at x1/4; three pairs, 25 points on 2,000 test images",
    (7, 60),
    ("mnist", "cifar10"),
)

WIDTHS = (64, 128, 256, 512, 1024, 2048)
"""Of the MLPs, x1/8 to x4."""
RESNET, RESNETS = "ResNet20-LN x{}", (1, 2, 4, 8, 16)


def barriers(work: Work, build: Build, nets: list[Params], test: Data, train: Data) -> dict[str, float]:
    """Loss barriers as they are and aligned."""
    a, b = nets
    model = work.host(build)
    symmetry = ob.discover(model, (test[0][:2],))
    reset = train if any(name.endswith("running_mean") for name in a) else None
    found = {}
    for name, other in (("naive", b), ("aligned", ob.match(a, b, symmetry).apply(b))):
        profile = ob.profile_path(model, a, other, on(test, reset), lams=25)
        found[name] = profile.loss_barrier()
        found[f"{name} error"] = 100 * profile.error_barrier()
    return found


def run(work: Work) -> Outcome:
    """One row a width, one a number of epochs."""
    training = work.images("mnist", "train", work.pick(5000, None))
    test = work.images("mnist", "test", work.pick(2000, None))
    plans = [("width", f"MLP {width}", width, work.pick(10, 60)) for width in WIDTHS]
    plans += [("epochs", f"MLP 128, {epochs} epochs", 128, epochs) for epochs in (1, 2, 4, 8, 16)]
    rows: list[Row] = []
    points: list[Row] = []
    for sweep, label, width, epochs in plans:
        build = partial(small_start, 784, width, width, width, 10)
        cells = []
        for k in (0, 2, 4):
            nets = [
                work.network(f"mnist_mlp{width}_e{epochs}_{s}", build, training, Recipe(s, epochs, batch=250))
                for s in (k, k + 1)
            ]
            name = f"mlp{width}_e{epochs}_{k}"
            cells.append(work.cell(name, partial(barriers, work, build, nets, test, training)))
        rows.append(row(sweep, label, cells))
        points += [
            {"network": label, "loss barrier": cell[kind], "matching": kind}
            for cell in cells
            for kind in ("naive", "aligned")
        ]
    rows += (
        resnets(work)
        if work.full
        else [not_run(rows[0], {"sweep": "width", "network": RESNET.format(width)}) for width in RESNETS]
    )
    reading = (
        "Published: with permutations the barrier is zero from x1 on for the MLP and from x32 on for the ResNet; "
        "without, it falls more slowly with width. The curve without permutation, at the same settings, stands beside. Rows marked as not run are those of --full."
    )
    return Outcome(rows, reading, Chart(points, "network", "loss barrier", "matching"))


def row(sweep: str, label: str, cells: list[dict[str, float]]) -> Row:
    """Means of several pairs."""
    return {
        "sweep": sweep,
        "network": label,
        "naive barrier, nats": mean_std([cell["naive"] for cell in cells], 3),
        "aligned barrier, nats": mean_std([cell["aligned"] for cell in cells], 3),
        "aligned error barrier, points": mean_std([cell["aligned error"] for cell in cells]),
        "aligned of naive, %": f"{100 * statistics.fmean(c['aligned'] / max(c['naive'], 1e-9) for c in cells):.0f}",
    }


def resnets(work: Work) -> list[Row]:
    """ResNet20 with LayerNorm on CIFAR-10 at several widths."""
    training, test = work.images("cifar10", "train"), work.images("cifar10", "test")
    rows = []
    for width in RESNETS:
        build = partial(ResNet20, width, "ln")
        recipes = [Recipe(s, 50, 1e-3, weight_decay=0.05, augment=True) for s in range(2)]
        nets = [work.network(f"cifar_resnet20ln{width}_{r.seed}", build, training, r) for r in recipes]
        cell = work.cell(f"resnet20ln{width}", partial(barriers, work, build, nets, test, training))
        rows.append(row("width", RESNET.format(width), [cell]))
    return rows


if __name__ == "__main__":
    main(CLAIM, run)
