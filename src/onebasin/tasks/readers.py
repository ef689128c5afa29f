"""Read image data sets from their official binary files: IDX (MNIST, Fashion-MNIST) and the binary version of CIFAR.

The files hold plain bytes behind a short header or none, so nothing is unpickled and nothing is executed. A file that
is missing, truncated, too long or of another kind is a `TaskError` that names its path.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from onebasin.errors import TaskError

Part = Literal["train", "test"]
"""The two parts in which the official files come."""

_GZIP_MAGIC = b"\x1f\x8b"
_IDX_UNSIGNED_BYTE = 8
# A forged header could ask for terabytes; the largest sets published in this format stay under a million items.
_MOST_IDX_ITEMS = 1_000_000
_CIFAR_SHAPE = (3, 32, 32)


class LabelledImages(NamedTuple):
    """Decoded images as stored in the files.

    Attributes:
        images: pixel values, uint8 `[n, channels, height, width]`.
        labels: class numbers, int64 `[n]`.
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Where one image data set lies and where its files come from.

    Attributes:
        folder: name of the folder that holds the files.
        origin: who publishes the files, in words, for the message shown when they are missing.
        pattern: matches the files, to recognise the folder under another name.
        classes: number of classes; every label is below it.
    """

    folder: str
    origin: str
    pattern: str
    classes: int


MNIST = ImageFiles(
    "mnist",
    "the four idx files of the MNIST database of handwritten digits, as its authors publish them",
    "*-idx?-ubyte*",
    10,
)
FASHION_MNIST = ImageFiles(
    "fashion-mnist",
    "the four idx files of Zalando Research's Fashion-MNIST repository, named as there",
    "*-idx?-ubyte*",
    10,
)
CIFAR10 = ImageFiles(
    "cifar-10-batches-bin",
    "the files of the archive 'CIFAR-10 binary version' of the University of Toronto",
    "*_batch*.bin",
    10,
)
CIFAR100 = ImageFiles(
    "cifar-100-binary",
    "the files of the archive 'CIFAR-100 binary version' of the University of Toronto",
    "t*[nt].bin",
    100,
)
_FOLDERS = frozenset(files.folder for files in (MNIST, FASHION_MNIST, CIFAR10, CIFAR100))


def find_folder(files: ImageFiles, data_root: Path) -> Path:
    """Find the folder of a data set: `data_root/<folder>`, or `data_root` itself.

    `data_root` itself is taken where it holds files of that kind, unless it bears the name of another data set: MNIST
    and Fashion-MNIST have the same file names and must not pass for each other.

    Args:
        files: the data set.
        data_root: an existing folder.

    Returns:
        The folder in which to look for the files.

    Raises:
        TaskError: neither exists.
    """
    inside = data_root / files.folder
    if inside.is_dir():
        return inside
    if any(data_root.glob(files.pattern)) and data_root.resolve().name not in _FOLDERS - {files.folder}:
        return data_root
    raise _missing(files, inside, "no such folder")


def read_mnist(folder: Path, part: Part, files: ImageFiles = MNIST) -> LabelledImages:
    """Read one part of MNIST, or of a set in the same format, from plain or gzip-compressed IDX files.

    Args:
        folder: holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
            `t10k-labels-idx1-ubyte`, each with or without `.gz`.
        part: `"train"` or `"test"`.
        files: the data set, for messages and the number of classes.

    Returns:
        Images `[n, 1, 28, 28]` and labels `[n]`.

    Raises:
        TaskError: a file is missing or broken, or the two files disagree.
    """
    prefix = {"train": "train", "test": "t10k"}[part]
    image_path = _existing(files, folder, (f"{prefix}-images-idx3-ubyte", f"{prefix}-images-idx3-ubyte.gz"))
    label_path = _existing(files, folder, (f"{prefix}-labels-idx1-ubyte", f"{prefix}-labels-idx1-ubyte.gz"))
    images = read_idx(image_path, item_shape=(28, 28))
    labels = read_idx(label_path)
    if len(images) != len(labels):
        raise TaskError(
            str(label_path),
            expected=f"{len(images)} labels, one per image of {image_path.name}",
            found=f"{len(labels)} labels",
            remedy="fetch both files again from the same source",
        )
    _check_labels(label_path, labels, files)
    return LabelledImages(images[:, None], labels.to(torch.int64))


def read_idx(path: Path, item_shape: tuple[int, ...] = ()) -> Tensor:
    """Read an IDX file of unsigned bytes, gzip-compressed or plain whatever its suffix says.

    Args:
        path: an existing file.
        item_shape: the shape each item must have; `()` for labels.

    Returns:
        uint8 tensor `[n, *item_shape]`.

    Raises:
        TaskError: unreadable, compressed data broken, wrong magic number, wrong item shape, fewer or more bytes than
            the header says.
    """
    try:
        with _open(path) as stream:
            return _decode_idx(path, stream, item_shape)
    except (OSError, EOFError, zlib.error) as error:
        raise TaskError(
            str(path),
            expected="a readable file, plain or gzip-compressed",
            found=f"{type(error).__name__}: {error}",
            remedy="fetch the file again",
        ) from error


def read_cifar10(folder: Path, part: Part, files: ImageFiles = CIFAR10) -> LabelledImages:
    """Read one part of CIFAR-10 from its binary version.

    Args:
        folder: holds `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`.
        part: `"train"` or `"test"`.
        files: the data set, for messages and the number of classes.

    Returns:
        Images `[n, 3, 32, 32]` (red, green, blue) and labels `[n]`, in the order of the files.

    Raises:
        TaskError: a file is missing or broken.
    """
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] if part == "train" else ["test_batch.bin"]
    return _read_cifar(files, folder, names, label_bytes=1)


def read_cifar100(folder: Path, part: Part, files: ImageFiles = CIFAR100) -> LabelledImages:
    """Read one part of CIFAR-100 (fine labels) from its binary version.

    Args:
        folder: holds `train.bin` and `test.bin`.
        part: `"train"` or `"test"`.
        files: the data set, for messages and the number of classes.

    Returns:
        Images `[n, 3, 32, 32]` (red, green, blue) and fine labels `[n]`.

    Raises:
        TaskError: a file is missing or broken.
    """
    return _read_cifar(files, folder, [f"{part}.bin"], label_bytes=2)


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        compressed = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    # GzipFile reads like a binary file but is not declared as BinaryIO.
    return cast("BinaryIO", gzip.open(path, "rb")) if compressed else path.open("rb")


def _decode_idx(path: Path, stream: BinaryIO, item_shape: tuple[int, ...]) -> Tensor:
    dimensions = 1 + len(item_shape)
    magic = bytes([0, 0, _IDX_UNSIGNED_BYTE, dimensions])
    header = stream.read(4 + 4 * dimensions)
    if header[:4] != magic:
        raise _broken(path, f"an IDX file of bytes in {dimensions} dimensions (magic {magic.hex()})", header[:4].hex())
    if len(header) < 4 + 4 * dimensions:
        raise _broken(path, f"a header of {4 + 4 * dimensions} bytes", f"{len(header)} bytes")
    count, *shape = struct.unpack(f">{dimensions}I", header[4:])
    if tuple(shape) != item_shape or not 0 < count <= _MOST_IDX_ITEMS:
        expected = f"1 to {_MOST_IDX_ITEMS} items of shape {list(item_shape)}"
        raise _broken(path, expected, f"{count} items of shape {shape}")
    size = count * math.prod(item_shape)
    content = stream.read(size + 1)
    if len(content) != size:
        found = f"only {len(content)} bytes" if len(content) < size else "more bytes"
        raise _broken(path, f"{size} bytes after the header, for {count} items", found)
    return torch.from_numpy(np.frombuffer(bytearray(content), dtype=np.uint8)).reshape(count, *item_shape)


def _read_cifar(files: ImageFiles, folder: Path, names: Iterable[str], *, label_bytes: int) -> LabelledImages:
    record = label_bytes + math.prod(_CIFAR_SHAPE)
    paths = [_existing(files, folder, (name,)) for name in names]
    images, labels = [], []
    for path in paths:
        size = path.stat().st_size
        if size == 0 or size % record:
            raise _broken(path, f"one or more records of {record} bytes", f"{size} bytes")
        rows = torch.from_numpy(np.fromfile(path, dtype=np.uint8)).reshape(-1, record)
        # The last label byte is the class; CIFAR-100 has the coarse class before it.
        _check_labels(path, rows[:, label_bytes - 1], files)
        labels.append(rows[:, label_bytes - 1].to(torch.int64))
        images.append(rows[:, label_bytes:].reshape(-1, *_CIFAR_SHAPE))
    return LabelledImages(torch.cat(images), torch.cat(labels))


def _existing(files: ImageFiles, folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    alternatives = f"no such file, nor {' nor '.join(names[1:])}" if names[1:] else "no such file"
    raise _missing(files, folder / names[0], alternatives)


def _check_labels(path: Path, labels: Tensor, files: ImageFiles) -> None:
    highest = int(labels.max())
    if highest >= files.classes:
        raise _broken(path, f"labels below {files.classes}", f"label {highest}")


def _missing(files: ImageFiles, path: Path, found: str) -> TaskError:
    return TaskError(
        str(path),
        expected=f"a file or folder of {files.folder}",
        found=found,
        remedy=f"put there {files.origin}, or name another data root",
    )


def _broken(path: Path, expected: str, found: str) -> TaskError:
    return TaskError(str(path), expected=expected, found=found, remedy="fetch the file again")
