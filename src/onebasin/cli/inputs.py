"""What the options of a command name: tasks, symmetries, checkpoints and the files to write."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import torch

from onebasin import Symmetry, Verification, discover, verify
from onebasin.checkpoint import check_finite, open_checkpoint
from onebasin.checkpoint.format import kind_of
from onebasin.cli.screen import Screen
from onebasin.errors import OptionError, VerificationError
from onebasin.files import Staging, write_error
from onebasin.tasks import Task, load_task


@dataclass(frozen=True)
class Source:
    """The options that say where a symmetry comes from.

    Attributes:
        task: as the user named it.
        data_root: of the task.
        symmetry: a saved one.
        proving: whether to verify it on the task's model.
        trials: see `onebasin.verify`.
        seed: of the proof, and of the model and inputs that the task makes.
    """

    task: str | None
    data_root: Path | None = None
    symmetry: Path | None = None
    proving: bool = True
    trials: int = 3
    seed: int = 0

    @cached_property
    def loaded(self) -> Task | None:
        """The task, where one was named; loaded once, with its data."""
        return None if self.task is None else load_task(self.task, data_root=self.data_root)

    def require_task(self, purpose: str) -> Task:
        """The task, which `purpose` cannot do without.

        Raises:
            OptionError: none was named.
        """
        if self.loaded is None:
            raise OptionError(purpose, expected="a task with data", found="no --task", remedy="pass --task")
        return self.loaded


@dataclass(frozen=True)
class Subject:
    """The architecture a command works on.

    Attributes:
        symmetry: of the architecture.
        task: where one was named.
        verification: of the symmetry on the task's model, where it was made.
        unverified: the reason why it was not.
    """

    symmetry: Symmetry
    task: Task | None
    verification: Verification | None
    unverified: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the symmetry."""
        return self.verification is None or self.verification.ok

    def require(self) -> Self:
        """Go on only with a symmetry that holds.

        Raises:
            VerificationError: naming the groups at fault.
        """
        if self.verification is not None and not self.verification.ok:
            raise VerificationError(
                self.task.name if self.task else "the symmetry",
                expected=f"a symmetry that keeps the model's function, to {self.verification.tolerance:.0e}",
                found=f"a relative error of {self.verification.max_relative_error:.1e}; {_culprits(self.verification)}",
                remedy="correct the symmetry, or report the model if it was discovered",
            )
        return self

    @property
    def proof(self) -> str:
        """What is known about the symmetry, in a line."""
        v = self.verification
        if v is None:
            return f"not verified: {self.unverified}"
        figures = f"max relative error {v.max_relative_error:.1e} (tolerance {v.tolerance:.0e})"
        if v.ok:
            tried = f"{v.trials} random reordering{'s' if v.trials > 1 else ''} in {' and '.join(v.modes)} mode"
            return "; ".join([f"proved on the model: {figures}, {tried}", *v.notes])
        return "; ".join([f"NOT a symmetry of the model: {figures}, {_culprits(v)}", *v.notes])

    def to_json(self) -> dict[str, object]:
        """What is known about the symmetry, for machines."""
        v = self.verification
        if v is None:
            return {"verified": False, "reason": self.unverified}
        return {
            "verified": True,
            "ok": v.ok,
            "max_relative_error": v.max_relative_error,
            "tolerance": v.tolerance,
            "trials": v.trials,
            "modes": list(v.modes),
            "culprits": list(v.culprits),
            "notes": list(v.notes),
        }


def _culprits(verification: Verification) -> str:
    return f"at fault: {', '.join(verification.culprits)}" if verification.culprits else "no group alone is at fault"


def find_subject(screen: Screen, source: Source, given: Symmetry | None = None) -> Subject:
    """Find a symmetry on the task's model, or take a saved one, and try to prove it on that model.

    Args:
        screen: shows progress.
        source: the options.
        given: a symmetry that came with something else, such as a matching; used in place of that of the options.

    Raises:
        OptionError: there is neither a task nor a symmetry.
        MismatchError: the symmetry does not fit the task's model.
    """
    symmetry = Symmetry.load(source.symmetry) if given is None and source.symmetry is not None else given
    task = source.loaded
    if task is None:
        if symmetry is None:
            raise OptionError(
                "--task", expected="a task or a saved symmetry", found="neither", remedy="pass --task or --symmetry"
            )
        return Subject(symmetry, None, None, "no model given")
    with seeded(source.seed):
        model, inputs = task.build_model(), task.example_inputs()
    if symmetry is None:
        with screen.during("discovering"):
            symmetry = discover(model, inputs)
    else:
        symmetry.check(model.state_dict(), f"the model of {source.task}")
    if not source.proving:
        return Subject(symmetry, task, None, "--no-verify was given")
    with screen.during("verifying"):
        return Subject(symmetry, task, verify(model, symmetry, inputs, trials=source.trials, seed=source.seed))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator for a block, since tasks draw weights and inputs from it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def check_inputs(paths: Iterable[Path], symmetry: Symmetry | None = None) -> None:
    """Open every checkpoint and look at all its tensors.

    Raises:
        CheckpointError: one cannot be read.
        MismatchError: one does not fit the symmetry, or holds NaN or infinity.
    """
    for path in paths:
        with open_checkpoint(path) as params:
            if symmetry is not None:
                symmetry.check(params, str(path))
            check_finite(params, str(path))


def check_target(option: str, path: Path | None, inputs: Sequence[Path] = (), *, checkpoint: bool = False) -> None:
    """Find out before long work whether a file can be written.

    Args:
        option: that names the file.
        path: the file; None where there is nothing to write.
        inputs: files that must not be replaced.
        checkpoint: whether its suffix must be that of a checkpoint.

    Raises:
        CheckpointError: its folder is missing, or the suffix is unknown.
        OptionError: it is one of the inputs, or a folder.
    """
    if path is None:
        return
    if path.is_dir():
        raise OptionError(f"{option} {path}", expected="a file", found="a folder", remedy="name a file in it")
    if any(path.resolve() == other.resolve() for other in inputs):
        raise OptionError(
            f"{option} {path}", expected="another file than the inputs", found="one of them", remedy="name a new file"
        )
    if checkpoint:
        kind_of(path)
    with Staging(path.parent):
        pass


def check_folder(option: str, path: Path | None) -> None:
    """Find out before long work whether a folder is one or can become one.

    Raises:
        OptionError: it is a file.
    """
    if path is not None and path.exists() and not path.is_dir():
        raise OptionError(f"{option} {path}", expected="a folder", found="a file", remedy="name another folder")


def make_folder(path: Path) -> Path:
    """A folder to write to, made where it is missing.

    Raises:
        CheckpointError: it is a file, or cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    return path
