"""Transformers: reorderings of heads, of units inside heads, of the stream and of the MLPs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from chart import Chart
from harness import Claim, Outcome, Row, Work, main
from measures import Data, Params, batches, ensemble, evaluate, mean_std, measured, on
from networks import GPT, ViT
from shared import several
from torch import nn
from trainer import Recipe

import onebasin as ob

CLAIM = Claim(
    "transformers",
    "Transformers from different seeds, averaged: naive, with permutations, and learned",
    "Generalized linear mode connectivity (NeurIPS 2025): ViT on CIFAR-10, barrier 1.69 naive, 0.36 weight "
    "matching, 0.00 learned",
    "ViT of width 128, 6 layers on CIFAR-10; GPT of width 128, 4 layers on tiny shakespeare",
    "ViT of width 64, 2 layers on 6,000 FashionMNIST images, 8 epochs; GPT of width 64, 2 layers on 200,000 "
    "characters; three "
    "pairs",
    (4, 60),
    ("fashion-mnist", "cifar10", "text"),
)


def text(work: Work, length: int) -> tuple[Data, Data, int]:
    """Training and test sequences of characters with their successors, and the number of characters."""
    if work.data_root is None:
        raise SystemExit("--data-root: a folder that holds text/tinyshakespeare.txt is needed")
    path = Path(work.data_root) / "text" / "tinyshakespeare.txt"
    letters = path.read_text(encoding="utf-8")[: work.pick(200_000, None)]
    alphabet = sorted(set(letters))
    codes = torch.tensor([alphabet.index(letter) for letter in letters])
    rows = codes[: (len(codes) - 1) // length * length + 1]
    x, y = rows[:-1].view(-1, length).to(work.device), rows[1:].view(-1, length).to(work.device)
    cut = int(0.9 * len(x))
    return (x[:cut], y[:cut]), (x[cut:], y[cut:]), len(alphabet)


def pair(
    work: Work, build: Callable[[], nn.Module], nets: list[Params], given: list[Data], held: Data
) -> dict[str, list[float | None]]:
    """For every way to average two networks, and their ensemble, the barrier, and loss and accuracy in the middle."""
    a, b = nets
    model = work.host(build)
    symmetry = ob.discover(model, (held[0][:2],))
    learned = ob.learn_matching(model, a, b, symmetry, given, evaluate, epochs=work.pick(3, 10))
    ways = {
        "naive": b,
        "weight matching (best)": ob.match(a, b, symmetry).apply(b),
        "learned permutations": learned.apply(b),
    }
    average: dict[str, list[float | None]] = {}
    for way, moved in ways.items():
        profile = ob.profile_path(model, a, moved, on(held), lams=work.pick(7, 25))
        middle = len(profile.lams) // 2
        average[way] = [profile.loss_barrier(), profile.loss[middle], 100 * (1 - profile.error[middle])]
    for way in ("naive", "learned permutations"):
        parents = [a, ways[way]]
        fixed = ob.refit(model, ob.merge(parents), parents, given, evaluate, samples=1000).params
        found = measured(model, fixed, held)
        average[f"{way}, refit"] = [None, found["loss"], found["accuracy"]]
    both = ensemble(model, nets, held)
    average["ensemble"] = [None, both["loss"], both["accuracy"]]
    return average


def kinds(work: Work) -> dict[str, tuple[Data, Data, Callable[[], nn.Module], int]]:
    """Training and test data, the architecture and epochs of each kind."""
    name, count = work.pick(("fashion-mnist", 6000), ("cifar10", None))
    images = work.images(name, "train", count), work.images(name, "test", work.pick(2000, None))
    train, test, letters = text(work, 64)
    width, depth = work.pick(64, 128), work.pick(2, 6)
    return {
        "ViT": (*images, lambda: ViT(*work.pick((28, 7, 1), (32, 4, 3)), width, 4, depth), work.pick(8, 60)),
        "GPT": (train, test, lambda: GPT(letters, 64, width, 4, work.pick(2, 4)), work.pick(6, 30)),
    }


def run(work: Work) -> Outcome:
    """Both kinds, in all ways."""
    rows: list[Row] = []
    points: list[Row] = []
    for label, (training, held, build, epochs) in kinds(work).items():
        nets = several(work, label, build, training, Recipe(0, epochs, 1e-3, weight_decay=0.05, batch=64))
        model = work.host(build)
        given = batches((training[0][:2000], training[1][:2000]), 100)
        ends = [work.cell(f"{label}_end_{s}", partial(measured, model, net, held)) for s, net in enumerate(nets)]
        cells = [work.cell(f"{label}_{k}", partial(pair, work, build, nets[k : k + 2], given, held)) for k in (0, 2, 4)]
        for way in cells[0]:
            barriers = [cell[way][0] for cell in cells if cell[way][0] is not None]
            rows.append({
                "network": label,
                "matching": way,
                "ends: loss, %": f"{mean_std([e['loss'] for e in ends], 3)}, {mean_std([e['accuracy'] for e in ends])}",
                "midpoint loss": mean_std([cell[way][1] for cell in cells], 3),
                "midpoint, %": mean_std([cell[way][2] for cell in cells]),
                "loss barrier, nats": mean_std(barriers, 3) if barriers else "-",
            })  # fmt: skip
            points += [{"network": label, "midpoint loss": cell[way][1], "matching": way} for cell in cells]
    reading = (
        "Published for a ViT on CIFAR-10 trained for long: 1.69 naive, 0.36 with permutations, 0.00 with learned "
        "orthogonal maps of the stream, which are no permutations and are not part of this library. Units inside heads move with their "
        "heads."
    )
    return Outcome(rows, reading, Chart(points, "network", "midpoint loss", "matching"))


if __name__ == "__main__":
    main(CLAIM, run)
