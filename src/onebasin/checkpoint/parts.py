"""One file of tensors, whatever its format: names at once, tensors when asked for."""

import json
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from onebasin.checkpoint.format import DTYPES, SAFETENSORS, kind_of, require_dense, shorten, view_key
from onebasin.errors import CheckpointError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts keep the weights among other things."""

ZIP_START = b"PK\x03\x04"
LFS_START = b"version https://git-lfs"

# What torch's restricted unpickler raises on bytes that are not a checkpoint, found by feeding it damaged ones.
UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
)
# Its words for a file that asks for a class or function; the first group is the name, where it is given.
CODE = re.compile(r"GLOBAL (\S+)|allowlisted|unrecognized function|TorchScript")
DETAIL = re.compile(r"WeightsUnpickler error: *(.*)")


def open_part(path: Path, suffix: str | None = None) -> "Part":
    """Open one file by its suffix, or as if its name ended in `suffix`.

    Raises:
        CheckpointError: the file is missing, unreadable, damaged, or not of the format its suffix says.
    """
    start = read_start(path)
    kind = kind_of(path, suffix)
    if kind == SAFETENSORS:
        return SafetensorsPart(path)
    return PicklePart(path, mmap=start.startswith(ZIP_START))


def missing(path: Path) -> CheckpointError:
    """The error that says that there is no such file."""
    return CheckpointError(
        str(path), expected="a checkpoint file", found="nothing there", remedy="check the path for spelling"
    )


def refused(path: Path, error: OSError) -> CheckpointError:
    """The error that says that the system does not let us read."""
    return CheckpointError(
        str(path),
        expected="a file that can be read",
        found=error.strerror or str(error),
        remedy="check the permissions of the file and its folder",
    )


def damaged(path: Path, expected: str, reason: str) -> CheckpointError:
    """The error that says that the bytes are not what the suffix says."""
    return CheckpointError(
        str(path),
        expected=expected,
        found=f"a truncated, damaged or different file ({shorten(reason)})",
        remedy="copy or download it again, or export it anew",
    )


def read_start(path: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        CheckpointError: there is no such file, it cannot be read, it is empty, or it only points to the data.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_START))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise missing(path) from error
    except OSError as error:
        raise refused(path, error) from error
    if not start:
        raise CheckpointError(
            str(path), expected="a checkpoint file", found="an empty file", remedy="copy or download it again"
        )
    if start == LFS_START:
        raise CheckpointError(
            str(path),
            expected="a checkpoint file",
            found="a Git LFS pointer to one",
            remedy="run `git lfs pull` in its repository",
        )
    return start


class SafetensorsPart:
    """A safetensors file; the header is read at once, data when a tensor is asked for.

    Attributes:
        path: the file.
        stored: its names in the order of the header; the file knows no tied tensors, so each stands for itself.
        metadata: the text in the header, in its order.

    Raises:
        CheckpointError: the file is not a complete safetensors file.
    """

    wrapper = None
    versions = None

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = safe_open(path, framework="pt", device="cpu")
            # The library has checked the header by now but tells neither the order of the names nor that of the
            # metadata.
            with path.open("rb") as file:
                self._header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        except SafetensorError as error:
            raise damaged(path, "a complete safetensors file", str(error)) from error
        except OSError as error:
            raise refused(path, error) from error
        self.metadata: dict[str, str] = self._header.pop("__metadata__", None) or {}
        self.stored: dict[str, str] = {name: name for name in self._header}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a stored tensor, from the header."""
        return tuple(self._header[name]["shape"])

    def dtype(self, name: str) -> torch.dtype:
        """The dtype of a stored tensor, from the header.

        Raises:
            CheckpointError: torch has no such dtype.
        """
        code = self._header[name]["dtype"]
        if code not in DTYPES:
            raise CheckpointError(
                f"{self.path}: {name}",
                expected=f"one of the dtypes {', '.join(DTYPES)}",
                found=code,
                remedy="convert the tensor to one of them",
            )
        return DTYPES[code]

    def read(self, name: str) -> Tensor:
        """A stored tensor, mapped from the file; changing it does not change the file.

        Raises:
            CheckpointError: torch has no such dtype, or the library cannot read the tensor.
        """
        self.dtype(name)
        try:
            tensor: Tensor = self._handle.get_tensor(name)  # type: ignore[no-untyped-call]
        except SafetensorError as error:
            raise damaged(self.path, f"tensor `{name}`", str(error)) from error
        return tensor

    def close(self) -> None:
        """Let go of the file; tensors already read stay valid."""
        self._handle.__exit__(None, None, None)  # type: ignore[no-untyped-call]


