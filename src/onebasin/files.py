"""Write files so that a reader finds the old content or the new one, never half of either.

Content goes to a temporary file in the folder of its target, is forced to the disk, and takes the target's name in one
step. A write that fails or is interrupted leaves the target as it was and removes the temporary file. The target keeps
its permission bits; a symbolic link is replaced by a file, and what it pointed to stays as it was.
"""

import os
import secrets
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR
from types import TracebackType
from typing import Self

from onebasin.errors import CheckpointError, OneBasinError

if sys.platform != "win32":
    import fcntl


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file that becomes `path` when the block ends, and vanishes when the block raises.

    Args:
        path: the file to write; its folder must exist.

    Yields:
        An empty file in the same folder with the same suffix, to be written by name.

    Raises:
        CheckpointError: the folder is missing, `path` is not a regular file, or writing fails. An `OSError` of the
            block counts as such a failure unless it names another file; any other exception passes unchanged.
    """
    path = Path(path)
    with Staging(path.parent) as staging:
        temporary = staging.create(path.suffix)
        try:
            yield temporary
        except OneBasinError:  # a CheckpointError is an OSError too, and already says what failed
            raise
        except OSError as error:
            if str(error.filename) in {"None", str(temporary)}:
                raise write_error(path, error) from error
            raise
        staging.publish({temporary: path})


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, line ends as they are, whole or not at all.

    Raises:
        CheckpointError: the folder is missing, `path` is not a regular file, or writing fails.
    """
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all.

    Raises:
        CheckpointError: the folder is missing, `path` is not a regular file, or writing fails.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_error(path: Path, error: Exception) -> CheckpointError:
    """The error that says that `path` could not be written, and why."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return CheckpointError(
        str(path),
        expected="a file that can be written",
        found=reason,
        remedy="check the permissions and the free space of its folder, or choose another path",
    )


class Staging:
    """Temporary files of one folder that take their names together; a context manager.

    Files made by `create` and not passed to `publish` are removed on exit.

    Args:
        folder: where the files are to end up.

    Raises:
        CheckpointError: on entry, where `folder` is not a folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._temporary: list[Path] = []

    def __enter__(self) -> Self:
        try:
            mode = self._folder.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            mode = None
        except OSError as error:
            raise write_error(self._folder, error) from error
        if mode is None or not S_ISDIR(mode):
            raise CheckpointError(
                str(self._folder),
                expected="a folder to write to",
                found="nothing there" if mode is None else "a file",
                remedy="create the folder first or choose another path",
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in self._temporary:
            path.unlink(missing_ok=True)

    def create(self, suffix: str = "") -> Path:
        """A new empty file in the folder, its name hidden and ending in `suffix`.

        Raises:
            CheckpointError: the folder refuses new files.
        """
        path = self._unused(suffix)
        try:
            # Not tempfile: it makes files that only their owner may read, and a checkpoint should follow the umask.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            raise write_error(self._folder, error) from error
        self._temporary.append(path)
        return path

    def publish(self, names: Mapping[Path, Path], retire: Collection[Path] = ()) -> None:
        """Give files made by `create` their final names, all of them or none.

        One file replaces its target in a single step. Of several, the last must be the one that makes sense of the
        others, such as an index: its predecessor goes first and it comes last, so that a reader who looks in between
        finds no index rather than old and new files under one.

        Args:
            names: final path by temporary path, in this order.
            retire: existing files to remove together with the change.

        Raises:
            CheckpointError: a final path is not a regular file, or the system refuses a step; all files are then as
                they were before.
        """
        for final in (*names.values(), *retire):
            _require_replaceable(final)
        for temporary, final in names.items():
            try:
                _settle(temporary, final)
            except OSError as error:
                raise write_error(final, error) from error
        try:
            if len(names) == 1 and not retire:
                ((temporary, final),) = names.items()
                temporary.replace(final)
            else:
                self._exchange(names, retire)
        except OSError as error:
            raise write_error(list(names.values())[-1], error) from error
        _sync_folder(self._folder)

    def _exchange(self, names: Mapping[Path, Path], retire: Collection[Path]) -> None:
        """Move old files aside, the last first, and new ones in, the last last; undo all of it where a step fails."""
        aside: list[Path] = []
        with ExitStack() as undo:
            for old in (*reversed(list(names.values())), *retire):
                if old.exists():
                    backup = self._unused(".old")
                    old.replace(backup)
                    undo.callback(backup.replace, old)
                    aside.append(backup)
            for temporary, final in names.items():
                temporary.replace(final)
                undo.callback(final.unlink)
            undo.pop_all()
        for backup in aside:
            backup.unlink()

    def _unused(self, suffix: str) -> Path:
        return self._folder / f".onebasin-{secrets.token_hex(8)}{suffix}"


def _require_replaceable(path: Path) -> None:
    """Refuse what renaming would replace all the same: folders, devices such as `/dev/null`, write-protected files."""
    if not path.exists():
        return
    if not path.is_file():
        found = "a folder" if path.is_dir() else "a device or pipe"
    elif not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        found = "a write-protected file"
    else:
        return
    raise CheckpointError(
        str(path),
        expected="a file that may be replaced, or nothing there",
        found=found,
        remedy="choose another path or lift the protection",
    )


def _settle(temporary: Path, final: Path) -> None:
    """Force the content to the disk and take over the permission bits of the file to be replaced."""
    descriptor = os.open(temporary, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if final.exists():
        shutil.copymode(final, temporary)


def _sync_folder(folder: Path) -> None:
    """Force the new names to the disk, where the system can do that for a folder."""
    if os.name != "posix":
        return
    # Some network file systems refuse to sync a folder. The files are complete and in place by now.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Workspace:
    """A hidden folder beside an output that keeps finished files of unfinished work; a context manager.

    The same work, told by its digest, finds them there when it is started again; other work removes them. On exit the
    folder stays only if the block was interrupted and something in it is finished. A process that is killed leaves it.

    Args:
        target: the output; the folder is `.NAME.onebasin` beside it.
        digest: says what the work is and what it is done to.

    Raises:
        CheckpointError: on entry, where the folder cannot be made, or another process works in it.
    """

    _STATE = "progress.json"

    def __init__(self, target: Path, digest: str) -> None:
        self.folder = target.with_name(f".{target.name}.onebasin")
        self._digest = digest
        self._lock = ExitStack()

    def __enter__(self) -> Self:
        with Staging(self.folder.parent):
            pass
        state = self.folder / self._STATE
        try:
            self.folder.mkdir(exist_ok=True)
            self._take(state)
            if state.read_text(encoding="utf-8") != self._text:
                for path in self.folder.iterdir():
                    if path != state:
                        path.unlink()
                state.write_text(self._text, encoding="utf-8")
            for path in self.folder.glob("*.part"):
                path.unlink()
        except OSError as error:
            self._lock.close()
            if isinstance(error, OneBasinError):
                raise
            raise write_error(self.folder, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        done = [path for path in self.folder.iterdir() if path.name != self._STATE and path.suffix != ".part"]
        if not (isinstance(error, KeyboardInterrupt) and done):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    @property
    def _text(self) -> str:
        return f'{{"format": "onebasin-progress/1", "digest": "{self._digest}"}}\n'

    def _take(self, state: Path) -> None:
        """Hold the folder until exit, or until the process ends however it may; where the system has such locks."""
        file = self._lock.enter_context(state.open("a+", encoding="utf-8"))
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CheckpointError(
                str(self.folder),
                expected="no other process that writes the same output",
                found="one that does",
                remedy="wait for it, or choose another output",
            ) from error

    def finished(self, name: str) -> Path | None:
        """The finished file of that name, or None."""
        path = self.folder / name
        return path if path.exists() else None

    def start(self, name: str) -> Path:
        """A path for a file to write, which does not count until `finish`."""
        return self.folder / f"{name}.part"

    def finish(self, name: str) -> Path:
        """Force a file to the disk and give it its name in one step.

        Raises:
            CheckpointError: the system refuses.
        """
        final = self.folder / name
        try:
            _settle(self.start(name), final)
            self.start(name).replace(final)
        except OSError as error:
            raise write_error(final, error) from error
        _sync_folder(self.folder)
        return final
