"""Training: from a seed to the same bytes, leaving the rest of the program alone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from onebasin.errors import OptionError, TaskError
from onebasin.progress import Progress
from onebasin.tasks import ImageTask, averages, train
from onebasin.tasks.train import _FACTORS, Schedule, gather
from tasks.image_files import write_mnist

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "train_mnist.py"
SCHEDULES: tuple[Schedule, ...] = ("constant", "cosine")


@pytest.fixture(scope="module")
def digits() -> ImageTask:
    """The digits, decoded once."""
    pytest.importorskip("sklearn")
    return ImageTask("digits")


def weights(model: nn.Module) -> bytes:
    """All bytes of a state dict."""
    return b"".join(value.numpy().tobytes() for value in model.state_dict().values())


def test_training_learns_the_digits(digits: ImageTask) -> None:
    """A few epochs take the digits past 93 % on images not trained on."""
    model = train(digits, seed=0, epochs=8)

    assert not model.training
    assert averages(digits, model, "test")["correct"] > 0.93


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_same_seed_same_bytes(digits: ImageTask, schedule: Schedule) -> None:
    """Training twice from one seed gives the same bytes, whatever was drawn in between; another seed gives others."""
    first = train(digits, seed=1, epochs=2, schedule=schedule)
    torch.rand(7)
    again = train(digits, seed=1, epochs=2, schedule=schedule)
    other = train(digits, seed=2, epochs=2, schedule=schedule)

    assert weights(first) == weights(again)
    assert weights(first) != weights(other)


def test_global_generator_is_left_alone(digits: ImageTask) -> None:
    """The state of torch's global generator is the same before and after training."""
    before = torch.get_rng_state()
    train(digits, seed=3, epochs=1)

    assert torch.equal(torch.get_rng_state(), before)


def test_no_epochs_give_the_initial_weights(digits: ImageTask) -> None:
    """With zero epochs the network is the one the seed initialises."""
    torch.manual_seed(5)

    assert weights(train(digits, seed=5, epochs=0)) == weights(digits.build_model())


def test_progress_counts_epochs(digits: ImageTask) -> None:
    """Each epoch is reported with the number done, the number in all and a falling loss."""
    steps: list[Progress] = []
    train(digits, seed=0, epochs=3, progress=steps.append)
    losses = [float(step.detail.removeprefix("loss ")) for step in steps]

    assert [(step.stage, step.done, step.total) for step in steps] == [("training", epoch, 3) for epoch in (1, 2, 3)]
    assert losses == sorted(losses, reverse=True)


def test_cosine_goes_from_one_to_zero() -> None:
    """The cosine schedule halves the rate half way and ends at zero; the constant one never changes it."""
    parts = (0.0, 0.5, 1.0)

    assert [_FACTORS["cosine"](part) for part in parts] == pytest.approx([1.0, 0.5, 0.0])
    assert [_FACTORS["constant"](part) for part in parts] == [1.0, 1.0, 1.0]


def test_schedule_is_applied(digits: ImageTask) -> None:
    """Two schedules give two different networks from one seed, and an unknown one is refused."""
    constant, cosine = (train(digits, seed=0, epochs=1, schedule=schedule) for schedule in SCHEDULES)

    assert weights(constant) != weights(cosine)
    with pytest.raises(OptionError, match="constant or cosine, found 'linear'"):
        train(digits, seed=0, epochs=1, schedule="linear")  # type: ignore[arg-type]


def test_weight_decay_shrinks_weights(digits: ImageTask) -> None:
    """Weights trained with decay are smaller than those trained without."""
    free, decayed = (train(digits, seed=0, epochs=2, weight_decay=decay) for decay in (0.0, 1.0))
    norms = [sum(value.square().sum().item() for value in model.parameters()) for model in (free, decayed)]

    assert norms[1] < norms[0]


@pytest.mark.parametrize(("epochs", "batch_size"), [(-1, 10), (1, 0)])
def test_impossible_options_are_refused(digits: ImageTask, epochs: int, batch_size: int) -> None:
    """Negative epochs and empty batches are refused."""
    with pytest.raises(OptionError, match=f"found {epochs} and {batch_size}"):
        train(digits, seed=0, epochs=epochs, batch_size=batch_size)


def test_divergence_is_reported(digits: ImageTask) -> None:
    """A loss that is no longer finite stops the training with an error that says what to do."""
    with pytest.raises(TaskError, match="lower the learning rate"):
        train(digits, seed=0, epochs=20, learning_rate=1e30)


class Batches(ImageTask):
    """The digits task with other batches."""

    def __init__(self, *given: object) -> None:
        super().__init__("digits")
        self.given = given

    def batches(self, split: str) -> tuple[object, ...]:  # type: ignore[override]
        """Give the batches as the train split."""
        return self.given if split == "train" else ()


@pytest.mark.parametrize(
    ("batches", "found"),
    [
        ((), "found none"),
        (({"x": 1},), "a batch of dict"),
        (((),), "a batch of nothing"),
        (((torch.zeros(2), torch.zeros(3)),), "a batch of Tensor, Tensor"),
        (((torch.zeros(2),), (torch.zeros(2), torch.zeros(2))), "zip"),
        (((torch.zeros(2, 3),), (torch.zeros(2, 4),)), "Sizes of tensors must match"),
    ],
)
def test_data_must_be_alike_tensors(batches: tuple[object, ...], found: str) -> None:
    """Only tuples of tensors, all alike, can be gathered and shuffled."""
    with pytest.raises(TaskError, match=found):
        gather(Batches(*batches), ["train"])


def test_splits_are_joined_in_order(tmp_path: Path) -> None:
    """Train and val together are the whole training files in their order."""
    written = write_mnist(tmp_path / "mnist")["train"]
    images, labels = gather(ImageTask("mnist", tmp_path), ["train", "val"])

    assert torch.equal(labels, written.labels)
    assert torch.equal(images.mean(dim=(1, 2, 3)).argsort(), written.images.float().mean(dim=(1, 2, 3)).argsort())


def test_script_trains_each_seed_once(tmp_path: Path) -> None:
    """The MNIST script writes one checkpoint per seed with its setting, and skips the seeds it finds done."""
    write_mnist(tmp_path / "mnist")
    folders = ["--data-root", str(tmp_path), "--out", str(tmp_path / "out")]
    command = [sys.executable, str(SCRIPT), *folders, "--epochs", "1", "--seeds", "4"]
    first = subprocess.run(command, check=True, capture_output=True, text=True)
    path = tmp_path / "out" / "mnist_mlp_seed4.safetensors"
    content = path.read_bytes()
    second = subprocess.run(command, check=True, capture_output=True, text=True)

    assert "epoch 1/1" in first.stderr
    assert "is there already" in second.stderr
    assert path.read_bytes() == content
    assert [file.name for file in (tmp_path / "out").iterdir()] == [path.name]
    ImageTask("mnist").build_model().load_state_dict(load_file(path))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert [metadata[key] for key in ("seed", "epochs", "splits")] == ["4", "1", "train+val"]
    assert 0 <= float(metadata["test_accuracy"]) <= 1
