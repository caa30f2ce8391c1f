"""Functions, partial functions, and objects of which nothing more is known: files name them as registered."""

import functools
import types
from collections.abc import Hashable
from typing import Any, Final, TypeAlias

from ._kind import StaticKind, subclass_of
from ._lookup import frozen, static_key
from ._object_key import object_key

_Partial: TypeAlias = functools.partial[Any]


def _partial_key(value: _Partial) -> Hashable:
    keywords = [(name, static_key(value.keywords[name])) for name in sorted(value.keywords)]
    cls: type = type(value)
    return (cls, static_key(value.func), *map(static_key, value.args), *keywords)


def _partial_parts(value: _Partial) -> tuple[object, ...]:
    return (value.func, *value.args, *value.keywords.values())


def _read_only_partial(value: _Partial) -> _Partial:
    parts = [frozen(part) for part in _partial_parts(value)]
    if all(new is old for new, old in zip(parts, _partial_parts(value), strict=True)):
        return value
    function, *arguments = parts
    count = len(value.args)
    keywords = dict(zip(value.keywords, arguments[count:], strict=True))
    return type(value)(function, *arguments[:count], **keywords)


PARTIAL: Final = StaticKind[_Partial](
    name="partial",
    classes=(functools.partial,),
    matches=subclass_of(functools.partial),
    key=_partial_key,
    parts=_partial_parts,
    read_only=_read_only_partial,
)

OBJECT: Final = StaticKind[Any](
    name="object",
    # The common ones, so that they are looked up at once.
    classes=(types.FunctionType, types.BuiltinFunctionType, types.MethodType),
    matches=lambda cls: True,
    key=object_key,
)
