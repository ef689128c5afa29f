"""Errors of planes, polygons and pre-flights, raised."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from onebasin import Evaluation, Symmetry
from onebasin.connectivity import (
    PlaneGrid,
    PolygonGrid,
    Preflight,
    measure_plane,
    measure_polygon,
    pca_plane,
    plane_through,
    preflight,
    random_plane,
)
from onebasin.connectivity.span import Span
from onebasin.connectivity.verdict import Pair
from onebasin.errors import CheckpointError, MismatchError, OptionError

LINE = nn.Linear(1, 1)
POINTS = [{"weight": torch.tensor([[x]]), "bias": torch.tensor([y])} for x, y in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))]


def sums(model: nn.Module, batch: object) -> dict[str, torch.Tensor]:
    """The sum of outputs."""
    return {"loss": model(batch).sum(), "count": torch.tensor(len(batch))}


EVALUATION = Evaluation(sums, [torch.ones(1, 1)])


def grid(**options: object) -> PlaneGrid:
    """A grid of the plane through three networks."""
    return measure_plane(plane_through(LINE, POINTS), EVALUATION, **{"resolution": 2} | options)


def polygon(**options: object) -> PolygonGrid:
    """A map of the averages of three networks."""
    return measure_polygon(Span(LINE, POINTS), ["a", "b", "c"], EVALUATION, **{"rings": 1} | options)


def load(kind: type, content: object) -> object:
    """Load a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.json")
        path.write_text(json.dumps(content))
        return kind.load(path)


def answer(*networks: object, **options: object) -> Preflight:
    """Ask about networks without a symmetry."""
    return preflight(LINE, networks, Symmetry({}, {}), EVALUATION, **options)


ROWS = [
    (lambda: plane_through(LINE, POINTS[:2]), OptionError, r"^plane: expected 3 networks or more, and a name for each"),
    (lambda: pca_plane(LINE, POINTS, ["a"]), OptionError, r"^plane: expected 3 networks or more.*found 3 and 1; pass"),
    (
        lambda: plane_through(LINE, [POINTS[0], POINTS[0], POINTS[1]]),
        OptionError,
        r"^plane: expected networks that span a plane, found some on one line; pass other networks",
    ),
    (lambda: plane_through(LINE, [*POINTS[:2], POINTS[1]]), OptionError, r"^plane: expected networks that span"),
    (lambda: pca_plane(LINE, [*POINTS[:2], POINTS[1]]), OptionError, r"^plane: expected networks that span"),
    (lambda: random_plane(LINE, LINE, radius=0), OptionError, r"^radius: expected a positive number, found 0; try 1"),
    (
        lambda: random_plane(nn.LayerNorm(2), nn.LayerNorm(2)),
        OptionError,
        r"^random plane: expected tensors that move, found none; pass small=True",
    ),
    (lambda: load(PlaneGrid, {"format": "x"}), CheckpointError, r"file.json: expected a grid of a plane, format oneb"),
    (
        lambda: load(PlaneGrid, grid().to_json() | {"loss": [[1]]}),
        CheckpointError,
        r"file.json: expected a grid of a plane.*rows of another length",
    ),
    (lambda: grid(resolution=1), OptionError, r"^resolution: expected 2 or more, found 1; raise it"),
    (lambda: grid(margin=-1), OptionError, r"^margin: expected a number from 0, found -1; try 0.2"),
    (
        lambda: measure_plane(random_plane(LINE, LINE), replace(EVALUATION, batchnorm="repair")),
        OptionError,
        r"^batchnorm: expected reestimate or keep: spreads of units cannot be extrapolated",
    ),
    (
        lambda: grid(so_far=grid(margin=1)),
        OptionError,
        r"^so_far: expected a grid of the same plane and settings, found another one; leave it out",
    ),
    (lambda: load(PolygonGrid, {"format": "x"}), CheckpointError, r"file.json: expected a map of averages, format"),
    (
        lambda: measure_polygon(Span(LINE, POINTS[:2]), ["a", "b"], EVALUATION),
        OptionError,
        r"^polygon: expected three networks or more, and a name for each, found 2 and 2; pass them",
    ),
    (lambda: polygon(rings=0), OptionError, r"^rings: expected 1 or more, found 0; raise it"),
    (
        lambda: polygon(so_far=polygon(rings=2)),
        OptionError,
        r"^so_far: expected a grid of the same networks and settings, found another one; leave it out",
    ),
    (lambda: load(Pair, {"format": "x"}), CheckpointError, r"file.json: expected a pair of networks, format onebasin"),
    (lambda: load(Preflight, []), CheckpointError, r"file.json: expected an answer about networks, format onebasin"),
    (lambda: answer(LINE), OptionError, r"^networks: expected two or more, with a name each, found model 1; pass them"),
    (
        lambda: answer(LINE, nn.Linear(2, 1), names=["p", "q"]),
        MismatchError,
        r"^q: weight: expected shape \(1, 1\), as in the model, found shape \(1, 2\); pass a checkpoint",
    ),
]
