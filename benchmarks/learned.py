"""Matching with the task's loss against matching without data: loss barrier and accuracy of the midpoint.

    python benchmarks/learned.py [--checkpoints DIR --data-root DIR] [--only NAME ...]

Digits networks are trained here (seconds each), two seeds a pair; the pairs of real checkpoints, mnist_mlp_otfusion/
and cifar10_resnet20/, need the folder that holds them and the data root with the data sets in their official formats.
Learned matchings start from the best one without data, learn from shuffled training batches and are chosen by the
split val, which the digits networks never saw. Figures are those of the test split (CIFAR-10: 1,000 of its images),
BatchNorm's statistics re-estimated at every point: the barrier of the loss above the line between its ends, at 11
points (CIFAR-10: 5), the accuracy in the middle, and seconds on one thread.
"""

import argparse
import functools
import itertools
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import onebasin as ob
from onebasin.matching.learned import learn_matching
from onebasin.tasks import Task, load_task, train
from onebasin.tasks.models import mlp


class Attention(nn.Module):
    """Self-attention without a mask."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Mixed values, `[batch, tokens, width]`."""
        rows = [t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1)]
        return self.out(functional.scaled_dot_product_attention(*rows).transpose(1, 2).flatten(2))


class VisionTransformer(nn.Module):
    """A pre-norm transformer over the sixteen 2 x 2 patches of a digit."""

    def __init__(self, width: int = 32, heads: int = 4, hidden: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 2, 2)
        self.positions = nn.Parameter(0.02 * torch.randn(16, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers + 1))
        self.attention = nn.ModuleList(Attention(width, heads) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(width, hidden) for _ in range(layers))
        self.down = nn.ModuleList(nn.Linear(hidden, width) for _ in range(layers))
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x = self.embed(images).flatten(2).transpose(1, 2) + self.positions
        for layer, attention in enumerate(self.attention):
            x = x + attention(self.norms[2 * layer](x))
            x = x + self.down[layer](functional.gelu(self.up[layer](self.norms[2 * layer + 1](x))))
        return self.head(self.norms[-1](x).mean(1))


def cnn(width: int = 16) -> nn.Sequential:
    """Three convolutions with BatchNorm."""
    layers: list[nn.Module] = []
    for fan_in, fan_out, stride in ((1, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 2)):
        layers += [nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * width, 10))


class Built:
    """A task with another network."""

    def __init__(self, task: Task, build: Callable[[], nn.Module]) -> None:
        self.task, self.name, self.build_model = task, task.name, build
        self.evaluate, self.batches, self.example_inputs = task.evaluate, task.batches, task.example_inputs


@dataclass(frozen=True)
class Pair:
    """Two networks to be matched, and how long to learn."""

    task: Task
    a: dict[str, Tensor]
    b: dict[str, Tensor]
    batch: int
    epochs: int
    images: int | None = None
    tested: int | None = None
    points: int = 11


def trained(build: Callable[[], nn.Module], first: int) -> Pair:
    """A pair of digits networks of two seeds."""
    task = Built(load_task("digits"), build)
    a, b = (
        train(task, seed=seed, epochs=40, batch_size=50, schedule="cosine").state_dict() for seed in (first, first + 1)
    )
    return Pair(task, a, b, batch=50, epochs=10)


def published(options: argparse.Namespace, folder: str, names: tuple[str, str], spec: str, **how: int) -> Pair:
    """A pair of real checkpoints."""
    task = load_task(spec, data_root=options.data_root)
    state = task.build_model().state_dict()
    a, b = ({**state, **ob.open_checkpoint(options.checkpoints / folder / f"{name}.safetensors")} for name in names)
    return Pair(task, a, b, **how)


