"""Minima of independent trainings are connected by curves and bands of low loss, and lie on simplexes with more minima."""

from functools import partial

import numpy as np
from chart import Chart
from harness import Claim, Outcome, Row, Work, main
from measures import Params, batches, evaluate, mean_std, on
from networks import ResNet20
from shared import CONVOLUTIONAL, convolutional, several
from trainer import Recipe

import onebasin as ob

CLAIM = Claim(
    "mode_connectivity",
    "Curves, elastic bands and simplexes of low loss between independently trained networks",
    "Garipov et al. (2018), figure 2 and table; Draxler et al. (2018); Benton et al. (2021)",
    "ResNet20 with BatchNorm on CIFAR-10, 100 epochs; curves of 60 epochs, bands of 14 x 1000 steps",
    "a ResNet with BatchNorm of 6 convolutions (32, 64, 128) on 6,000 FashionMNIST images of 14 x 14 pixels, 8 epochs; "
    "curves of 8 epochs, bands of 3 x 20 steps; losses on 1,000 of the images; three pairs for lines, curves and bands, one "
    "network for the simplex",
    (18, 120),
    ("fashion-mnist", "cifar10"),
)


SMALL = "ResNet-BN x2, 6 convolutions"


class Modes:
    """Networks, and how what lies between them is trained and measured."""

    def __init__(self, work: Work) -> None:
        self.work, self.build = work, work.pick(CONVOLUTIONAL[SMALL], partial(ResNet20, 1, "bn"))
        if work.full:
            training = work.images("cifar10", "train")
            recipe = Recipe(0, 100, 0.1, "sgd", augment=True)
            self.nets = several(work, "cifar10_modes", self.build, training, recipe)
        else:
            training, self.nets = convolutional(work, SMALL)
        held = tuple(tensor[: work.pick(1000, 10_000)] for tensor in training)
        self.model = work.host(self.build)
        self.symmetry = ob.discover(self.model, (held[0][:2],))
        self.measuring = on(held, held)
        self.steps = batches(training, 128)

    def aligned(self, k: int) -> tuple[Params, Params]:
        """Two networks, the second in the coordinates of the first."""
        a, b = self.nets[k], self.nets[k + 1]
        return a, ob.match(a, b, self.symmetry).apply(b)

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
            found[f"line, {way}"] = [ends, max(line.loss), 100 * max(line.error)]
            for kind in ("bezier", "polygonal") if way == "aligned" or self.work.full else ("bezier",):
                schedule = ob.Schedule(pick(8, 60), 0.05, seed=0)
                curve = ob.fit_curve(self.model, a, end, self.steps, evaluate, kind=kind, schedule=schedule)
                profile = ob.profile_curve(curve, self.model, self.measuring, points=pick(7, 61))
                found[f"{kind} curve, {way}"] = [ends, max(profile.loss), 100 * max(profile.error)]
        return found

    def band(self, k: int) -> list[float]:
        """The worse end, the saddle and the highest error of an elastic band."""
        a, b = self.aligned(k)
        pick = self.work.pick
        plan = ob.BandSchedule(cycles=pick(3, 14), steps=pick(20, 1000), between=pick(2, 9))
        found = ob.auto_neb(self.model, a, b, self.steps, evaluate, evaluation=self.measuring, schedule=plan)
        return [max(self.loss(a), self.loss(b)), found.saddle, 100 * max(found.profile.error)]

    def simplex(self) -> dict[str, float]:
        """The losses of a network and of points of a triangle trained around it, and the triangle's volume."""
        schedule = ob.Schedule(self.work.pick(3, 10), 0.02, seed=0)
        grown = ob.fit_simplex(self.model, [self.nets[0]], self.steps, evaluate, 2, schedule=schedule)
        points = grown.sample(self.model, 8, np.random.default_rng(0))
        worst = max(self.loss(params) for params in map(grown.span(self.model).params, points))
        volume = float(max(grown.log_volumes(self.model)))
        return {"vertex": self.loss(self.nets[0]), "worst": worst, "log volume": volume}


def run(work: Work) -> Outcome:
    """The highest training loss on lines, curves and a band; the volume of a trained simplex."""
    modes = Modes(work)
    cells = [work.cell(f"lines_{k}", lambda k=k: modes.lines(k)) for k in (0, 2, 4)]
    rows: list[Row] = [
        row(way, 3, *(mean_std([pick(cell[way]) for cell in cells], digits) for pick, digits in FIGURES))
        for way in cells[0]
    ]
    bands = [work.cell(f"band_{k}", partial(modes.band, k)) for k in (0, 2, 4)]
    rows.append(
        row("elastic band, aligned", 3, *(mean_std([pick(band) for band in bands], digits) for pick, digits in FIGURES))
    )
    grown = work.cell("simplex", modes.simplex)
    triangle = [grown["vertex"], grown["worst"], float("nan")]
    shown = [f"{pick(triangle):.{digits}f}" for pick, digits in FIGURES[:3]]
    rows.append(row("points of a triangle trained around one network (SPRO)", 1, *shown, ""))
    reading = (
        "Published: curves as low as their ends (CIFAR-100 VGG16 .89 at the ends and on the Bezier curve, lines far above), "
        "bands with saddles of twice the minima's loss. The networks know their training images by heart, so that percents "
        "above a small loss are large; alignment helps curves as it helps lines, and longer training closes the rest "
        "(docs/curves.md: 2 % above the ends after 20 epochs). The triangle has a log volume of "
        f"{grown['log volume']:.1f}, by the Gram determinant in float64."
    )
    points: list[Row] = [{"path": way, "highest loss": cell[way][1]} for way in cells[0] for cell in cells]
    points += [{"path": "elastic band, aligned", "highest loss": band[1]} for band in bands]
    return Outcome(rows, reading, Chart(points, "path", "highest loss"))


FIGURES = (
    (lambda row: row[0], 3),
    (lambda row: row[1], 3),
    (lambda row: 100 * (row[1] / row[0] - 1), 0),
    (lambda row: row[2], 2),
)
"""The worse end, the highest loss, how far it is above in percent, the highest error; and digits to show."""


def row(path: str, pairs: int, end: str, highest: str, above: str, error: str) -> Row:
    """A row of the table."""
    return {
        "path": path,
        "pairs": pairs,
        "worse end, train loss": end,
        "highest train loss": highest,
        "above the worse end, %": above,
        "highest train error, %": error,
    }


if __name__ == "__main__":
    main(CLAIM, run)
