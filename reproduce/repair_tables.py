"""What averaging damages can be repaired."""

from harness import Claim, Data, Outcome, Params, Row, Work, batches, ensemble, evaluate, main, mean_std, measured
from networks import VGG11, ResNet20, mlp, vgg
from trainer import Recipe

import onebasin as ob

CLAIM = Claim(
    "repair_tables",
    "REPAIR, RESCALE and layerwise refit after averaging, with and without alignment",
    "Jordan, Sedghi, Saukh, Entezari and Neyshabur (ICLR 2023), tables and figures of REPAIR",
    "MLP depth sweep on MNIST, 10 x 512 MLPs on FashionMNIST and CIFAR-10, VGG11, ResNet20-BN x1, x2, x4, ResNet20-LN",
    "MLPs of width 128 and depth 5, 10 on 10,000 MNIST images, 15 epochs; a ResNet with BatchNorm (16, 32, 64) "
    "on 6,000 "
    "FashionMNIST images, 6 epochs; 500 unlabeled images for correction; three pairs",
    (8, 120),
    ("mnist", "fashion-mnist", "cifar10"),
)
PUBLISHED = {
    "MLP 5x128": "REPAIR 95.9", "MLP 10x128": "REPAIR 95.3", "MLP 20x128": "REPAIR 94.6",
    "FashionMNIST MLP 10x512": "REPAIR 73.5", "VGG11": "REPAIR 84.9",
    "ResNet20-BN x1": "REPAIR 67.6", "ResNet20-BN x2": "REPAIR 85.5", "ResNet20-BN x4": "REPAIR 92.1",
}  # fmt: skip
METHODS = ("batchnorm", "rescale", "repair", "refit")


def plans(work: Work) -> list[tuple[str, str, object, Recipe, int | None]]:
    """Label, data set, architecture, recipe and number of images."""
    if not work.full:
        mlps = [
            (f"MLP {d}x128", "mnist", lambda d=d: mlp(784, *[128] * d, 10), Recipe(0, 15, 1e-3), 10_000)
            for d in (5, 10)
        ]
        return [
            *mlps,
            ("ResNet-BN, 6 convolutions", "fashion-mnist", lambda: ResNet20(1, "bn", 1, 1), Recipe(0, 6, 3e-3), 6000),
        ]
    deep = Recipe(0, 50, 0.05, "sgd", batch=1000)
    rows = [(f"MLP {d}x128", "mnist", lambda d=d: mlp(784, *[128] * d, 10), deep, None) for d in (5, 10, 20)]
    rows += [
        ("FashionMNIST MLP 10x512", "fashion-mnist", lambda: mlp(784, *[512] * 10, 10), deep, None),
        ("CIFAR-10 MLP 10x512", "cifar10", lambda: mlp(3072, *[512] * 10, 10), deep, None),
        ("VGG11", "cifar10", lambda: vgg(VGG11), Recipe(0, 100, 0.08, "sgd", 5e-4, 500, augment=True), None),
    ]
    conv = Recipe(0, 100, 0.4, "sgd", 1e-4, 500, augment=True)
    rows += [(f"ResNet20-BN x{w}", "cifar10", lambda w=w: ResNet20(w, "bn"), conv, None) for w in (1, 2, 4)]
    layer = Recipe(0, 100, 1e-3, weight_decay=0.05, augment=True)
    return [*rows, *((f"ResNet20-LN x{w}", "cifar10", lambda w=w: ResNet20(w, "ln"), layer, None) for w in (1, 4))]


def corrected(work: Work, build: object, nets: tuple[Params, Params], train: Data, test: Data) -> dict[str, float]:
    """Accuracies in %, aligned and not, after each correction."""
    a, b = nets
    model = work.host(build)
    symmetry = ob.discover(model, (test[0][:2],))
    samples = work.pick(500, 5000)
    unlabeled = batches((train[0][:samples], train[1][:samples]), 250)
    features = ob.activation_similarity(model, a, b, symmetry, unlabeled, evaluate, args=(test[0][:2],)).similarity
    ways = {
        "unaligned": b,
        "weights": ob.match(a, b, symmetry).apply(b),
        "activations": ob.match(a, b, symmetry, activations=features, alpha=1.0).apply(b),
    }
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
    for label, name, build, recipe, count in plans(work):
        training = work.images(name, "train", count)
        test = work.images(name, "test", work.pick(2000, None))
        key = "".join(c for c in label if c.isalnum())
        seeds = range(6)
        nets = [
            work.network(f"{name}_{key}_{s}", build, training, Recipe(**{**vars(recipe), "seed": s})) for s in seeds
        ]
        model = work.host(build)
        ends = [work.cell(f"{key}_end_{s}", lambda net=net: measured(model, net, test)) for s, net in enumerate(nets)]
        cells = [
            work.cell(
                f"{key}_{k}",
                lambda k=k, nets=nets, build=build, training=training, test=test: corrected(
                    work, build, (nets[k], nets[k + 1]), training, test
                ),
            )
            for k in (0, 2, 4)
        ]
        for way in ("unaligned", "weights", "activations"):
            figures = {
                method: mean_std([cell[f"{way} {method}"] for cell in cells]) if f"{way} {method}" in cells[0] else "-"
                for method in ("average", *METHODS)
            }
            own = {"ends, %": mean_std([end["accuracy"] for end in ends])}
            own["ensemble, %"] = mean_std([cell["ensemble"] for cell in cells])
            row = {"network": label, **own, "matching": way, **figures}
            rows += [row | {"published (activations)": PUBLISHED.get(label, "")}]
    reading = (
        "Refit gains more than REPAIR everywhere, and part or all of it without alignment: the unaligned rows are the "
        "control. It aims at the average of both networks' layers, and needs unlabeled images as REPAIR does."
    )
    return Outcome(rows, reading)


if __name__ == "__main__":
    main(CLAIM, run)
