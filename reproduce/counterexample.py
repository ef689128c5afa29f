"""Some minima are not connected by a line under any permutation."""

import itertools

import torch
from chart import Chart
from harness import Claim, Outcome, Row, Work, main
from measures import Params, on
from networks import mlp
from torch import nn

import onebasin as ob

CLAIM = Claim(
    "counterexample",
    "Two perfect classifiers of points in the plane with no linear connection modulo permutation",
    "Ainsworth, Hayase and Srinivasa (ICLR 2023), appendix: a counterexample in two dimensions",
    "networks 2-2-2-2 that tell whether both coordinates are positive; all 4 reorderings of their hidden units tried",
    "the same, 40 trainings",
    (0.3, 1),
)


def plane() -> tuple[torch.Tensor, torch.Tensor]:
    """Points of a grid away from the axes, and whether both coordinates are positive."""
    axis = torch.cat([torch.linspace(-1, -0.1, 10), torch.linspace(0.1, 1, 10)])
    points = torch.cartesian_prod(axis, axis)
    return points, ((points > 0).all(1)).long()


def trained(seed: int) -> tuple[nn.Module, float]:
    """A small network and its error."""
    torch.manual_seed(seed)
    model, (x, y) = mlp(2, 2, 2, 2), plane()
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(800):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, float((model(x).argmax(1) != y).float().mean())


def barriers(a: Params, b: Params) -> list[float]:
    """The error barrier of the line to B under each of the reorderings, the smallest first."""
    model = mlp(2, 2, 2, 2)
    symmetry = ob.discover(model, (torch.zeros(2, 2),))
    orders = [ob.Permutation([0, 1]), ob.Permutation([1, 0])]
    found = []
    for chosen in itertools.product(orders, repeat=len(symmetry.groups)):
        matching = ob.Matching(symmetry, dict(zip(symmetry.groups, chosen, strict=True)))
        found.append(ob.profile_path(model, a, matching.apply(b), on(plane()), lams=25).error_barrier())
    return sorted(found)


def run(work: Work) -> Outcome:
    """Brute force over all permutations of all pairs of perfect classifiers."""

    def search() -> dict[str, object]:
        nets = [model.state_dict() for model, error in map(trained, range(40)) if error == 0]
        pairs = list(itertools.combinations(range(len(nets)), 2))[:45]
        best = [barriers(nets[i], nets[j])[0] for i, j in pairs]
        worst = max(range(len(pairs)), key=lambda k: best[k])
        i, j = pairs[worst]
        matching = ob.match(nets[i], nets[j], ob.discover(mlp(2, 2, 2, 2), (torch.zeros(2, 2),)))
        profile = ob.profile_path(mlp(2, 2, 2, 2), nets[i], matching.apply(nets[j]), on(plane()), lams=25)
        line = {"lams": profile.lams, "error": profile.error}
        return {"perfect": len(nets), "best": best, "line": line, "all": barriers(nets[i], nets[j])}

    found = work.cell("search", search)
    best = found["best"]
    rows: list[Row] = [
        {
            "perfect classifiers of 40": found["perfect"],
            "pairs": len(best),
            "pairs connected by some reordering": sum(value == 0 for value in best),
            "pairs connected by none": sum(value > 0 for value in best),
            "largest of the smallest error barriers, points": 100 * max(best),
            "its barriers under all 4 reorderings": ", ".join(f"{100 * value:.1f}" for value in found["all"]),
        }
    ]
    reading = (
        "The single-basin conjecture is about what SGD finds in wide networks; here, in the smallest ones, brute "
        "force shows pairs of perfect classifiers that no reordering connects by a line without errors."
    )
    points = [
        {"lam": lam, "error": error} for lam, error in zip(found["line"]["lams"], found["line"]["error"], strict=True)
    ]
    return Outcome(rows, reading, Chart(points, "lam", "error", kind="line"))


if __name__ == "__main__":
    main(CLAIM, run)
