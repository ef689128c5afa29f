"""The tasks that come with the library: images of scikit-learn's digits or of data sets in local official files."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from onebasin.errors import TaskError
from onebasin.tasks import readers
from onebasin.tasks.models import ResNet20, mlp
from onebasin.tasks.protocol import check_split, classification_logits, classification_sums
from onebasin.tasks.readers import ImageFiles, LabelledImages, Part

DIGITS_WIDTH = 256
DIGITS_HIDDEN_LAYERS = 3
MNIST_WIDTH = 512
MNIST_HIDDEN_LAYERS = 3
BATCH_SIZE = 1000
HELD_OUT = 5000

_DIGITS_TEST = 400
_DIGITS_VAL = 200
_DIGITS_SEED = 0
_EXAMPLES = 2
# A hand-made small set must keep most of its images for training.
_SMALLEST_TRAIN_PER_VAL = 5


@dataclass(frozen=True, slots=True)
class ImageSet:
    """One row of the table of built-in tasks.

    Attributes:
        read: decodes one part, given the data root.
        shape: channels, height and width of an image.
        scale: the pixel value that becomes 1 before `mean` and `std` are applied.
        mean: per channel, subtracted after scaling.
        std: per channel, divided by.
        build_model: makes the network.
        held_out: how many images at the end of the training part are the split `"val"`.
    """

    read: Callable[[Path | None, Part], LabelledImages]
    shape: tuple[int, int, int]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    build_model: Callable[[], nn.Module]
    held_out: int = HELD_OUT


@dataclass(frozen=True, slots=True, eq=False)
class ImageBatches:
    """Batches of normalised images; each iteration starts anew.

    Attributes:
        data: the images of one split.
        image_set: how to normalise them.
    """

    data: LabelledImages
    image_set: ImageSet

    def __len__(self) -> int:
        """Count the batches."""
        return math.ceil(len(self.data.labels) / BATCH_SIZE)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images, float32 `[n, channels, height, width]`, and labels, int64 `[n]`, with n at most BATCH_SIZE."""
        mean = torch.tensor(self.image_set.mean)[:, None, None]
        std = torch.tensor(self.image_set.std)[:, None, None]
        # split() gives views and normalisation makes new images; labels are copied so no consumer can touch the cache.
        for pixels, labels in zip(*(part.split(BATCH_SIZE) for part in self.data), strict=True):
            yield (pixels.to(torch.float32) / self.image_set.scale - mean) / std, labels.clone()


