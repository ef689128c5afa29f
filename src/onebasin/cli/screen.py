"""What a command shows: results on standard output, progress and problems on standard error."""

import dataclasses
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table as RichTable
from rich.text import Text

from onebasin.errors import OneBasinError, VerificationError
from onebasin.json_file import format_json
from onebasin.progress import Progress

if TYPE_CHECKING:
    from onebasin.report import Table

ANSWER_IS_NO = 1
BAD_INPUT = 2

_BARS = "▁▂▃▄▅▆▇█"
SIZES = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "bytes"))
"""Units of bytes with their sizes, the largest first."""


class Screen:
    """The two streams of one command.

    Args:
        as_json: print only the result, as JSON; lines and tables are left out.

    Attributes:
        status: the exit status so far.
        written: files written so far.
        resumes: how to go on where the work is interrupted, if that is possible.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._out = Console(highlight=False)
        self._errors = Console(stderr=True, highlight=False)
        self._bars: Bars | None = None
        self._stages: dict[str, TaskID] = {}
        self._speeds: dict[str, Speed] = {}
        self._notes: list[str] = []
        self.status = 0
        self.written: list[Path] = []
        self.resumes = ""

    def line(self, text: str = "", style: str = "") -> None:
        """A line of the result for people."""
        if not self._as_json:
            self._out.print(Text(text, style), soft_wrap=True)

    def relay(self, text: str, style: str = "") -> None:
        """A line of what runs under the command: with the results, or beside them where those are for machines."""
        (self._errors if self._as_json else self._out).print(Text(text, style), soft_wrap=True)

    def table(self, table: "Table") -> None:
        """A table of the result for people; one without rows is left out."""
        if self._as_json or not table.rows:
            return
        self.line(table.title, "bold")
        drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for column in table.columns:
            drawn.add_column(column, justify="right" if column in table.numeric else "left", overflow="fold")
        for row in table.rows:
            drawn.add_row(*map(Text, row))
        self._out.print(drawn)
        self.line()

    def result(self, data: object) -> None:
        """The result for machines."""
        if self._as_json:
            typer.echo(format_json(data))

    def note(self, text: str) -> None:
        """Something worth knowing that is not the result; shown at the end, unless an input cannot be used."""
        self._notes.append(text)

    def refuse(self, text: str) -> None:
        """The answer is no, for this reason."""
        self._errors.print(Text(text, "bold red"), soft_wrap=True)
        self.status = ANSWER_IS_NO

    def fail(self, text: str) -> None:
        """An input cannot be used, for this reason: one line, however it came about."""
        self._errors.print(Text(" ".join(text.split()), "red"), soft_wrap=True)
        self.status = BAD_INPUT

    def wrote(self, *paths: Path) -> None:
        """Remember files that exist from now on."""
        self.written.extend(paths)

    def progress(self, step: Progress) -> None:
        """Draw a bar a stage while standard error is a terminal; the bars go when the command is done."""
        if not self._errors.is_terminal:
            return
        if self._bars is None:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24))
            details = (TextColumn("{task.fields[amount]}"), TextColumn("{task.fields[detail]}"))
            self._bars = Bars(*columns, *details, console=self._errors, transient=True)
            self._bars.start()
        if step.stage not in self._stages:
            self._stages[step.stage] = self._bars.add_task(step.stage, detail="", amount="")
            self._speeds[step.stage] = Speed(step.done)
        detail = step.detail or (self._speeds[step.stage].left(step) if step.unit else "")
        self._bars.update(
            self._stages[step.stage], completed=step.done, total=step.total, amount=amount(step), detail=detail
        )

    def stage(self, name: str) -> Callable[[Progress], None]:
        """A report of progress under another name, for work that is done twice."""
        return lambda step: self.progress(dataclasses.replace(step, stage=name))

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Show that work is going on which does not say how far it is."""
        self.progress(Progress(name, 0))
        yield
        self.progress(Progress(name, 1, 1))

    def close(self) -> None:
        """Take the bars away."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def end(self) -> None:
        """Take the bars away and show the notes."""
        self.close()
        if self.status != BAD_INPUT:
            for text in self._notes:
                self._errors.print(Text(text, "yellow"), soft_wrap=True)


class Speed:
    """How fast a stage goes, from now on.

    Args:
        done: what was done before.
    """

    def __init__(self, done: int) -> None:
        self._begun, self._first = time.monotonic(), done

    def left(self, step: Progress) -> str:
        """How long the rest takes at the speed so far; nothing in the first second, and where the whole is unknown."""
        passed, done = time.monotonic() - self._begun, step.done - self._first
        if step.total is None or done <= 0 or passed < 1:
            return ""
        minutes, seconds = divmod(round(passed * (step.total - step.done) / done), 60)
        return f"{minutes}:{seconds:02} left"


def amount(step: Progress) -> str:
    """How much of a stage is done, in steps or in bytes."""
    if step.unit != "bytes":
        return f"{step.done}/{'?' if step.total is None else step.total}"
    size, name = next((row for row in SIZES if (step.total or step.done) >= row[0]), SIZES[-1])
    rows = [step.done, *([] if step.total is None else [step.total])]
    return f"{' of '.join(f'{count / size:.1f}' for count in rows)} {name}"


@contextmanager
def session(*, as_json: bool, threads: int | None = None, task: str | None = None) -> Iterator[Screen]:
    """Run a command: errors become one line and an exit status.

    Args:
        as_json: see `Screen`.
        threads: how many torch may use; None leaves its choice.
        task: the task as the user named it, whose own mistakes are shown with their place in the file.

    Raises:
        typer.Exit: with the status, unless it is 0.
    """
    import torch

    screen = Screen(as_json=as_json)
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    # Torch logs a traceback of its own where a model does not fit its inputs; our line says it.
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield screen
    except VerificationError as error:
        screen.close()
        screen.refuse(str(error))
    except OneBasinError as error:
        screen.close()
        screen.fail(str(error))
    except KeyboardInterrupt:
        screen.close()
        names = ", ".join(map(str, screen.written))
        found = f"written so far: {names}" if names else "nothing was written"
        screen.refuse("; ".join(["interrupted", found, *([screen.resumes] if screen.resumes else [])]))
    except Exception as error:
        screen.close()
        line = _of_the_task(error, task)
        if line is None:
            raise
        screen.fail(line)
        raise typer.Exit(screen.status) from error
    finally:
        screen.close()
        logger.setLevel(level)
        torch.set_num_threads(before)
    screen.end()
    if screen.status:
        raise typer.Exit(screen.status)


def _of_the_task(error: Exception, task: str | None) -> str | None:
    """An exception out of a user's task: the last place in that file, the exception, and what was being done.

    Returns:
        The line, or None where the exception is not the task's but our own mistake.
    """
    if task is None:
        return None
    file = str(Path(task).expanduser().resolve())
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    lines += [error.lineno] if isinstance(error, SyntaxError) else []
    notes = [note for note in getattr(error, "__notes__", ()) if "the task" in note]
    if not lines and not notes:
        return None
    place = f"{task}:{lines[-1]}" if lines else task
    return "; ".join([f"{place}: {type(error).__name__}: {error}", *notes])


def sparkline(values: tuple[float, ...], top: float) -> str:
    """Heights from 0 to `top` as eight kinds of blocks; ASCII where the terminal cannot show them."""
    marks = _BARS
    try:
        _BARS.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        marks = "_.-~=+*#"
    steps = len(marks) - 1
    return "".join(marks[min(steps, round(steps * value / top)) if top > 0 else 0] for value in values)
