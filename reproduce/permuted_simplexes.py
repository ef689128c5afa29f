"""Permutations for which the whole simplex of several networks is good, and what they say about the complex."""

import itertools
import statistics
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from chart import Chart
from harness import Claim, Outcome, Row, Work, main
from measures import Data, Params, batches, evaluate, on
from shared import build_mlp, mlps

import onebasin as ob

CLAIM = Claim(
    "permuted_simplexes",
    "Permuted simplexes and their complex: joint permutations against pairwise ones, holonomy, volume, what the "
    "barycentre is worth",
    "This project's own claims C1-C7; near them Ito et al. (ICML 2025), C2M3 (NeurIPS 2024), Sharma et al. (2024)",
    "MLP of 3 x 512 on MNIST, all images, 60 epochs, triples and quadruples, 512 points",
    "30 epochs, two disjoint triples and one that shares networks, 24 points, 8 ascents, 2,000 "
    "training images to measure on",
    (10, 30),
    ("mnist",),
)
METHODS = ("merge-many", "cycle-consistent")


@dataclass(frozen=True)
class Scene:
    """What all sets of networks are matched with (`search`, batches of training images) and measured on."""

    work: Work
    model: torch.nn.Module
    symmetry: ob.Symmetry
    search: list[Data]
    held: ob.Evaluation
    test: ob.Evaluation

    def ways(self, given: list[Params]) -> dict[str, list[Params]]:
        """The networks after every way to match them."""
        found = {"as they are": given}
        first = ob.to_reference(given, self.symmetry)
        found["to the first"] = [m.apply(n) for m, n in zip(first, given, strict=True)]
        for method in METHODS:
            universe = ob.match_many(given, self.symmetry, method)
            found[method] = [m.apply(n) for m, n in zip(universe.matchings, given, strict=True)]
        joint = ob.permuted_simplex(
            self.model,
            given,
            self.symmetry,
            batches=self.search,
            evaluate=evaluate,
            validation=self.search[:8],
            epochs=self.work.pick(2, 5),
            samples=16,
        )
        return found | {"joint": joint.vertices(given)}

    def barrier(self, vertices: list[Params]) -> dict[str, float]:
        """The simplex that the networks span, measured."""
        pick = self.work.pick
        found = ob.simplex_barrier(
            self.model, vertices, self.held, samples=pick(24, 512), ascents=pick(8, 16), steps=pick(2, 4)
        )
        return {
            "barrier": found.barrier,
            "edge": found.edge_barrier,
            "centre": found.barycentre,
            "bad": found.bad_volume,
            "effective edge": ob.Simplex.of(self.model, vertices).edge,
        }

    def cell(self, given: list[Params]) -> dict[str, object]:
        """All figures of one set of networks."""
        ways = self.ways(given)
        edges = itertools.combinations(range(len(given)), 2)
        loop = ob.triangles({(u, v): ob.match(given[u], given[v], self.symmetry) for u, v in edges})[0, 1, 2]
        table = ob.ensemble_table(self.model, ways["joint"], self.test, budgets=(1, 2))
        return {
            "barriers": {way: self.barrier(vertices) for way, vertices in ways.items()},
            "holonomy": loop.share,
            "round trip": loop.round_trip(self.model, given[0], self.held).loss_barrier(),
            "null": table.null_holds,
            "recovered": {key: list(value) for key, value in table.recovered.items()},
        }


def run(work: Work) -> Outcome:
    """Barriers of the simplex for every way to match; then claim by claim."""
    training, nets = mlps(work, "mnist")
    size = work.pick(2000, 5000)
    held = on((training[0][-size:], training[1][-size:]))
    test = work.images("mnist", "test", work.pick(4000, None))
    model = work.host(partial(build_mlp, "mnist"))
    symmetry = ob.discover(model, (test[0][:2],))
    search = batches((training[0][:6000], training[1][:6000]), 250)
    scene = Scene(work, model, symmetry, search, held, on(test))
    cells = [
        work.cell(f"triple_{'_'.join(map(str, c))}", partial(scene.cell, [nets[k] for k in c]))
        for c in ((0, 1, 2), (3, 4, 5), (0, 3, 4))
    ]
    grown = work.cell("spro", lambda: spro(work, model, nets[0], search))
    points: list[Row] = [
        {"networks": way, "simplex barrier": found["barrier"]}
        for cell in cells
        for way, found in cell["barriers"].items()
        if way != "as they are"
    ]
    return Outcome(claims(cells, grown), READING, Chart(points, "networks", "simplex barrier"))


