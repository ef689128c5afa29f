"""Train deep plain MLPs from several seeds, in the setting of REPAIR (Jordan et al. 2023), to measure corrections.

    python benchmarks/train_deep_mlps.py --data-root DIR --out DIR --task mnist --width 128 --depths 5 10 20

SGD with momentum 0.9, batches of 1,000, 50 epochs, no weight decay; the learning rate rises linearly to 0.05 within 5
epochs and falls linearly to 0. All 60,000 training images. He's initialisation, biases 0: PyTorch's own lets the signal
of 20 layers fade. Each run gives `{task}_{depth}x{width}_seed{K}.safetensors`, whose metadata holds the test accuracy;
a file that is there already is skipped.
"""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from onebasin.tasks import Task, averages, load_task
from onebasin.tasks.models import mlp
from onebasin.tasks.train import gather

LEARNING_RATE, MOMENTUM, BATCH_SIZE, WARM_UP = 0.05, 0.9, 1000, 5


def build(depth: int, width: int) -> nn.Sequential:
    """An MLP of `depth` hidden layers from 784 pixels to 10 classes."""
    model = mlp([784, *[width] * depth, 10])
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return model


def train(task: Task, depth: int, width: int, seed: int, epochs: int) -> nn.Module:
    """One network; same seed, same network on one machine with one number of threads."""
    torch.manual_seed(seed)
    model = build(depth, width).train()
    inputs, labels = gather(task, ("train", "val"))
    steps = epochs * len(labels) // BATCH_SIZE
    rise = max(1, WARM_UP * len(labels) // BATCH_SIZE)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rise, max(0.0, (steps - step) / max(1, steps - rise)))
    )
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels)).split(BATCH_SIZE):
            sums = task.evaluate(model, (inputs[chosen], labels[chosen]))
            optimizer.zero_grad()
            (sums["loss"] / sums["count"]).backward()
            optimizer.step()
            rate.step()
    return model.eval()


def main() -> None:
    """Train every network that has no file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoints")
    parser.add_argument("--task", default="mnist", choices=("mnist", "fashion-mnist"))
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depths", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    task = load_task(options.task, data_root=options.data_root)
    for depth in options.depths:
        for seed in options.seeds:
            path = options.out / f"{options.task}_{depth}x{options.width}_seed{seed}.safetensors"
            if path.exists():
                continue
            started = time.perf_counter()
            model = train(task, depth, options.width, seed, options.epochs)
            accuracy = f"{100 * averages(task, model)['correct']:.2f}"
            partial = path.with_suffix(".partial")
            save_file(model.state_dict(), partial, {"test_accuracy": accuracy, "epochs": str(options.epochs)})
            partial.rename(path)
            print(f"{path.name}: {accuracy} % in {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
