"""Prove a symmetry on the model: random members of it must leave the outputs as they are."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from onebasin.discovery.tape import output_tensors
from onebasin.errors import DiscoveryError, OptionError
from onebasin.modes import in_mode
from onebasin.permutation import Permutation
from onebasin.symmetry import Matching, Symmetry

TOLERANCE = 1e-9
"""The largest relative error, in float64, that rounding may explain."""


@dataclass(frozen=True)
class Verification:
    """What `verify` measured.

    Attributes:
        max_relative_error: the largest difference of any output, relative to the largest output, over all trials.
        tolerance: the largest error that counts as equal.
        trials: how many random members were drawn in each mode.
        modes: the modes the model was run in.
        culprits: where it failed, the groups that change the function when moved alone.
        notes: what could not be tried, and why.
    """

    max_relative_error: float
    tolerance: float
    trials: int
    modes: tuple[str, ...]
    culprits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every output stayed the same, in one mode at least."""
        return bool(self.modes) and self.max_relative_error < self.tolerance


def verify(
    model: nn.Module,
    symmetry: Symmetry,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    trials: int = 3,
    seed: int = 0,
) -> Verification:
    """Compare a model's outputs before and after random members of its symmetry.

    The comparison is made in float64 on a copy of the model whose floating-point parameters and buffers are drawn at
    random, since zero biases, unit gains and equal running statistics would hide mistakes; in eval mode and in train
    mode (where BatchNorm's updated statistics are compared, too; dropout is off).

    Args:
        model: not modified.
        symmetry: as discovered, or written by hand.
        args: positional inputs; use a batch of two or more.
        kwargs: keyword inputs.
        trials: random members tried in each mode, at least 1; each moves every group, every second one inside a single
            member of the groups around it only.
        seed: of weights and members.

    Returns:
        the measurement; where it fails, the groups at fault.

    Raises:
        OptionError: if `trials` is below 1.
        MismatchError: if the symmetry does not fit the model.
        DiscoveryError: if the model does not run on the inputs, or gives NaN or infinite outputs.
    """
    if trials < 1:
        raise OptionError("trials", expected="1 or more", found=str(trials), remedy="raise it")
    symmetry.check(model.state_dict(), type(model).__name__)
    trial = _Trial(model, symmetry, tuple(args), dict(kwargs or {}), seed)
    members = [_member(symmetry, seed + 1 + number, sparse=number % 2 == 1) for number in range(trials)]
    worst, modes, notes = 0.0, [], []
    culprits: tuple[str, ...] = ()
    for mode in ("eval", "train"):
        trial.mode = mode
        try:
            reference = trial.run(None)
        except DiscoveryError as error:
            if mode == "eval":
                raise
            notes.append(f"train mode was not tried: {error.found}")
            continue
        if trial.error(reference, None) >= TOLERANCE:
            notes.append(f"{mode} mode was not tried: the model gives other outputs each time it is run")
            continue
        modes.append(mode)
        errors = [trial.error(reference, member) for member in members]
        worst = max(worst, *errors)
        culprits = culprits or _culprits(trial, reference, members[int(np.argmax(errors))], max(errors))
    if worst >= TOLERANCE and not culprits:
        notes.append("every group alone keeps the function, all together do not")
    return Verification(worst, TOLERANCE, trials, tuple(modes), culprits, tuple(notes))


def _culprits(trial: "_Trial", reference: list[Tensor], member: Matching, error: float) -> tuple[str, ...]:
    """The groups that change the function when moved alone, if all of them together do."""
    if error < TOLERANCE:
        return ()
    return tuple(name for name in member.permutations if trial.error(reference, _only(member, name)) >= TOLERANCE)


def _member(symmetry: Symmetry, seed: int, *, sparse: bool) -> Matching:
    """A random member that moves every group: a group of two would stay in place every other time.

    A sparse one moves a nested group inside one member of the groups around only: a group that may move alike
    everywhere but not here and there is caught by that.
    """
    generator = np.random.default_rng(seed)
    drawn = dict(symmetry.random(seed).permutations)
    for group in symmetry.groups.values():
        if group.fixed or group.size == 1:
            continue
        rows = np.array(drawn[group.name].index).reshape(-1, group.size)
        chosen = int(generator.integers(len(rows)))
        if sparse:
            rows[np.arange(len(rows)) != chosen] = np.arange(group.size)
        if (rows[chosen] == np.arange(group.size)).all():
            rows[chosen] = np.roll(rows[chosen], 1)
        drawn[group.name] = Permutation(rows.reshape(drawn[group.name].index.shape))
    return Matching(symmetry, drawn, seed=seed, method="random")


def _only(member: Matching, name: str) -> Matching:
    """The same member with every other group in place."""
    return Matching(member.symmetry, {**member.symmetry.identity().permutations, name: member.permutations[name]})


