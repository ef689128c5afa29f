"""A plain VGG after averaging, repaired without any data."""

from functools import partial

from chart import Chart
from harness import Claim, Outcome, Row, Work, main
from measures import Data, Params, batches, ensemble, evaluate, mean_std, measured
from networks import VGG16, vgg
from shared import CONVOLUTIONAL, convolutional, several, small_images
from trainer import Recipe

import onebasin as ob

CLAIM = Claim(
    "data_free",
    "Bias calibration without data brings an averaged plain VGG back",
    "Vanishing features (2024-2025): VGG16 on CIFAR-10, weight matching 10.5, bias calibration 83.8, RESCALE 84.5, "
    "ends 91.9",
    "VGG16 without norms on CIFAR-10, SGD 0.1, weight decay 1e-4, 160 epochs",
    "a VGG of 6 convolutions (64, 64, 128, 128, 256, 256) on 6,000 FashionMNIST images of 14 x 14 pixels, 8 epochs, three "
    "pairs",
    (13, 40),
    ("fashion-mnist", "cifar10"),
)
VGG = "VGG, 6 convolutions"
METHODS = ("rescale_from_weights", "calibrate_biases", "rescale", "repair", "refit")


def networks(work: Work) -> tuple[Data, list[Params]]:
    """Six of them, and what they were trained on."""
    if not work.full:
        return convolutional(work, VGG)
    training = work.images("cifar10", "train")
    recipe = Recipe(0, 160, 0.1, "sgd", 1e-4, augment=True)
    return training, several(work, "cifar10_VGG16", lambda: vgg(VGG16), training, recipe)


def run(work: Work) -> Outcome:
    """Corrections without data, and those with unlabeled data beside."""
    test = work.images("cifar10", "test") if work.full else small_images(work, "test", 2000)
    build = work.pick(CONVOLUTIONAL[VGG], lambda: vgg(VGG16))
    training, nets = networks(work)
    model = work.host(build)
    symmetry = ob.discover(model, (test[0][:2],))
    unlabeled = batches((training[0][:1000], training[1][:1000]), 250)

    def pair(k: int) -> dict[str, float]:
        a, b = nets[k], nets[k + 1]
        found = {}
        for way, moved in (("unaligned", b), ("aligned", ob.match(a, b, symmetry).apply(b))):
            average = ob.merge([a, moved])
            found[f"{way} average"] = measured(model, average, test)["accuracy"]
            for method in METHODS:
                fixed = ob.correct(
                    model, average, [a, moved], unlabeled, evaluate, method=method, args=(test[0][:2],), samples=1000
                )
                found[f"{way} {method}"] = measured(model, fixed.params, test)["accuracy"]
        found["ends"] = (measured(model, a, test)["accuracy"] + measured(model, b, test)["accuracy"]) / 2
        found["ensemble"] = ensemble(model, [a, b], test)["accuracy"]
        return found

    cells = [work.cell(f"pair_{k}", partial(pair, k)) for k in (0, 2, 4)]
    needs = {"average": "", "rescale_from_weights": "nothing", "calibrate_biases": "nothing"}
    published = {"average": "10.5", "calibrate_biases": "83.8", "rescale": "84.5", "repair": "64.6"}
    rows: list[Row] = [
        {
            "after averaging": method,
            "needs": needs.get(method, "unlabeled images"),
            "unaligned, %": mean_std([cell[f"unaligned {method}"] for cell in cells]),
            "aligned, %": mean_std([cell[f"aligned {method}"] for cell in cells]),
            "published (VGG16)": published.get(method, ""),
        }
        for method in ("average", *METHODS)
    ]
    ends, both = (mean_std([cell[name] for cell in cells]) for name in ("ends", "ensemble"))
    points: list[Row] = [
        {"after averaging": method, "accuracy": cell[f"{way} {method}"], "matching": way}
        for method in ("average", *METHODS)
        for way in ("unaligned", "aligned")
        for cell in cells
    ]
    reading = (
        f"The ends reach {ends} %, their ensemble {both} %. In a shallow VGG less vanishes than in one of 16 layers."
    )
    return Outcome(rows, reading, Chart(points, "after averaging", "accuracy", "matching"))


if __name__ == "__main__":
    main(CLAIM, run)
