"""The command by itself: help, version, streams, and the same bytes from the same seed."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.networks import Files, Run
from onebasin import Progress
from onebasin.cli import COMMANDS as COMMANDS_AND_LINES
from onebasin.cli.screen import Speed, amount

COMMANDS = tuple(COMMANDS_AND_LINES)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, run: Run) -> None:
    """The help of every command has an example and the meaning of the exit status."""
    result = run(command, "--help")

    assert result.exit_code == 0
    assert f"Examples:\n    onebasin {command}" in result.stdout
    assert "Exit status: 0" in result.stdout
    assert "--json" in result.stdout


def test_help_lists_the_commands(run: Run) -> None:
    """The help of the whole lists each command with a sentence that is not cut off."""
    result = run("--help")

    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.split()[:1]}
    assert set(COMMANDS) <= set(lines)
    assert all(lines[command].endswith(".") and "..." not in lines[command] for command in COMMANDS)


def test_list_of_commands_says_what_they_say() -> None:
    """The first line of a command's help is that of the list, which does not load the command."""
    for name, line in COMMANDS_AND_LINES.items():
        function = getattr(importlib.import_module(f"onebasin.cli.{name}"), name)
        assert (function.__doc__ or "").splitlines()[0] == line


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["merge", "--help"], ["run", "--help"], ["merge", "a"]]
)
def test_help_does_not_wait_for_torch(arguments: list[str]) -> None:
    """Help, the version and usage errors come without loading torch, SciPy or a YAML reader."""
    script = f"""
import sys
from onebasin.cli import app
try:
    app({arguments!r})
except SystemExit:
    print(sorted({{"torch", "scipy", "yaml", "numpy"}} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert answer.stdout.splitlines()[-1] == "[]"


def test_unknown_command_is_told_with_the_nearest(run: Run) -> None:
    """A command that does not exist is a usage error, which tells the nearest one that does."""
    result = run("marge")

    assert result.exit_code == 2
    assert "No such command 'marge'. Did you mean 'merge'?" in result.stderr


def test_version_is_shown(run: Run) -> None:
    """The version is one line."""
    result = run("--version")

    assert result.exit_code == 0
    assert result.stdout.startswith("onebasin ")
    assert result.stdout.count("\n") == 1


def test_module_is_the_command() -> None:
    """`python -m onebasin` is the same command, under its own name."""
    answer = subprocess.run([sys.executable, "-m", "onebasin", "--help"], capture_output=True, text=True, check=True)

    assert answer.stdout.startswith("Usage: onebasin ")


SCRIPT = """
import sys
import torch
from onebasin.cli import app

torch.set_num_threads(1)
task, a, b, out = sys.argv[1:]
for line in (
    ["match", a, b, "--task", task, "--out", f"{out}/matching.json", "--seed", "3"],
    ["merge", a, b, "--task", task, "--out", f"{out}/merged.safetensors", "--seed", "3"],
    ["path", a, b, "--task", task, "--out", out, "--points", "3", "--seed", "3"],
):
    try:
        app(line)
    except SystemExit as stop:
        assert stop.code == 0, stop.code
"""


def test_same_seed_gives_the_same_bytes(files: Files, tmp_path: Path) -> None:
    """Two processes with different hash seeds write the same bytes to every file and to standard output."""
    running = {}
    for hash_seed in ("1", "2"):
        out = tmp_path / hash_seed / "out"
        out.mkdir(parents=True)
        running[out] = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, files.task, files.a, files.c, "out"],
            cwd=out.parent,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
    written, shown = [], []
    for out, process in running.items():
        output, _ = process.communicate()
        assert process.returncode == 0
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
        shown.append([line for line in output.splitlines() if not line.startswith("converged")])

    files_of_merge = {"merged.safetensors", "merged.safetensors.recipe.yaml"}
    assert set(written[0]) == files_of_merge | {"matching.json", "path.json", "path.png", "report.html"}
    assert written[0] == written[1]
    assert shown[0] == shown[1]
    assert str(tmp_path).encode() not in b"".join(written[0].values())


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Progress("m", 3, 10), "3/10"),
        (Progress("m", 3), "3/?"),
        (Progress("m", 5 * 10**8, 2 * 10**9, unit="bytes"), "0.5 of 2.0 GB"),
        (Progress("m", 1500, 2000, unit="bytes"), "1.5 of 2.0 kB"),
        (Progress("m", 0, 0, unit="bytes"), "0.0 of 0.0 bytes"),
        (Progress("m", 3 * 10**6, unit="bytes"), "3.0 MB"),
    ],
)
def test_amounts_are_told_in_their_unit(step: Progress, text: str) -> None:
    """Steps are counted, and bytes are told in the unit of the whole."""
    assert amount(step) == text


def test_time_left_is_that_at_the_speed_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the rest after ten seconds means another ten, what was there at the beginning left out."""
    clock = iter([0.0, 0.5, 10.0])
    monkeypatch.setattr("onebasin.cli.screen.time.monotonic", lambda: next(clock))
    speed = Speed(1000)

    assert speed.left(Progress("m", 1100, 3000, unit="bytes")) == ""
    assert speed.left(Progress("m", 2000, 3000, unit="bytes")) == "0:10 left"


def test_progress_goes_to_a_terminal(files: Files, tmp_path: Path) -> None:
    """On a terminal bars are drawn on standard error, while standard output holds the JSON alone."""
    pty = pytest.importorskip("pty")
    main, side = pty.openpty()
    command = [sys.executable, "-m", "onebasin", "inspect", "--task", files.task, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=side, cwd=tmp_path) as process:
        os.close(side)
        drawn = b""
        while chunk := read(main):  # while the command runs, since a terminal that nobody reads is soon full
            drawn += chunk
        output, _ = process.communicate()
    os.close(main)

    assert process.returncode == 0
    assert b"verifying" in drawn
    assert output.startswith(b"{")


def read(descriptor: int) -> bytes:
    """What a pseudo-terminal still holds; nothing once its other side is closed, which Linux reports as an error."""
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:
        return b""