class _Trial:
    """A poisoned float64 copy of a model that can be run with its tensors moved."""

    def __init__(
        self, model: nn.Module, symmetry: Symmetry, args: tuple[object, ...], kwargs: dict[str, object], seed: int
    ) -> None:
        self.mode = "eval"
        self._model = copy.deepcopy(model).double()
        self._symmetry = symmetry
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for tensor in _distinct(self._model.state_dict()):
                tensor.copy_(_poison(tensor, generator))
        self._weights = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        self._inputs = tree_map_only(Tensor, _double, (args, kwargs))

    def run(self, member: Matching | None) -> list[Tensor]:
        """Outputs and, in train mode, updated statistics moved back, after moving the weights by `member`.

        Raises:
            DiscoveryError: whatever the model raises.
        """
        weights = self._weights if member is None else member.apply(self._weights)
        self._model.load_state_dict(weights)
        try:
            outputs = self._outputs()
        except Exception as error:
            raise DiscoveryError(
                type(self._model).__name__,
                expected=f"a model that runs on the example inputs in float64 and {self.mode} mode",
                found=f"{type(error).__name__}: {error}",
                remedy="pass the inputs that the model's forward takes as args and kwargs",
            ) from error
        if self.mode == "train":
            state = self._model.state_dict()
            updated = state if member is None else member.inverse().apply(state)
            outputs.extend(updated[name].clone() for name in sorted(self._symmetry.buffers))
        return outputs

    def _outputs(self) -> list[Tensor]:
        args, kwargs = tree_map_only(Tensor, torch.clone, self._inputs)
        with (
            torch.no_grad(),
            in_mode(self._model, train=self.mode == "train"),
            torch.random.fork_rng(devices=[]),
            _default_dtype(torch.float64),
            _Exact(),  # type: ignore[no-untyped-call]
        ):
            torch.manual_seed(0)
            return [tensor.clone() for tensor in output_tensors(self._model(*args, **kwargs))]

    def error(self, reference: list[Tensor], member: Matching | None) -> float:
        """The largest difference of any output, relative to that output's largest entry."""
        worst = 0.0
        for before, after in zip(reference, self.run(member), strict=True):
            if not before.is_floating_point() or before.numel() == 0:
                worst = max(worst, float(not torch.equal(before, after)))
                continue
            scale = float(before.abs().max())
            if not torch.isfinite(before).all():
                raise DiscoveryError(
                    "verify",
                    expected="finite outputs on random weights",
                    found="NaN or infinite outputs",
                    remedy="pass example inputs of ordinary size",
                )
            difference = float((before - after).abs().max())
            worst = max(worst, difference / scale if scale else float(difference > 0))
        return worst


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Tensors that a forward pass makes itself get the dtype of the copy it runs on."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class _Exact(TorchDispatchMode):
    """Keeps a float64 model comparable: no rounding to a shorter dtype in between, and dropout that drops nothing."""

    _SHORT = (torch.float32, torch.float16, torch.bfloat16)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # Norms and rotary embeddings compute in float32 whatever the model is in.
        if kwargs is not None and kwargs.get("dtype") in self._SHORT:
            kwargs = {**kwargs, "dtype": torch.float64}
        if func.name() == "aten::_grouped_mm" and args[0].dtype == torch.float64:
            return _grouped_product(*args)
        # Wherever it is called from, dropout is one of these below autograd.
        if func is torch.ops.aten.native_dropout.default:
            return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
        if func in (torch.ops.aten.bernoulli_.float, torch.ops.aten.bernoulli.p):
            return args[0].fill_(1) if func is torch.ops.aten.bernoulli_.float else torch.ones_like(args[0])
        return func(*args, **kwargs or {})


def _grouped_product(rows: Tensor, stack: Tensor, ends: Tensor) -> Tensor:
    """One matrix for each run of rows: PyTorch's own operation has no float64."""
    starts = [0, *ends.tolist()]
    runs = [rows[i:j] @ matrix for i, j, matrix in zip(starts, starts[1:], stack, strict=False)]
    return torch.cat([*runs, rows.new_zeros(len(rows) - starts[-1], stack.shape[-1])])


def _distinct(state: Mapping[str, Tensor]) -> Iterator[Tensor]:
    seen: set[int] = set()
    for tensor in state.values():
        if tensor.is_floating_point() and tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            yield tensor


def _poison(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Random values of a size that keeps activations in range: what was never negative stays positive."""
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    if tensor.ndim > 1:
        return noise.mul((2 / max(1, tensor[0].numel())) ** 0.5)
    positive = tensor.numel() > 0 and bool((tensor >= 0).all()) and bool((tensor > 0).any())
    return noise.abs() + 0.5 if positive else noise


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor
