"""Features are linear in the parameters where networks are connected: LLFC, CTL and the onset of spawning."""

from collections.abc import Callable
from functools import partial

from chart import Chart
from harness import Claim, Outcome, Row, Work, main
from measures import Data, Params, mean_std, on
from shared import build_mlp, mlps
from trainer import Recipe

import onebasin as ob

MNIST_MLP = partial(build_mlp, "mnist")
CLAIM = Claim(
    "linearity",
    "Layerwise linear feature connectivity of spawned and of matched networks, cross-task linearity, the onset of "
    "spawning",
    "Zhou et al. (LLFC, NeurIPS 2023; CTL, ICML 2024); Frankle et al. (2020)",
    "ResNet-20 and VGG-16 on CIFAR-10 there; here an MLP of 3 x 512 on MNIST, all images, 40 epochs",
    "the same but 10 epochs; three pairs; onset on one pair a split epoch",
    (13, 12),
    ("mnist",),
)


def children(work: Work, training: Data, split: int, seed: int, epochs: int) -> list[Params]:
    """Two networks that share their first epochs and part in the order of samples."""
    parent = None
    if split:
        recipe = Recipe(seed, split, 1e-3, batch=500)
        parent = work.network(f"mnist_mlp_parent{seed}_{split}", MNIST_MLP, training, recipe)
    found = []
    for order in (1, 2):
        recipe = Recipe(seed, epochs, 1e-3, batch=500, order=1000 * order + seed, start=parent, first=split)
        found.append(work.network(f"mnist_mlp_child{seed}_{split}_{order}", MNIST_MLP, training, recipe))
    return found


def figures(work: Work, pair: list[Params], test: Data) -> dict[str, object]:
    """Per layer 1 - cos of the average's features and of the networks', and the barrier."""
    a, b = pair
    model = work.host(MNIST_MLP)
    found = ob.feature_linearity(model, [a, b], on(test))
    profile = ob.profile_path(model, a, b, on(test), lams=work.pick(7, 25))
    return {
        "layers": found.layers,
        "defect": found.defect,
        "baseline": found.baseline,
        "coefficient": found.coefficient,
        "barrier": profile.loss_barrier(),
        "error barrier": 100 * profile.error_barrier(),
    }


def tasks(work: Work, training: Data, parent: Params, seed: int, epochs: int) -> list[Params]:
    """Two fine-tunes of one network on different tasks: the classes 0-4, and 5-9."""
    found = []
    for name, chosen in (("low", training[1] < 5), ("high", training[1] >= 5)):
        part = (training[0][chosen], training[1][chosen])
        recipe = Recipe(seed, epochs, 1e-4, batch=500, start=parent)
        found.append(work.network(f"mnist_mlp_{seed}_{name}", MNIST_MLP, part, recipe))
    return found


def run(work: Work) -> Outcome:
    """Kinds of pairs, and the onset."""
    training, nets = mlps(work, "mnist")
    test = work.images("mnist", "test", work.pick(2000, None))
    epochs = work.pick(10, 40)
    model = work.host(MNIST_MLP)
    symmetry = ob.discover(model, (test[0][:2],))
    kinds: dict[str, Callable[[int], list[Params]]] = {
        "spawned after 3 epochs": lambda k: children(work, training, 3, k, epochs),
        "independent, matched": lambda k: [
            nets[2 * k],
            ob.match(nets[2 * k], nets[2 * k + 1], symmetry).apply(nets[2 * k + 1]),
        ],
        "independent, unmatched (control)": lambda k: nets[2 * k : 2 * k + 2],
        "fine-tunes of one parent on other classes (CTL)": lambda k: tasks(work, training, nets[k], k, 3),
    }
    rows: list[Row] = []
    points: list[Row] = []
    for kind, pair in kinds.items():
        key = "".join(c for c in kind if c.isalnum())
        cells = [work.cell(f"{key}_{k}", partial(figures, work, pair(k), test)) for k in range(3)]
        inner = [layer for layer, name in enumerate(cells[0]["layers"]) if layer > 1]
        rows.append({
            "pair": kind,
            "1 - cos(average, mean), largest layer": mean_std([max(c["defect"][i] for i in inner) for c in cells], 3),
            "1 - cos(a, b), mean of layers": mean_std(
                [sum(c["baseline"][i] for i in inner) / len(inner) for c in cells], 3
            ),
            "coefficient, last layer": mean_std([c["coefficient"][-1] for c in cells]),
            "loss barrier, nats": mean_std([c["barrier"] for c in cells], 3),
            "error barrier, points": mean_std([c["error barrier"] for c in cells]),
        })  # fmt: skip
        points += [
            {"layer": name, "defect": defect, "pair": kind}
            for cell in cells
            for name, defect in zip(cell["layers"], cell["defect"], strict=True)
        ]
    for split in (0, 1, 2, 4):
        parted = children(work, training, split, 0, epochs)
        cell = work.cell(f"onset_{split}", partial(figures, work, parted, test))
        rows.append({
            "pair": f"onset: parted after {split} epochs (one pair)",
            "1 - cos(average, mean), largest layer": f"{max(cell['defect'][2:]):.3f}",
            "1 - cos(a, b), mean of layers": f"{sum(cell['baseline'][2:]) / len(cell['baseline'][2:]):.3f}",
            "coefficient, last layer": f"{cell['coefficient'][-1]:.2f}",
            "loss barrier, nats": f"{cell['barrier']:.3f}",
            "error barrier, points": f"{cell['error barrier']:.2f}",
        })  # fmt: skip
    reading = (
        "Published pattern: 1 - cos of the average stays near zero in all layers where there is no barrier, and is large "
        "where there is one. The fine-tunes share a parent and are linear without matching; the error barrier of "
        "spawned networks under 2 points marks the onset."
    )
    return Outcome(rows, reading, Chart(points, "layer", "defect", "pair", "line"))


if __name__ == "__main__":
    main(CLAIM, run)
