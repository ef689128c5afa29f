"""The two conditions under which features are linear: weights and inputs commute, and activations are additive.

Both are those of Zhou et al. (NeurIPS 2023), here for any number of networks with any weights.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd

from onebasin.checkpoint import Source
from onebasin.connectivity.features import REPEATS, LayerFigures, Taken, as_rows, module_of, reading
from onebasin.connectivity.linearity import COLUMNS, Tally, ratio, spanned, vertices, weighted
from onebasin.connectivity.measure import states_of
from onebasin.errors import OptionError
from onebasin.evaluation import Evaluation


def commutativity(
    model: nn.Module,
    networks: Sequence[Source],
    evaluation: Evaluation,
    *,
    weights: Sequence[float] | None = None,
    layers: Sequence[str] | None = None,
    samples: int | None = None,
) -> LayerFigures:
    """How well weights and inputs of linear layers commute: with weak additivity this gives LLFC.

    A linear layer W on inputs H differs between the sum of networks and the sum of features by

        sum_i l_i W_i H_i - (sum_i l_i W_i) (sum_j l_j H_j)  =  sum_{i<j} l_i l_j (W_i - W_j) (H_i - H_j)

    where the weights sum to 1: the covariance of weights and inputs (see `weight_covariance`). It vanishes for all such
    weights where W_i H_i + W_j H_j = W_i H_j + W_j H_i.

    Args:
        model: of the architecture of the networks; left as it is.
        networks: two or more, in the same coordinates.
        evaluation: as in `feature_linearity`.
        weights: one a network; None takes the mean.
        layers: names of linear and convolutional layers; None takes all.
        samples: to run, at least; None takes all.

    Returns:
        figures `commutator`, the mean over pairs of |(W_i - W_j)(H_i - H_j)| / |W_i H_i + W_j H_j|, and `defect`, the
        length of the covariance relative to |sum_i l_i W_i H_i|; biases are left out, lengths are over all samples.

    Raises:
        OptionError: as `feature_linearity`.
        MismatchError: if a network does not fit the model.
    """
    span, chosen = spanned(model, networks, weights)
    modules, owner = _linear_layers(model, layers)
    pairs = list(itertools.combinations(range(len(span)), 2))
    sums: dict[str, list[float]] = {}
    samples_of: dict[str, int] = {}
    with reading(span, evaluation, list(modules), inputs=True) as reader, torch.no_grad():
        states = states_of(span, vertices(len(span)), evaluation)
        for layer, taken, count in reader.stream(states, samples):
            module = modules[module_of(layer)]
            name = owner[module_of(layer)]
            kept = sums.setdefault(layer, [0.0] * (2 + 2 * len(pairs)))
            for k, square in enumerate(_commutators(module, [state[name] for state in states], taken, chosen)):
                kept[k] += square
            samples_of[layer] = samples_of.get(layer, 0) + count
    found = {
        "commutator": tuple(
            sum(ratio(row[2 + 2 * k], row[3 + 2 * k]) for k in range(len(pairs))) / len(pairs) for row in sums.values()
        ),
        "defect": tuple(ratio(row[0], row[1]) for row in sums.values()),
    }
    return LayerFigures(tuple(sums), found, max(samples_of.values()))


def _linear_layers(model: nn.Module, layers: Sequence[str] | None) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Linear and convolutional layers by name, those named or all, and the name of each one's weight in a span."""
    owner = {id(parameter): name for name, parameter in model.named_parameters()}
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | _ConvNd) and id(m.weight) in owner}
    for layer in layers or ():
        if layer not in linear:
            raise OptionError(
                f"layer {layer}",
                expected="a linear or convolutional layer",
                found="another one or none",
                remedy="leave `layers` out for all of them",
            )
    chosen = linear if layers is None else {name: linear[name] for name in layers}
    return dict(chosen), {name: owner[id(module.weight)] for name, module in chosen.items()}


