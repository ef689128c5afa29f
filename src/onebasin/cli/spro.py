"""`onebasin spro`: networks grown around others, so that all averages of all are good, and their ensemble."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from onebasin.checkpoint import Source as Network
from onebasin.cli.alignment import Aligned
from onebasin.cli.drawing import draw
from onebasin.cli.kept import unit
from onebasin.cli.screen import Screen, session
from onebasin.cli.search import Search, with_search_options
from onebasin.cli.setting import Setting, Training, with_setting, with_training
from onebasin.cli.study import Study
from onebasin.connectivity import Complex, SimplexProfile, fit_simplex, score_ensemble, simplex_barrier
from onebasin.connectivity.simplex import Simplex
from onebasin.connectivity.spro import FILE
from onebasin.json_file import write_json
from onebasin.report import ALIGNED, NAIVE, Picture, Table
from onebasin.report.table import loss_text, percent

FOLDER, PROFILE, RESULT = "complex", "simplex.json", "result.json"
_CORNERS = 3


@dataclass(frozen=True)
class _Shape:
    """The options of the simplex itself."""

    grow: int
    strength: float
    members: int
    wanted: str


@with_setting
@with_training
@with_search_options
def spro(
    networks: Annotated[list[Path], typer.Argument(metavar="A [B ...]", help="Checkpoints; they stay as they are.")],
    setting: Setting,
    training: Training,
    search: Search,
    grow: Annotated[int, typer.Option("--grow", metavar="N", min=1, help="Networks to train beside them.")] = 2,
    strength: Annotated[float, typer.Option("--strength", metavar="X", min=0, help="Of the volume's weight.")] = 0.01,
    members: Annotated[int, typer.Option("--members", metavar="J", min=1, help="Points of the ensemble.")] = 8,
    naive: Annotated[bool, typer.Option("--naive", help="Leave the networks as they are.")] = False,
) -> None:
    """Train networks so that all averages of all are good.

    This is SPRO; points drawn from the simplex are scored as an ensemble (ESPRO). Networks given are reordered to match
    the first. The simplex is as large as its losses allow.

    \b
    Examples:
      onebasin spro a.safetensors --task my_task.py --grow 2 --out simplex
      onebasin spro a.pt b.pt --task cifar10 --data-root data --grow 1 --train-epochs 10

    Exit status: 0 done, 1 the symmetry does not hold or the work was interrupted, 2 bad input.
    """  # noqa: D301 - the command line reads the escape
    with session(as_json=setting.as_json, threads=setting.threads, task=setting.task) as screen:
        wanted = NAIVE if naive or len(networks) == 1 else ALIGNED
        shape = _Shape(grow, strength, members, wanted)
        study = Study.open(networks, setting, least=1)
        out = study.go_on("spro", training, search, shape)
        ways, found = study.networks(screen, search, [wanted])
        made = _grown(screen, study, ways[wanted], training, shape, out)
        profile = _profile(screen, study, made, members, out)
        _finish(screen, study, found, shape, made, profile, out)


def _grown(
    screen: Screen, study: Study, places: list[Network], training: Training, shape: _Shape, out: Path | None
) -> Complex:
    """The simplex that the folder holds, else a new one, which is kept there."""

    def train() -> Complex:
        return fit_simplex(
            study.model,
            places,
            study.shuffled(training.batch_size),
            study.task.evaluate,
            shape.grow,
            strength=shape.strength,
            schedule=training.schedule(study.setting.seed),
            progress=screen.progress,
        )

    return unit(screen, None if out is None else out / FOLDER, Complex, train, last=FILE)


def _profile(screen: Screen, study: Study, made: Complex, members: int, out: Path | None) -> SimplexProfile:
    """How bad the averages of its vertices are, as the folder says or measured now."""

    def look() -> SimplexProfile:
        return simplex_barrier(
            study.model,
            made.vertices,
            study.evaluation,
            samples=4 * members,
            ascents=2,
            seed=study.setting.seed,
            progress=screen.stage("simplex"),
        )

    return unit(screen, None if out is None else out / PROFILE, SimplexProfile, look)


def _scores(study: Study, made: Complex, members: int, seed: int) -> dict[str, tuple[float, float]]:
    """Error and negative log-likelihood of the first network, and of points drawn from the simplex, as an ensemble."""
    if study.evaluation.predict is None:
        return {}
    drawn = made.members(study.model, members, study.evaluation, seed)
    rows: dict[str, Sequence[Network]] = {"first network": [made.vertices[0]], f"ESPRO, {members} points": drawn}
    found = {name: score_ensemble(study.model, rows[name], study.evaluation).scores for name in rows}
    return {name: (score.error, score.nll) for name, score in found.items()}


def _finish(
    screen: Screen,
    study: Study,
    aligned: Aligned | None,
    shape: _Shape,
    made: Complex,
    profile: SimplexProfile,
    out: Path | None,
) -> None:
    """Write and show what was found."""
    simplex = Simplex.of(study.model, made.vertices)
    scores = _scores(study, made, shape.members, study.setting.seed)
    found: dict[str, object] = {
        **study.describe(aligned),
        **asdict(shape),
        "barrier": profile.barrier,
        "log_volume": simplex.log_volume,
        "edge": simplex.edge,
        "scores": {name: {"error": error, "nll": nll} for name, (error, nll) in scores.items()},
    }
    rows = (
        ("worst excess found, nats", loss_text(profile.barrier)),
        ("excess of the centre", loss_text(profile.barycentre)),
        ("log volume", f"{simplex.log_volume:.2f}"),
        ("effective edge", f"{simplex.edge:.3g}"),
        *((f"{name}: error, NLL", f"{percent(error)}, {loss_text(nll)}") for name, (error, nll) in scores.items()),
    )
    table = Table(f"{study.title}: {len(made.vertices)} vertices", ("", "figure"), rows)
    if out is not None:
        write_json(out / RESULT, found)
        screen.wrote(out / RESULT)
    shown = len(made.vertices) >= _CORNERS
    pictures = {"simplex": Picture("polygon", profile, f"{study.task.name}: all averages")} if shown else {}
    draw(screen, out, f"{study.task.name}: a trained simplex", pictures, [table], study.about)
    screen.close()
    screen.result(found)
    screen.table(table)
    for file in screen.written:
        screen.line(f"written: {file}")
