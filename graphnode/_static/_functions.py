"""Functions, partial functions, and objects of which nothing more is known: files name them as registered."""

import functools
import types
from collections.abc import Hashable
from typing import Any, Final, TypeAlias

from .._hints import with_article
from ._attributes import attributes_key, attributes_of
from ._captured import check_captured, function_key, method_key
from ._kind import StaticKind, subclass_of
from ._lookup import frozen, static_key
from ._object_key import object_key

_Partial: TypeAlias = functools.partial[Any]


def _partial_key(value: _Partial) -> Hashable:
    """The key of a partial: those of its class, function, arguments and attributes."""
    # In their order, which a function that takes `**keywords` sees.
    keywords = [
        (name, static_key(argument)) for name, argument in value.keywords.items()
    ]
    cls: type = type(value)
    key = (cls, static_key(value.func), *map(static_key, value.args), *keywords)
    # Most have no attributes, and each visit of a node asks.
    if cls is functools.partial and not vars(value):
        return key
    return (*key, *attributes_key(value))


def _partial_parts(value: _Partial) -> tuple[object, ...]:
    """The values in a partial: its function, arguments and attributes.

    What is to be looked for in a static value, such as an array that can be written to,
    is looked for in these.
    """
    return (
        value.func,
        *value.args,
        *value.keywords.values(),
        *attributes_of(value).values(),
    )


def _read_only_partial(value: _Partial) -> _Partial:
    """The copy of a partial that a node keeps: whoever made it can still write to its keywords and attributes."""
    arguments = [frozen(argument) for argument in value.args]
    keywords = {name: frozen(argument) for name, argument in value.keywords.items()}
    # Around the constructor of a subclass, which may take other arguments.
    copy: _Partial = functools.partial.__new__(
        type(value), frozen(value.func), *arguments, **keywords
    )
    attributes = {
        name: frozen(content) for name, content in attributes_of(value).items()
    }
    for name, content in {**vars(value), **attributes}.items():
        object.__setattr__(copy, name, content)
    return copy


def _checked_object(value: Any) -> Any:
    """The object itself, for `frozen`; raises if it wraps a function that holds a node or State, as `jax.jit` may."""
    # A function that `jax.jit` or another decorator made an object of says which one it
    # was.
    wrapped = getattr(value, "__wrapped__", None)
    if wrapped is not None:
        check_captured(with_article(type(value).__name__), [("__wrapped__", wrapped)])
    return value


PARTIAL: Final = StaticKind[_Partial](
    name="partial",
    classes=(functools.partial,),
    matches=subclass_of(functools.partial),
    key=_partial_key,
    parts=_partial_parts,
    read_only=_read_only_partial,
    is_copied=True,
)

FUNCTION: Final = StaticKind[types.FunctionType](
    name="function",
    classes=(types.FunctionType,),
    key=function_key,
)

METHOD: Final = StaticKind[types.MethodType](
    name="method",
    classes=(types.MethodType,),
    key=method_key,
)

OBJECT: Final = StaticKind[Any](
    name="object",
    classes=(types.BuiltinFunctionType,),  # common, so that they are looked up at once
    matches=lambda cls: True,
    key=object_key,
    read_only=_checked_object,
)
