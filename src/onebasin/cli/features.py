"""`onebasin features`: layer by layer, the features of an average against the average of features."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from onebasin.checkpoint import Source as Network
from onebasin.cli.alignment import Aligned
from onebasin.cli.drawing import draw
from onebasin.cli.kept import fingerprint, unit
from onebasin.cli.options import MatchingsOption
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.setting import AlignedOption, NaiveOption, Setting, ways, with_setting
from onebasin.cli.study import Study
from onebasin.connectivity import FeatureLinearity, Stitching, feature_linearity, stitch
from onebasin.errors import OptionError
from onebasin.json_file import write_json
from onebasin.report import Picture, Table
from onebasin.report.table import loss_text, percent

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
RowsOption = Annotated[
    int, typer.Option("--feature-samples", metavar="N", min=4, help="Samples of the split to compare features on.")
]


@with_setting
@with_search_options
def features(
    models: ModelsArgument,
    setting: Setting,
    search: Search,
    matching: MatchingsOption = None,
    naive: NaiveOption = False,
    aligned: AlignedOption = False,
    lam: LamOption = None,
    stitching: StitchOption = False,
    feature_samples: RowsOption = 2000,
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
    with session(as_json=setting.as_json, threads=setting.threads, task=setting.task) as screen:
        weights = read_weights(lam, len(models))
        study = Study.open(models, setting)
        wanted = ways(naive=naive, aligned=aligned)
        shape = {
            "weights": weights,
            "rows": feature_samples,
            "wanted": wanted,
            "matchings": [fingerprint(file) for file in matching or ()],
        }
        out = study.go_on("features", search, shape)
        sets, found = study.networks(screen, search, wanted, matching or ())
        plan = Plan(study, weights, feature_samples, out)
        measured = {name: plan.features(screen, name, sets[name]) for name in wanted}
        stitched = {name: plan.stitched(screen, name, sets[name]) for name in wanted} if stitching else {}
        _finish(screen, Layers(study, measured, stitched), found, out)


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
        study: gives model and data.
        weights: of the networks; None for equal ones.
        rows: samples to compare on.
        out: the folder that keeps what is done.
    """

    study: Study
    weights: tuple[float, ...] | None
    rows: int
    out: Path | None

    def features(self, screen: Screen, name: str, networks: Sequence[Network]) -> FeatureLinearity:
        """The features of a weighted sum, as the folder says or measured now.

        Raises:
            KeyboardInterrupt: it was interrupted; figures of fewer samples are not what was asked for.
        """

        def measure() -> FeatureLinearity:
            return feature_linearity(
                self.study.model,
                networks,
                self.study.evaluation,
                weights=self.weights,
                samples=self.rows,
                progress=screen.stage(f"{name} features"),
            )

        return unit(screen, None if self.out is None else self.out / f"{name}.json", FeatureLinearity, measure)

    def stitched(self, screen: Screen, name: str, networks: Sequence[Network]) -> Stitching:
        """The first network's features in the second one."""
        a, b = networks[:PAIR]
        stage = screen.stage(f"{name} stitching")
        return stitch(self.study.model, a, b, self.study.evaluation, samples=self.rows, progress=stage)


@dataclass(frozen=True)
class Layers:
    """What was measured."""

    study: Study
    features: Mapping[str, FeatureLinearity]
    stitching: Mapping[str, Stitching]

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "format": FORMAT,
            "task": self.study.task.name,
            "split": self.study.setting.split,
            "networks": self.study.names,
            "seed": self.study.setting.seed,
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
        title = f"{self.study.task.name}, {first.samples:,} samples of {self.study.setting.split}"
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
        write_json(out / JSON_FILE, layers.to_json())
        screen.wrote(out / JSON_FILE)
        title = f"{layers.study.title}: how linear features are"
        pictures = {name: Picture("layers", one, f"{title}, {name}") for name, one in layers.features.items()}
        draw(screen, out, title, pictures, [layers.table()], layers.study.about)
    screen.close()
    screen.result(layers.to_json() | {"verification": found.subject.to_json() if found else None})
    if found:
        screen.line(found.subject.proof, "green" if found.subject.verification else "")
    weights = next(iter(layers.features.values())).weights
    screen.line(
        f"weights: {', '.join(f'{weight:g}' for weight in weights)}; BatchNorm: {layers.study.evaluation.batchnorm}"
    )
    screen.line("1-cos: features of the weighted sum against the weighted sum of features, 0 to 2, mean over samples")
    screen.line("apart: 1-cos between the networks' own features; c: the factor between both sides of the first")
    screen.line()
    screen.table(layers.table())
    if layers.stitching:
        screen.table(layers.stitching_table())
    for file in screen.written:
        screen.line(f"written: {file}")
