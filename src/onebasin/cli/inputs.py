"""What the options of a command name: tasks, symmetries, checkpoints and the files to write."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from onebasin import Matching, Symmetry, Verification, discover, verify
from onebasin.checkpoint import check_finite, open_checkpoint
from onebasin.checkpoint.format import kind_of
from onebasin.cli.screen import Screen
from onebasin.errors import OptionError
from onebasin.files import Staging, write_error
from onebasin.tasks import Task, load_task


@dataclass(frozen=True)
class Subject:
    """The architecture a command works on.

    Attributes:
        symmetry: of the architecture.
        task: where one was named.
        model: the task's, with fresh weights.
        verification: of the symmetry on the model, where it was made.
        unverified: the reason why it was not.
    """

    symmetry: Symmetry
    task: Task | None
    model: nn.Module | None
    verification: Verification | None
    unverified: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the symmetry."""
        return self.verification is None or self.verification.ok

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
        culprits = f"at fault: {', '.join(v.culprits)}" if v.culprits else "no single group is at fault"
        return "; ".join([f"NOT a symmetry of the model: {figures}, {culprits}", *v.notes])

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


def find_subject(
    screen: Screen,
    *,
    task: str | None,
    data_root: Path | None,
    symmetry: Symmetry | None,
    proving: bool,
    trials: int = 3,
    seed: int = 0,
) -> Subject:
    """Find a symmetry on the task's model, or take the one given; prove it on that model.

    Args:
        screen: shows progress; where the proof fails, the answer is no.
        task: as the user named it.
        data_root: of the task.
        symmetry: one that was saved or came with a matching.
        proving: whether to verify.
        trials: see `onebasin.verify`.
        seed: of the proof, and of the model and inputs that the task makes.

    Raises:
        OptionError: there is neither a task nor a symmetry.
    """
    if task is None:
        if symmetry is None:
            raise OptionError(
                "--task", expected="a task or a saved symmetry", found="neither", remedy="pass --task or --symmetry"
            )
        return Subject(symmetry, None, None, None, "no model given")
    loaded = load_task(task, data_root=data_root)
    with seeded(seed):
        model, inputs = loaded.build_model(), loaded.example_inputs()
    if symmetry is None:
        with screen.during("discovering"):
            symmetry = discover(model, inputs)
    else:
        symmetry.check(model.state_dict(), f"the model of {task}")
    if not proving:
        return Subject(symmetry, loaded, model, None, "--no-verify was given")
    with screen.during("verifying"):
        verification = verify(model, symmetry, inputs, trials=trials, seed=seed)
    subject = Subject(symmetry, loaded, model, verification)
    if not subject.holds:
        screen.close()
        screen.refuse(f"{task}: {subject.proof}")
    return subject


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator for a block, since tasks draw weights and inputs from it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def load_symmetry(path: Path | None) -> Symmetry | None:
    """A saved symmetry, where one was named."""
    return None if path is None else Symmetry.load(path)


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


def load_matching(path: Path | None) -> Matching | None:
    """A saved matching, where one was named."""
    return None if path is None else Matching.load(path)
