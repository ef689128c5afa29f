"""What every claim shares: what it is, where its results are kept, and how they are printed, drawn and resumed.

A claim is a script with a `CLAIM` and a function `run(work)` that gives an `Outcome`; it ends with `main(CLAIM, run)`.
Everything expensive goes through `work.cell` or `work.network`: what is on disk is not computed again.
"""

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from chart import Chart
from filelock import FileLock, Timeout
from measures import Data, Params
from torch import nn
from trainer import Recipe, train

import onebasin as ob
from onebasin.report.results import table
from onebasin.tasks import load_task

Row = dict[str, object]
NOT_RUN = "not run"
T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """A claim of the literature.

    Attributes:
        name: of the script and its results.
        title: the claim in a few words.
        source: paper and table or figure.
        settings: of `--full`: those of the source, or as near as can be.
        quick: what `--quick` uses in place of that.
        minutes: about so many with `--quick` on one core, and with `--full` on one GPU.
        data: the data sets it reads.
    """

    name: str
    title: str
    source: str
    settings: str
    quick: str
    minutes: tuple[float, float]
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
        rows: of the table, all with the same keys; the last columns hold the published figures.
        reading: what the table says, in a few sentences; where we are weaker, why.
        chart: the picture of it.
    """

    rows: Sequence[Row]
    reading: str
    chart: Chart


class Work:
    """Where a claim works.

    Args:
        claim: what is run.
        out: the folder of all results.
        data_root: the folder of the data sets.
        full: the source's own settings, on a GPU; else the quick ones, on one thread, which gives the same figures on
            any number of cores.

    Attributes:
        seconds: that everything used so far took when it was computed, networks of other claims included.
    """

    def __init__(self, claim: Claim, out: Path, data_root: Path | None, *, full: bool) -> None:
        self.claim, self.full, self.data_root, self.seconds = claim, full, data_root, 0.0
        self.mode = "full" if full else "quick"
        self.folder = out / self.mode / claim.name
        self.shared = out / self.mode / "networks"
        for folder in (self.folder, self.shared):
            folder.mkdir(parents=True, exist_ok=True)
        self.device = "cuda" if full and torch.cuda.is_available() else "cpu"
        if not full:
            torch.set_num_threads(1)

    def pick(self, quick: T, full: T) -> T:
        """One of two settings."""
        return full if self.full else quick

    def cell(self, name: str, compute: Callable[[], Any]) -> Any:
        """What `compute` returns, as JSON has it; read from disk where it was computed before."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            started = time.perf_counter()
            value = compute()
            seconds = time.perf_counter() - started
            part = path.with_suffix(".part")
            part.write_text(json.dumps({"seconds": seconds, "value": value}), encoding="utf-8")
            part.replace(path)
            print(f"  {name}: {seconds:.1f} s", flush=True)
        found = json.loads(path.read_text(encoding="utf-8"))
        self.seconds += found["seconds"]
        return found["value"]

    def images(self, name: str, split: str, count: int | None = None) -> Data:
        """The first images of a split and their labels."""
        batches: list[Any] = list(load_task(name, data_root=self.data_root).batches(split))
        images, labels = (torch.cat([batch[k] for batch in batches])[:count] for k in (0, 1))
        return images.to(self.device), labels.to(self.device)

    def prepare(self, name: str, build: Callable[[], nn.Module], data: Data, recipe: Recipe, *, wait: bool) -> None:
        """Train a network that is not on disk; where another claim is at it, wait for it or leave it."""
        path = self.shared / f"{name}.safetensors"
        try:
            with FileLock(path.with_suffix(".lock"), blocking=wait):
                if path.exists():
                    return
                started = time.perf_counter()
                model = train(build, data, recipe, self.device)
                seconds = time.perf_counter() - started
                about = {"recipe": identity(build, data, recipe), "seconds": str(seconds)}
                ob.save_checkpoint(model.cpu().state_dict(), path, metadata=about)
                print(f"  trained {name}: {seconds:.1f} s", flush=True)
        except Timeout:
            return

    def network(self, name: str, build: Callable[[], nn.Module], data: Data, recipe: Recipe) -> Params:
        """A trained network; all claims, run at once or not, share those of one name.

        Raises:
            SystemExit: if there is one of that name that was trained in another way.
        """
        self.prepare(name, build, data, recipe, wait=True)
        path = self.shared / f"{name}.safetensors"
        with ob.open_checkpoint(path) as checkpoint:
            if checkpoint.metadata["recipe"] != identity(build, data, recipe):
                raise SystemExit(f"{path}: expected a network of this recipe and data, found another; remove it")
            self.seconds += float(checkpoint.metadata["seconds"])
            return {key: tensor.to(self.device) for key, tensor in checkpoint.items()}

    def host(self, build: Callable[[], nn.Module]) -> nn.Module:
        """A model that runs networks of an architecture."""
        return build().to(self.device).eval()


def not_run(like: Row, known: Row) -> Row:
    """A row of `--full` that was not run: its known columns, and for all others of a row like it that they were not."""
    return dict.fromkeys(like, NOT_RUN) | known


def identity(build: Callable[[], nn.Module], data: Data, recipe: Recipe) -> str:
    """What decides a trained network, as a digest: architecture, recipe and data."""
    found = hashlib.sha256(str(build()).encode())
    found.update(repr(replace(recipe, start=None)).encode())
    for tensor in (*data, *(recipe.start or {}).values()):
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def main(claim: Claim, run: Callable[[Work], Outcome]) -> None:
    """Run a claim from the command line."""
    parser = argparse.ArgumentParser(description=f"{claim.title}. {claim.source}.")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help=f"{claim.quick} (the default)")
    mode.add_argument("--full", action="store_true", help=claim.settings)
    parser.add_argument("--data-root", type=Path, help="the folder of the data sets")
    parser.add_argument("--out", type=Path, default=Path("reproduced"), help="the folder of results")
    options = parser.parse_args()
    work = Work(claim, options.out, options.data_root, full=options.full)
    print(f"{claim.title}\n{claim.source}", flush=True)
    outcome = run(work)
    print(f"\n{table(outcome.rows)}\n\n{outcome.reading}")
    result = {
        "claim": asdict(claim),
        "mode": work.mode,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {work.device}",
        "minutes": round(work.seconds / 60, 1),
        "rows": list(outcome.rows),
        "reading": outcome.reading,
    }
    path = options.out / work.mode / f"{claim.name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    outcome.chart.save(path.with_suffix(".svg"), claim.title)
    print(f"\nwritten: {path}; training and measuring took {work.seconds / 60:.1f} minutes")
