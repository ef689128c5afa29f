"""Activation similarity: how alike the members of every axis group respond to the same data, for any discovered model.

Activation matching (Ainsworth et al. 2023, section 3.1) scores unit i of `a` against unit j of `b` by the sum over
samples of z_i^a z_j^b. Centred sums are the covariance; divided by both standard deviations, the correlation (Li et
al. 2016), which does not ask how strongly a unit responds. No label is needed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from onebasin.checkpoint import Source, check_finite, load_params
from onebasin.discovery.probes import Probe, find_probes, watch
from onebasin.discovery.tape import restored_buffers
from onebasin.errors import MismatchError, OptionError
from onebasin.modes import in_mode
from onebasin.progress import Progress, Report, silent
from onebasin.similarity.moments import CrossMoments
from onebasin.symmetry import Symmetry

KINDS = {"correlation": CrossMoments.correlation, "covariance": CrossMoments.covariance}
"""What a similarity can be, by name."""


@dataclass(frozen=True)
class Activations:
    """What two networks' activations on the same data say about their units.

    Members are counted row by row as in `[*context, n]`; m is their number: the size of the group times those of the
    groups around it.

    Attributes:
        kind: `correlation` or `covariance`.
        similarity: for every group `[m, m]` float64 on the CPU: member of `a` against member of `b`, to be maximised.
        moments: for every group the means, variances and covariances it was made from.
        samples: how many samples of data both networks have seen.
        missing: the groups that move but were not seen, since no tensor carries them without others beside them. Those
            around a group that was seen are matched by what is inside them.
    """

    kind: str
    similarity: Mapping[str, Tensor]
    moments: Mapping[str, CrossMoments]
    samples: int
    missing: tuple[str, ...]


def activation_similarity(
    model: nn.Module,
    a: Source,
    b: Source,
    symmetry: Symmetry,
    batches: Iterable[object] | Callable[[], Iterable[object]],
    evaluate: Callable[[nn.Module, Any], object] | None = None,
    *,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    kind: str = "correlation",
    samples: int | None = None,
    progress: Report = silent,
) -> Activations:
    """Run two networks on the same batches and compare the activations of every group of a symmetry.

    Both run in eval mode, with the same random numbers, in one instance of the model, which is left as it was found.
    In memory are both state dicts and the model's own, one batch of activations, and for every group m * m sums.

    Args:
        model: of the architecture of `a` and `b`.
        a: the reference.
        b: the network to be matched to it.
        symmetry: of the model, as discovered or from a file.
        batches: gone through once; labels are not needed.
        evaluate: `evaluate(model, batch)` runs the model on a batch; `count` in its result is the number of samples.
            None calls the model with the batch, its items where it is a list or a tuple, or its entries by name.
        args: positional inputs of one forward pass, shaped like the data, a batch of two or more.
        kwargs: keyword inputs of one forward pass.
        kind: `"correlation"` or `"covariance"`.
        samples: stop after at least so many samples; None uses all batches.
        progress: called after every batch.

    Returns:
        the similarity of every group that a single tensor shows.

    Raises:
        OptionError: if `kind`, `samples`, `batches` or `evaluate` cannot work.
        MismatchError: if `a` or `b` does not fit the symmetry or holds NaN, if the symmetry is not one of the model, if
            the model performs other operations on a batch than on the example inputs, or activations are not finite.
        DiscoveryError: if the model does not run on the example inputs.
    """
    if kind not in KINDS:
        raise OptionError("kind", expected=" or ".join(KINDS), found=repr(kind), remedy="choose one of them")
    if samples is not None and samples < 1:
        raise OptionError("samples", expected="1 or more", found=str(samples), remedy="raise it or pass None")
    weights = [_weights(model, source, symmetry, label) for source, label in ((a, "a"), (b, "b"))]
    with _same_randomness(model):
        probes = find_probes(model, symmetry, args, kwargs)
    pair = _Pair(model, weights, probes, evaluate or _call)
    seen = 0
    with _lent(model), in_mode(model, train=False):
        for batch in batches() if callable(batches) else batches:
            seen += pair.run(batch)
            progress(Progress("activations", seen, samples))
            if samples is not None and seen >= samples:
                break
    return _result(kind, symmetry, pair.moments, seen)


def _result(kind: str, symmetry: Symmetry, moments: Mapping[str, CrossMoments], seen: int) -> Activations:
    if not seen:
        raise OptionError(
            "batches", expected="at least one sample", found="none", remedy="pass data to run the model on"
        )
    for name, found in moments.items():
        if not torch.isfinite(found.covariance()).all():
            raise MismatchError(
                f"group {name}",
                expected="finite activations",
                found="NaN or infinity",
                remedy="look for an overflow, or for inputs that are not finite",
            )
    similarity = {name: KINDS[kind](found).cpu() for name, found in moments.items()}
    missing = tuple(name for name, group in symmetry.groups.items() if not group.fixed and name not in moments)
    return Activations(kind, similarity, moments, seen, missing)


class _Pair:
    """Two networks that take turns in one instance of the model."""

    def __init__(
        self,
        model: nn.Module,
        weights: Sequence[Mapping[str, Tensor]],
        probes: Mapping[str, Probe],
        evaluate: Callable[[nn.Module, Any], object],
    ) -> None:
        self.moments = {name: CrossMoments(probe.members) for name, probe in probes.items()}
        self._model, self._weights, self._probes, self._evaluate = model, weights, probes, evaluate
        self._loaded: int | None = None
        self._held: dict[str, list[Tensor]] = {}

    def run(self, batch: object) -> int:
        """Run both networks on a batch, beginning with the one that is loaded; returns the number of samples."""
        first = self._loaded or 0
        self._held = {name: [] for name in self._probes}
        self._run(first, batch, self._hold)
        _require(all(self._held.values()), "none")
        count = self._run(1 - first, batch, self._compare)
        _require(not any(self._held.values()), "fewer for one network than for the other")
        return count

    def _run(self, which: int, batch: object, take: Callable[[str, Tensor], None]) -> int:
        if self._loaded != which:
            _write(self._model, self._weights[which])
            self._loaded = which
        with _same_randomness(self._model), torch.no_grad(), watch(self._model, self._probes, take):
            return _count(self._evaluate(self._model, batch), batch)

    def _hold(self, name: str, x: Tensor) -> None:
        self._held[name].append(x.clone())  # The model may overwrite its own tensors.

    def _compare(self, name: str, x: Tensor) -> None:
        _require(bool(self._held[name]), "more for one network than for the other")
        held = self._held[name].pop(0)
        try:
            self.moments[name].update(*((x, held) if self._loaded == 0 else (held, x)))
        except MismatchError as error:
            raise error.within(f"group {name}") from None


def _same_randomness(model: nn.Module) -> AbstractContextManager[None]:
    """Give the random numbers that a block draws back, so that the next one draws the same."""
    return torch.random.fork_rng(sorted({p.device.index for p in model.parameters() if p.is_cuda}))


def _require(alike: bool, found: str) -> None:  # noqa: FBT001 - a condition
    """Refuse an evaluation that does not run both networks alike."""
    if not alike:
        raise OptionError(
            "evaluate",
            expected="forward passes of the model, as many for one network as for the other",
            found=found,
            remedy="call the model it is given, in the same way for all weights",
        )


def _call(model: nn.Module, batch: Any) -> object:  # noqa: ANN401 - whatever the model takes
    """Run a model on a batch that holds its inputs and nothing else."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, list | tuple) else model(batch)


def _count(result: object, batch: object) -> int:
    """How many samples a batch held: what the evaluation says, or the length of the first tensor."""
    if isinstance(result, Mapping) and "count" in result:
        return int(result["count"])
    return next((len(leaf) for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim), 1)


def _weights(model: nn.Module, source: Source, symmetry: Symmetry, label: str) -> dict[str, Tensor]:
    """Copies of a network's tensors, of the dtypes and on the devices of the model's own."""
    params = load_params(source)
    label = str(source) if isinstance(source, str | Path) else label
    symmetry.check(params, label)
    check_finite(params, label, infinity=True)
    same = {name: row for row in symmetry.tied for name in row}
    copies = {}
    for name, tensor in model.state_dict().items():
        stored = next((other for other in (name, *same.get(name, ())) if other in params), None)
        if stored is not None:
            copies[name] = torch.empty_like(tensor).copy_(params[stored])
    return copies


def _write(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in weights:
                tensor.copy_(weights[name])


@contextmanager
def _lent(model: nn.Module) -> Iterator[None]:
    """Put a model's parameters and buffers back after a block that writes to them."""
    saved = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    with restored_buffers(model):
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, copy in saved:
                    parameter.copy_(copy)
