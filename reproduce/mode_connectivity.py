"""Minima of independent trainings are connected by curves and bands of low loss, and lie on simplexes with more minima."""

import numpy as np
from harness import Claim, Outcome, Row, Work, batches, evaluate, main, mean_std, on
from networks import ResNet20
from trainer import Recipe

import onebasin as ob

CLAIM = Claim(
    "mode_connectivity",
    "Curves, elastic bands and simplexes of low loss between independently trained networks",
    "Garipov et al. (2018), figure 2 and table; Draxler et al. (2018); Benton et al. (2021)",
    "ResNet20 with BatchNorm on CIFAR-10, 100 epochs; curves of 60 epochs, bands of 14 x 1000 steps",
    "a ResNet with BatchNorm of 6 convolutions (16, 32, 64) on 5,000 FashionMNIST images, 6 epochs; curves of 10 epochs on 3,000 "
    "of them, a band of 4 x 25 steps; three pairs for lines and curves, one for the band and the simplex",
    (10, 120),
    ("fashion-mnist", "cifar10"),
)


def run(work: Work) -> Outcome:
    """The highest training loss on lines, curves and a band; the volume of a trained simplex."""
    name, count = work.pick(("fashion-mnist", 5000), ("cifar10", None))
    training = work.images(name, "train", count)
    held = (training[0][: work.pick(1000, 10_000)], training[1][: work.pick(1000, 10_000)])

    def build() -> ResNet20:
        return ResNet20(1, "bn", work.pick(1, 3), work.pick(1, 3))

    recipe = {"epochs": work.pick(6, 100), "rate": work.pick(3e-3, 0.1), "optimizer": work.pick("adam", "sgd")}
    nets = [
        work.network(f"{name}_modes_{s}", build, training, Recipe(seed=s, augment=work.full, **recipe))
        for s in range(6)
    ]
    model = work.host(build)
    symmetry = ob.discover(model, (held[0][:2],))
    measuring = on(held, held)
    schedule = ob.Schedule(work.pick(10, 60), 0.05, seed=0)
    steps = batches((training[0][: work.pick(3000, None)], training[1][: work.pick(3000, None)]), 128)

    def lines(k: int) -> dict[str, list[float]]:
        a, b = nets[k], nets[k + 1]
        moved = ob.match(a, b, symmetry).apply(b)
        found = {}
        for way, end in (("naive", b), ("aligned", moved)):
            line = ob.profile_path(model, a, end, measuring, lams=work.pick(5, 25))
            ends = max(line.loss[0], line.loss[-1])
            found[f"line, {way}"] = [ends, max(line.loss), 100 * max(line.error)]
            for kind in ("bezier", "polygonal") if way == "aligned" or work.full else ("bezier",):
                curve = ob.fit_curve(model, a, end, steps, evaluate, kind=kind, schedule=schedule)
                profile = ob.profile_curve(curve, model, measuring, points=work.pick(7, 61))
                found[f"{kind} curve, {way}"] = [ends, max(profile.loss), 100 * max(profile.error)]
        return found

    def band() -> list[float]:
        a, b = nets[0], ob.match(nets[0], nets[1], symmetry).apply(nets[1])
        plan = ob.BandSchedule(cycles=work.pick(4, 14), steps=work.pick(25, 1000), between=work.pick(2, 9))
        found = ob.auto_neb(model, a, b, steps, evaluate, evaluation=measuring, schedule=plan)
        line = ob.profile_path(model, a, b, measuring, lams=2)
        return [max(line.loss), found.saddle, 100 * max(found.profile.error)]

    def simplex() -> dict[str, float]:
        grown = ob.fit_simplex(
            model, [nets[0]], steps, evaluate, 2, schedule=ob.Schedule(work.pick(3, 10), 0.02, seed=0)
        )
        points = grown.sample(model, 8, np.random.default_rng(0))
        span = grown.span(model)
        losses = [ob.profile_path(model, p, p, measuring, lams=2).loss[0] for p in map(span.params, points)]
        vertex = ob.profile_path(model, nets[0], nets[0], measuring, lams=2).loss[0]
        return {"vertex": vertex, "worst": max(losses), "log volume": float(max(grown.log_volumes(model)))}

    cells = [work.cell(f"lines_{k}", lambda k=k: lines(k)) for k in (0, 2, 4)]
    rows: list[Row] = [
        {
            "path": way,
            "pairs": 3,
            "worse end, train loss": mean_std([cell[way][0] for cell in cells], 3),
            "highest train loss": mean_std([cell[way][1] for cell in cells], 3),
            "above the worse end, %": mean_std([100 * (cell[way][1] / cell[way][0] - 1) for cell in cells], 0),
            "highest train error, %": mean_std([cell[way][2] for cell in cells]),
        }
        for way in cells[0]
    ]
    end, saddle, error = work.cell("band", band)
    rows.append({
        "path": "elastic band, aligned", "pairs": 1, "worse end, train loss": f"{end:.3f}", "highest train loss": f"{saddle:.3f}",
        "above the worse end, %": f"{100 * (saddle / end - 1):.0f}", "highest train error, %": f"{error:.2f}",
    })  # fmt: skip
    grown = work.cell("simplex", simplex)
    rows.append({
        "path": "points of a triangle trained around one network (SPRO)", "pairs": 1,
        "worse end, train loss": f"{grown['vertex']:.3f}", "highest train loss": f"{grown['worst']:.3f}",
        "above the worse end, %": f"{100 * (grown['worst'] / grown['vertex'] - 1):.0f}", "highest train error, %": "",
    })  # fmt: skip
    reading = (
        "Published: curves as low as their ends (CIFAR-100 VGG16 .89 at the ends and on the Bezier curve, lines far "
        "above), bands "
        f"with saddles of twice the minima's loss. The triangle has a log volume of {grown['log volume']:.1f}, by "
        f"the Gram "
        "determinant in float64. Curves are short here, so that unaligned ones are not yet flat."
    )
    return Outcome(rows, reading)


if __name__ == "__main__":
    main(CLAIM, run)
