"""Two networks that were trained on disjoint, biased halves of the data, merged into one."""

from functools import partial

import torch
from chart import Chart
from harness import Claim, Outcome, Row, Work, main
from measures import Data, Params, batches, ensemble, evaluate, mean_std, measured, on
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


def run(work: Work) -> Outcome:
    """Both, their ensemble, their average in all forms, and a network that saw everything."""
    training = work.images("mnist", "train")
    test = work.images("mnist", "test")
    epochs = work.pick(10, 60)
    model = work.host(MNIST_MLP)
    symmetry = ob.discover(model, (test[0][:2],))
    found: dict[str, list[dict[str, float]]] = {}
    for k in range(3):
        parts = halves(training, k)
        nets = [
            work.network(f"mnist_mlp_split{k}{'ab'[j]}", MNIST_MLP, parts[j], Recipe(10 * k + j, epochs, batch=500))
            for j in (0, 1)
        ]
        whole = work.network(f"mnist_mlp_whole{k}", MNIST_MLP, training, Recipe(100 + k, epochs, batch=500))

        def scores(params: Params) -> dict[str, float]:
            profile = ob.profile_path(model, params, params, on(test), lams=2)
            return measured(model, params, test) | {"ece": 100 * profile.others["ece"][0]}

        def merged(nets=nets, parts=parts) -> dict[str, dict[str, float]]:  # noqa: ANN001
            a, b = nets
            moved = ob.match(a, b, symmetry).apply(b)
            average, plain = ob.merge([a, moved]), ob.merge([a, b])
            unlabeled = [torch.cat([part[0][:1000] for part in parts]), torch.cat([part[1][:1000] for part in parts])]
            given = batches((unlabeled[0], unlabeled[1]))
            refit = {
                name: ob.correct(model, net, [a, other], given, evaluate, method="refit_mixture").params
                for name, net, other in (("aligned", average, moved), ("unaligned", plain, b))
            }
            return {
                "trained on one part (both)": {
                    key: (scores(a)[key] + scores(b)[key]) / 2 for key in ("loss", "accuracy", "ece")
                },
                "averaged as they are": scores(plain),
                "aligned and averaged": scores(average),
                "refit without alignment (control)": scores(refit["unaligned"]),
                "aligned, averaged and refit on 2,000 images": scores(refit["aligned"]),
                "ensemble": ensemble(model, nets, test),
                "trained on everything": scores(whole),
            }

        for name, cell in work.cell(f"pair_{k}", merged).items():
            found.setdefault(name, []).append(cell)
    rows: list[Row] = [
        {
            "": name,
            "test loss, nats": mean_std([cell["loss"] for cell in cells], 3),
            "accuracy, %": mean_std([cell["accuracy"] for cell in cells]),
            "calibration error, %": mean_std([cell["ece"] for cell in cells]) if "ece" in cells[0] else "",
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
