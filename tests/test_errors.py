"""The exception tree: what is drawn is what exists, and every error says what to do in one line."""

import pickle
import re

import pytest

from onebasin import errors
from onebasin.errors import OneBasinError

BUILTINS: dict[type[OneBasinError], type[Exception]] = {
    errors.OptionError: ValueError,
    errors.SymmetryError: ValueError,
    errors.MismatchError: ValueError,
    errors.CheckpointError: OSError,
    errors.DiscoveryError: RuntimeError,
    errors.VerificationError: RuntimeError,
    errors.TaskError: ValueError,
}
DRAWN = dict(re.findall(r"[├└]── (\w+) +(.+)", errors.__doc__ or ""))

each_kind = pytest.mark.parametrize("kind", BUILTINS)


def raised(kind: type[OneBasinError]) -> OneBasinError:
    """An error of the kind whose parts hold line breaks, as a traceback pasted into them would."""
    return kind(
        "conv1.weight", expected="shape\n[8, 3]", found="shape [8, 4]", remedy="pass the model\n  that was saved"
    )


def test_drawn_tree_is_the_class_tree() -> None:
    """The docstring draws every subclass, in the words of the class's own docstring."""
    defined = {kind.__name__: kind.__doc__ for kind in OneBasinError.__subclasses__()}

    assert {name: f"{words[0].upper()}{words[1:]}." for name, words in DRAWN.items()} == defined


def test_every_kind_is_listed() -> None:
    """The table of this file names every subclass, so that the other tests see all of them."""
    assert set(OneBasinError.__subclasses__()) == set(BUILTINS)


@each_kind
def test_error_is_caught_as_its_builtin(kind: type[OneBasinError]) -> None:
    """Whoever expects the built-in exception catches ours."""
    with pytest.raises(BUILTINS[kind]) as caught:
        raise raised(kind)

    assert isinstance(caught.value, OneBasinError)


@each_kind
def test_message_is_one_line(kind: type[OneBasinError]) -> None:
    """The message is one line: subject, expected, found, remedy."""
    message = "conv1.weight: expected shape [8, 3], found shape [8, 4]; pass the model that was saved"

    assert str(raised(kind)) == message


@each_kind
def test_error_survives_another_process(kind: type[OneBasinError]) -> None:
    """Pickling keeps the class, the message and each part."""
    error = raised(kind)
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is kind
    assert str(copy) == str(error)
    assert (copy.subject, copy.expected, copy.found, copy.remedy) == (
        error.subject,
        error.expected,
        error.found,
        error.remedy,
    )
