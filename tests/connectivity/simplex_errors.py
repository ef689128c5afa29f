"""Errors of simplexes and complexes, raised."""

import json
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn

from onebasin import Evaluation, discover
from onebasin.connectivity import (
    Complex,
    Filtration,
    Framed,
    PermutedSimplex,
    SimplexProfile,
    fit_complex,
    fit_simplex,
    glue,
    holonomy,
    permuted_simplex,
    simplex_barrier,
)
from onebasin.errors import CheckpointError, MismatchError, OptionError

LINE = nn.Linear(1, 1)
PAIR = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
SYMMETRY = discover(PAIR, (torch.zeros(1, 1),))


def sums(model: nn.Module, batch: object) -> dict[str, torch.Tensor]:
    """The sum of outputs."""
    return {"loss": model(batch).sum(), "count": torch.tensor(len(batch))}


def barrier(count: int = 2, evaluate: object = sums, **given: object) -> SimplexProfile:
    """Measure a simplex of copies."""
    options = {"samples": 1, "ascents": 0} | given
    return simplex_barrier(LINE, [LINE] * count, Evaluation(evaluate, [torch.ones(1, 1)]), **options)


def permuted(count: int = 2, **given: object) -> PermutedSimplex:
    """Search for permutations of copies."""
    return permuted_simplex(PAIR, [PAIR] * count, SYMMETRY, batches=[torch.ones(1, 1)], evaluate=sums, **given)


def fit(*simplexes: list[int], **given: float) -> Complex:
    """Train what connects two copies."""
    return fit_complex(LINE, [LINE, LINE], simplexes, [torch.ones(1, 1)], sums, **given)


def stopped() -> object:
    """The barrier of a simplex that was interrupted at its first vertex."""

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    return barrier(progress=stop).barrier


def without_gudhi() -> object:
    """Persistence where the package is missing."""
    with patch.dict("sys.modules", {"gudhi": None}):
        return Filtration(("a",), {(0,): 0.0}).persistence()


def loaded(kind: type, name: str, content: object) -> object:
    """Load a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text(json.dumps(content), encoding="utf-8")
        return kind.load(path if kind is SimplexProfile else folder)


def profile(**changes: object) -> object:
    """Load a profile with changed fields."""
    return loaded(SimplexProfile, "s.json", barrier().to_json() | changes)


ROWS = [
    (lambda: barrier(1), OptionError, r"^models: expected 2 or more, found 1; pass more networks"),
    (lambda: barrier(samples=-1), OptionError, r"^samples: expected 0 or more, found -1; raise it"),
    (lambda: barrier(edge=2), OptionError, r"^edge: expected an odd number of points, found 2; choose one such as 5"),
    (stopped, OptionError, r"^excess: expected all vertices measured, found an interrupted simplex; measure it again"),
    (
        lambda: barrier(evaluate=lambda *_: {"loss": torch.zeros(()), "count": torch.ones(())}, ascents=1),
        OptionError,
        r"^evaluate: expected a `loss` that can be differentiated, found one that cannot; return it .* or set ascents",
    ),
    (
        lambda: loaded(SimplexProfile, "s.json", {"format": "x"}),
        CheckpointError,
        r"s\.json: expected a simplex profile, format onebasin-simplex/1, found something else; pass a file or",
    ),
    (
        lambda: profile(tau="x"),
        CheckpointError,
        r"s\.json: expected a simplex profile, format .*, found something that does not fit: tau: 'x'; pass a file",
    ),
    (
        lambda: profile(loss=[1.0]),
        CheckpointError,
        r"s\.json: expected a simplex profile, format .*, found .*: one row of weights, kind, loss and",
    ),
    (lambda: permuted(1), OptionError, r"^models: expected 2 or more, found 1; pass more networks"),
    (
        lambda: permuted(starts=["x"]),
        OptionError,
        r"^starts: expected some of to-reference, .*, found \['x'\]; choose from them",
    ),
    (lambda: permuted(epochs=-1), OptionError, r"^epochs: expected 0 or more, found -1; raise it"),
    (
        lambda: permuted(starts=[[SYMMETRY.identity()]]),
        OptionError,
        r"^starts: expected 2 matchings, one a network, found 1; pass the identity for the first",
    ),
    (
        lambda: permuted(epochs=0, starts=["to-reference"]).vertices([PAIR]),
        OptionError,
        r"^models: expected 2, found 1; pass those matched",
    ),
    (
        lambda: fit_simplex(LINE, [LINE], [torch.ones(1, 1)], sums, 0),
        OptionError,
        r"^count: expected 1 or more, found 0; raise it",
    ),
    (lambda: fit([0, 3]), OptionError, r"^simplexes: expected sets of positions that name every vertex from 2 on,"),
    (lambda: fit([0, 1, 2], offset=0), OptionError, r"^strength and offset: expected 0 or more, and above 0, found"),
    (
        lambda: loaded(Complex, "complex.json", {}),
        CheckpointError,
        r"complex\.json: expected a complex, format onebasin-complex/1, found something else; pass a file or folder",
    ),
    (without_gudhi, OptionError, r"^persistence: expected the package gudhi, found none; pip install 'onebasin\[compl"),
    (lambda: holonomy([]), OptionError, r"^loop: expected one matching or more, found none; pass those of a circle"),
    (
        lambda: glue(Framed({"a": SYMMETRY.identity()}), Framed({"b": SYMMETRY.identity()}), {}),
        OptionError,
        r"^networks: expected those that both simplexes have, one at least, found none; pass simplexes that share",
    ),
    (
        lambda: Framed.recognise({"a": PAIR}, {"a": {n: t + 1 for n, t in PAIR.state_dict().items()}}, SYMMETRY),
        MismatchError,
        r"^a: expected its network, reordered, found another one; pass the network it came from",
    ),
]
