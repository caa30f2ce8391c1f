"""Whether a text among the inputs is the shape of an array, or a value such as `mode="mean"`.

The annotation of its parameter decides. Where that leaves it open, a text with a number in
it, or with the name of a size, is a shape, and any other is neither: nothing is guessed.
"""

import collections.abc
import enum
import re
import typing
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

import jax
import numpy as np
import typing_extensions

from .._contract import ContractSyntaxError, is_jaxtyping
from .._declare._type_arguments import UNIONS, VARIABLES, without_qualifiers

_ARRAYS: Final = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
_TEXTS: Final = (str, bytes, enum.Enum)
_LITERAL_TEXTS: Final = (typing.LiteralString, typing_extensions.LiteralString)
_OTHERS: Final = (int, float, complex, NoneType, np.dtype)

# What is an axis beyond doubt: a number, a multiple, any axes. Not `top-5`, which may be a mode.
_AXIS: Final = re.compile(r"\d+|\S*(\d\*|\*\d|//\d)\S*|\.\.\.")
_NAME: Final = re.compile(r"[^\W\d]\w*")


class Meaning(enum.Enum):
    """What texts are for a parameter."""

    SHAPES = "shapes"
    VALUES = "values"
    OPEN = "open"


class _Part(enum.Enum):
    """What a type without parts of its own is."""

    ARRAY = "array"
    TEXT = "text"
    OTHER = "other"
    UNKNOWN = "unknown"


def meaning_of(annotation: object) -> Meaning:
    """What texts are for a parameter with an annotation: shapes where it holds arrays, values where it holds none.

    Args:
        annotation: The annotation, with its strings evaluated.
    """
    parts = set(_parts_of(annotation))
    if _Part.UNKNOWN in parts or {_Part.ARRAY, _Part.TEXT} <= parts:
        return Meaning.OPEN
    return Meaning.SHAPES if _Part.ARRAY in parts else Meaning.VALUES


def _parts_of(annotation: object) -> Iterable[_Part]:
    """What the types are that an annotation is made of; keys of mappings are no inputs."""
    # Any: a form of `typing`, which has no class.
    plain: Any = without_qualifiers(annotation)
    origin, arguments = get_origin(plain), get_args(plain)
    if is_jaxtyping(plain):
        return [_Part.ARRAY]
    if stands_for := _stands_for(plain):
        return [part for other in stands_for for part in _parts_of(other)]
    if plain in _LITERAL_TEXTS or origin is Literal:
        return [_Part.TEXT]
    if origin is None or origin in {collections.abc.Callable, type}:
        return [_part_of(plain if origin is None else origin)]
    if isinstance(origin, type) and issubclass(origin, (*_ARRAYS, np.dtype)):
        return [_part_of(origin)]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        arguments = arguments[1:]
    elif origin not in UNIONS and not _is_container(origin):
        return [_Part.UNKNOWN]
    inner = [argument for argument in arguments if argument is not ...]
    return [part for argument in inner for part in _parts_of(argument)]


# Any: of typing, as below.
def _stands_for(plain: Any) -> tuple[Any, ...]:
    """What a new type, or a type variable, stands for; nothing for any other type, and where nothing is said."""
    if hasattr(plain, "__supertype__"):
        return (plain.__supertype__,)
    if isinstance(plain, VARIABLES):
        bound = plain.__bound__
        return plain.__constraints__ if bound is None else (bound,)
    return ()


def _is_container(origin: object) -> bool:
    """Whether a generic class holds nothing but items of its argument."""
    return isinstance(origin, type) and issubclass(origin, Iterable)


# Any: of typing, such as `Any` itself, or a class.
def _part_of(plain: Any) -> _Part:
    """What a type is that has no arguments."""
    if any(plain is other for other in (type, collections.abc.Callable)):
        return _Part.OTHER
    if not isinstance(plain, type):
        return _Part.UNKNOWN
    kinds = ((_Part.ARRAY, _ARRAYS), (_Part.TEXT, _TEXTS), (_Part.OTHER, _OTHERS))
    for part, classes in kinds:
        if issubclass(plain, classes):
            return part
    return _Part.UNKNOWN


def check_is_shape(text: str, sizes: Mapping[str, Any]) -> None:
    """Refuse a text that may be a shape or a value, where the annotation leaves it open.

    Args:
        text: The text.
        sizes: The sizes of the names that are known.

    Raises:
        ContractSyntaxError: It has neither a dtype, nor a number, nor the name of a size.
    """
    names = {name for name, size in sizes.items() if _is_size(size)}
    words = text.replace(",", " ").split()
    is_shape = "[" in text or any(map(_AXIS.fullmatch, words))
    if is_shape or not names.isdisjoint(_NAME.findall(text)):
        return
    raise ContractSyntaxError(
        f"{text!r} may be a shape or a value, and no annotation says which; "
        f'annotate the parameter as an array or as str; or write "float32[{text}]" for a shape, '
        "or bind a value with functools.partial"
    )


def _is_size(value: object) -> bool:
    """Whether a static field holds a size, or several."""
    items = value if isinstance(value, tuple) else (value,)
    return all(
        isinstance(item, int | np.integer) and not isinstance(item, bool)
        for item in items
    )
