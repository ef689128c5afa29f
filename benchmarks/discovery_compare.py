"""Who finds symmetries that are there, and only those? onebasin beside `rebasin` 0.0.47 and `torch-pruning` 1.6.

    python benchmarks/discovery_compare.py [--timeout 120]

Every network gets random weights and random BatchNorm statistics in float64; each tool says what belongs together, the
network is moved accordingly, and its outputs in eval mode are compared with those before. One process for each network
and tool. What is moved:

* onebasin: a random member of the discovered symmetry, all groups at once;
* rebasin: the permutations that its weight matching finds between this network and another random one, applied by it;
* torch-pruning: it permutes nothing, but says which entries of which tensors have to be pruned together with a channel.
  Where that is right, two channels may change places: in every group of its dependency graph, the last layer left out
  as its manual asks for, the entries of two random channels are exchanged. It is told nothing of heads.

Printed are the verdict, the number of groups that moved and the seconds to find them: *right* (outputs equal to 1e-5),
*wrong* with the relative error, *nothing* (no group to move), *fails* with the exception (UnlikeError: two channels of
one group of torch-pruning do not take the same entries along), *slow* (past the timeout).
Tools and packages that are not installed are left out, with a line that says so.
"""

import argparse
import copy
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import onebasin as ob

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo  # the networks of the tests, in their published size
from architectures.catalogue import build as build_small
from architectures.entry import load

Inputs = tuple[Tensor, ...] | dict[str, Tensor]
Move = tuple[int, Callable[[], dict[str, Tensor]]]
TOLERANCE = 1e-5  # Some models compute in float32 inside, whatever they are given; mistakes show from 1e-3 on.


def _image(size: int, build: Callable[[], nn.Module]) -> Callable[[], tuple[nn.Module, Inputs]]:
    return lambda: (build(), (torch.randn(2, 3, size, size),))


def _vision(name: str, size: int = 64) -> Callable[[], tuple[nn.Module, Inputs]]:
    def build() -> nn.Module:
        return getattr(load("torchvision").models, name)()

    return _image(size, build)


def _small(name: str) -> Callable[[], tuple[nn.Module, Inputs]]:
    def make() -> tuple[nn.Module, Inputs]:
        model, args, kwargs = build_small(name)
        return model, args or kwargs

    return make


def _flattened() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 16), nn.ReLU(),
                         nn.Linear(16, 5))  # fmt: skip


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Inputs]]] = {
    "MLP": lambda: (zoo.mlp(20, 64, 48, 10), (torch.randn(4, 20),)),
    "convolution, flatten, linear": _image(8, _flattened),
    "VGG16 (CIFAR)": _image(32, lambda: zoo.vgg16(16, (64,))),
    "ResNet20": _image(32, zoo.ResNet20),
    "resnet18": _vision("resnet18"),
    "resnet50": _vision("resnet50"),
    "resnext50_32x4d": _vision("resnext50_32x4d"),
    "mobilenet_v2": _vision("mobilenet_v2"),
    "mobilenet_v3_small": _vision("mobilenet_v3_small"),
    "efficientnet_b0": _vision("efficientnet_b0"),
    "densenet121": _vision("densenet121"),
    "shufflenet_v2_x1_0": _vision("shufflenet_v2_x1_0"),
    "convnext_tiny": _vision("convnext_tiny"),
    "U-Net (small)": _small("twin/unet"),
    "Swin (small)": _small("torchvision/swin"),
    "ViT (small)": _small("torchvision/vit"),
    "xcit (small)": _small("timm/xcit"),
    "GPT-2 (small)": _small("transformers/gpt2"),
    "Llama (small)": _small("transformers/llama"),
    "BERT (small)": _small("transformers/bert"),
    "Mamba (small)": _small("transformers/mamba"),
    "LSTM, two layers": _small("torch/lstm_both_ways"),
    "nn.Transformer": _small("torch/transformer"),
}


