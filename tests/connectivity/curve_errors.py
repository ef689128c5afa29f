"""Errors of curves, bands, trees, stars and spawning, raised."""

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from onebasin import Evaluation
from onebasin.connectivity import (
    Band,
    BandSchedule,
    Curve,
    CurveProfile,
    Spawning,
    Star,
    StarProfile,
    Tree,
    auto_neb,
    explore,
    fit_curve,
    fit_star,
    profile_curve,
    spanning_tree,
    spawn,
    straight,
)
from onebasin.errors import CheckpointError, OptionError

LINE = nn.Linear(1, 1)
CURVE = straight(LINE, [LINE, LINE])


def sums(model: nn.Module, batch: object) -> dict[str, torch.Tensor]:
    """The sum of outputs."""
    return {"loss": model(batch).sum(), "count": torch.tensor(len(batch))}


DATA = (torch.ones(1, 1),)


def curve(**given: object) -> object:
    """Train a curve."""
    return fit_curve(LINE, LINE, LINE, DATA, sums, **given)


def profile(*, batchnorm: str = "keep", points: int = 2) -> CurveProfile:
    """Measure a curve."""
    return profile_curve(CURVE, LINE, Evaluation(sums, DATA, batchnorm=batchnorm), points)


def band(batches: object = DATA, **given: object) -> object:
    """Relax a band."""
    evaluation = Evaluation(sums, DATA)
    return auto_neb(LINE, LINE, LINE, batches, sums, evaluation=evaluation, schedule=BandSchedule(steps=1, **given))


def star(anchors: object = (LINE,), **given: object) -> object:
    """Train a centre."""
    return fit_star(LINE, anchors, DATA, sums, **given)


def loaded(load: Callable[[Path], object], name: str, content: object) -> object:
    """Load a folder or a file, `name` in it, with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text(json.dumps(content))
        return load(path if name == "file.json" else path.parent)


ROWS = [
    (lambda: curve(kind="x"), OptionError, r"^kind: expected bezier or polygonal, found 'x'; choose one"),
    (lambda: curve(bends=0), OptionError, r"^bends: expected 1 or more, found 0; raise it"),
    (lambda: curve(rematch=1), OptionError, r"^rematch: expected a symmetry, found none; pass `symmetry`, or leave"),
    (lambda: straight(LINE, [LINE]), OptionError, r"^networks: expected two or more, found 1; pass more"),
    (lambda: loaded(Curve.load, "curve.json", {}), CheckpointError, r"curve\.json: expected a curve, format .*; pass"),
    (
        lambda: profile(batchnorm="repair"),
        OptionError,
        r"^batchnorm: expected reestimate or keep, found repair; choose one for curves",
    ),
    (lambda: profile(points=1), OptionError, r"^points: expected a number from 2, .*, found 1; include both ends"),
    (lambda: profile().summary("error"), OptionError, r"^summary: expected loss, found error; choose one"),
    (
        lambda: loaded(CurveProfile.load, "file.json", {}),
        CheckpointError,
        r"file\.json: expected the profile of a curve, format .*, found something else; pass a file",
    ),
    (
        lambda: loaded(CurveProfile.load, "file.json", profile().to_json() | {"arc": [0]}),
        CheckpointError,
        r"file\.json: expected the profile of a curve, format .*, found something that does not fit: arc: 2 numbers",
    ),
    (lambda: band(cycles=0), OptionError, r"^cycles: expected 1 or more, found 0; raise it"),
    (lambda: band(rate=math.nan), OptionError, r"^rate: expected a positive number, found nan; try 0.1"),
    (lambda: band(momentum=1), OptionError, r"^momentum: expected a number from 0 to 1, found 1; leave it out"),
    (lambda: band([]), OptionError, r"^batches: expected at least one batch, found none; pass a list of batches"),
    (lambda: loaded(Band.load, "band.json", {}), CheckpointError, r"band\.json: expected a band, format .*; pass"),
    (lambda: spanning_tree("ab", {}).saddle("a", "x"), OptionError, r"^name: expected a or b, found 'x'; choose one"),
    (
        lambda: spanning_tree("ab", {("a", "b"): math.nan}),
        OptionError,
        r"^saddles: a, b: expected a number for two of the names, found nan; correct it",
    ),
    (lambda: loaded(Tree.load, "file.json", {}), CheckpointError, r"file\.json: expected a tree, format .*; pass a"),
    (
        lambda: explore({"a": 0.0}, lambda *_: 0.0, -1),
        OptionError,
        r"^budget: expected minima, and 0 or more, found -1; raise it",
    ),
    (lambda: star(law="x"), OptionError, r"^law: expected uniform or beta, found 'x'; choose one"),
    (lambda: star(()), OptionError, r"^anchors: expected at least one network, found none; pass some"),
    (lambda: loaded(Star.load, "star.json", {}), CheckpointError, r"star\.json: expected a star, format .*; pass a"),
    (
        lambda: loaded(StarProfile.load, "file.json", {}),
        CheckpointError,
        r"file\.json: expected the profile of a star, format .*, found something else; pass a file",
    ),
    (
        lambda: spawn(LINE, lambda *_: None, 3, 2),
        OptionError,
        r"^after: expected epochs ascending from 0 to 2, found \[3\]; correct them",
    ),
    (lambda: CURVE.save("/dev/null/x"), CheckpointError, r"^/dev/null/x: expected a file that can be written, found"),
    (
        lambda: Star(CURVE.params(0)).save("/dev/null/x"),
        CheckpointError,
        r"^/dev/null/x: expected a file that can be written, found",
    ),
    (
        lambda: loaded(Spawning.load, "file.json", {}),
        CheckpointError,
        r"file\.json: expected children and lines, format .*, found something else; pass a file or folder",
    ),
]
