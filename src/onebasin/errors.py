"""Every error the library raises on purpose.

    OneBasinError
    ├── OptionError       an argument or option has a value that cannot work
    ├── SymmetryError     a symmetry, layout or permutation contradicts itself
    ├── MismatchError     tensors disagree with a symmetry, with each other, or hold NaN
    ├── CheckpointError   a file cannot be read or written, or is not what its name says
    ├── DiscoveryError    the model could not be run on the example inputs
    ├── VerificationError a symmetry changes the model's function
    └── TaskError         a task file or data set is missing or does not follow the protocol

Write `except OneBasinError as error:` to catch them all; `error.subject` is the tensor, file or option that failed.
Each class also inherits the built-in exception it specialises.
"""


class OneBasinError(Exception):
    """Something failed in a way the reader can act on.

    Args:
        subject: the tensor, file, group or option concerned, as the user knows it.
        expected: what was expected of it.
        found: what was found instead.
        remedy: what to do about it, as an imperative.
    """

    def __init__(self, subject: str, *, expected: str, found: str, remedy: str) -> None:
        super().__init__(subject, expected, found, remedy)
        self.subject = subject
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        """One line: subject, expected, found, remedy."""
        line = f"{self.subject}: expected {self.expected}, found {self.found}; {self.remedy}"
        return " ".join(line.split())

    def within(self, place: str) -> "OneBasinError":
        """The same error, its subject told with the place it was found in, such as a file."""
        return _rebuild(type(self), f"{place}: {self.subject}", self.expected, self.found, self.remedy)

    def __reduce__(self) -> tuple[object, ...]:
        """Keyword-only arguments survive pickling, as workers in other processes need."""
        return (_rebuild, (type(self), self.subject, self.expected, self.found, self.remedy))


def _rebuild(kind: type[OneBasinError], subject: str, expected: str, found: str, remedy: str) -> OneBasinError:
    return kind(subject, expected=expected, found=found, remedy=remedy)


class OptionError(OneBasinError, ValueError):
    """An argument or option has a value that cannot work."""


class SymmetryError(OneBasinError, ValueError):
    """A symmetry, layout or permutation contradicts itself."""


class MismatchError(OneBasinError, ValueError):
    """Tensors disagree with a symmetry, with each other, or hold NaN."""


class CheckpointError(OneBasinError, OSError):
    """A file cannot be read or written, or is not what its name says."""


class DiscoveryError(OneBasinError, RuntimeError):
    """The model could not be run on the example inputs."""


class VerificationError(OneBasinError, RuntimeError):
    """A symmetry changes the model's function."""


class TaskError(OneBasinError, ValueError):
    """A task file or data set is missing or does not follow the protocol."""
