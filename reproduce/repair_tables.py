"""What averaging damages can be repaired."""

from collections.abc import Callable, Iterator
from functools import partial

from chart import Chart
from harness import Claim, Outcome, Row, Work, main, not_run
from measures import Data, Params, batches, ensemble, evaluate, mean_std, measured
from networks import VGG11, ResNet20, mlp, small_start, vgg
from shared import CONVOLUTIONAL, convolutional, several, slug, small_images
from torch import nn
from trainer import Recipe

import onebasin as ob

CLAIM = Claim(
    "repair_tables",
    "REPAIR, RESCALE and layerwise refit after averaging, with and without alignment",
    "Jordan, Sedghi, Saukh, Entezari and Neyshabur (ICLR 2023), tables and figures of REPAIR",
    "MLP depth sweep on MNIST, 10 x 512 MLPs on FashionMNIST and CIFAR-10, VGG11, ResNet20-BN and -LN x1, x2, x4",
    "the depth sweep on all of MNIST, 15 epochs; 10 x 512 MLPs on 10,000 images, 15 epochs; ResNets of 6 "
    "convolutions on 6,000 FashionMNIST images of 14 x 14 pixels, 8 epochs; 2,000 unlabeled images for correction on MNIST, "
    "500 elsewhere; three pairs",
    (33, 120),
    ("mnist", "fashion-mnist", "cifar10"),
)
PUBLISHED = {
    "MNIST MLP 5x128": "REPAIR 95.9", "MNIST MLP 10x128": "REPAIR 95.3", "MNIST MLP 20x128": "REPAIR 94.6",
    "FashionMNIST MLP 10x512": "REPAIR 73.5", "CIFAR-10 MLP 10x512": "REPAIR 52.9", "VGG11": "REPAIR 84.9",
    "ResNet20-BN x1": "REPAIR 67.6", "ResNet20-BN x2": "REPAIR 85.5", "ResNet20-BN x4": "REPAIR 92.1",
    "ResNet20-LN x1": "REPAIR 73.5", "ResNet20-LN x2": "REPAIR 86.8", "ResNet20-LN x4": "REPAIR 92.0",
}  # fmt: skip
METHODS = ("batchnorm", "rescale", "repair", "refit")
SMALL = 10_000
"""Training images up to which fewer are given for correction, and weights are not matched: these are slow on a core."""
WAYS = ("unaligned", "weights", "activations")
Plan = tuple[str, Callable[[], nn.Module], Data, Data, list[Params]]


def perceptrons(work: Work) -> Iterator[Plan]:
    """Label, architecture, training and test data, and six networks of each kind of MLP."""
    # PyTorch's own small start leaves networks easier to match; twenty layers need He's to train at all.
    kinds = [
        (f"MNIST MLP {depth}x128", "mnist", partial(start, 784, *[128] * depth, 10))
        for depth, start in ((5, small_start), (10, small_start), (20, mlp))
    ]
    kinds += [
        ("FashionMNIST MLP 10x512", "fashion-mnist", partial(small_start, 784, *[512] * 10, 10)),
        ("CIFAR-10 MLP 10x512", "cifar10", partial(small_start, 3072, *[512] * 10, 10)),
    ]
    recipe = Recipe(0, work.pick(15, 50), 1e-3, weight_decay=0.1, batch=250)
    for label, name, build in kinds:
        small = name != "mnist" and not work.full
        train = work.images(name, "train", 10_000 if small else None)
        test = work.images(name, "test", work.pick(2000, None))
        yield label, build, train, test, several(work, f"repair_{slug(label)}", build, train, recipe)


def convolutions(work: Work) -> Iterator[Plan]:
    """The same of each kind of convolutional network."""
    if not work.full:
        test = small_images(work, "test", 2000)
        for label, build in CONVOLUTIONAL.items():
            if label.startswith("VGG"):
                continue  # the claim `data_free` has it, with the same corrections
            train, nets = convolutional(work, label)
            yield label, build, train, test, nets
        return
    conv = Recipe(0, 100, 0.4, "sgd", 1e-4, 500, augment=True)
    layer = Recipe(0, 100, 1e-3, weight_decay=0.05, augment=True)
    kinds: list[tuple[str, Callable[[], nn.Module], Recipe]] = [
        ("VGG11", partial(vgg, VGG11), Recipe(0, 100, 0.08, "sgd", 5e-4, 500, augment=True)),
        *((f"ResNet20-BN x{width}", partial(ResNet20, width, "bn"), conv) for width in (1, 2, 4)),
        *((f"ResNet20-LN x{width}", partial(ResNet20, width, "ln"), layer) for width in (1, 2, 4)),
    ]
    train, test = work.images("cifar10", "train"), work.images("cifar10", "test")
    for label, build, recipe in kinds:
        yield label, build, train, test, several(work, f"repair_{slug(label)}", build, train, recipe)


