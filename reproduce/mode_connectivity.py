"""Minima of independent trainings are connected by curves and bands of low loss, and lie on simplexes with more minima."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from chart import Chart
from harness import Claim, Outcome, Row, Work, main
from measures import Params, batches, evaluate, mean_std, on
from networks import Build, ResNet20
from shared import CONVOLUTIONAL, convolutional, several, small_images
from trainer import Recipe

import onebasin as ob
from onebasin.connectivity import score_ensemble, straight

CLAIM = Claim(
    "mode_connectivity",
    "Curves, elastic bands and simplexes of low loss between independently trained networks",
    "Garipov et al. (2018), figure 2 and table; Draxler et al. (2018); Benton et al. (2021)",
    "ResNet20 with BatchNorm on CIFAR-10, 100 epochs; curves of 60 epochs, bands of 14 x 1000 steps",
    "a ResNet with BatchNorm of 6 convolutions (32, 64, 128) on 6,000 FashionMNIST images of 14 x 14 pixels, 8 epochs; "
    "curves of 8 epochs, bands of 3 x 20 steps; losses on 1,000 of the images; three pairs for lines, curves and bands, one "
    "network for the simplex",
    (15, 120),
    ("fashion-mnist", "cifar10"),
)


SMALL = "ResNet-BN x2, 6 convolutions"


class Modes:
    """Networks, and how what lies between them is trained and measured."""

    def __init__(self, work: Work) -> None:
        large: Build = partial(ResNet20, 1, "bn")
        self.work, self.build = work, work.pick(CONVOLUTIONAL[SMALL], large)
        self.test = on(work.images("cifar10", "test") if work.full else small_images(work, "test", 2000))
        if work.full:
            training = work.images("cifar10", "train")
            recipe = Recipe(0, 100, 0.1, "sgd", augment=True)
            self.nets = several(work, "cifar10_modes", self.build, training, recipe)
        else:
            training, self.nets = convolutional(work, SMALL)
        count = work.pick(1000, 10_000)
        held = training[0][:count], training[1][:count]
        self.model = work.host(self.build)
        self.symmetry = ob.discover(self.model, (held[0][:2],))
        self.measuring = on(held, held)
        self.steps = batches(training, 128)

    def aligned(self, k: int) -> tuple[Params, Params]:
        """Two networks, the second in the coordinates of the first."""
        a, b = self.nets[k], self.nets[k + 1]
        return a, ob.match(a, b, self.symmetry).apply(b)

    def together(self, members: list[Params]) -> list[float]:
        """Test accuracy in % and NLL of an ensemble."""
        scores = score_ensemble(self.model, members, self.test).scores
        return [100 * (1 - scores.error), scores.nll]

    def along(self, curve: ob.Curve) -> list[float]:
        """That of three points of a curve, the ends and the middle."""
        return self.together(curve.members(self.model, (0, 0.5, 1), self.measuring))

    def loss(self, params: Params) -> float:
        """Of a network."""
        return ob.profile_path(self.model, params, params, self.measuring, lams=2).loss[0]

    def lines(self, k: int) -> dict[str, list[float]]:
        """The worse end, the highest loss and the highest error of lines and curves."""
        a, moved = self.aligned(k)
        pick, found = self.work.pick, {}
        for way, end in (("naive", self.nets[k + 1]), ("aligned", moved)):
            line = ob.profile_path(self.model, a, end, self.measuring, lams=pick(5, 25))
            ends = max(line.loss[0], line.loss[-1])
            three = self.along(straight(self.model, [a, end]))
            found[f"line, {way}"] = [ends, max(line.loss), 100 * max(line.error), *three]
            for kind in ("bezier", "polygonal") if way == "aligned" or self.work.full else ("bezier",):
                schedule = ob.Schedule(pick(8, 60), 0.05, seed=0)
                curve = ob.fit_curve(self.model, a, end, self.steps, evaluate, kind=kind, schedule=schedule)
                profile = ob.profile_curve(curve, self.model, self.measuring, points=pick(7, 61))
                found[f"{kind} curve, {way}"] = [ends, max(profile.loss), 100 * max(profile.error), *self.along(curve)]
        return found

    def band(self, k: int) -> list[float]:
        """The worse end, the saddle and the highest error of an elastic band."""
        a, b = self.aligned(k)
        pick = self.work.pick
        plan = ob.BandSchedule(cycles=pick(3, 14), steps=pick(20, 1000), between=pick(2, 9))
        found = ob.auto_neb(self.model, a, b, self.steps, evaluate, evaluation=self.measuring, schedule=plan)
        ends = max(self.loss(a), self.loss(b))
        return [ends, found.saddle, 100 * max(found.profile.error), *self.along(found.curve)]

    def controls(self, k: int) -> dict[str, list[float]]:
        """A network on its own, and three of them, as ensembles."""
        chosen = [self.nets[(k + j) % len(self.nets)] for j in range(3)]
        return {"one network": self.together(chosen[:1]), "three networks": self.together(chosen)}

    def simplex(self) -> dict[str, float | list[float]]:
        """The losses of a network and of points of a triangle trained around it, its volume, and three together."""
        schedule = ob.Schedule(self.work.pick(3, 10), 0.02, seed=0)
        grown = ob.fit_simplex(self.model, [self.nets[0]], self.steps, evaluate, 2, schedule=schedule)
        points = grown.sample(self.model, 8, np.random.default_rng(0))
        worst = max(self.loss(params) for params in map(grown.span(self.model).params, points))
        volume = float(max(grown.log_volumes(self.model)))
        three = self.together(grown.members(self.model, 3, self.measuring))
        return {"vertex": self.loss(self.nets[0]), "worst": worst, "log volume": volume, "together": three}


def run(work: Work) -> Outcome:
    """The highest training loss on lines, curves and a band; ensembles of their points; a trained simplex."""
    modes = Modes(work)
    cells = [work.cell(f"lines_{k}", partial(modes.lines, k)) for k in PAIRS]
    bands = [work.cell(f"band_{k}", partial(modes.band, k)) for k in PAIRS]
    controls = [work.cell(f"networks_{k}", partial(modes.controls, k)) for k in PAIRS]
    grown = work.cell("simplex", modes.simplex)
    paths = [{**cell, "elastic band, aligned": band} for cell, band in zip(cells, bands, strict=True)]
    rows: list[Row] = [row(way, [path[way] for path in paths]) for way in paths[0]]
    rows.append(row(TRIANGLE, [[grown["vertex"], grown["worst"], None, *grown["together"]]]))
    rows += [row(f"{which} (control)", [[None] * 3 + control[which] for control in controls]) for which in controls[0]]
    reading = (
        "Published: curves as low as their ends (CIFAR-100 VGG16 .89 at the ends and on the Bezier curve, lines far above), "
        "bands with saddles of twice the minima's loss. The networks know their training images by heart, so that percents "
        "above a small loss are large; alignment helps curves as it helps lines, and longer training closes the rest "
        "(docs/curves.md: 2 % above the ends after 20 epochs). Ensembles are of three points, both ends and the middle of "
        "a path, at three forwards like the control of three networks, which is the best; points of aligned curves come near "
        "it, and need two networks. The triangle has a log volume of "
        f"{grown['log volume']:.1f}, by the Gram determinant in float64."
    )
    points: list[Row] = [{"path": way, "highest loss": path[way][1]} for way in paths[0] for path in paths]
    return Outcome(rows, reading, Chart(points, "path", "highest loss"))


PAIRS = (0, 2, 4)
TRIANGLE = "points of a triangle trained around one network (SPRO)"
FIGURES: dict[str, tuple[Callable[[Any], float | None], int]] = {
    "worse end, train loss": (lambda found: found[0], 3),
    "highest train loss": (lambda found: found[1], 3),
    "above the worse end, %": (lambda found: found[1] and 100 * (found[1] / found[0] - 1), 0),
    "highest train error, %": (lambda found: found[2], 2),
    "ensemble, test %": (lambda found: found[3], 2),
    "ensemble, test NLL": (lambda found: found[4], 4),
}
"""How each column is read from what was found, None where it was not measured; and its digits."""


def row(path: str, found: list[list[float | None]]) -> Row:
    """A row of the table."""
    columns: Row = {"path": path, "of": len(found)}
    for name, (pick, digits) in FIGURES.items():
        values = [pick(each) for each in found]
        columns[name] = mean_std([v for v in values if v is not None], digits) if None not in values else ""
    return columns


if __name__ == "__main__":
    main(CLAIM, run)
