"""Of two architectures of equal accuracy one merges and the other does not."""

from collections.abc import Callable
from functools import partial

from chart import Chart
from harness import Claim, Outcome, Row, Work, main
from measures import Data, Params, averages, ensemble, mean_std, measured, on
from networks import VGG16, ResNet20, vgg
from shared import CONVOLUTIONAL, convolutional, several, slug, small_images
from torch import nn
from trainer import Recipe

import onebasin as ob

CLAIM = Claim(
    "vgg_resnet",
    "Not every architecture merges: VGG against ResNet at equal accuracy",
    "Ainsworth, Hayase and Srinivasa (ICLR 2023), section 5.1: VGG16 keeps a barrier, wide ResNet20 does not",
    "VGG16 and ResNet20 x16 with LayerNorm on CIFAR-10",
    "a VGG of 6 convolutions (64, 64, 128, 128, 256, 256) and a ResNet of 6 convolutions (64, 128, 256; LayerNorm) on "
    "6,000 FashionMNIST images of 14 x 14 pixels, 8 epochs, three pairs",
    (20, 60),
    ("fashion-mnist", "cifar10"),
)
FULL: dict[str, Callable[[], nn.Module]] = {
    "VGG16": lambda: vgg(VGG16),
    "ResNet20-LN x16": lambda: ResNet20(16, "ln"),
}
FIGURES = (("average", "midpoint, %", 2), ("repaired", "midpoint, REPAIR, %", 2), ("barrier", "barrier, nats", 3))
QUICK = {label: CONVOLUTIONAL[label] for label in ("VGG, 6 convolutions", "ResNet-LN x4, 6 convolutions")}


def networks(work: Work, label: str) -> tuple[Data, list[Params]]:
    """Six of them, and what they were trained on."""
    if not work.full:
        return convolutional(work, label)
    training, recipe = work.images("cifar10", "train"), Recipe(0, 50, 1e-3, weight_decay=0.01, augment=True)
    return training, several(work, f"cifar10_{slug(label)}", FULL[label], training, recipe)


def pair(
    work: Work, build: Callable[[], nn.Module], nets: list[Params], unlabeled: Data, test: Data
) -> dict[str, dict[str, float]]:
    """The barrier and the accuracy of the average, as they are and aligned; and the ensemble's."""
    a, b = nets
    model = work.host(build)
    found = {"ensemble": ensemble(model, nets, test)}
    for way, other in (("naive", b), ("aligned", ob.match(a, b, ob.discover(model, (test[0][:2],))).apply(b))):
        barrier = ob.profile_path(model, a, other, on(test), lams=work.pick(7, 25)).loss_barrier()
        found[way] = averages(model, [a, other], unlabeled, test) | {"barrier": barrier}
    return found


def run(work: Work) -> Outcome:
    """Both architectures, naive and aligned."""
    test = work.images("cifar10", "test") if work.full else small_images(work, "test", 2000)
    rows: list[Row] = []
    points: list[Row] = []
    for label, build in work.pick(QUICK, FULL).items():
        training, nets = networks(work, label)
        model, key, unlabeled = work.host(build), slug(label), (training[0][:1000], training[1][:1000])
        ends = [work.cell(f"{key}_end_{s}", partial(measured, model, net, test)) for s, net in enumerate(nets)]
        cells = [
            work.cell(f"{key}_{k}", partial(pair, work, build, nets[k : k + 2], unlabeled, test)) for k in (0, 2, 4)
        ]
        rows.append({
            "network": label,
            "ends, %": mean_std([end["accuracy"] for end in ends]),
            "ensemble, %": mean_std([cell["ensemble"]["accuracy"] for cell in cells]),
            **{
                f"{way} {shown}": mean_std([cell[way][key] for cell in cells], digits)
                for key, shown, digits in FIGURES
                for way in ("naive", "aligned")
            },
        })  # fmt: skip
        points += [
            {"network": label, "loss barrier": cell[way]["barrier"], "matching": way}
            for way in ("naive", "aligned")
            for cell in cells
        ]
    reading = (
        "Published: at equal accuracy the barrier of VGG16 stays, that of the ResNet of sixteen times the width vanishes. "
        "At a quarter of that width, and with few epochs, alignment takes away most of the ResNet's barrier and little "
        "of the VGG's; a barrier of zero needs the width of --full. REPAIR, with unlabeled images, mends much of both, and part "
        "of it without alignment."
    )
    return Outcome(rows, reading, Chart(points, "network", "loss barrier", "matching"))


if __name__ == "__main__":
    main(CLAIM, run)
