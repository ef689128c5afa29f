"""Readers of image files: what they give for good files and what they say of bad ones."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from onebasin.errors import TaskError
from onebasin.tasks import readers
from shared_data import require_fashion_mnist, require_mnist
from tasks.image_files import idx_bytes, random_images, write_cifar, write_mnist

IMAGES = idx_bytes(random_images(3, (1, 28, 28)).images[:, 0])
ZIPPED = gzip.compress(IMAGES)


@pytest.mark.parametrize("compress", [True, False])
def test_mnist_is_read_as_written(tmp_path: Path, compress: bool) -> None:
    """Images and labels come back exactly, from compressed and from plain files."""
    written = write_mnist(tmp_path / "mnist", compress=compress)

    for part in ("train", "test"):
        data = readers.read_mnist(tmp_path / "mnist", part)
        assert (data.images.dtype, data.labels.dtype) == (torch.uint8, torch.int64)
        assert torch.equal(data.images, written[part].images)
        assert torch.equal(data.labels, written[part].labels)


def test_cifar10_is_read_as_written(tmp_path: Path) -> None:
    """The five training files are joined in order and the test file is read alone."""
    written = [random_images(4, (3, 32, 32), seed=number) for number in range(6)]
    for number, data in enumerate(written[:5], start=1):
        write_cifar(tmp_path / f"data_batch_{number}.bin", data)
    write_cifar(tmp_path / "test_batch.bin", written[5])

    train, test = readers.read_cifar10(tmp_path, "train"), readers.read_cifar10(tmp_path, "test")

    assert torch.equal(train.images, torch.cat([data.images for data in written[:5]]))
    assert torch.equal(train.labels, torch.cat([data.labels for data in written[:5]]))
    assert torch.equal(test.images, written[5].images)
    assert torch.equal(test.labels, written[5].labels)


def test_cifar100_gives_fine_labels(tmp_path: Path) -> None:
    """Of the two label bytes of CIFAR-100 the second, the fine class, is the label."""
    written = random_images(6, (3, 32, 32), classes=100)
    write_cifar(tmp_path / "train.bin", written, coarse=19)

    data = readers.read_cifar100(tmp_path, "train")

    assert torch.equal(data.images, written.images)
    assert torch.equal(data.labels, written.labels)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "magic"),
        (b"\x89PNG" + IMAGES[4:], "89504e47"),
        (idx_bytes(torch.zeros(3)), "in 3 dimensions"),
        (IMAGES[:10], "a header of 16 bytes"),
        (IMAGES[:-1], "only 2351 bytes"),
        (IMAGES + b"\0", "more bytes"),
        (idx_bytes(torch.zeros(3, 28, 27)), "3 items of shape [28, 27]"),
        (idx_bytes(torch.zeros(0, 28, 28)), "0 items"),
        (IMAGES[:4] + b"\xff" * 4 + IMAGES[8:], "4294967295 items"),
        (ZIPPED[:-20], "EOFError"),
        (ZIPPED[:10] + b"\xff" + ZIPPED[11:], "error: Error -3"),
        (ZIPPED[:-8] + b"\0" * 8, "BadGzipFile"),
    ],
)
def test_broken_idx_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    """Whatever is wrong with an IDX file, the error names the file and the defect."""
    path = tmp_path / "images"
    path.write_bytes(content)

    with pytest.raises(TaskError) as caught:
        readers.read_idx(path, item_shape=(28, 28))
    assert caught.value.subject == str(path)
    assert expected in str(caught.value)


def test_labels_must_match_images(tmp_path: Path) -> None:
    """A label file with another count than its image file is refused by name."""
    write_mnist(tmp_path / "mnist", test=20, compress=False)
    labels = tmp_path / "mnist" / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(torch.zeros(19)))

    with pytest.raises(TaskError, match=r"20 labels.*found 19 labels") as caught:
        readers.read_mnist(tmp_path / "mnist", "test")
    assert caught.value.subject == str(labels)


def test_labels_must_be_classes(tmp_path: Path) -> None:
    """A label beyond the classes of the data set is refused."""
    write_mnist(tmp_path / "mnist", test=20, compress=False)
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(torch.full((20,), 10)))

    with pytest.raises(TaskError, match="labels below 10, found label 10"):
        readers.read_mnist(tmp_path / "mnist", "test")


@pytest.mark.parametrize("size", [0, 3072, 3074])
def test_truncated_cifar_is_refused(tmp_path: Path, size: int) -> None:
    """A CIFAR file that does not hold whole records is refused."""
    (tmp_path / "test_batch.bin").write_bytes(bytes(size))

    with pytest.raises(TaskError, match=f"records of 3073 bytes, found {size} bytes"):
        readers.read_cifar10(tmp_path, "test")


@pytest.mark.parametrize(
    ("read", "path", "origin"),
    [
        (readers.read_mnist, "t10k-images-idx3-ubyte", "MNIST database of handwritten digits"),
        (readers.read_cifar10, "test_batch.bin", "CIFAR-10 binary version"),
        (readers.read_cifar100, "test.bin", "CIFAR-100 binary version"),
    ],
)
def test_missing_file_says_where_from(
    tmp_path: Path, read: Callable[[Path, readers.Part], readers.LabelledImages], path: str, origin: str
) -> None:
    """The error for a missing file names the expected path and the official source."""
    with pytest.raises(TaskError, match=origin) as caught:
        read(tmp_path, "test")
    assert caught.value.subject == str(tmp_path / path)


def test_folder_is_found_below_and_at_the_root(tmp_path: Path) -> None:
    """The data root may hold the data set's folder or be that folder, under any name."""
    write_mnist(tmp_path / "data" / "mnist")
    write_mnist(tmp_path / "digits")

    assert readers.find_folder(readers.MNIST, tmp_path / "data") == tmp_path / "data" / "mnist"
    assert readers.find_folder(readers.MNIST, tmp_path / "data" / "mnist") == tmp_path / "data" / "mnist"
    assert readers.find_folder(readers.MNIST, tmp_path / "digits") == tmp_path / "digits"


