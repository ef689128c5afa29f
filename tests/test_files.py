"""Files are written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from checkpoint.states import unprivileged
from onebasin.errors import CheckpointError, OptionError
from onebasin.files import Staging, atomic_path, write_bytes, write_text


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a folder, hidden ones too."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("old", [None, b"old"])
def test_text_and_bytes_are_written(tmp_path: Path, old: bytes | None) -> None:
    """Text arrives as UTF-8 with its line ends, bytes as they are, over an old file or none."""
    for name in ("a.txt", "b.bin"):
        if old is not None:
            (tmp_path / name).write_bytes(old)
    write_text(tmp_path / "a.txt", "ä\nb\r\n")
    write_bytes(str(tmp_path / "b.bin"), b"\x00\xff")

    assert content(tmp_path) == {"a.txt": "ä\nb\r\n".encode(), "b.bin": b"\x00\xff"}


def test_the_temporary_file_is_beside_the_target_and_ends_alike(tmp_path: Path) -> None:
    """Writers that look at the suffix, as chart libraries do, see that of the target; readers see no half file."""
    with atomic_path(tmp_path / "chart.svg") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".svg"
        assert temporary.name.startswith(".")
        temporary.write_text("<svg/>")
        assert not (tmp_path / "chart.svg").exists()

    assert content(tmp_path) == {"chart.svg": b"<svg/>"}


def write_half(path: Path, error: BaseException) -> None:
    """Write something to a path atomically, and fail."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise error


def write_to_a_folder(path: Path) -> None:
    """Fail because the temporary file has become a folder."""
    with atomic_path(path) as temporary:
        temporary.unlink()
        temporary.mkdir()
        try:
            temporary.write_text("x")
        finally:
            temporary.rmdir()


OWN = OptionError("option", expected="a", found="b", remedy="c")
ELSEWHERE = FileNotFoundError(2, "No such file or directory", "another file")


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OWN, ELSEWHERE])
def test_errors_of_the_block_leave_the_old_file(tmp_path: Path, error: BaseException) -> None:
    """When the block raises, the error passes unchanged, the old file stays and the temporary one goes."""
    (tmp_path / "a.txt").write_bytes(b"old")
    with pytest.raises(type(error)) as caught:
        write_half(tmp_path / "a.txt", error)

    assert caught.value is error
    assert content(tmp_path) == {"a.txt": b"old"}


def test_failures_to_write_are_about_the_target(tmp_path: Path) -> None:
    """An OSError of the temporary file, or of no file, names the target."""
    with pytest.raises(CheckpointError, match="found Is a directory; check") as caught:
        write_to_a_folder(tmp_path / "a.txt")
    assert caught.value.subject == str(tmp_path / "a.txt")

    with pytest.raises(CheckpointError, match="found No space left on device; check") as caught:
        write_half(tmp_path / "a.txt", OSError(28, "No space left on device"))
    assert caught.value.subject == str(tmp_path / "a.txt")
    assert content(tmp_path) == {}


@pytest.mark.parametrize("place", ["none", "file", "file/below"])
def test_missing_folders_are_named(tmp_path: Path, place: str) -> None:
    """A folder that is not there, or is a file, is an error that says to create it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"expected a folder to write to, found .*; create the folder") as caught:
        write_text(tmp_path / place / "a.txt", "x")

    assert caught.value.subject == str(tmp_path / place)


def test_special_files_are_not_replaced(tmp_path: Path) -> None:
    """A folder or a pipe at the target is left alone."""
    (tmp_path / "folder").mkdir()
    targets = {"folder": "a folder"}
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        targets["pipe"] = "a device or pipe"
    for name, words in targets.items():
        with pytest.raises(CheckpointError, match=f"{name}: .* found {words}; choose"):
            write_text(tmp_path / name, "x")

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(targets)


@pytest.mark.skipif(os.name != "posix", reason="permission bits of this kind exist on POSIX only")
def test_permissions_follow_the_umask_and_the_old_file(tmp_path: Path) -> None:
    """A new file has the permissions of any new file, and a replaced one keeps those it had."""
    (tmp_path / "plain").write_text("x")
    (tmp_path / "kept").write_text("x")
    (tmp_path / "kept").chmod(0o640)
    write_text(tmp_path / "new", "x")
    write_text(tmp_path / "kept", "y")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["new"] == modes["plain"]
    assert modes["kept"] == 0o640


@pytest.mark.skipif(os.name != "posix", reason="permission bits of this kind exist on POSIX only")
def test_protected_files_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be written stays as it is, though its folder would allow to replace it."""
    tmp_path.chmod(0o777)
    (tmp_path / "a.txt").write_bytes(b"old")
    (tmp_path / "a.txt").chmod(0o444)
    monkeypatch.chdir(tmp_path)  # the folders above may be closed to others
    with unprivileged(), pytest.raises(CheckpointError, match=r"a\.txt: .* found a write-protected file; choose"):
        write_text("a.txt", "new")

    assert content(tmp_path) == {"a.txt": b"old"}


@pytest.mark.skipif(os.name != "posix", reason="making links needs a privilege elsewhere")
def test_links_are_replaced_not_followed(tmp_path: Path) -> None:
    """A symbolic link becomes a file, and what it pointed to stays."""
    (tmp_path / "run3.txt").write_bytes(b"old")
    (tmp_path / "best.txt").symlink_to("run3.txt")
    write_bytes(tmp_path / "best.txt", b"new")

    assert not (tmp_path / "best.txt").is_symlink()
    assert content(tmp_path) == {"run3.txt": b"old", "best.txt": b"new"}


def staged(staging: Staging, *texts: bytes) -> list[Path]:
    """A temporary file for each text."""
    paths = []
    for text in texts:
        paths.append(staging.create())
        paths[-1].write_bytes(text)
    return paths


def test_several_files_take_their_names_together(tmp_path: Path) -> None:
    """Files are published in one go over old ones, what is retired goes, and what was not published goes too."""
    for name in ("a", "index", "old"):
        (tmp_path / name).write_bytes(b"old")
    with Staging(tmp_path) as staging:
        first, second, _ = staged(staging, b"1", b"2", b"left over")
        staging.publish({first: tmp_path / "a", second: tmp_path / "index"}, retire=[tmp_path / "old", tmp_path / "no"])

    assert content(tmp_path) == {"a": b"1", "index": b"2"}


@pytest.mark.parametrize("old", [(), ("a", "index", "old")])
def test_several_files_are_put_back_together(tmp_path: Path, old: tuple[str, ...]) -> None:
    """When a later file cannot take its name, the earlier ones give theirs back."""
    for name in old:
        (tmp_path / name).write_bytes(b"old")
    before = content(tmp_path)
    with Staging(tmp_path) as staging:
        first, second, third = staged(staging, b"1", b"2", b"3")
        names = {first: tmp_path / "a", second: tmp_path / "none" / "b", third: tmp_path / "index"}
        with pytest.raises(CheckpointError, match="found No such file or directory; check"):
            staging.publish(names, retire=[tmp_path / "old"])

    assert content(tmp_path) == before
