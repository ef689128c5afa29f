"""What a command left in its folder, to go on from: only where it was about the same networks and options."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self, TypeVar

from onebasin.cli.inputs import check_folder, make_folder
from onebasin.cli.screen import Screen
from onebasin.errors import CheckpointError, OptionError
from onebasin.json_file import read_json, write_json

SETTINGS_FILE = "settings.json"


class Kept(Protocol):
    """A result that can be written down and knows whether it was interrupted."""

    @property
    def complete(self) -> bool:
        """Whether it is all that was asked for."""

    def save(self, path: Path, /) -> None:
        """Write it to a file or folder."""

    @classmethod
    def load(cls, path: Path, /) -> Self:
        """Read what `save` wrote."""


K = TypeVar("K", bound=Kept)


def fingerprint(path: Path) -> str:
    """A name for the bytes of a file, or of all files of a folder: 16 hexadecimal digits of SHA-256.

    Raises:
        CheckpointError: one cannot be read.
    """
    digest = hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        try:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise CheckpointError(
                str(file), expected="a file that can be read", found=str(error), remedy="check the path"
            ) from error
    return digest.hexdigest()[:16]


def names_of(paths: Sequence[Path]) -> list[str]:
    """What to call networks: their files without suffixes, or with, or with folders, whatever tells them apart.

    Raises:
        OptionError: one is named twice.
    """
    folders = [f"{path.parent.name}/{path.stem}" for path in paths]
    for rows in ([path.stem for path in paths], [path.name for path in paths], folders, list(map(str, paths))):
        if len(set(rows)) == len(rows):
            return rows
    raise OptionError("networks", expected="different ones", found="one twice", remedy="name each once")


def open_folder(folder: Path | None, settings: Mapping[str, object]) -> None:
    """Make a folder for results, or find out that those in it have the same settings.

    Args:
        folder: None where nothing is kept.
        settings: plain JSON values that decide the results: fingerprints of the networks, and options.

    Raises:
        OptionError: it holds results of other settings, or is a file.
        CheckpointError: it cannot be made or read.
    """
    check_folder("--out", folder)
    if folder is None:
        return
    file = make_folder(folder) / SETTINGS_FILE
    wanted = json.loads(json.dumps(settings))
    if not file.exists():
        write_json(file, wanted)
        return
    found = read_json(file)
    other = sorted(key for key in wanted if not isinstance(found, dict) or found.get(key) != wanted[key])
    if other:
        raise OptionError(
            f"--out {folder}",
            expected="a new folder, or results of the same networks and options to go on from",
            found=f"results of other {', '.join(other)}",
            remedy="name another folder",
        )


def unit(screen: Screen, path: Path | None, kind: type[K], make: Callable[[], K], *, last: str = "") -> K:
    """A unit of work: what a file or folder holds, else what is made now, which is kept there.

    Args:
        screen: learns what there is.
        path: the file or folder; None keeps nothing.
        kind: of the result.
        make: does the work.
        last: the file of a folder that is written last.

    Raises:
        KeyboardInterrupt: it was interrupted: a part is no ground to go on from.
        CheckpointError: what was kept cannot be read, or the result not be written.
    """
    if path is not None and (path / last if last else path).exists():
        screen.wrote(path)
        return kind.load(path)
    made = make()
    if not made.complete:
        raise KeyboardInterrupt
    if path is not None:
        made.save(make_folder(path) if last else path)
        screen.wrote(path)
    return made