def test_sets_do_not_pass_for_each_other(tmp_path: Path) -> None:
    """MNIST's folder is not taken for Fashion-MNIST although the files have the same names."""
    write_mnist(tmp_path / "mnist")

    with pytest.raises(TaskError) as caught:
        readers.find_folder(readers.FASHION_MNIST, tmp_path / "mnist")
    assert caught.value.subject == str(tmp_path / "mnist" / "fashion-mnist")


def test_missing_data_root_is_refused(tmp_path: Path) -> None:
    """A data root that does not exist gives the path that was expected below it."""
    with pytest.raises(TaskError) as caught:
        readers.find_folder(readers.CIFAR10, tmp_path / "nowhere")
    assert caught.value.subject == str(tmp_path / "nowhere" / "cifar-10-batches-bin")


def test_official_mnist_is_read() -> None:
    """MNIST's official test files hold 10,000 images with the mean the normalisation assumes."""
    folder = readers.find_folder(readers.MNIST, require_mnist())
    images, labels = readers.read_mnist(folder, "test")

    assert images.shape == (10_000, 1, 28, 28)
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert images.to(torch.float32).mean() / 255 == pytest.approx(0.1307, abs=0.005)


def test_official_fashion_mnist_is_read() -> None:
    """Fashion-MNIST's official test files hold 1,000 images of each of ten classes."""
    folder = readers.find_folder(readers.FASHION_MNIST, require_fashion_mnist())
    images, labels = readers.read_mnist(folder, "test", readers.FASHION_MNIST)

    assert images.to(torch.float32).mean() / 255 == pytest.approx(0.2860, abs=0.005)
    assert torch.bincount(labels).tolist() == [1000] * 10
