"""Static values that a file gives by their registered name: functions, classes, and instances of most classes.

No data describes such a value: the program registers it, and a file names it. An
annotation tells which of the registered values a field admits.
"""

import collections.abc
import inspect
from collections.abc import Callable
from typing import Any, Final, cast

from .._hints import short, with_article
from .._static import Defined
from ._registry import UnknownNameError, format_names, value_names, value_of
from ._typed import REGISTERED, unwrapped
from ._validated import validated_by
from ._value_errors import value_error

# A value of each type of JSON but strings, which are names: what an annotation admits of
# them, its schema must admit too.
_JSON_SAMPLES: Final[dict[str, Any]] = {
    "null": None,
    "boolean": True,
    "number": 1.5,
    "array": [],
    "object": {},
}


def registered_type(
    is_admitted: Callable[[Any], bool], what: str, base: type = object
) -> Any:
    """The type, for pydantic, of a value that a file gives by its name in the registry, and a program as it is.

    Args:
        is_admitted: Whether the annotation admits a value.
        what: What messages call such a value.
        base: The class of the values, where `what` does not name it.
    """

    def read(data: Any) -> Any:
        """The value that a registered name stands for, or that a program gives; an error if not admitted."""
        value = unwrapped(data, REGISTERED)
        # Exactly `str`: an instance of a subclass is a value that a program gives.
        if type(value) is str:
            value = value_named(value, is_admitted)
        if not is_admitted(value):
            text = f"{short(data)} is not {with_article(what)}: register one with gn.config.register(name, value)"
            raise value_error(text)
        return value

    # Called when the schema is made, not now: more names may be registered until then.
    def schema() -> dict[str, Any]:
        """The names of admitted values, and the types of JSON whose values are admitted themselves."""
        names = sorted(name for name in value_names() if is_admitted(value_of(name)))
        by_name: dict[str, Any] = {
            "description": f"The name of a registered {what}.",
            "enum": names,
        }
        others = [kind for kind, data in _JSON_SAMPLES.items() if is_admitted(data)]
        return {"anyOf": [by_name, {"type": others}]} if others else by_name

    # With the class itself, as two classes may have one name.
    key = ("registered", what, base)
    return validated_by(read, Defined(what.replace(" ", "_"), key, schema))


def value_named(name: Any, is_admitted: Callable[[Any], bool]) -> Any:
    """The value that is registered under a name in a file; for `registered_type`, and `{type: registered, ...}`.

    Raises:
        PydanticCustomError: The name is unknown; lists those that would be admitted.
    """
    try:
        return value_of(name)
    except UnknownNameError as error:
        hint = error.hint
        if not hint:
            names = [name for name in value_names() if is_admitted(value_of(name))]
            hint = f"known are {format_names(names) or 'none'}"
        raise value_error(error.what, "unknown_name", hint=hint) from None


def class_type(base: Any) -> Any:
    """The type for an annotation `type[C]`: a registered class that extends C; any, unless C is a class."""
    # `Any` is a class since Python 3.11, and nothing extends it.
    bound = base if isinstance(base, type) and base is not Any else object
    return registered_type(
        lambda value: isinstance(value, type) and issubclass(value, bound),
        "class",
        bound,
    )


def instance_type(cls: Any) -> Any:
    """The type for a class of which no data describes the instances: a registered one; of a protocol, a function."""
    # isinstance refuses most protocols, and files name functions where they stand.
    if getattr(cls, "_is_protocol", False) or cls is collections.abc.Callable:
        return registered_type(callable, "function")
    return registered_type(lambda value: isinstance(value, cls), cls.__name__, cls)


def function_type(parameters: Any) -> Any:
    """The type, for pydantic, of a function that takes as many arguments as `Callable[parameters, ...]`.

    The number distinguishes an initialiser from an activation.
    """
    if not isinstance(parameters, list):
        return registered_type(callable, "function")
    count = len(cast("list[object]", parameters))
    what = f"function of {count} argument{'' if count == 1 else 's'}"
    return registered_type(lambda value: callable(value) and _takes(value, count), what)


def _takes(function: Callable[..., object], count: int) -> bool:
    """Whether a function can be called with `count` arguments by position; yes where nobody can know.

    An initializer and an activation are told apart by it.
    """
    try:
        # Defaults and `*args` then count as in a call.
        inspect.signature(function).bind(*[None] * count)
    except ValueError:  # written in C, without a signature
        return True
    except TypeError:
        return False
    return True
