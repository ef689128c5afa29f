"""Small data sets in the official formats, written by the tests themselves."""

import gzip
import struct
from pathlib import Path

import torch
from torch import Tensor

from onebasin.tasks.readers import LabelledImages


def idx_bytes(values: Tensor) -> bytes:
    """An IDX file of unsigned bytes."""
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.to(torch.uint8).numpy().tobytes()


def random_images(count: int, shape: tuple[int, int, int], *, seed: int = 0, classes: int = 10) -> LabelledImages:
    """Random pixels uint8 `[count, *shape]` and labels int64 `[count]`."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, *shape), generator=generator, dtype=torch.uint8)
    return LabelledImages(images, torch.randint(classes, (count,), generator=generator))


def write_mnist(folder: Path, *, train: int = 50, test: int = 20, compress: bool = True) -> dict[str, LabelledImages]:
    """Write the four files of MNIST with random content and give the content back by part."""
    folder.mkdir(parents=True)
    parts = {"train": random_images(train, (1, 28, 28)), "test": random_images(test, (1, 28, 28), seed=1)}
    for part, prefix in {"train": "train", "test": "t10k"}.items():
        files = {"images-idx3-ubyte": parts[part].images[:, 0], "labels-idx1-ubyte": parts[part].labels}
        for name, values in files.items():
            content = idx_bytes(values)
            path = folder / f"{prefix}-{name}{'.gz' if compress else ''}"
            path.write_bytes(gzip.compress(content) if compress else content)
    return parts


def write_cifar(path: Path, data: LabelledImages, coarse: int | None = None) -> None:
    """Write a file of CIFAR's binary version, with a coarse label before each record's own if one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = data.labels.to(torch.uint8)[:, None]
    first = [] if coarse is None else [torch.full_like(labels, coarse)]
    path.write_bytes(torch.cat([*first, labels, data.images.flatten(1)], dim=1).numpy().tobytes())
