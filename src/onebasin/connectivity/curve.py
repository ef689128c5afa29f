"""Curves through the space of weights: sums of control networks whose weights depend on one number t."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onebasin.checkpoint import Source, load_params, save_checkpoint
from onebasin.connectivity.measure import states_of
from onebasin.connectivity.span import Span
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation, Params
from onebasin.files import write_error
from onebasin.json_file import numbers, read_json, record, typed, write_json
from onebasin.merging.rule import Shares
from onebasin.merging.stack import Stack, combine
from onebasin.symmetry import Matching

Values = NDArray[np.float64]
Basis = Callable[[float, int], tuple[float, ...]]
"""From t, 0 to 1, and the number of control networks to their weights, which sum to 1."""
FORMAT = "onebasin-curve/1"
JSON_FILE, MATCHING_FILE = "curve.json", "matching.json"
_PIECES = 1000
"""Straight pieces by which lengths are measured."""


def bernstein(t: float, count: int) -> tuple[float, ...]:
    """The weights of a Bezier curve: `C(n, j) t^j (1 - t)^(n - j)`, n = count - 1."""
    n = count - 1
    return tuple(math.comb(n, j) * t**j * (1 - t) ** (n - j) for j in range(count))


def hats(t: float, count: int) -> tuple[float, ...]:
    """The weights of a polygonal chain with equally long pieces of t: `max(0, 1 - |t (count - 1) - j|)`."""
    return tuple(max(0.0, 1 - abs(t * (count - 1) - j)) for j in range(count))


BASES: dict[str, Basis] = {"bezier": bernstein, "polygonal": hats}
"""Kinds of curves; a straight line is either of two control networks."""


def basis_of(kind: str) -> Basis:
    """The basis of a kind of curves.

    Raises:
        OptionError: if there is none of that name.
    """
    if kind not in BASES:
        raise OptionError("kind", expected=" or ".join(BASES), found=repr(kind), remedy="choose one")
    return BASES[kind]


@dataclass(frozen=True)
class Curve:
    """A curve `sum over j of weights_j(t) control_j`, t from 0 to 1.

    Attributes:
        kind: a key of `BASES`.
        controls: the control networks: tensors by the names of a state dict. The first and the last are the ends.
        parameters: the names of the coordinates that lengths are measured in: buffers are none.
        losses: the mean loss of every epoch of training; empty where it was not trained.
        complete: False where training was interrupted.
        matching: how the units of the end were reordered while the curve was trained; None where they were not.
    """

    kind: str
    controls: tuple[Params, ...]
    parameters: tuple[str, ...]
    losses: tuple[float, ...] = ()
    complete: bool = True
    matching: Matching | None = None

    def weights(self, t: float) -> tuple[float, ...]:
        """The weights of the control networks at a point."""
        return basis_of(self.kind)(t, len(self.controls))

    def params(self, t: float) -> dict[str, Tensor]:
        """New tensors of a point, in the dtypes of the first control network; exactly the ends at 0 and 1.

        Buffers are summed like parameters; integers come from the first.
        """
        return weighted(self.controls, self.weights(t))

    def members(self, model: nn.Module, points: Sequence[float], evaluation: Evaluation) -> list[dict[str, Tensor]]:
        """Networks of an ensemble along the curve (Garipov et al. 2018): its points, ready to run.

        Args:
            model: of the architecture; left as it is.
            points: t of each, from 0 to 1.
            evaluation: what becomes of BatchNorm's statistics: they should be re-estimated.

        Raises:
            OptionError: if the evaluation repairs, as in `profile_curve`.
        """
        check_policy(evaluation)
        return states_of(Span(model, self.controls), [self.weights(t) for t in points], evaluation)

    @property
    def length(self) -> float:
        """The length of the curve."""
        return self.arc([0.0, 1.0])[-1]

    @property
    def chord(self) -> float:
        """The distance between the ends."""
        return float(self._distances(np.array([self.weights(0.0), self.weights(1.0)]))[0])

    def arc(self, points: Sequence[float]) -> tuple[float, ...]:
        """The length of the curve from its beginning to every point, in float64.

        A Bezier curve is measured by a thousand straight pieces, which are too short by a few millionths; a chain
        exactly.

        Args:
            points: ascending from 0 to 1.
        """
        knots = np.linspace(0, 1, len(self.controls))
        grid = np.unique(np.concatenate([np.linspace(0, 1, _PIECES + 1), knots, points]))
        steps = self._distances(np.array([self.weights(float(t)) for t in grid]))
        arc = np.concatenate([[0.0], np.cumsum(steps)])
        return tuple(float(arc[place]) for place in np.searchsorted(grid, points))

    def _distances(self, weights: Values) -> Values:
        """Distances between successive points, given by their weights `[points, controls]`.

        With control networks w_j = w_0 + d_j, the squared distance of two points whose weights differ by u is
        u^T G u, G the inner products of the d_j: the networks are read once, however many points there are.
        """
        steps = np.diff(weights[:, 1:], axis=0)
        squares: Values = np.einsum("si,ij,sj->s", steps, self._gram, steps)
        return np.sqrt(np.maximum(squares, 0))

    @cached_property
    def _gram(self) -> Values:
        rows = torch.stack([_coordinates(control, self.parameters) for control in self.controls])
        rows = rows[1:] - rows[0]
        gram: Values = (rows @ rows.T).cpu().numpy()
        return gram

    def save(self, folder: str | Path) -> None:
        """Write the control networks, `control_0.safetensors` and so on, and `curve.json`, which comes last.

        Raises:
            CheckpointError: if the folder cannot be made or written to.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (JSON_FILE, MATCHING_FILE):
                (folder / name).unlink(missing_ok=True)  # what is read first is not there until all is
        except OSError as error:
            raise write_error(folder, error) from error
        for place, control in enumerate(self.controls):
            save_checkpoint(control, folder / f"control_{place}.safetensors")
        if self.matching is not None:
            self.matching.save(folder / MATCHING_FILE)
        data = {
            "format": FORMAT,
            "kind": self.kind,
            "controls": len(self.controls),
            "length": self.length,
            "complete": self.complete,
            "losses": list(self.losses),
            "parameters": list(self.parameters),
        }
        write_json(folder / JSON_FILE, data)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if a file is missing, or the folder holds no curve.
        """
        folder = Path(folder)
        where = str(folder / JSON_FILE)
        with record(read_json(where), where, "a curve", FORMAT) as data:
            kind, count, complete = data["kind"], typed(data, "controls", int), typed(data, "complete", bool)
            if kind not in BASES:
                raise ValueError(f"kind: {kind!r}")
            parameters, losses = tuple(typed(data, "parameters", list)), numbers(data["losses"], f"{where}: losses")
        controls = tuple(dict(load_params(folder / f"control_{place}.safetensors")) for place in range(count))
        matching = Matching.load(folder / MATCHING_FILE) if (folder / MATCHING_FILE).exists() else None
        return cls(kind, controls, parameters, losses, complete, matching)


def check_policy(evaluation: Evaluation) -> None:
    """Refuse REPAIR on curves: control networks are not on them, and their units' spreads are no target.

    Raises:
        OptionError: if the evaluation repairs.
    """
    if evaluation.batchnorm == "repair":
        raise OptionError("batchnorm", expected="reestimate or keep", found="repair", remedy="choose one for curves")


def weighted(networks: Sequence[Params], weights: Sequence[float]) -> dict[str, Tensor]:
    """New tensors of a weighted sum of networks; integers come from the first.

    Args:
        networks: tensors by name, the same names in each.
        weights: one a network.

    Raises:
        MismatchError: if one holds NaN.
    """
    shares = Shares(tuple(float(weight) for weight in weights))
    return {
        name: combine(Stack.of(name, [network[name] for network in networks]), shares, tensor)
        if tensor.is_floating_point() or tensor.is_complex()
        else tensor.clone()
        for name, tensor in networks[0].items()
    }


def whole(model: nn.Module, params: Params) -> dict[str, Tensor]:
    """Tensors by all names of a model's state dict, tied ones under each of theirs.

    Args:
        model: knows what is tied.
        params: tensors by the names of a `Runner`, under one name each.
    """
    first = {id(tensor): name for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers())}
    every = itertools.chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    names: Mapping[str, str] = {name: first[id(tensor)] for name, tensor in every}
    return {name: params[names[name]] for name in model.state_dict() if names.get(name) in params}


def chain(
    model: nn.Module, networks: Sequence[Params], kind: str, losses: Sequence[float] = (), *, complete: bool = True
) -> Curve:
    """A curve of control networks as a trainer gives them, under the names of `Runner`."""
    span = Span(model, [whole(model, network) for network in networks])
    return Curve(
        kind, tuple(whole(model, vertex) for vertex in span.vertices), span.parameters, tuple(losses), complete
    )


def straight(model: nn.Module, networks: Sequence[Source]) -> Curve:
    """The polygonal chain through networks; of two, the straight line.

    Args:
        model: of their architecture.
        networks: in the same coordinates: modules, tensors by name, or paths.

    Raises:
        OptionError: if there are fewer than two.
        MismatchError: if one does not fit the model.
    """
    if len(networks) < 2:  # noqa: PLR2004 - a line has two ends
        raise OptionError("networks", expected="two or more", found=str(len(networks)), remedy="pass more")
    span = Span(model, networks)
    return Curve("polygonal", tuple(whole(model, vertex) for vertex in span.vertices), span.parameters)


def _coordinates(params: Params, names: Sequence[str]) -> Tensor:
    """The numbers of a network, float64 `[numbers]`, complex ones as pairs."""
    tensors = (params[name].detach() for name in names)
    real = (torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors)
    return torch.cat([tensor.reshape(-1).to(torch.float64) for tensor in real])
