"""Several options of a command that arrive as one argument."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

Command = Callable[..., None]


def bundled(name: str, rows: Sequence[inspect.Parameter], make: Callable[..., object]) -> Callable[[Command], Command]:
    """Let a command take options in place of one of its arguments.

    Args:
        name: of the argument that the command has.
        rows: the options that its users see instead, in the same place.
        make: builds the argument from the options, given by name.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command)
        seen = list(signature.parameters.values())
        place = next(number for number, row in enumerate(seen) if row.name == name)
        seen[place : place + 1] = rows
        seen = [row.replace(kind=inspect.Parameter.KEYWORD_ONLY) for row in seen]

        @functools.wraps(command)
        def wrapper(**arguments: Any) -> None:  # noqa: ANN401 - whatever the options give
            given = {row.name: arguments.pop(row.name) for row in rows}
            command(**arguments, **{name: make(**given)})

        vars(wrapper).pop("__wrapped__", None)  # the signature is another
        vars(wrapper)["__signature__"] = signature.replace(parameters=seen)
        wrapper.__annotations__ = {row.name: row.annotation for row in seen}
        return wrapper

    return decorate


def rows_of(kind: type, **defaults: object) -> list[inspect.Parameter]:
    """The options of a bundle, a field each.

    Args:
        kind: a dataclass whose fields have the options as their types.
        defaults: values of one command in place of those of the dataclass.
    """
    missing, empty = dataclasses.MISSING, inspect.Parameter.empty
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(field.name, empty if field.default is missing else field.default),
            annotation=field.type,
        )
        for field in dataclasses.fields(kind)
    ]