def spro(work: Work, model: torch.nn.Module, start: Params, search: list[Data]) -> float:
    """The effective edge of a triangle trained around one network."""
    found = ob.fit_simplex(model, [start], search, evaluate, 2, schedule=ob.Schedule(work.pick(2, 10), 0.02, seed=0))
    span = found.span(model)
    count = len(span)
    return ob.Simplex.of(model, [span.params([float(j == k) for j in range(count)]) for k in range(count)]).edge


READING = (
    "Barriers are the largest excess found of the training loss over the interpolated losses of the networks: lower bounds "
    "on the largest there is. Every claim stands beside its falsifier. The null is refuted in raw NLL only, because "
    "averages are less sure of themselves; in error, and in NLL at the best temperature, it holds (see the ensembles)."
)


def claims(cells: list[dict[str, Any]], grown: float) -> list[Row]:
    """One row a claim."""

    def values(way: str, what: str = "barrier") -> list[float]:
        return [cell["barriers"][way][what] for cell in cells]

    def text(numbers: list[float]) -> str:
        return ", ".join(f"{number:.4f}" for number in numbers)

    joint, first = values("joint"), values("to the first")
    best = [min(cell["barriers"][way]["barrier"] for way in METHODS) for cell in cells]
    lower = [100 * (1 - j / max(f, 1e-9)) for j, f in zip(joint, first, strict=True)]
    edges = [2 * 2 / 3 * e for e in values("joint", "edge")]
    ratios = [cell["barriers"]["joint"]["effective edge"] / grown for cell in cells]
    gains = [cell["recovered"].get("nll", [float("nan")])[0] for cell in cells]
    rows = [
        ("C1", "barrier of joint triples <= 0.10 nats", "one above 0.2", text(joint), max(joint) <= 0.1),
        ("C2", "joint >= 30 % below matching to the first", "less", text(lower) + " %", statistics.fmean(lower) >= 30),
        ("C3", "joint no higher than the best data-free universe", "higher", text(best), statistics.fmean(joint) <= statistics.fmean(best) + 1e-3),
        ("C4", "barrier <= 2(n-1)/n of the worst edge's", "above", text(edges), all(j <= e + 0.01 for j, e in zip(joint, edges, strict=True))),
        ("C5", "pairwise maps have holonomy: over half of the units move", "less", text([c["holonomy"] for c in cells]), min(c["holonomy"] for c in cells) > 0.5),
        ("C6", "barycentre recovers >= 50 % of the ensemble's gain in NLL", "less", text(gains), all(g >= 0.5 for g in gains)),
        ("C6 null", "simplex points do not beat vertices at equal forwards (NLL, error)", "they do", ", ".join(str(c["null"]) for c in cells), all(c["null"] for c in cells)),
        ("C7", "effective edge >= 5 x that of a trained (SPRO) triangle", "less", text(ratios), min(ratios) >= 5),
    ]  # fmt: skip
    table: list[Row] = [
        {"claim": name, "says": says, "falsified by": other, "measured (three triples)": figures, "": "confirmed" if holds else "refuted here"}
        for name, says, other, figures, holds in rows
    ]  # fmt: skip
    for way in cells[0]["barriers"]:
        table.append({
            "claim": "", "says": f"simplex barrier, {way}", "falsified by": "", "measured (three triples)": text(values(way)),
            "": f"bad volume <= {max(values(way, 'bad')):.2f}",
        })  # fmt: skip
    trips = text([c["round trip"] for c in cells])
    table.append({"claim": "", "says": "barrier to its round trip", "falsified by": "", "measured (three triples)": trips, "": ""})  # fmt: skip
    return table


if __name__ == "__main__":
    main(CLAIM, run)