def corrected(
    work: Work, build: Callable[[], nn.Module], nets: tuple[Params, Params], train: Data, test: Data
) -> dict[str, float]:
    """Accuracies in %, aligned and not, after each correction."""
    a, b = nets
    model = work.host(build)
    symmetry = ob.discover(model, (test[0][:2],))
    small = len(train[1]) <= SMALL
    samples = 500 if small else work.pick(2000, 5000)
    unlabeled = batches((train[0][:samples], train[1][:samples]), 250)
    features = ob.activation_similarity(model, a, b, symmetry, unlabeled, evaluate, args=(test[0][:2],)).similarity
    ways = {
        "unaligned": b,
        "activations": ob.match(a, b, symmetry, activations=features, alpha=1.0).apply(b),
    }
    if not small:
        ways["weights"] = ob.match(a, b, symmetry).apply(b)
    found = {"ensemble": ensemble(model, nets, test)["accuracy"]}
    has_norm = any(name.endswith("running_mean") for name in a)
    for way, moved in ways.items():
        average = ob.merge([a, moved])
        found[f"{way} average"] = measured(model, average, test)["accuracy"]
        for method in METHODS:
            if method == "batchnorm" and not has_norm:
                continue
            fixed = ob.correct(model, average, [a, moved], unlabeled, evaluate, method=method, samples=samples)
            found[f"{way} {method}"] = measured(model, fixed.params, test)["accuracy"]
    return found


def run(work: Work) -> Outcome:
    """One row a network and way of aligning it."""
    rows: list[Row] = []
    points: list[Row] = []
    for plan in (perceptrons, convolutions):
        for label, build, train, test, nets in plan(work):
            model, key = work.host(build), slug(label)
            ends = [work.cell(f"{key}_end_{s}", partial(measured, model, net, test)) for s, net in enumerate(nets)]
            cells = [
                work.cell(f"{key}_{k}", partial(corrected, work, build, (nets[k], nets[k + 1]), train, test))
                for k in (0, 2, 4)
            ]
            rows += [row(label, way, cells, ends) for way in WAYS if f"{way} average" in cells[0]]
            points += [
                {"network": label, "accuracy": cell[f"activations {method}"], "after averaging": method}
                for method in ("average", *METHODS)
                for cell in cells
                if f"activations {method}" in cell
            ]
    missing = [] if work.full else [label for label in PUBLISHED if not any(row["network"] == label for row in rows)]
    rows += [not_run(rows[0], {"network": label, LAST: PUBLISHED[label]}) for label in missing]
    reading = (
        "Refit gains more than REPAIR everywhere, and part or all of it without alignment: the unaligned rows are the "
        "control. It aims at the average of both networks' layers, and needs unlabeled images as REPAIR does. The chart "
        "shows the networks matched by activations. A plain VGG stands under bias calibration, with the same corrections. Rows marked as not run are those of --full."
    )
    return Outcome(rows, reading, Chart(points, "network", "accuracy", "after averaging"))


LAST = "published (activations)"


def row(label: str, way: str, cells: list[dict[str, float]], ends: list[dict[str, float]]) -> Row:
    """A network, matched in one way."""
    return {
        "network": label,
        "ends, %": mean_std([end["accuracy"] for end in ends]),
        "ensemble, %": mean_std([cell["ensemble"] for cell in cells]),
        "matching": way,
        **{
            method: mean_std([cell[f"{way} {method}"] for cell in cells]) if f"{way} {method}" in cells[0] else "-"
            for method in ("average", *METHODS)
        },
        LAST: PUBLISHED.get(label, ""),
    }


if __name__ == "__main__":
    main(CLAIM, run)
