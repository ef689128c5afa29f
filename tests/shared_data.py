"""Where tests find real data and checkpoints, which are too large for the repository.

The folder is named by the environment variable ONEBASIN_SHARED; otherwise it is `shared/data` beside the repository.
Each `require_*` skips the test, saying what is missing, where the folder or a part of it is absent.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

VARIABLE = "ONEBASIN_SHARED"
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_folder() -> Path:
    """The folder of real data, whether or not it exists."""
    return Path(os.environ.get(VARIABLE, BESIDE))


def require(*parts: str) -> Path:
    """The path of a file or folder inside the folder of real data; skips the test where it is absent."""
    path = shared_folder().joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not in the folder of real data ({VARIABLE})")
    return path


def require_checkpoints(name: str) -> list[Path]:
    """The safetensors files of one folder of checkpoints, sorted by name."""
    found = sorted(require("checkpoints", name).glob("*.safetensors"))
    if not found:
        pytest.skip(f"checkpoints/{name} in the folder of real data ({VARIABLE}) is empty")
    return found


def require_mnist() -> Path:
    """A data root that holds `mnist/` in its official format."""
    return require("mnist").parent


def require_fashion_mnist() -> Path:
    """A data root that holds `fashion-mnist/` in its official format."""
    return require("fashion-mnist").parent


def require_cifar10(target: Path) -> Path:
    """A data root, `target`, into which CIFAR-10's binary version has been unpacked (180 MB, a few seconds)."""
    require("cifar10")
    script = require("unpack.py")
    if importlib.util.find_spec("PIL") is None:
        pytest.skip("Pillow, which unpacks CIFAR-10, is not installed")
    if not (target / "cifar-10-batches-bin" / "test_batch.bin").exists():
        subprocess.run([sys.executable, script, target, "cifar10"], check=True, capture_output=True)
    return target