class PicklePart:
    """A file written by `torch.save`, read without running any code it may hold.

    Args:
        path: the file.
        mmap: map the data instead of reading it, which the zip format allows.

    Attributes:
        path: the file.
        stored: for each name, in the order of the file, the first of the names that share its tensor.
        metadata: empty, as a pickle has no place for it.
        wrapper: the key under which the tensors were found, or None.
        versions: the versions of modules attached to the state dict, or None.

    Raises:
        CheckpointError: the file is damaged, needs code to be read, or holds no mapping of names to tensors.
    """

    def __init__(self, path: Path, *, mmap: bool) -> None:
        self.path = path
        self.metadata: dict[str, str] = {}
        self.wrapper, state = unwrap(load_pickle(path, mmap=mmap), path)
        self.versions: object = getattr(state, "_metadata", None)
        self.stored: dict[str, str] = {}
        self._tensors: dict[str, Tensor] = {}
        first: dict[tuple[object, ...] | None, str] = {}
        for name, value in state.items():
            tensor = require_dense(f"{path}: {name}", value)
            key = view_key(tensor)
            self.stored[name] = name if key is None else first.setdefault(key, name)
            if self.stored[name] == name:
                self._tensors[name] = tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a stored tensor."""
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        """The dtype of a stored tensor."""
        return self._tensors[name].dtype

    def read(self, name: str) -> Tensor:
        """A stored tensor, the same object every time."""
        return self._tensors[name]

    def close(self) -> None:
        """Let go of the tensors."""
        self._tensors.clear()


Part = SafetensorsPart | PicklePart
"""One file of a checkpoint."""


def load_pickle(path: Path, *, mmap: bool) -> object:
    """What `torch.load` finds in a file when it may build nothing but tensors and plain containers.

    Raises:
        CheckpointError: the file is damaged, or needs code to be read.
    """
    try:
        with warnings.catch_warnings():
            # Torch warns of archives and pickle protocols that it then refuses, and we report.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)
    except OSError as error:
        raise refused(path, error) from error
    except UNREADABLE as error:
        text = str(error) or type(error).__name__
        code = CODE.search(text)
        if code is None:
            detail = DETAIL.search(text)
            raise damaged(path, "a file written by `torch.save`", detail[1] if detail else text) from error
        name = f" (`{code[1]}`)" if code[1] else ""
        raise CheckpointError(
            str(path),
            expected="tensors by name",
            found=f"code or objects that are not tensors{name}, which are never loaded",
            remedy="export a plain state dict with `torch.save(model.state_dict(), path)` where the file was made",
        ) from error


def unwrap(content: object, path: Path) -> tuple[str | None, Mapping[str, object]]:
    """The state dict inside what a pickle holds, and the key it was found under.

    It lies under the one known key (`WRAPPERS`) whose value is a mapping with a tensor in it. Otherwise, the whole is
    the state dict if it has a tensor among its own values; or else what the only key holds whose value is such a
    mapping. What lies beside it, such as the state of an optimizer, is left out.

    Raises:
        CheckpointError: no mapping of names to tensors is there, or several are.
    """
    if not isinstance(content, Mapping):
        raise _no_tensors(path, f"a {type(content).__name__}")
    holders = [key for key, value in content.items() if isinstance(value, Mapping) and _holds_tensor(value)]
    chosen = [key for key in holders if key in WRAPPERS]
    if not chosen and _holds_tensor(content):
        return None, _require_names(content, path)
    chosen = chosen or holders
    if not chosen:
        raise _no_tensors(path, f"a dict of {len(content)} entries without any tensor by name")
    if len(chosen) > 1:
        raise CheckpointError(
            str(path),
            expected="one state dict",
            found=f"{len(chosen)}, under the keys {', '.join(map(str, chosen))}",
            remedy="save the one you mean in a file of its own",
        )
    key = chosen[0]
    return key, _require_names(content[key], path)


def _holds_tensor(mapping: Mapping[object, object]) -> bool:
    return any(isinstance(value, Tensor) for value in mapping.values())


def _require_names(content: Mapping[str, object], path: Path) -> Mapping[str, object]:
    for name in content:
        if not isinstance(name, str):
            raise CheckpointError(
                str(path),
                expected="names that are text",
                found=f"the key {name!r} of type {type(name).__name__}",
                remedy="save a dict from names to tensors",
            )
    return content


def _no_tensors(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        str(path),
        expected="tensors by name",
        found=found,
        remedy="save a state dict with `torch.save(model.state_dict(), path)`",
    )
