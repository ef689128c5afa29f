"""The law of a probe: the activations of a network whose weights have moved are the activations, moved.

Written out member by member, sharing no code with the library that permutes.
"""

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import onebasin as ob
from onebasin.discovery import Probe, find_probes, watch
from onebasin.discovery.verify import _default_dtype, _Exact

Inputs = Sequence[object]


def sources(matching: ob.Matching, group: str) -> Tensor:
    """For every member of a group, counted row by row in its context, the member that stood there before."""
    groups = matching.symmetry.groups
    chain = (*groups[group].inside, group)
    sizes = [groups[name].size for name in chain]
    rows = []
    for place in itertools.product(*map(range, sizes)):
        here = dict(zip(chain, place, strict=True))
        around = {name: tuple(here[outer] for outer in groups[name].inside) for name in chain}
        there = [int(matching.permutations[name].index[(*around[name], here[name])]) for name in chain]
        rows.append(int(np.ravel_multi_index(there, sizes)))
    return torch.tensor(rows)


def activations(
    model: nn.Module, probes: Mapping[str, Probe], args: Inputs, kwargs: Mapping[str, object] | None = None
) -> dict[str, Tensor]:
    """The activations of every probed group in one forward pass."""
    seen: dict[str, Tensor] = {}

    def take(name: str, x: Tensor) -> None:
        assert name not in seen
        seen[name] = x.clone()

    torch.manual_seed(0)
    with torch.no_grad(), _Exact(), watch(model, probes, take):
        model(*args, **kwargs or {})
    return seen


def poisoned(model: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A copy in eval mode with random weights: zero biases and equal statistics would hide mistakes."""
    twin = copy.deepcopy(model).to(dtype).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in twin.state_dict().values():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if tensor.ndim > 1:
                tensor.copy_(noise * (2 / max(1, tensor[0].numel())) ** 0.5)
            else:
                positive = bool((tensor >= 0).all() and (tensor > 0).any())
                tensor.copy_(noise.abs() + 0.5 if positive else noise)
    return twin


@dataclass(frozen=True)
class Outcome:
    """What `check_law` saw.

    Attributes:
        symmetry: of the model.
        probes: by group.
        unseen: the groups that move and have no probe.
        error: the largest difference from the law, relative to the group's largest activation, over all members tried.
        samples: of every group, on the inputs that were run.
    """

    symmetry: ob.Symmetry
    probes: Mapping[str, Probe]
    unseen: set[str]
    error: float
    samples: Mapping[str, int]


def check_law(
    model: nn.Module,
    args: Inputs,
    kwargs: Mapping[str, object] | None = None,
    *,
    run: Inputs | None = None,
    symmetry: ob.Symmetry | None = None,
    members: int = 2,
) -> Outcome:
    """Find probes on example inputs, move the weights at random, and compare activations on inputs to `run`."""
    symmetry = symmetry or ob.discover(model, args, kwargs)
    probes = find_probes(model, symmetry, args, kwargs)
    twin = poisoned(model)
    with _default_dtype(torch.float64):
        positional = [_wide(value) for value in (args if run is None else run)]
        named = {name: _wide(value) for name, value in (kwargs or {}).items()}
        before = activations(twin, probes, positional, named)
        weights = {name: tensor.clone() for name, tensor in twin.state_dict().items()}
        worst = 0.0
        for seed in range(members):
            member = symmetry.random(seed + 1)
            twin.load_state_dict(member.apply(weights))
            after = activations(twin, probes, positional, named)
            assert before.keys() == after.keys() == probes.keys()
            for name, x in before.items():
                assert x.shape[0] == probes[name].members
                difference = (after[name] - x[sources(member, name)]).abs().max()
                worst = max(worst, float(difference / x.abs().max().clamp_min(1e-30)))
    unseen = {name for name, group in symmetry.groups.items() if not group.fixed and name not in probes}
    return Outcome(symmetry, probes, unseen, worst, {name: x.shape[1] for name, x in before.items()})


def _wide(value: object) -> object:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