def run(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """All floating-point outputs of one forward pass in eval mode."""
    with torch.no_grad():
        outputs = model.eval()(**inputs) if isinstance(inputs, dict) else model.eval()(*inputs)
    outputs = chosen(outputs)
    return [outputs] if isinstance(outputs, Tensor) else [t for t in outputs if isinstance(t, Tensor)]


def chosen(outputs: object) -> object:
    """What counts of a model's output: the logits where there are any."""
    return outputs["logits"] if isinstance(outputs, Mapping) and "logits" in outputs else outputs


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """The model in float64 with random weights, biases, gains and running statistics; variances stay positive."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                spread = (2 / max(1, tensor[0].numel())) ** 0.5 if tensor.ndim > 1 else 0.3
                tensor.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise * spread)
    return model


def onebasin(model: nn.Module, inputs: Inputs) -> Move:
    """A random member of the discovered symmetry."""
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    symmetry = ob.discover(model, args, kwargs)
    moving = sum(not group.fixed for group in symmetry.groups.values())
    return moving, lambda: symmetry.random(1).apply(model)


def rebasin(model: nn.Module, inputs: Inputs) -> Move:
    """The permutations of `rebasin`'s weight matching against another random network."""
    from rebasin import PermutationCoordinateDescent  # noqa: PLC0415 - one tool a process

    other, moved = randomised(copy.deepcopy(model), 2), copy.deepcopy(model)
    given = inputs if isinstance(inputs, dict) else list(inputs)
    descent = PermutationCoordinateDescent(other, moved, given)
    permutations = descent.pinit.model_graph.permutation_to_info

    def apply() -> dict[str, Tensor]:
        descent.rebasin(max_iterations=1)
        return moved.state_dict()

    return len(permutations), apply


class UnlikeError(Exception):
    """Two channels of one group take different entries along, so that they cannot change places."""


def torch_pruning(model: nn.Module, inputs: Inputs) -> Move:
    """Two random channels of every dependency group exchanged."""
    import torch_pruning as pruning  # noqa: PLC0415 - one tool a process

    last = _last_layer(model, inputs)
    graph = pruning.DependencyGraph().build_dependency(
        model, inputs if isinstance(inputs, dict) else [*inputs], output_transform=chosen
    )
    groups = list(graph.get_all_groups(ignored_layers=[last]))

    def apply() -> dict[str, Tensor]:
        names = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
        draw = np.random.default_rng(1)
        swaps: list[tuple[str, int, list[int], list[int]]] = []
        for group in groups:
            root = group[0].dep
            channels = draw.choice(len(group[0].idxs), 2, replace=False) if len(group[0].idxs) > 1 else []
            found = [_removed(graph.get_pruning_group(root.layer, root.pruning_fn, [int(c)]), names) for c in channels]
            if found and {k: len(v) for k, v in found[0].items()} != {k: len(v) for k, v in found[1].items()}:
                raise UnlikeError(str(root))
            for (tensor, axis), first in (found[0] if found else {}).items():
                swaps.append((tensor, axis, first, found[1][tensor, axis]))
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for tensor, axis, first, second in swaps:
            order = torch.arange(state[tensor].shape[axis])
            order[first + second] = torch.tensor(second + first)
            state[tensor] = state[tensor].index_select(axis, order)
        return state

    return len(groups), apply


def _last_layer(model: nn.Module, inputs: Inputs) -> nn.Module:
    """The linear layer or convolution that runs last: its channels are the outputs."""
    ran: list[nn.Module] = []
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]  # noqa: SLF001
    hooks = [layer.register_forward_hook(lambda layer, *_: ran.append(layer)) for layer in layers]
    run(model, inputs)
    for hook in hooks:
        hook.remove()
    return ran[-1]


