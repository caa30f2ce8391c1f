"""Which methods of nodes are seen when they are called, and what is said of others."""

import functools
import inspect
from collections.abc import Iterable
from types import FunctionType
from typing import Any, Final

from .._hints import did_you_mean
from .._method_wrappers import is_public, original_of

_KINDS: Final[dict[type, str]] = {
    property: "property",
    functools.cached_property: "property",
    staticmethod: "static method",
    classmethod: "class method",
    functools.partialmethod: "partialmethod",
    functools.singledispatchmethod: "singledispatchmethod",
}


def method_fault(cls: type[Any], name: str) -> str:
    """Why calls of a method of a class cannot be seen, to stand after the name of a node; empty if they can."""
    # Not by `getattr_static`, which finds what the class of the class has, too.
    attributes = [vars(base)[name] for base in cls.__mro__ if name in vars(base)]
    if not attributes and name == "__call__":
        return ""  # the default: nobody has misspelt it
    if not attributes:
        hint = did_you_mean(name, _public_names(cls))
        return f"has no method {name!r}" + (f" ({hint})" if hint else "")
    kind = _kind_of(original_of(attributes[0]))
    if not kind:
        return ""
    return f"has {name!r} as a {kind}, whose calls cannot be seen; select a method that it calls, or is called by"


def _public_names(cls: type[Any]) -> Iterable[str]:
    """What a method of a class may be called."""
    return [name for name in dir(cls) if is_public(name)]


def _kind_of(attribute: object) -> str:
    """What is in a class, if it is of a kind whose calls are not seen; else empty."""
    # These run later, and elsewhere.
    if isinstance(attribute, FunctionType):
        if inspect.isgeneratorfunction(attribute):
            return "generator"
        if inspect.isasyncgenfunction(attribute):
            return "asynchronous generator"
        return "coroutine" if inspect.iscoroutinefunction(attribute) else ""
    kinds = [text for cls, text in _KINDS.items() if isinstance(attribute, cls)]
    return kinds[0] if kinds else ""
