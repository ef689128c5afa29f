"""Ensembles at equal forwards, and what the average of aligned networks gives at one."""

from collections.abc import Mapping
from functools import partial

from chart import Chart
from harness import Claim, Outcome, Row, Work, main
from measures import Data, Params, batches, evaluate, mean_std, measured, on
from shared import build_mlp, mlps
from torch import Tensor

import onebasin as ob
from onebasin.connectivity import snapshot_average
from onebasin.merging import greedy

MNIST_MLP = partial(build_mlp, "mnist")
CLAIM = Claim(
    "ensembles",
    "Ensembles at equal forwards: vertices, simplex and complex points, barycentre, soup, ESPRO, FGE, SWA, star centre",
    "Garipov et al. (2018), Izmailov et al. (2018), Benton et al. (2021): gains per component, not per forward",
    "VGG16 and ResNets on CIFAR there; here an MLP of 3 x 512 on MNIST, all images, 60 epochs, 1, 2, 4, 8 forwards",
    "30 epochs, three sets of four networks that share some, 1, 2, 4 forwards; 2 epochs of what is trained between them",
    (14, 12),
    ("mnist",),
)


def contenders(work: Work, aligned: list[Params], training: Data, val: Data, test: Data) -> dict[str, list[Params]]:
    """Other ensembles, trained from the networks."""
    model, last, members = work.host(MNIST_MLP), len(aligned), work.pick(4, 8)
    steps, schedule = batches(training, 250), ob.Schedule(work.pick(2, 20), 0.02, seed=0)

    def likelihood(params: Mapping[str, Tensor]) -> float:
        return -measured(model, dict(params), val)["loss"]

    cycles = ob.cyclic(model, aligned[0], batches(training, 128), evaluate, cycles=members)
    simplex = ob.fit_simplex(model, aligned[:1], steps, evaluate, 2, schedule=schedule)
    edges = [(k, last) for k in range(last)]
    joined = ob.fit_complex(model, aligned, edges, steps, evaluate, schedule=schedule)
    return {
        "FGE from the first": [dict(snapshot) for snapshot in cycles.snapshots],
        "SWA from the first": [dict(snapshot_average(model, cycles.snapshots, on(test)))],
        "greedy soup": [greedy(aligned, likelihood).params],
        "ESPRO around the first": simplex.members(model, members, on(test)),
        "complex points": joined.members(model, members, on(test)),
        "star centre": [dict(ob.fit_star(model, aligned, steps, evaluate, schedule=schedule).centre)],
    }


def compared(work: Work, given: list[Params], training: Data, val: Data, test: Data) -> list[dict[str, object]]:
    """The table of four networks."""
    model = work.host(MNIST_MLP)
    universe = ob.match_many(given, ob.discover(model, (test[0][:2],)))
    aligned = [m.apply(net) for m, net in zip(universe.matchings, given, strict=True)]
    table = ob.ensemble_table(
        model,
        aligned,
        on(test, val, temperature=True),
        budgets=work.pick((1, 2, 4), (1, 2, 4, 8)),
        contenders=contenders(work, aligned, training, val, test),
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


def run(work: Work) -> Outcome:
    """Three sets of four networks."""
    training, nets = mlps(work, "mnist")
    test, val = work.images("mnist", "test", work.pick(4000, None)), work.images("mnist", "val", 2000)
    sets = [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 0, 1]]
    cells = [
        work.cell(f"set_{k}", partial(compared, work, [nets[s] for s in chosen], training, val, test))
        for k, chosen in enumerate(sets)
    ]
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
        "best temperature it holds of every row, within the deviations; in raw NLL points win, those of the complex most, because averages are less "
        "sure of themselves. Published gains of simplexes are per component, each of several forwards. What goes on from a "
        "network that fits its data (FGE, SWA, ESPRO) hardly moves and gains nothing; the soup is that of aligned networks."
    )
    points = [
        {"forwards": row["forwards"], "NLL at the best temperature": row["calibrated"], "ensemble": row["name"]}
        for cell in cells
        for row in cell
    ]
    return Outcome(rows, reading, Chart(points, "forwards", "NLL at the best temperature", "ensemble", "line"))


if __name__ == "__main__":
    main(CLAIM, run)
