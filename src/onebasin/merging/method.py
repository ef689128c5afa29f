"""A merge method as data: the keyword parameters of one typed function are its options everywhere.

Its signature gives names, types and defaults, its docstring what they mean; the command line, recipes and
`onebasin.merge` read them here. A method takes a `Stack` (one tensor of every model) and returns a `Rule`.
"""

import difflib
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Concatenate, Generic, Literal, ParamSpec

from onebasin.errors import OptionError
from onebasin.merging.rule import Rule
from onebasin.merging.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor

    from onebasin.merging.networks import Networks
    from onebasin.merging.stack import Stack

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Between:
    """The range that a number must lie in, both ends included."""

    low: float
    high: float


PerModel = Sequence[float]
"""One number a model; a single one stands for all."""
Fractions = Annotated[PerModel, Between(0, 1)]
"""One number from 0 to 1 a model."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One keyword parameter of a method.

    Attributes:
        name: of the keyword, the option and the key in a recipe.
        kind: `float`, `int`, `bool` or `str`.
        per_model: whether there is one number a model.
        default: used where it is not given; for `per_model` a tuple.
        choices: the values that a `str` may have.
        between: the range of a number.
        text: what it means, from the docstring.
    """

    name: str
    kind: type
    per_model: bool
    default: object
    choices: tuple[str, ...]
    between: Between | None
    text: str

    def parse(self, value: object, count: int) -> "Setting":
        """Check a value and bring it into one form.

        Args:
            value: a number, truth value or text as `kind` says; numbers may be schedules (`onebasin.merging.schedule`),
                and with `per_model` a sequence of them.
            count: how many models there are.

        Raises:
            OptionError: naming the parameter.
        """
        if self.kind is float:
            return self._numbers(value, count)
        fits = type(value) is self.kind and (not self.choices or value in self.choices)
        if not fits or (isinstance(value, int) and value < 0):
            words = {bool: "true or false", int: "a whole number from 0", str: " or ".join(self.choices)}
            raise OptionError(self.name, expected=words[self.kind], found=repr(value)[:60], remedy="correct it")
        return typing.cast("bool | int | str", value)

    def _numbers(self, value: object, count: int) -> "Setting":
        several = self.per_model and isinstance(value, Sequence) and not _is_filters(value)
        rows = list(typing.cast("Sequence[object]", value)) if several else [value]
        if len(rows) == 1:
            rows *= count if self.per_model else 1
        if self.per_model and len(rows) != count:
            raise OptionError(
                self.name, expected=f"{count} numbers", found=str(value)[:60], remedy="pass one number a model"
            )
        schedules = tuple(Schedule.parse(row, self.name) for row in rows)
        for number in (number for schedule in schedules for number in schedule.values):
            if self.between is not None and not self.between.low <= number <= self.between.high:
                raise OptionError(
                    self.name,
                    expected=f"a number from {self.between.low:g} to {self.between.high:g}",
                    found=f"{number:g}",
                    remedy="correct it",
                )
        return schedules if self.per_model else schedules[0]


Setting = Schedule | tuple[Schedule, ...] | bool | int | str
"""A checked value of a parameter."""


@dataclass(frozen=True)
class Settings:
    """The checked values of all parameters of one method.

    Attributes:
        values: by the parameter's name.
    """

    values: Mapping[str, Setting]

    def at(self, name: str, depth: float) -> dict[str, object]:
        """The keywords for one tensor, given its name and depth (see `Schedule.at`)."""

        def plain(value: Setting) -> object:
            if isinstance(value, Schedule):
                return value.at(name, depth)
            return tuple(row.at(name, depth) for row in value) if isinstance(value, tuple) else value

        return {key: plain(value) for key, value in self.values.items()}

    def to_data(self) -> dict[str, object]:
        """The written form, as it stands in a recipe."""
        return {
            key: value.to_data()
            if isinstance(value, Schedule)
            else [row.to_data() for row in value]
            if isinstance(value, tuple)
            else value
            for key, value in self.values.items()
        }


@dataclass(frozen=True)
class Described:
    """What is known of a method without running it.

    Attributes:
        name: of the function, the option's value and the recipe's.
        text: its docstring.
        needs_base: whether models are seen as differences from a base.
        count: how many models it takes; None for any number from one.
        parameters: by name, in the order of the signature.
    """

    name: str
    text: str
    needs_base: bool
    count: int | None
    parameters: Mapping[str, Parameter]

    def check(self, count: int, *, has_base: bool) -> None:
        """Check that the method takes so many models, with a base or without.

        Raises:
            OptionError: if not.
        """
        if count == 0:
            raise OptionError("models", expected="at least one model", found="none", remedy="pass the models to merge")
        if self.count is not None and count != self.count:
            raise OptionError(
                "models", expected=f"{self.count} for {self.name}", found=str(count), remedy="use mean for other counts"
            )
        if self.needs_base != has_base:
            raise OptionError(
                "base",
                expected=f"the common ancestor of the models for {self.name}" if self.needs_base else "none",
                found="none" if self.needs_base else f"one, which {self.name} does not use",
                remedy="pass the base" if self.needs_base else "leave it out or choose another method",
            )

    def settings(self, given: Mapping[str, object], count: int) -> Settings:
        """Check parameters; those not given have their defaults.

        Args:
            given: values by name, see `Parameter.parse`.
            count: how many models there are.

        Raises:
            OptionError: if a name is unknown (the nearest known one is told), or a value does not fit.
        """
        for name in given.keys() - self.parameters.keys():
            raise unknown(name, self.parameters, f"a parameter of {self.name}")
        return Settings({name: p.parse(given.get(name, p.default), count) for name, p in self.parameters.items()})


@dataclass(frozen=True)
class Method(Described, Generic[P]):
    """A way to merge one tensor, whatever the others are; made by `@method()` from a typed function.

    Called with the tensor of every model, it gives the merged tensor.

    Attributes:
        build: from a stack of tensors and the keywords to a rule.
    """

    build: "Callable[Concatenate[Stack, P], Rule]"

    def __call__(
        self, tensors: "Sequence[Tensor]", base: "Tensor | None" = None, *_: P.args, **keywords: P.kwargs
    ) -> "Tensor":
        """Merge one tensor.

        Args:
            tensors: of every model; of one shape and floating-point or complex.
            base: of the base, for a method that needs one.
            keywords: the parameters of the method.

        Returns:
            a new tensor in the dtype of the first.

        Raises:
            OptionError: if a parameter or the number of tensors does not fit.
            MismatchError: if a tensor holds NaN.
        """
        from onebasin.merging.stack import Stack, combine  # not before torch is needed

        self.check(len(tensors), has_base=base is not None)
        settings = self.settings(keywords, len(tensors))
        stack = Stack.of(self.name, tensors, base)
        return combine(stack, self.rule(stack, settings, depth=0.0), tensors[0])

    def rule(self, stack: "Stack", settings: Settings, depth: float) -> Rule:
        """The rule for a stack that lies so deep in the network (see `Schedule.at`)."""
        return self.build(stack, **settings.at(stack.name, depth))  # type: ignore[call-arg, arg-type] # they were checked


@dataclass(frozen=True)
class NetworkMethod(Described, Generic[P]):
    """A way to merge whole networks that looks at data; made by `@network_method()` from a typed function.

    Attributes:
        run: from the networks and the keywords to the merged tensors by name.
    """

    run: "Callable[Concatenate[Networks, P], dict[str, Tensor]]"


def method(
    *, base: bool = False, count: int | None = None
) -> "Callable[[Callable[Concatenate[Stack, P], Rule]], Method[P]]":
    """Make a method from a function whose keyword parameters, their types and docstring say all about its options."""
    return lambda function: Method(
        **_described(function), needs_base=base, count=count, parameters=_parameters(function), build=function
    )


def network_method(
    function: "Callable[Concatenate[Networks, P], dict[str, Tensor]]",
) -> NetworkMethod[P]:
    """The same for whole networks and data."""
    return NetworkMethod(
        **_described(function), needs_base=False, count=None, parameters=_parameters(function), run=function
    )


def unknown(name: str, known: Mapping[str, object] | Sequence[str], what: str) -> OptionError:
    """The error that says that a name is not known, with the nearest known one."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return OptionError(
        name,
        expected=f"{what}: {', '.join(known) or 'none'}",
        found=f"{name!r}, which is unknown",
        remedy=f"write {near[0]!r} if you mean that" if near else "remove it",
    )


def _is_filters(value: object) -> bool:
    """Whether a list is one schedule and not one number a model."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and "value" in value[0]


def _described(function: Callable[..., object]) -> dict[str, str]:
    return {"name": function.__name__, "text": inspect.getdoc(function) or ""}


def _parameters(function: Callable[..., object]) -> dict[str, Parameter]:
    texts = _argument_texts(inspect.getdoc(function) or "")
    return {
        name: _parameter(name, row.annotation, row.default, texts.get(name, ""))
        for name, row in inspect.signature(function).parameters.items()
        if row.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _parameter(name: str, annotation: object, default: object, text: str) -> Parameter:
    between = None
    if typing.get_origin(annotation) is Annotated:
        annotation, between = typing.get_args(annotation)
    choices = typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()
    per_model = annotation == PerModel
    kind = float if per_model else str if choices else annotation
    return Parameter(name, typing.cast("type", kind), per_model, default, choices, between, text)


def _argument_texts(doc: str) -> dict[str, str]:
    """The descriptions under `Args:` of a docstring in Google style, by name."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", doc, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", section[1] if section else "", re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in rows}
