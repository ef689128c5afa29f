"""Merge whole networks, tensor by tensor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from onebasin.checkpoint import Source, Spec, as_given, load_params, specs, tied_names
from onebasin.errors import MismatchError, OptionError
from onebasin.merging.method import Method, Settings
from onebasin.merging.methods import METHODS
from onebasin.merging.rule import Rule
from onebasin.merging.schedule import depths
from onebasin.merging.stack import CHUNK, Stack, combine, combined, flat
from onebasin.symmetry import Matching


class Moved(Mapping[str, Tensor]):
    """A network in other coordinates, its tensors permuted one at a time when they are asked for.

    Args:
        params: tensors by name.
        matching: how to move them.
        label: what to call the network in errors.

    Raises:
        MismatchError: if the tensors do not fit the matching's symmetry.
    """

    def __init__(self, params: Mapping[str, Tensor], matching: Matching, label: str) -> None:
        matching.symmetry.check(params, label)
        self.params = params
        self.matching = matching

    def __getitem__(self, name: str) -> Tensor:
        return self.matching.move(name, self.params[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.params)

    def __len__(self) -> int:
        return len(self.params)


@dataclass(frozen=True)
class Plan:
    """What is to be merged and how; tensors are read, moved and merged when they are asked for.

    Attributes:
        models: tensors by name; the first gives names, order and dtypes.
        base: their common ancestor, for methods that need it.
        labels: what to call the models in errors, and the base last.
        method: how to merge.
        settings: of the method.
        specs: shape and dtype of every tensor of the result.
        twins: for a name that is one tensor with an earlier one in every network, that name.
        infinity: whether infinities may pass.
    """

    models: Sequence[Mapping[str, Tensor]]
    base: Mapping[str, Tensor] | None
    labels: Sequence[str]
    method: Method[...]
    settings: Settings
    specs: Mapping[str, Spec]
    twins: Mapping[str, str]
    infinity: bool

    @classmethod
    def make(
        cls,
        models: Sequence[Mapping[str, Tensor]],
        method: str,
        parameters: Mapping[str, object],
        *,
        base: Mapping[str, Tensor] | None = None,
        labels: Sequence[str] = (),
        dtype: torch.dtype | None = None,
        infinity: bool = True,
    ) -> "Plan":
        """Check that networks can be merged, without looking at their values.

        Raises:
            OptionError: if the method is unknown, or a parameter or the number of models does not fit.
            MismatchError: if a tensor is missing, or has another shape or dtype than in the first model.
        """
        if method not in METHODS:
            raise OptionError("method", expected=" or ".join(METHODS), found=repr(method), remedy="choose one of them")
        chosen = METHODS[method]
        chosen.check(len(models), has_base=base is not None)
        settings = chosen.settings(parameters, len(models))
        networks = [*models, *([] if base is None else [base])]
        names = list(labels) or [f"model {n}" for n in range(1, len(models) + 1)] + ["base"]
        found = [specs(_origin(network)) for network in networks]
        for other, label in zip(found[1:], names[1:], strict=False):
            _require_same(found[0], other, names[0], label, any_dtype=dtype is not None)
        wanted = {
            name: Spec(spec.shape, dtype if dtype is not None and spec.averages else spec.dtype)
            for name, spec in found[0].items()
        }
        plan = cls(models, base, names, chosen, settings, wanted, _twins(networks), infinity)
        plan._try_settings()
        return plan

    def _try_settings(self) -> None:
        """Carry out the rules on tensors without entries, so that values that cannot work are found at once."""
        none = torch.empty(0)
        for name in self.specs:
            self._rule(Stack.of(name, [none] * len(self.models), none if self.base is not None else None))

    @cached_property
    def deep(self) -> dict[str, float]:
        """How deep in the network every tensor lies; see `onebasin.merging.schedule.depths`."""
        return depths(self.specs)

    def tensor(self, name: str) -> Tensor:
        """The merged tensor, in memory of its own; see `chunks`."""
        first = self.models[0][name]
        if not self.specs[name].averages:
            return first.detach().clone()
        stack = self._stack(name)
        return combine(stack, self._rule(stack), first)

    def gather(self) -> dict[str, Tensor]:
        """All merged tensors; those that are one tensor in every network are one."""
        merged: dict[str, Tensor] = {}
        for name in self.specs:
            merged[name] = merged[self.twins[name]] if name in self.twins else self.tensor(name)
        return merged

    def chunks(self, name: str) -> Iterator[Tensor]:
        """The merged tensor as flat chunks one after the other; complex numbers as two real ones.

        Tensors that cannot be averaged are those of the first model.

        Raises:
            MismatchError: if a tensor holds NaN, or infinity where that may not pass.
        """
        if self.specs[name].averages:
            stack = self._stack(name)
            yield from (part for _, part in combined(stack, self._rule(stack)))
        else:
            yield from flat(self.models[0][name]).split(CHUNK)

    def _stack(self, name: str) -> Stack:
        base = None if self.base is None else self.base[name]
        dtype = self.specs[name].dtype
        return Stack.of(
            name,
            [model[name] for model in self.models],
            base,
            dtype=torch.empty(0, dtype=dtype).real.dtype,
            labels=self.labels,
            infinity=self.infinity,
        )

    def _rule(self, stack: Stack) -> Rule:
        return self.method.rule(stack, self.settings, self.deep[stack.name])


def merge(
    models: Sequence[Source],
    method: str = "mean",
    weights: Sequence[float] | None = None,
    *,
    base: Source | None = None,
    dtype: torch.dtype | None = None,
    **parameters: object,
) -> dict[str, Tensor]:
    """Combine networks of one architecture, tensor by tensor.

    The networks should be in the same coordinates: apply a matching to all but the first before.

    Args:
        models: modules, state dicts (of tensors or of NumPy arrays) or checkpoints' paths; the first gives names, order
            and dtypes.
        method: a key of `onebasin.merging.METHODS`, such as `"mean"`, `"lerp"`, `"slerp"`, `"task_arithmetic"`,
            `"ties"`, `"dare_linear"`, `"dare_ties"` or `"breadcrumbs"`.
        weights: for the methods that have weights, one number a model; for `"mean"` relative to each other.
        base: the common ancestor of the models, for the methods that combine differences from it.
        dtype: of the result; None keeps that of the first model, and asks that all have it.
        parameters: further keywords of the method, as its docstring says: `merge([a, b], "lerp", lam=0.3)`. Numbers can
            differ from tensor to tensor, see `onebasin.merging.schedule`.

    Returns:
        new tensors (NumPy arrays if the first model is one of these), added up in float64 and rounded once to the dtype
        of the result; see `onebasin.merging.stack` for bfloat16. Integer and boolean tensors, which cannot be averaged,
        are those of the first model. Tied tensors stay tied.

    Raises:
        OptionError: if the method is unknown, or a parameter does not fit the method and the number of models.
        MismatchError: if a tensor is missing, has another shape or dtype, or holds NaN.
    """
    given = parameters if weights is None else {"weights": weights, **parameters}
    labels = [str(m) if isinstance(m, str | Path) else f"model {n}" for n, m in enumerate(models, start=1)]
    labels.append(str(base) if isinstance(base, str | Path) else "base")
    loaded = [load_params(model) for model in models]
    ancestor = None if base is None else load_params(base)
    plan = Plan.make(loaded, method, given, base=ancestor, labels=labels, dtype=dtype)
    return as_given(models[0], plan.gather())


def _origin(network: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The network before it was moved, which has the same names, shapes, dtypes and ties."""
    return network.params if isinstance(network, Moved) else network


