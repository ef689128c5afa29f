"""`onebasin features`: layer by layer, the features of an average against the average of features."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from onebasin import Evaluation
from onebasin.checkpoint import Source as Network
from onebasin.cli.alignment import Aligned, align
from onebasin.cli.drawing import draw
from onebasin.cli.inputs import Source, check_folder, make_folder, seeded
from onebasin.cli.options import (
    SAMPLES,
    TASK,
    DataRootOption,
    JsonOption,
    MatchingsOption,
    PointStatisticsOption,
    SamplesOption,
    SeedOption,
    SplitOption,
    SymmetryOption,
    ThreadsOption,
    VerifyOption,
)
from onebasin.cli.path import AlignedOption, NaiveOption
from onebasin.cli.points import check_fit, statistics_of
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.connectivity import FeatureLinearity, Stitching, feature_linearity, stitch
from onebasin.errors import OptionError
from onebasin.json_file import write_json
from onebasin.report import ALIGNED, NAIVE, Picture, Table
from onebasin.report.table import loss_text, percent
from onebasin.tasks import Task
from onebasin.tasks.protocol import check_split

FORMAT = "onebasin-layers/1"
JSON_FILE = "features.json"
PAIR = 2

ModelsArgument = Annotated[
    list[Path], typer.Argument(metavar="A B", help="Checkpoints of one architecture, two or more.")
]
LamOption = Annotated[
    str | None,
    typer.Option(
        "--lam",
        metavar="LAM",
        help="The weight of B, A having the rest; for more networks one weight each. The mean if left out.",
        show_default=False,
    ),
]
StitchOption = Annotated[
    bool, typer.Option("--stitch", help="Also put A's features into the rest of B, at every layer.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="A folder for features.json.", show_default=False)
]
RowsOption = Annotated[
    int, typer.Option("--feature-samples", metavar="N", min=4, help="Samples of the split to compare features on.")
]


@with_search_options
def features(
    models: ModelsArgument,
    task: Annotated[str, TASK],
    search: Search,
    data_root: DataRootOption = None,
    symmetry: SymmetryOption = None,
    matching: MatchingsOption = None,
    naive: NaiveOption = False,
    aligned: AlignedOption = False,
    lam: LamOption = None,
    stitching: StitchOption = False,
    split: SplitOption = "test",
    feature_samples: RowsOption = 2000,
    batchnorm: PointStatisticsOption = None,
    samples: SamplesOption = SAMPLES,
    out: OutOption = None,
    proving: VerifyOption = True,
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how linear the features of every layer are.

    Features of an average are compared with the average of features: layerwise linear feature connectivity for networks
    of one task, cross-task linearity for fine-tunes of one parent. Networks are taken as they are, and with their units
    reordered to match A.

    \b
    Examples:
      onebasin features a.safetensors b.safetensors --task my_task.py --stitch
      onebasin features a.pt b.pt c.pt --task cifar10 --data-root data --lam 0.2,0.3,0.5 --naive --out layers

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=as_json, threads=threads, task=task) as screen:
        check_split(split, "--split")
        check_folder("--out", out)
        weights = read_weights(lam, len(models))
        source = Source(task, data_root, symmetry, proving, seed=seed)
        loaded = source.require_task("onebasin features")
        loaded.batches(split)
        check_fit(loaded, models)
        policy = statistics_of(loaded, batchnorm)
        wanted = [name for name, chosen in ((NAIVE, naive), (ALIGNED, aligned)) if chosen] or [NAIVE, ALIGNED]
        found = align(screen, models, source, matching or (), search=search) if ALIGNED in wanted else None
        sets: dict[str, list[Network]] = {NAIVE: [str(path) for path in models]}
        if found:
            sets[ALIGNED] = [str(models[0]), *found.params]
        plan = Plan(loaded, split, policy, samples, feature_samples)
        measured = {name: plan.features(screen, name, sets[name], weights) for name in wanted}
        stitched = {name: plan.stitched(screen, name, sets[name]) for name in wanted} if stitching else {}
        _finish(screen, Layers(plan, tuple(path.name for path in models), measured, stitched, seed), found, out)


def read_weights(text: str | None, count: int) -> tuple[float, ...] | None:
    """The weights of networks out of an option.

    Raises:
        OptionError: they are not numbers, or not as many as are needed.
    """
    if text is None:
        return None
    try:
        given = tuple(float(part) for part in text.split(","))
    except ValueError:
        given = ()
    if len(given) == 1 and count == PAIR:
        return (1 - given[0], given[0])
    if len(given) != count:
        expected = "a number" if count == PAIR else f"{count} numbers with commas between them"
        raise OptionError("--lam", expected=expected, found=repr(text), remedy="try 0.5, or leave it out")
    return given


@dataclass(frozen=True)
class Plan:
    """How features are measured.

    Attributes:
        task: gives model and data.
        split: to compare on.
        batchnorm: what becomes of BatchNorm's statistics.
        samples: training samples to estimate them from.
        rows: samples to compare on.
    """

    task: Task
    split: str
    batchnorm: str
    samples: int
    rows: int

    def evaluation(self) -> Evaluation:
        """The data and what runs networks on them."""
        keeps = self.batchnorm == "keep"
        return Evaluation(
            self.task.evaluate,
            self.task.batches(self.split),
            batchnorm=self.batchnorm,
            calibration=None if keeps else self.task.batches("train"),
            calibration_samples=None if keeps else self.samples,
        )

    def features(
        self, screen: Screen, name: str, networks: Sequence[Network], weights: Sequence[float] | None
    ) -> FeatureLinearity:
        """The features of a weighted sum.

        Raises:
            KeyboardInterrupt: it was interrupted; figures of fewer samples are not what was asked for.
        """
        with seeded(0):
            model = self.task.build_model()
        found = feature_linearity(
            model,
            networks,
            self.evaluation(),
            weights=weights,
            samples=self.rows,
            progress=screen.stage(f"{name} features"),
        )
        if not found.complete:
            raise KeyboardInterrupt
        return found

    def stitched(self, screen: Screen, name: str, networks: Sequence[Network]) -> Stitching:
        """The first network's features in the second one."""
        with seeded(0):
            model = self.task.build_model()
        a, b = networks[:PAIR]
        return stitch(model, a, b, self.evaluation(), samples=self.rows, progress=screen.stage(f"{name} stitching"))


@dataclass(frozen=True)
class Layers:
    """What was measured."""

    plan: Plan
    names: tuple[str, ...]
    features: Mapping[str, FeatureLinearity]
    stitching: Mapping[str, Stitching]
    seed: int

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "format": FORMAT,
            "task": self.plan.task.name,
            "split": self.plan.split,
            "networks": list(self.names),
            "seed": self.seed,
            "features": {name: found.to_json() for name, found in self.features.items()},
            "stitching": {name: found.to_json() for name, found in self.stitching.items()},
        }

    def table(self) -> Table:
        """A row a layer, three columns a set of networks."""
        heads = [f"{column} {name}" for name in self.features for column in ("1-cos", "apart", "c")]
        first = next(iter(self.features.values()))
        rows = []
        for k, layer in enumerate(first.layers):
            figures = [(f.defect[k], f.baseline[k], f.coefficient[k]) for f in self.features.values()]
            texts = [(_distance(defect), _distance(apart), f"{c:.3f}") for defect, apart, c in figures]
            rows.append((layer, *itertools.chain.from_iterable(texts)))
        title = f"{self.plan.task.name}, {first.samples:,} samples of {self.plan.split}"
        return Table(title, ("layer", *heads), tuple(rows), frozenset(heads))

    def stitching_table(self) -> Table:
        """What A's features are worth to the rest of B."""
        names = list(self.stitching)
        heads = [f"{column} {name}" for name in names for column in ("loss", "error")]
        found = list(self.stitching.values())
        rows = [("(B by itself)", *itertools.chain.from_iterable(_measures(*one.tail) for one in found))]
        for k, layer in enumerate(found[0].layers):
            pairs = [(one.loss[k], one.error[k] if one.error else None) for one in found]
            rows.append((layer, *itertools.chain.from_iterable(_measures(*pair) for pair in pairs)))
        return Table("A's features in the rest of B", ("layer", *heads), tuple(rows), frozenset(heads))


def _measures(loss: float, error: float | None) -> tuple[str, str]:
    return loss_text(loss), "" if error is None else percent(error)


def _distance(value: float) -> str:
    """A distance of directions; what rounding alone explains is 0."""
    rounding = 1e-12
    return "0" if abs(value) < rounding else f"{value:.2e}"


def _finish(screen: Screen, layers: Layers, found: Aligned | None, out: Path | None) -> None:
    """Write and show what was measured."""
    if out is not None:
        make_folder(out)
        write_json(out / JSON_FILE, layers.to_json())
        screen.wrote(out / JSON_FILE)
        title = f"{layers.plan.task.name}, {layers.plan.split} split: how linear features are"
        pictures = {name: Picture("layers", one, f"{title}, {name}") for name, one in layers.features.items()}
        settings = {"networks": ", ".join(layers.names), "BatchNorm": layers.plan.batchnorm, "seed": layers.seed}
        draw(screen, out, title, pictures, [layers.table()], settings)
    screen.close()
    screen.result(layers.to_json() | {"verification": found.subject.to_json() if found else None})
    if found:
        screen.line(found.subject.proof, "green" if found.subject.verification else "")
    weights = next(iter(layers.features.values())).weights
    screen.line(f"weights: {', '.join(f'{weight:g}' for weight in weights)}; BatchNorm: {layers.plan.batchnorm}")
    screen.line("1-cos: features of the weighted sum against the weighted sum of features, 0 to 2, mean over samples")
    screen.line("apart: 1-cos between the networks' own features; c: the factor between both sides of the first")
    screen.line()
    screen.table(layers.table())
    if layers.stitching:
        screen.table(layers.stitching_table())
    for file in screen.written:
        screen.line(f"written: {file}")