def pairs(options: argparse.Namespace) -> dict[str, Callable[[], Pair]]:
    """Every pair by its name, made when it is called."""
    networks = {
        "digits MLP 3x64": lambda: mlp([64, 64, 64, 64, 10]),
        "digits MLP 4x32": lambda: mlp([64, 32, 32, 32, 32, 10]),
        "digits CNN, BatchNorm": cnn,
        "digits transformer": VisionTransformer,
    }
    found: dict[str, Callable[[], Pair]] = {
        f"{name} {number}": functools.partial(trained, build, 2 * number)
        for name, build in networks.items()
        for number in range(options.pairs)
    }
    if options.checkpoints is not None:
        tasks = Path(__file__).parent / "tasks"
        mnist, names = str(tasks / "mnist_otfusion.py"), ("model_0", "model_1")
        found["mnist_mlp_otfusion"] = lambda: published(
            options, "mnist_mlp_otfusion", names, mnist, batch=250, epochs=2, images=20000
        )
        runs = ("DanSun18_run_8_8-1", "DanSun18_run_8_8-2")
        found["cifar10_resnet20"] = lambda: published(
            options, "cifar10_resnet20", runs, "cifar10", batch=100, epochs=2, images=5000, tested=1000, points=5
        )
    return found


def shuffled(data: tuple[Tensor, ...], size: int, seed: int) -> Callable[[], Iterator[tuple[Tensor, ...]]]:
    """Batches of a size, in another order every time."""
    generator = torch.Generator().manual_seed(seed)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        for chosen in torch.randperm(len(data[0]), generator=generator).split(size):
            yield tuple(tensor[chosen] for tensor in data)

    return batches


def first(batches: Iterable[object], images: int | None) -> list[object]:
    """The first batches, of 1,000 images each."""
    return list(itertools.islice(batches, None if images is None else images // 1000))


def show(pair: Pair, model: nn.Module, row: str, b: dict[str, Tensor], seconds: float) -> None:
    """Measure one path and print its row."""
    profile = ob.profile_path(
        model,
        pair.a,
        b,
        ob.Evaluation(
            pair.task.evaluate,
            first(pair.task.batches("test"), pair.tested),
            calibration=first(pair.task.batches("train"), pair.tested),
        ),
        lams=pair.points,
    )
    middle, ends = profile.error[pair.points // 2], (profile.error[0] + profile.error[-1]) / 2
    figures = f"{profile.loss_barrier():>10.4f}{100 * (1 - middle):>10.2f}{100 * (1 - ends):>10.2f}{seconds:>10.2f}"
    print(f"  {row:<24}{figures}", flush=True)


def compare(name: str, pair: Pair, options: argparse.Namespace) -> None:
    """Every method on one pair."""
    model = pair.task.build_model()
    symmetry = ob.discover(model, pair.task.example_inputs())
    print(f"{name:<26}{'barrier':>10}{'middle %':>10}{'ends %':>10}{'seconds':>10}")
    show(pair, model, "naive", pair.b, 0.0)
    for method in ("weight", "best"):
        start = ob.match(pair.a, pair.b, symmetry, method)
        show(pair, model, method, start.apply(pair.b), start.seconds["total"])
    data = tuple(map(torch.cat, zip(*first(pair.task.batches("train"), pair.images), strict=True)))
    for method in ("straight-through", "learned"):
        begun = time.perf_counter()
        found = learn_matching(
            model,
            pair.a,
            pair.b,
            symmetry,
            shuffled(data, pair.batch, options.seed),
            pair.task.evaluate,
            start=start,
            method=method,
            epochs=options.epochs or pair.epochs,
            validation=first(pair.task.batches("val"), pair.tested),
            seed=options.seed,
        )
        show(pair, model, method, found.apply(pair.b), time.perf_counter() - begun)


def main() -> None:
    """One table a pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--pairs", type=int, default=3, help="digits pairs of each network")
    parser.add_argument("--epochs", type=int, help="passes over the data, for all pairs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of names")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {platform.machine()}, {platform.system()}, one thread")
    for name, make in pairs(options).items():
        if name.startswith(tuple(options.only)):
            compare(name, make(), options)


if __name__ == "__main__":
    main()
