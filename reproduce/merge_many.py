"""Several networks merged into one that is better calibrated than each."""

from harness import Claim, Outcome, Row, Work, ensemble, main, mean_std, measured, shared_mlps
from networks import MNIST_MLP
from trainer import Recipe

import onebasin as ob

CLAIM = Claim(
    "merge_many",
    "MergeMany: one network out of many has a lower test loss than each of them",
    "Ainsworth, Hayase and Srinivasa (ICLR 2023), section 5.4: five MNIST MLPs, 0.111-0.153 each, merged 0.0727, "
    "98.31 %",
    "MLP of 3 x 512 on MNIST, all images, 60 epochs; 5 and 32 networks",
    "20,000 training images, 30 epochs, three sets of five networks that share some",
    (6, 20),
    ("mnist",),
)
METHODS = ("cycle-consistent", "frank-wolfe", "merge-many", "hierarchical")


def run(work: Work) -> Outcome:
    """All ways of bringing several networks together, and the average of what they give."""
    training, first = shared_mlps(work, "mnist", MNIST_MLP)
    test = work.images("mnist", "test")
    sets = work.pick([(0, 1, 2, 3, 4), (1, 2, 3, 4, 5), (5, 0, 2, 4, 1)], [tuple(range(5)), tuple(range(32))])
    nets = dict(enumerate(first))
    for s in range(6, 32) if work.full else ():
        nets[s] = work.network(f"mnist_mlp_{s}", MNIST_MLP, training, Recipe(s, 60, batch=250))
    model = work.host(MNIST_MLP)
    symmetry = ob.discover(model, (test[0][:2],))
    each = work.cell("each", lambda: {str(s): measured(model, params, test) for s, params in nets.items()})
    groups = [sets] if not work.full else [[chosen] for chosen in sets]
    rows: list[Row] = []
    for group in groups:
        found: dict[str, list[dict[str, float]]] = {}
        for number, chosen in enumerate(group):
            chosen_nets = [nets[s] for s in chosen]
            label = f"{len(chosen)}_{number}"
            found.setdefault("networks themselves (mean)", []).append({
                key: sum(each[str(s)][key] for s in chosen) / len(chosen) for key in ("loss", "accuracy")
            })  # fmt: skip
            cells = {
                "averaged as they are": lambda nets=chosen_nets: measured(model, ob.merge(nets), test),
                "ensemble": lambda nets=chosen_nets: ensemble(model, nets, test),
            }
            for method in METHODS:

                def merged(nets=chosen_nets, method=method):  # noqa: ANN001, ANN202
                    universe = ob.match_many(nets, symmetry, method)
                    moved = [m.apply(net) for m, net in zip(universe.matchings, nets, strict=True)]
                    return measured(model, ob.merge(moved), test)

                cells[f"{method}, averaged"] = merged
            for name, compute in cells.items():
                key = "".join(c if c.isalnum() else "_" for c in f"{name}_{label}")
                found.setdefault(name, []).append(work.cell(key, compute))
        rows += [
            {
                "networks": len(group[0]),
                "": name,
                "test loss, nats": mean_std([cell["loss"] for cell in cells], 4),
                "accuracy, %": mean_std([cell["accuracy"] for cell in cells]),
                "published": {
                    "networks themselves (mean)": "0.111-0.153",
                    "merge-many, averaged": "0.0727, 98.31 %",
                }.get(name, ""),
            }
            for name, cells in found.items()
        ]
    reading = (
        "The claim is that the merged network has a lower loss than each network, near the ensemble's, at the cost "
        "of one. "
        "The sets share networks: their deviation is no standard error."
    )
    return Outcome(rows, reading)


if __name__ == "__main__":
    main(CLAIM, run)
