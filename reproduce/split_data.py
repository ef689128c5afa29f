"""Two networks that were trained on disjoint, biased halves of the data, merged into one."""

from functools import partial

import torch
from chart import Chart
from harness import Claim, Outcome, Row, Work, main
from measures import Data, Params, batches, ensemble, evaluate, mean_std, measured
from shared import build_mlp
from trainer import Recipe

import onebasin as ob

MNIST_MLP = partial(build_mlp, "mnist")
CLAIM = Claim(
    "split_data",
    "Networks trained on disjoint, biased data, merged without sharing data",
    "Ainsworth, Hayase and Srinivasa (ICLR 2023), section 5.5: 20 % of the first half of the classes and 80 % of "
    "the second, and the reverse",
    "ResNet20 on CIFAR-100 there; here an MLP of 3 x 512 on MNIST, all images, 60 epochs",
    "the same but 10 epochs; three pairs",
    (3, 10),
    ("mnist",),
)


def halves(data: Data, seed: int) -> tuple[Data, Data]:
    """Two disjoint parts: one with 80 % of the images of classes 0-4 and 20 % of the others, and the rest."""
    draw = torch.rand(len(data[1]), generator=torch.Generator().manual_seed(seed))
    first = draw < torch.where(data[1].cpu() < 5, 0.8, 0.2)
    return (data[0][first], data[1][first]), (data[0][~first], data[1][~first])


class Sites:
    """Pairs of networks of two sites, and what is made of them."""

    def __init__(self, work: Work) -> None:
        self.work, self.epochs = work, work.pick(10, 60)
        self.training, self.test = work.images("mnist", "train"), work.images("mnist", "test")
        self.model = work.host(MNIST_MLP)
        self.symmetry = ob.discover(self.model, (self.test[0][:2],))

    def scores(self, params: Params) -> dict[str, float]:
        """Loss, accuracy and calibration error on test data."""
        return measured(self.model, params, self.test)

    def trained(self, k: int) -> tuple[list[Data], list[Params], Params]:
        """Both parts of the data, a network each, and one that saw everything."""
        parts = halves(self.training, k)
        recipes = [Recipe(10 * k + j, self.epochs, batch=500) for j in (0, 1)]
        nets = [self.work.network(f"mnist_mlp_split{k}{'ab'[j]}", MNIST_MLP, parts[j], recipes[j]) for j in (0, 1)]
        recipe = Recipe(100 + k, self.epochs, batch=500)
        return [*parts], nets, self.work.network(f"mnist_mlp_whole{k}", MNIST_MLP, self.training, recipe)

    def pair(self, parts: list[Data], nets: list[Params], whole: Params) -> dict[str, dict[str, float]]:
        """Figures of everything that can be made of two networks."""
        a, b = nets
        moved = ob.match(a, b, self.symmetry).apply(b)
        average, plain = ob.merge([a, moved]), ob.merge([a, b])
        unlabeled = [torch.cat([part[k][:1000] for part in parts]) for k in (0, 1)]
        given = batches((unlabeled[0], unlabeled[1]))
        refit = {
            name: ob.correct(self.model, net, [a, other], given, evaluate, method="refit_mixture").params
            for name, net, other in (("aligned", average, moved), ("unaligned", plain, b))
        }
        ends = [self.scores(a), self.scores(b)]
        return {
            "trained on one part (both)": {key: (ends[0][key] + ends[1][key]) / 2 for key in ends[0]},
            "averaged as they are": self.scores(plain),
            "aligned and averaged": self.scores(average),
            "refit without alignment (control)": self.scores(refit["unaligned"]),
            "aligned, averaged and refit on 2,000 images": self.scores(refit["aligned"]),
            "ensemble": ensemble(self.model, nets, self.test),
            "trained on everything": self.scores(whole),
        }


def run(work: Work) -> Outcome:
    """Both, their ensemble, their average in all forms, and a network that saw everything."""
    sites = Sites(work)
    found: dict[str, list[dict[str, float]]] = {}
    for k in range(3):
        given = sites.trained(k)
        for name, cell in work.cell(f"pair_{k}", partial(sites.pair, *given)).items():
            found.setdefault(name, []).append(cell)
    rows: list[Row] = [
        {
            "": name,
            "test loss, nats": mean_std([cell["loss"] for cell in cells], 3),
            "accuracy, %": mean_std([cell["accuracy"] for cell in cells]),
            "calibration error, %": mean_std([cell["ece"] for cell in cells]),
        }
        for name, cells in found.items()
    ]
    reading = (
        "Published on CIFAR-100: the merged network's loss beats both parents', its accuracy does not reach that of "
        "training "
        "on everything. The refit needs unlabeled images of both sites, and gains without alignment, too."
    )
    points: list[Row] = [
        {"network": name, "test loss": cell["loss"]}
        for name, cells in found.items()
        for cell in cells
        if name != "averaged as they are"
    ]
    return Outcome(rows, reading, Chart(points, "network", "test loss"))


if __name__ == "__main__":
    main(CLAIM, run)
