"""Train the MLP of the MNIST task from several seeds, for measurements of merging and connectivity.

    python benchmarks/train_mnist.py --data-root DIR --out DIR --seeds 0 1 2 --epochs 60

The setting is the one of Ito et al. (three hidden layers of 512, Adam at 1e-3, batches of 512, no schedule), on all
60,000 training images. Each seed gives `mnist_mlp_seed{K}.safetensors`, whose metadata holds the setting and the test
loss and accuracy. A seed whose file is there already is skipped, so an interrupted run can be started again.
"""

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from onebasin.progress import Progress
from onebasin.tasks import Task, averages, load_task, train

LEARNING_RATE = 1e-3
BATCH_SIZE = 512
SHOWN = ("test_loss", "test_accuracy")
logger = logging.getLogger("train_mnist")


def main() -> None:
    """Train every seed that has no file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder that holds mnist/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoints")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch; the last bits depend on it")
    parser.add_argument("--hold-out", action="store_true", help="train without the 5,000 images of the split val")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    task = load_task("mnist", data_root=arguments.data_root)
    splits = ("train",) if arguments.hold_out else ("train", "val")
    for seed in arguments.seeds:
        path = arguments.out / f"mnist_mlp_seed{seed}.safetensors"
        if path.exists():
            logger.info("%s is there already", path)
        else:
            train_seed(task, seed, arguments.epochs, splits, path)


def train_seed(task: Task, seed: int, epochs: int, splits: tuple[str, ...], path: Path) -> None:
    """Train one network and write its checkpoint whole or not at all."""
    start = time.perf_counter()
    model = train(
        task,
        seed=seed,
        epochs=epochs,
        learning_rate=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        splits=splits,
        progress=_log_epochs(seed),
    )
    seconds = time.perf_counter() - start
    test = averages(task, model, "test")
    metadata = {
        "task": task.name,
        "arch": "MLP 784-512-512-512-10 ReLU",
        "optimizer": "Adam",
        "learning_rate": str(LEARNING_RATE),
        "batch_size": str(BATCH_SIZE),
        "epochs": str(epochs),
        "seed": str(seed),
        "splits": "+".join(splits),
        "test_loss": f"{test['loss']:.6f}",
        "test_accuracy": f"{test['correct']:.4f}",
        "torch": torch.__version__,
    }
    partial = path.with_suffix(".partial")
    save_file(model.state_dict(), partial, metadata)
    partial.replace(path)
    logger.info("seed %d: test loss %s accuracy %s in %.0f s", seed, *(metadata[key] for key in SHOWN), seconds)


def _log_epochs(seed: int) -> Callable[[Progress], None]:
    last = time.perf_counter()

    def report(step: Progress) -> None:
        nonlocal last
        now = time.perf_counter()
        logger.info("seed %d epoch %d/%s %s %.1f s", seed, step.done, step.total, step.detail, now - last)
        last = now

    return report


if __name__ == "__main__":
    main()
