"""What every claim shares: what it is, where its results are kept, and how they are printed, drawn and resumed.

A claim is a script with a `CLAIM` and a function `run(work)` that gives an `Outcome`; it ends with `main(CLAIM, run)`.
Everything expensive goes through `work.cell` or `work.network`: what is on disk is not computed again.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from trainer import Recipe, train

import onebasin as ob
from onebasin.report.results import table
from onebasin.tasks import load_task

Row = dict[str, object]
Params = dict[str, Tensor]
Data = tuple[Tensor, Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """A claim of the literature.

    Attributes:
        name: of the script and its results.
        title: the claim in a few words.
        source: paper and table or figure.
        settings: what the source used.
        quick: what `--quick` uses in place of that.
        minutes: about so many with `--quick` on two cores, and with `--full` on one GPU.
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
        x: the column drawn from left to right; None for no chart.
        y: the column drawn upwards.
        series: the column that tells lines apart.
        points: rows of the chart, where they are not those of the table.
    """

    rows: Sequence[Row]
    reading: str
    x: str | None = None
    y: str | None = None
    series: str | None = None
    points: Sequence[Row] = field(default_factory=tuple)


class Work:
    """Where a claim works.

    Args:
        claim: what is run.
        out: the folder of all results.
        data_root: the folder of the data sets.
        full: the source's own settings, on a GPU; else the quick ones.
    """

    def __init__(self, claim: Claim, out: Path, data_root: Path | None, *, full: bool) -> None:
        self.claim, self.full, self.data_root = claim, full, data_root
        self.mode = "full" if full else "quick"
        self.folder = out / self.mode / claim.name
        self.shared = out / self.mode / "networks"
        for folder in (self.folder, self.shared):
            folder.mkdir(parents=True, exist_ok=True)
        self.device = "cuda" if full and torch.cuda.is_available() else "cpu"

    def pick(self, quick: T, full: T) -> T:
        """One of two settings."""
        return full if self.full else quick

    def cell(self, name: str, compute: Callable[[], Any]) -> Any:
        """What `compute` returns, as JSON has it; read from disk where it was computed before."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            started = time.perf_counter()
            text = json.dumps(compute())
            part = path.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.replace(path)
            print(f"  {name}: {time.perf_counter() - started:.1f} s", flush=True)
        return json.loads(path.read_text(encoding="utf-8"))

    def images(self, name: str, split: str, count: int | None = None) -> Data:
        """The first images of a split and their labels."""
        batches = list(load_task(name, data_root=self.data_root).batches(split))
        images, labels = (torch.cat([batch[k] for batch in batches])[:count] for k in (0, 1))
        return images.to(self.device), labels.to(self.device)

    def network(self, name: str, build: Callable[[], nn.Module], data: Data, recipe: Recipe) -> Params:
        """A trained network; all claims share those of one name, which names data, architecture, recipe and seed."""
        path = self.shared / f"{name}.safetensors"
        if not path.exists():
            started = time.perf_counter()
            model = train(build, data, recipe, self.device)
            ob.save_checkpoint(model.cpu().state_dict(), path)
            print(f"  trained {name}: {time.perf_counter() - started:.1f} s", flush=True)
        return {key: tensor.to(self.device) for key, tensor in ob.open_checkpoint(path).items()}

    def host(self, build: Callable[[], nn.Module]) -> nn.Module:
        """A model that runs networks of an architecture."""
        return build().to(self.device).eval()


MLP_IMAGES, MLP_EPOCHS = 20_000, {"mnist": 30, "cifar10": 10}
"""Of the MLPs that several claims share, with `--quick`."""


def shared_mlps(work: Work, name: str, build: Callable[[], nn.Module], decay: float = 0.0) -> tuple[Data, list[Params]]:
    """Six networks of different seeds on MNIST or CIFAR-10, and what they were trained on."""
    data = work.images(name, "train", work.pick(MLP_IMAGES, None))
    recipes = [Recipe(s, work.pick(MLP_EPOCHS[name], 60), weight_decay=decay, batch=250) for s in range(6)]
    return data, [work.network(f"{name}_mlp_{recipe.seed}", build, data, recipe) for recipe in recipes]


def batches(data: Data, size: int = 500) -> list[Data]:
    """Data in batches."""
    return list(zip(data[0].split(size), data[1].split(size), strict=True))


def evaluate(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """Cross-entropy and correct answers of a classifier of images, or of every position of a text."""
    logits, labels = predict(model, batch)
    loss = nn.functional.cross_entropy(logits.float(), labels, reduction="none").sum(dtype=torch.float64)
    return {"loss": loss, "correct": (logits.argmax(1) == labels).sum(), "count": torch.tensor(len(labels))}


def predict(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """Logits and labels."""
    inputs, labels = batch
    logits = model(inputs)
    return logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)


def on(data: Data, calibration: Data | None = None, **options: Any) -> ob.Evaluation:
    """How networks are measured on data."""
    given = {} if calibration is None else {"calibration": batches(calibration)}
    return ob.Evaluation(evaluate, batches(data), predict, **given, **options)


def measured(model: nn.Module, params: Mapping[str, Tensor], data: Data) -> dict[str, float]:
    """Loss, and accuracy in %, of a network."""
    model.load_state_dict(params)
    total = {"loss": 0.0, "correct": 0.0, "count": 0.0}
    with torch.no_grad():
        for batch in batches(data):
            for name, value in evaluate(model.eval(), batch).items():
                total[name] += float(value)
    return {"loss": total["loss"] / total["count"], "accuracy": 100 * total["correct"] / total["count"]}


def ensemble(model: nn.Module, networks: Sequence[Mapping[str, Tensor]], data: Data) -> dict[str, float]:
    """Loss and accuracy in % of the mean of softmax outputs."""
    rows = []
    with torch.no_grad():
        for params in networks:
            model.load_state_dict(params)
            rows.append(torch.cat([model.eval()(x) for x, _ in batches(data)]).double().softmax(-1))
    mean = torch.stack(rows).mean(0)
    loss = nn.functional.nll_loss(mean.log(), data[1])
    return {"loss": float(loss), "accuracy": 100 * float((mean.argmax(1) == data[1]).double().mean())}


def mean_std(values: Sequence[float], digits: int = 2) -> str:
    """A mean and its standard deviation."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def draw(outcome: Outcome, path: Path, title: str) -> None:
    """A line chart of the outcome."""
    # Slow to import, and only needed here.
    import altair as alt  # noqa: PLC0415

    rows = [dict(row) for row in (outcome.points or outcome.rows)]
    kind = "Q" if all(isinstance(row[outcome.x], int | float) for row in rows) else "N"
    chart = alt.Chart({"values": rows}).mark_line(point=True)
    encoded = {"x": alt.X(f"{outcome.x}:{kind}", sort=None), "y": alt.Y(f"{outcome.y}:Q")}
    if outcome.series is not None:
        encoded["color"] = alt.Color(f"{outcome.series}:N", sort=None)
    chart.encode(**encoded).properties(width=560, height=300, title=title).save(path, scale_factor=2)


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
    started = time.perf_counter()
    outcome = run(work)
    print(f"\n{table(outcome.rows)}\n\n{outcome.reading}")
    result = {
        "claim": asdict(claim),
        "mode": work.mode,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {work.device}",
        "rows": list(outcome.rows),
        "reading": outcome.reading,
    }
    path = options.out / work.mode / f"{claim.name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if outcome.x is not None:
        draw(outcome, path.with_suffix(".svg"), claim.title)
    print(f"\nwritten: {path} after {time.perf_counter() - started:.0f} s")