def _twins(networks: Sequence[Mapping[str, Tensor]]) -> dict[str, str]:
    """For a name that is one tensor with an earlier one in every network, the first such name."""
    rows_of_ties = [{name: row for row in tied_names(_origin(n)) for name in row} for n in networks]
    twins: dict[str, str] = {}
    seen: set[str] = set()
    for name in networks[0]:
        mine = [n for n in rows_of_ties[0].get(name, ()) if n in seen]
        twin = next((n for n in mine if all(n in ties.get(name, ()) for ties in rows_of_ties)), None)
        if twin is not None:
            twins[name] = twin
        else:
            seen.add(name)
    return twins


def _require_same(
    first: Mapping[str, Spec], other: Mapping[str, Spec], label: str, other_label: str, *, any_dtype: bool
) -> None:
    for name in [*first, *other]:
        missing = label if name not in first else other_label if name not in other else ""
        if missing:
            raise MismatchError(
                f"{missing}: {name}", expected="a tensor of this name", found="none", remedy="merge one architecture"
            )
        a, b = first[name], other[name]
        same_dtype = a.dtype == b.dtype or (any_dtype and a.averages and b.averages)
        for what, mine, theirs, fits in (
            ("shape", a.shape, b.shape, a.shape == b.shape),
            ("dtype", a.dtype, b.dtype, same_dtype),
        ):
            if not fits:
                raise MismatchError(
                    f"{other_label}: {name}",
                    expected=f"{what} {mine}, as in {label}",
                    found=f"{what} {theirs}",
                    remedy="merge checkpoints of one architecture and one dtype",
                )
