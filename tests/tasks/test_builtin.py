"""Built-in tasks: splits, normalisation, evaluation, and what they keep in memory."""

import math
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from onebasin.errors import TaskError
from onebasin.tasks import BUILT_IN, SPLITS, ImageTask, averages, classification_sums, load_task
from shared_data import require_mnist
from tasks.image_files import random_images, write_cifar, write_mnist


@pytest.fixture
def mnist(tmp_path: Path) -> ImageTask:
    """MNIST with 50 random training images and 20 test images."""
    write_mnist(tmp_path / "mnist")
    return ImageTask("mnist", tmp_path)


def whole(task: ImageTask, split: str) -> tuple[Tensor, Tensor]:
    """All images and labels of a split."""
    images, labels = zip(*task.batches(split), strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.mark.parametrize("name", BUILT_IN)
def test_model_takes_the_example(name: str) -> None:
    """Every built-in task gives a model that maps its example inputs to two rows of logits, without any data."""
    task = load_task(name)
    logits = task.build_model().eval()(*task.example_inputs())

    assert task.name == name
    assert logits.shape == (2, 100 if name == "cifar100" else 10)


def test_digits_splits_are_disjoint_and_complete() -> None:
    """The digits fall into 1197, 200 and 400 images which together are the whole data set."""
    datasets = pytest.importorskip("sklearn.datasets")
    splits = [whole(ImageTask("digits"), split) for split in SPLITS]

    assert [len(labels) for _, labels in splits] == [1197, 200, 400]
    pixels = torch.cat([images for images, _ in splits]).flatten(1).double() * 16
    rows = sorted(pixels.tolist())
    assert rows == sorted(datasets.load_digits().data.tolist())


def test_digits_labels_belong_to_their_images() -> None:
    """Each digit keeps its own label through the permutation."""
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    label_of = {tuple(image): label for image, label in zip(images.tolist(), labels.tolist(), strict=True)}

    found, found_labels = whole(ImageTask("digits"), "val")

    rows = (found.flatten(1) * 16).tolist()
    assert [label_of[tuple(row)] for row in rows] == found_labels.tolist()


def test_validation_is_the_end_of_training(tmp_path: Path) -> None:
    """Train and val are the beginning and the end of the training files, and test is the test files."""
    written = write_mnist(tmp_path / "mnist")
    task = ImageTask("mnist", tmp_path)

    train, val, test = (whole(task, split)[1] for split in SPLITS)

    assert len(val) == 10
    assert torch.equal(torch.cat([train, val]), written["train"].labels)
    assert torch.equal(test, written["test"].labels)


def test_pixels_are_normalised(tmp_path: Path) -> None:
    """Each channel is scaled to 0..1, then centred and divided by its own mean and deviation."""
    written = random_images(3, (3, 32, 32))
    write_cifar(tmp_path / "cifar-10-batches-bin" / "test_batch.bin", written)

    images, _ = whole(ImageTask("cifar10", tmp_path), "test")

    blue = (written.images[:, 2].float() / 255 - 0.406) / 0.225
    assert images.dtype == torch.float32
    torch.testing.assert_close(images[:, 2], blue)


def test_batches_hold_at_most_a_thousand(tmp_path: Path) -> None:
    """A split of 2,050 images comes as batches of 1000, 1000 and 50."""
    write_mnist(tmp_path / "mnist", test=2050)
    batches = ImageTask("mnist", tmp_path).batches("test")

    assert [len(labels) for _, labels in batches] == [1000, 1000, 50]
    assert len(batches) == 3


def test_batches_can_be_iterated_again(mnist: ImageTask) -> None:
    """The same object and a second request give the same tensors, even after a consumer changed those it got."""
    batches = mnist.batches("test")
    images, labels = next(iter(batches))
    expected = images.clone(), labels.clone()
    images.zero_()
    labels.zero_()

    for again in (batches, mnist.batches("test")):
        found = next(iter(again))
        assert all(map(torch.equal, found, expected))


def test_files_are_read_when_needed_and_once(mnist: ImageTask, tmp_path: Path) -> None:
    """The test files are decoded once: they can go away after the first use, while training files were never read."""
    before = whole(mnist, "test")
    shutil.rmtree(tmp_path / "mnist")

    assert all(map(torch.equal, whole(mnist, "test"), before))
    with pytest.raises(TaskError):
        mnist.batches("train")


def test_pickled_task_leaves_images_behind(mnist: ImageTask) -> None:
    """A task that has decoded its files is as small as a fresh one when pickled, and works on arrival."""
    whole(mnist, "test")
    sent = pickle.dumps(mnist)

    assert len(sent) < 1000
    assert all(map(torch.equal, whole(pickle.loads(sent), "test"), whole(mnist, "test")))


def test_unknown_split_is_refused() -> None:
    """A split that is not one of the three is an error that lists them."""
    with pytest.raises(TaskError, match="train, val, test, found 'validation'"):
        ImageTask("digits").batches("validation")


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "digits"])
def test_data_root_is_asked_for(name: str) -> None:
    """A task whose files nobody located says which folder it wants and who publishes it."""
    with pytest.raises(TaskError, match=r"a data root.*name a folder that holds"):
        load_task(name).batches("test")


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    """A training file of four images cannot be split into train and val."""
    write_mnist(tmp_path / "mnist", train=4)

    with pytest.raises(TaskError, match="at least 5 training images, found 4"):
        ImageTask("mnist", tmp_path).batches("val")