def _commutators(
    module: nn.Module, matrices: Sequence[Tensor], taken: Sequence[Taken], weights: Sequence[float]
) -> list[float]:
    """Squared lengths: of the covariance, of the sum of outputs, and of each pair's commutator and sum of outputs."""
    W = [matrix.to(torch.float64) for matrix in matrices]
    H = [one.inputs.to(torch.float64) for one in taken if one.inputs is not None]
    outputs = [_apply(module, matrix, h) for matrix, h in zip(W, H, strict=True)]
    sums = weighted(outputs, weights)
    covariance = sums - _apply(module, weighted(W, weights), weighted(H, weights))
    found = [covariance, sums]
    for i, j in itertools.combinations(range(len(W)), 2):
        found += [_apply(module, W[i] - W[j], H[i] - H[j]), outputs[i] + outputs[j]]
    return [float(tensor.square().sum()) for tensor in found]


def _apply(module: nn.Module, matrix: Tensor, inputs: Tensor) -> Tensor:
    """A linear layer with other weights and no bias."""
    tensors = {"weight": matrix}
    own = module.bias
    if isinstance(own, Tensor):
        tensors["bias"] = torch.zeros(len(own), dtype=matrix.dtype, device=matrix.device)
    output: Tensor = functional_call(module, tensors, (inputs,))
    return output


def weight_covariance(matrices: Sequence[Tensor], inputs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The difference sum_i l_i W_i H_i - (sum_i l_i W_i)(sum_j l_j H_j), summed over pairs of networks.

    It is sum_{i<j} l_i l_j (W_i - W_j)(H_i - H_j) where the weights sum to 1.

    Args:
        matrices: W_i, `[outputs, inputs]` each.
        inputs: H_i, `[inputs, samples]` each.
        weights: l_i.

    Returns:
        `[outputs, samples]`.
    """
    pairs = itertools.combinations(range(len(matrices)), 2)
    terms = [weights[i] * weights[j] * (matrices[i] - matrices[j]) @ (inputs[i] - inputs[j]) for i, j in pairs]
    return torch.stack(terms).sum(0)


def weak_additivity(
    model: nn.Module,
    networks: Sequence[Source],
    evaluation: Evaluation,
    *,
    weights: Sequence[float] | None = None,
    layers: Sequence[str] | None = None,
    samples: int | None = None,
) -> LayerFigures:
    """How far activations s are from s(sum_i l_i h_i) = sum_i l_i s(h_i), with h_i their inputs in the networks.

    Args:
        model: of the architecture of the networks; left as it is.
        networks: two or more, in the same coordinates.
        evaluation: as in `feature_linearity`.
        weights: one a network; None takes the mean.
        layers: names of modules that take one tensor; None takes all without tensors of their own that do not repeat
            what they take. Functions that are no modules, such as `torch.relu`, are not seen.
        samples: to run, at least; None takes all.

    Returns:
        figures `defect`, the mean over samples of the signed 1 - cos of the two sides, and `relative`, the length of
        their difference over all samples relative to the right side.

    Raises:
        OptionError: as `feature_linearity`.
        MismatchError: if a network does not fit the model.
    """
    span, chosen = spanned(model, networks, weights)
    modules = dict(model.named_modules())
    names = [name for name, module in modules.items() if _is_activation(module)] if layers is None else list(layers)
    tallies: dict[str, Tally] = {}
    counts: dict[str, int] = {}
    with reading(span, evaluation, names, inputs=True) as reader, torch.no_grad():
        states = states_of(span, vertices(len(span)), evaluation)
        for layer, taken, count in reader.stream(states, samples):
            given = [one.inputs for one in taken if one.inputs is not None]
            if len(given) == len(taken):
                left = modules[module_of(layer)](weighted(given, chosen))
                rows = [as_rows(tensor) for tensor in (left, *(one.output for one in taken))]
                tallies.setdefault(layer, Tally()).add(rows, chosen)
                counts[layer] = counts.get(layer, 0) + count
    figures = [tally.figures() for tally in tallies.values()]
    found = {name: tuple(row[COLUMNS.index(name)] for row in figures) for name in ("defect", "relative")}
    return LayerFigures(tuple(tallies), found, max(counts.values(), default=0))


def _is_activation(module: nn.Module) -> bool:
    """Whether a module is one without tensors or modules inside."""
    inside = (*module.children(), *module.parameters(), *module.buffers())
    return not inside and not isinstance(module, REPEATS)
