"""What each correction gives after averaging, with and without alignment, on real and on deep networks.

    python benchmarks/corrections.py --checkpoints DIR --data-root DIR [--runs DIR] [--cases otfusion ...]

Cases: otfusion, noniid (all shards of 2, 4 and 8), transformer (addition modulo 113), resnet20 (all pairs of the
folder, or those given by --pairs a,b), and, trained by train_deep_mlps.py into --runs, deep (MNIST 5, 10 and 20 x 128)
and fashion (10 x 512). Alignment is weight matching with seed 0 towards the first network. Prints test accuracy in %,
for the average as it is and after each correction from unlabeled training images, aligned and not; the share of test
answers in common with the first parent, the others (their mean) and the ensemble of all, in %; and seconds.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import onebasin as ob
from onebasin.correction import METHODS, Correction, correct, refit
from onebasin.tasks import Task, load_task
from onebasin.tasks.models import mlp
from onebasin.tasks.train import gather

TASKS = Path(__file__).parent / "tasks"
Params = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """Networks of one architecture."""

    title: str
    task: Task
    model: nn.Module
    parents: list[Params]


def real(title: str, spec: str, options: argparse.Namespace, *files: str) -> Case:
    """Public checkpoints."""
    task = load_task(spec, data_root=options.data_root)
    model = task.build_model()
    parents = [
        model.state_dict() | dict(ob.open_checkpoint(options.checkpoints / f"{file}.safetensors")) for file in files
    ]
    return Case(title, task, model, parents)


def deep(name: str, depth: int, width: int, options: argparse.Namespace) -> Case:
    """MLPs of our own training."""
    task = load_task(name, data_root=options.data_root)
    files = [options.runs / f"{name}_{depth}x{width}_seed{seed}.safetensors" for seed in (0, 1)]
    model = mlp([784, *[width] * depth, 10])
    return Case(f"{name} {depth}x{width}", task, model, [dict(ob.open_checkpoint(file)) for file in files])


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """The cases asked for."""
    folder = "mnist_mlp_noniid/split-by"
    resnets = sorted(path.stem for path in (options.checkpoints / "cifar10_resnet20").glob("*.safetensors"))
    pairs = [tuple(pair.split(",")) for pair in options.pairs] or list(itertools.combinations(resnets, 2))
    table: Mapping[str, Callable[[], Iterator[Case]]] = {
        "otfusion": lambda: iter(
            [
                real(
                    "OTFusion",
                    str(TASKS / "mnist_otfusion.py"),
                    options,
                    *(f"mnist_mlp_otfusion/model_{k}" for k in (0, 1)),
                )
            ]
        ),
        "noniid": lambda: (
            real(f"non-IID {n}", str(TASKS / "mnist_noniid.py"), options, *(f"{folder}-{n}_{k}" for k in range(n)))
            for n in (2, 4, 8)
        ),
        "transformer": lambda: iter(
            [
                real(
                    "addition mod 113",
                    str(TASKS / "group_transformer.py"),
                    options,
                    *(f"group_transformer/C113_seed{k}" for k in (1, 2)),
                )
            ]
        ),
        "resnet20": lambda: (
            real(f"{a} {b}", "cifar10", options, *(f"cifar10_resnet20/{file}" for file in (a, b))) for a, b in pairs
        ),
        "deep": lambda: (deep("mnist", depth, 128, options) for depth in (5, 10, 20)),
        "fashion": lambda: (deep("fashion-mnist", 10, 512, options) for _ in range(1)),
    }
    for name in options.cases:
        yield from table[name]()


def answers(case: Case, params: Params, images: Tensor) -> Tensor:
    """Logits on the test split."""
    case.model.load_state_dict(params)
    with torch.no_grad():
        return torch.cat([case.model.eval()(part) for part in images.split(500)])


def unlabeled(task: Task, samples: int) -> list[tuple[Tensor, ...]]:
    """The first training samples, in batches of 250."""
    data = [tensor[:samples] for tensor in gather(task, ("train",))]
    return list(zip(*(tensor.split(250) for tensor in data), strict=True))


def columns(methods: Sequence[str]) -> dict[str, Callable[..., Correction]]:
    """The corrections to show: those of the library by name, and refit in its forms."""
    found: dict[str, Callable[..., Correction]] = {}
    for name in methods:
        if name in METHODS:
            found[name] = lambda *given, name=name, **words: correct(*given, method=name, **words)
    forms = {"plain": {"turn": False, "rectify": False}, "rectified": {"turn": False}, "turned": {"turn": True}}
    for name in methods:
        if name in forms:
            found[name] = lambda *given, words=forms[name], **more: refit(*given, **words, **more)
    return {name: found[name] for name in methods}


def main() -> None:
    """One row a case and number of samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path())
    parser.add_argument("--cases", nargs="+", default=["otfusion", "noniid", "transformer"])
    parser.add_argument("--pairs", nargs="+", default=[])
    parser.add_argument("--samples", type=int, nargs="+", default=[2000])
    parser.add_argument("--stranger", action="store_true", help="an untrained second network instead of the others")
    parser.add_argument("--methods", nargs="+", default=[*METHODS, "plain", "rectified", "turned"])
    parser.add_argument(
        "--unaligned", nargs="*", default=["plain", "rectified", "refit"], help="methods for the control"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for case in cases(options):
        if options.stranger:  # The model of a case has never been trained.
            case.parents[1:] = [{name: tensor.clone() for name, tensor in case.model.state_dict().items()}]
        for samples in options.samples:
            row(case, samples, columns(options.methods), columns(options.unaligned))


def row(
    case: Case,
    samples: int,
    aligned: Mapping[str, Callable[..., Correction]],
    control: Mapping[str, Callable[..., Correction]],
) -> None:
    """Measure and print one case."""
    images, labels = gather(case.task, ("test",))
    batches = unlabeled(case.task, samples)
    symmetry = ob.discover(case.model, case.task.example_inputs())
    first, *others = case.parents
    matched = [first, *(ob.match(first, other, symmetry).apply(other) for other in others)]

    def accuracy(logits: Tensor) -> str:
        return f"{100 * float((logits.argmax(1) == labels).float().mean()):.2f}"

    parents = [answers(case, params, images) for params in case.parents]
    ensemble = torch.stack([logits.softmax(1) for logits in parents]).mean(0)
    print(f"{case.title}, {samples} samples", flush=True)
    print(f"  parents {' '.join(map(accuracy, parents))}, ensemble {accuracy(ensemble)}", flush=True)
    for title, networks, methods in (("unaligned", case.parents, control), ("aligned", matched, aligned)):
        merged = ob.merge(networks)
        print(f"  {title:<10}{'average':<22}{accuracy(answers(case, merged, images)):>7}", flush=True)
        for name, method in methods.items():
            found = method(case.model, merged, networks, batches, case.task.evaluate, samples=samples)
            logits = answers(case, found.params, images)
            same = [100 * float((logits.argmax(1) == other.argmax(1)).float().mean()) for other in (*parents, ensemble)]
            shared = f"{same[0]:.1f} {sum(same[1:-1]) / len(same[1:-1]):.1f} {same[-1]:.1f}"
            print(
                f"  {title:<10}{name:<22}{accuracy(logits):>7}   as parents, ensemble {shared}   {found.seconds:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