def _removed(group: object, names: Mapping[int, str]) -> dict[tuple[str, int], list[int]]:
    """What a group would prune: positions of axes of tensors, found by pruning numbered copies of its layers."""
    positions: dict[tuple[str, int], list[int]] = {}
    for dep, given in group.items:  # type: ignore[attr-defined]
        layer, indices = dep.layer, sorted(getattr(i, "idx", i) for i in given)
        alone = isinstance(layer, Tensor)
        originals = {"": layer} if alone else {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
        if not originals:
            continue
        numbered = copy.deepcopy(layer)
        with torch.no_grad():
            for tensor in [numbered] if alone else numbered.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape))
        dep.handler.__self__.pruning_dim = dep.target.pruning_dim  # As its own call does.
        pruned = dep.handler(numbered, indices)
        pruned = numbered if pruned is None else pruned  # Some of its functions return nothing.
        left = {"": pruned} if alone else pruned.state_dict()
        for name, original in originals.items():
            for axis, size in enumerate(original.shape):
                if left[name].shape[axis] != size:
                    kept = left[name].movedim(axis, 0).flatten(1)[:, 0] if original.ndim > 1 else left[name]
                    here = (kept.long() // original[(0,) * axis].stride(0)) % size
                    gone = sorted(set(range(size)) - set(here.tolist()))
                    positions.setdefault((names[id(original)], axis), []).extend(gone)
    return positions


TOOLS: dict[str, tuple[str, Callable[[nn.Module, Inputs], Move]]] = {
    "onebasin": ("onebasin", onebasin),
    "rebasin": ("rebasin", rebasin),
    "torch-pruning": ("torch_pruning", torch_pruning),
}


def judge(network: str, tool: str) -> dict[str, object]:
    """The verdict on one tool and network, in this process."""
    torch.manual_seed(0)
    model, inputs = NETWORKS[network]()
    model = randomised(model, 1)
    if isinstance(inputs, dict):
        inputs = {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
    else:
        inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    before = run(model, inputs)
    started = time.perf_counter()
    try:
        groups, apply = TOOLS[tool][1](copy.deepcopy(model), inputs)
        seconds = time.perf_counter() - started
        model.load_state_dict(apply())
    except Exception as error:  # noqa: BLE001 - tools of others may raise anything
        return {"verdict": f"fails: {type(error).__name__}", "detail": str(error)[:200]}
    after = run(model, inputs)
    worst = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(after, before, strict=True))
    verdict = "nothing" if not groups else "right" if worst < TOLERANCE else f"wrong {worst:.0e}"
    return {"verdict": verdict, "groups": groups, "seconds": seconds}


def row(network: str, tool: str, timeout: float) -> dict[str, object]:
    """The verdict on one tool and network, in a process of its own."""
    command = [sys.executable, __file__, "--one", network, tool]
    try:
        printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"verdict": "slow"}
    except subprocess.CalledProcessError as error:
        return {"verdict": "fails: exit", "detail": error.stderr[-300:]}
    return json.loads(printed.stdout.splitlines()[-1])


def main() -> None:
    """One row a network, three columns a tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one tool on one network")
    parser.add_argument("--only", nargs="*", metavar="NETWORK")
    parser.add_argument("--verbose", action="store_true", help="say why a tool fails")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "TOOL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        torch.set_num_threads(1)
        print(json.dumps(judge(*options.one)))
        return
    tools = [tool for tool, (package, _) in TOOLS.items() if importlib.util.find_spec(package) is not None]
    print("left out, not installed:", ", ".join(TOOLS.keys() - set(tools)) or "none")
    print(f"{'network':<30}" + "".join(f"{tool:<22}{'groups':>6}{'s':>8}   " for tool in tools))
    for network in options.only or NETWORKS:
        line = f"{network:<30}"
        for tool in tools:
            found = row(network, tool, options.timeout)
            seconds = f"{found['seconds']:.2f}" if "seconds" in found else ""
            line += f"{found['verdict']!s:<22}{found.get('groups', '')!s:>6}{seconds:>8}   "
            if options.verbose and "detail" in found:
                print(f"  {network}, {tool}: {found['detail']}")
        print(line, flush=True)


if __name__ == "__main__":
    main()
