"""The parameters of all merge methods as options of a command: one table, read from the methods themselves."""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from onebasin.cli.bundle import bundled
from onebasin.errors import OptionError
from onebasin.merging.data import NETWORK_METHODS
from onebasin.merging.method import Described, Parameter
from onebasin.merging.methods import METHODS

ALL: dict[str, Described] = {**METHODS, **NETWORK_METHODS}
"""Every merge method by name."""

SHARED = frozenset({"seed"})
"""Parameters that the command has an option for anyway."""


def owners(name: str) -> list[str]:
    """The methods that have a parameter of this name."""
    return [method.name for method in ALL.values() if name in method.parameters]


def _parameters() -> dict[str, Parameter]:
    """Every parameter of a method once, as the first method has it."""
    found: dict[str, Parameter] = {}
    for method in ALL.values():
        for name, parameter in method.parameters.items():
            if name not in SHARED:
                found.setdefault(name, parameter)
    return found


PARAMETERS = _parameters()


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def checked(method: str, given: Mapping[str, object]) -> dict[str, object]:
    """The parameters of a method out of those given on the command line.

    Args:
        method: its name.
        given: values by name; numbers for every model as a text such as `1,1`.

    Raises:
        OptionError: the method is unknown, or an option does not belong to it or is not numbers.
    """
    if method not in ALL:
        raise OptionError("--method", expected=" or ".join(ALL), found=repr(method), remedy="choose one of them")
    values = {name: _numbers(name, value) for name, value in given.items()}
    for name in values:
        if name not in ALL[method].parameters:
            raise OptionError(
                f"--{name}",
                expected=f"--method {' or '.join(owners(name))}",
                found=f"--method {method}",
                remedy="leave one of them out",
            )
    return values


def _numbers(name: str, value: object) -> object:
    if not isinstance(value, str) or not PARAMETERS[name].per_model:
        return value
    try:
        return [float(text) for text in value.split(",")]
    except ValueError as error:
        raise OptionError(
            f"--{name}", expected="numbers such as 1,1", found=repr(value), remedy="correct them"
        ) from error


def _option(parameter: Parameter) -> inspect.Parameter:
    """The option of a parameter, None where it is not given."""
    kind: Any = str if parameter.per_model else parameter.kind
    names = [f"--{parameter.name}" + (f"/--no-{parameter.name}" if kind is bool else "")]
    metavar = "X,X" if parameter.per_model else "|".join(parameter.choices) or {float: "X"}.get(kind)
    text = f"{parameter.text[:1].upper()}{parameter.text[1:]} ({', '.join(owners(parameter.name))})"
    option = typer.Option(*names, metavar=metavar, help=text, show_default=False)
    return inspect.Parameter(
        parameter.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


with_method_options = bundled("parameters", [_option(parameter) for parameter in PARAMETERS.values()], _given)
"""A command whose argument `parameters` becomes one option for every parameter of a method.

Those that are given arrive in it by name; numbers for every model are parsed.
"""
