"""Ensembles at equal forwards, and what the average of aligned networks gives at one."""

from functools import partial

from chart import Chart
from harness import Claim, Outcome, Row, Work, main
from measures import batches, evaluate, mean_std, on
from shared import build_mlp, mlps

import onebasin as ob

CLAIM = Claim(
    "ensembles",
    "Ensembles at equal forwards: vertices, points of the aligned simplex, its barycentre, FGE and SWA",
    "Garipov et al. (2018), Izmailov et al. (2018), Benton et al. (2021): gains per component, not per forward",
    "VGG16 and ResNets on CIFAR there; here an MLP of 3 x 512 on MNIST, all images, 60 epochs, 1, 2, 4, 8 forwards",
    "30 epochs, three sets of four networks that share some, 1, 2, 4 forwards",
    (2, 12),
    ("mnist",),
)


def run(work: Work) -> Outcome:
    """Three sets of four networks."""
    training, nets = mlps(work, "mnist")
    test, val = work.images("mnist", "test", work.pick(4000, None)), work.images("mnist", "val", 2000)
    model = work.host(partial(build_mlp, "mnist"))
    symmetry = ob.discover(model, (test[0][:2],))

    def one(chosen: list[int]) -> list[dict[str, object]]:
        given = [nets[s] for s in chosen]
        universe = ob.match_many(given, symmetry)
        aligned = [m.apply(net) for m, net in zip(universe.matchings, given, strict=True)]
        cycles = ob.cyclic(model, given[0], batches(training, 128), evaluate, cycles=4)
        table = ob.ensemble_table(
            model,
            aligned,
            on(test, val, temperature=True),
            budgets=work.pick((1, 2, 4), (1, 2, 4, 8)),
            contenders={"FGE from the first": list(cycles.snapshots)},
        )
        return [
            {
                "name": row.name,
                "forwards": row.forwards,
                "error": 100 * row.error,
                "nll": row.nll,
                "calibrated": row.calibrated_nll,
                "ece": 100 * row.ece,
            }
            for row in table.rows
        ]

    sets = [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 0, 1]]
    cells = [work.cell(f"set_{k}", lambda chosen=chosen: one(chosen)) for k, chosen in enumerate(sets)]
    rows: list[Row] = []
    for position, first in enumerate(cells[0]):
        each = [cell[position] for cell in cells]
        rows.append({
            "": first["name"],
            "forwards": first["forwards"],
            "accuracy, %": mean_std([100 - row["error"] for row in each]),
            "NLL": mean_std([row["nll"] for row in each], 4),
            "NLL at the best temperature": mean_std([row["calibrated"] for row in each], 4),
            "calibration error, %": mean_std([row["ece"] for row in each]),
        })  # fmt: skip
    reading = (
        "The null: at equal forwards points of the simplex do not beat the networks at its corners. In error and in NLL at the "
        "best temperature it holds; in raw NLL points win, because averages are less sure of themselves. Published gains of "
        "simplexes are per component, each of several forwards."
    )
    points = [
        {"forwards": row["forwards"], "NLL at the best temperature": row["calibrated"], "ensemble": row["name"]}
        for cell in cells
        for row in cell
    ]
    return Outcome(rows, reading, Chart(points, "forwards", "NLL at the best temperature", "ensemble", "line"))


if __name__ == "__main__":
    main(CLAIM, run)