def test_evaluate_sums_over_the_batch() -> None:
    """Loss is the sum of cross-entropies in float64, with the correct answers and the samples counted."""
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(2))
    inputs, labels = torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 0.0]]), torch.tensor([0, 1, 1])

    sums = classification_sums(model, (inputs, labels))

    expected = math.log1p(math.exp(-1)) + math.log1p(math.exp(-3)) + math.log1p(math.exp(2))
    assert sums["loss"].dtype == torch.float64
    assert sums["loss"].item() == pytest.approx(expected, rel=1e-6)
    assert (sums["correct"].item(), sums["count"].item()) == (2, 3)


def test_evaluate_is_differentiable_in_the_models_dtype(mnist: ImageTask) -> None:
    """A float64 model is evaluated in float64 on the task's float32 images, and its gradients exist."""
    model = mnist.build_model().double()
    sums = mnist.evaluate(model, next(iter(mnist.batches("test"))))
    sums["loss"].backward()

    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.dtype == torch.float64 for gradient in gradients)


@pytest.mark.parametrize(
    "batch",
    [torch.zeros(2, 4), (torch.zeros(2, 4),), (torch.zeros(2, 4), torch.zeros(3)), "images", ()],
)
def test_evaluate_wants_pairs(batch: object) -> None:
    """Anything but inputs with as many labels is refused with its outline."""
    with pytest.raises(TaskError, match="a pair of tensors"):
        classification_sums(nn.Linear(4, 2), batch)


def test_averages_weigh_samples_equally(tmp_path: Path) -> None:
    """Averages over batches of unequal size are those of the whole split in one batch; the mode of the model stays."""
    write_mnist(tmp_path / "mnist", test=1010)
    task = ImageTask("mnist", tmp_path)
    model = task.build_model()

    found = averages(task, model, "test")

    sums = task.evaluate(model, whole(task, "test"))
    assert model.training
    assert found["count"] == 1010
    assert found["loss"] == pytest.approx(sums["loss"].item() / 1010, rel=1e-6)
    assert found["correct"] == sums["correct"].item() / 1010


def test_official_mnist_has_the_standard_splits() -> None:
    """MNIST falls into 55,000, 5,000 and 10,000 images."""
    task = ImageTask("mnist", require_mnist())

    assert [len(task.batches(split).data.labels) for split in SPLITS] == [55_000, 5_000, 10_000]