class ImageTask:
    """A built-in task; files are read when first needed and stay decoded for the life of the task.

    Args:
        name: a key of `IMAGE_SETS`.
        data_root: the folder that holds the data sets, or the folder of this one; `digits` needs none.
    """

    def __init__(self, name: str, data_root: Path | None = None) -> None:
        self.name = name
        self.data_root = data_root
        self.image_set = IMAGE_SETS[name]

    def __reduce__(self) -> tuple[type["ImageTask"], tuple[str, Path | None]]:
        """Travel to other processes without the decoded images."""
        return (ImageTask, (self.name, self.data_root))

    def __repr__(self) -> str:
        """Show how to make this task."""
        return f"ImageTask({self.name!r}, {self.data_root!r})"

    def build_model(self) -> nn.Module:
        """Build the task's network with fresh weights from torch's global generator."""
        return self.image_set.build_model()

    def example_inputs(self) -> tuple[Tensor]:
        """Give one input of two images, float32 `[2, channels, height, width]`, drawn from a fixed seed."""
        return (torch.randn(_EXAMPLES, *self.image_set.shape, generator=torch.Generator().manual_seed(0)),)

    def batches(self, split: str) -> ImageBatches:
        """Give the batches of a split: images float32 `[n, channels, height, width]`, labels int64 `[n]`.

        Raises:
            TaskError: unknown split, no data root, a file missing or broken.
        """
        check_split(split, self.name)
        if split == "test":
            return ImageBatches(self._test, self.image_set)
        data = self._train
        held_out = min(self.image_set.held_out, len(data.labels) // _SMALLEST_TRAIN_PER_VAL)
        if held_out == 0:
            raise TaskError(
                f"{self.name}: split {split}",
                expected=f"at least {_SMALLEST_TRAIN_PER_VAL} training images",
                found=str(len(data.labels)),
                remedy="use the official files",
            )
        chosen = slice(None, -held_out) if split == "train" else slice(-held_out, None)
        return ImageBatches(LabelledImages(*(tensor[chosen] for tensor in data)), self.image_set)

    def evaluate(self, model: nn.Module, batch: object) -> dict[str, Tensor]:
        """Sum cross-entropy, correct answers and samples over a batch; see `classification_sums`."""
        return classification_sums(model, batch)

    def predict(self, model: nn.Module, batch: object) -> tuple[Tensor, Tensor]:
        """Give logits and labels of a batch; see `classification_logits`."""
        return classification_logits(model, batch)

    @cached_property
    def _train(self) -> LabelledImages:
        return self.image_set.read(self.data_root, "train")

    @cached_property
    def _test(self) -> LabelledImages:
        return self.image_set.read(self.data_root, "test")


def _read_digits(_: Path | None, part: Part) -> LabelledImages:
    # Slow to import, and no other task needs it.
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(_DIGITS_SEED).permutation(len(labels))
    chosen = order[:-_DIGITS_TEST] if part == "train" else order[-_DIGITS_TEST:]
    pixels = torch.from_numpy(images[chosen].astype(np.uint8)).reshape(-1, 1, 8, 8)
    return LabelledImages(pixels, torch.from_numpy(labels[chosen].astype(np.int64)))


def _read_files(
    files: ImageFiles,
    read: Callable[[Path, Part, ImageFiles], LabelledImages],
    data_root: Path | None,
    part: Part,
) -> LabelledImages:
    if data_root is None:
        raise TaskError(
            files.folder,
            expected="a data root, the folder that holds the data sets",
            found="none",
            remedy=f"name a folder that holds {files.folder}: {files.origin}",
        )
    return read(readers.find_folder(files, data_root), part, files)


def _digits_model() -> nn.Module:
    return mlp([64, *[DIGITS_WIDTH] * DIGITS_HIDDEN_LAYERS, 10])


def _mnist_model() -> nn.Module:
    return mlp([784, *[MNIST_WIDTH] * MNIST_HIDDEN_LAYERS, 10])


_MNIST_SHAPE = (1, 28, 28)
_CIFAR_SHAPE = (3, 32, 32)
_CIFAR10_MEAN, _CIFAR10_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CIFAR100_MEAN, _CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)

IMAGE_SETS = {
    "digits": ImageSet(_read_digits, (1, 8, 8), 16, (0.0,), (1.0,), _digits_model, _DIGITS_VAL),
    "mnist": ImageSet(
        partial(_read_files, readers.MNIST, readers.read_mnist), _MNIST_SHAPE, 255, (0.1307,), (0.3081,), _mnist_model
    ),
    "fashion-mnist": ImageSet(
        partial(_read_files, readers.FASHION_MNIST, readers.read_mnist),
        _MNIST_SHAPE,
        255,
        (0.2860,),
        (0.3530,),
        _mnist_model,
    ),
    "cifar10": ImageSet(
        partial(_read_files, readers.CIFAR10, readers.read_cifar10),
        _CIFAR_SHAPE,
        255,
        _CIFAR10_MEAN,
        _CIFAR10_STD,
        ResNet20,
    ),
    "cifar100": ImageSet(
        partial(_read_files, readers.CIFAR100, readers.read_cifar100),
        _CIFAR_SHAPE,
        255,
        _CIFAR100_MEAN,
        _CIFAR100_STD,
        partial(ResNet20, 100),
    ),
}
"""The built-in tasks by name. A new one with images in files is one row here and one reader."""
