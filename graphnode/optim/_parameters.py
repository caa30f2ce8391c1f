"""What a file may say for the parameters of optax's factories, by their annotations.

Data in: a parameter of a factory. Data out: an annotation as `config` reads it, in
which numbers stand for what optax also takes as arrays, tuples for sequences, pairs for
mappings, and labels by filter for masks.
"""

import dataclasses
import enum
import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    Protocol,
    Union,
    get_args,
    get_origin,
    runtime_checkable,
)

import jax
import numpy as np
from jax.typing import DTypeLike

from ._arguments import imported_optax
from ._labels import Labels
from ._memory import Transformation


@runtime_checkable
class Schedule(Protocol):
    """What optax's schedules are: from the number of steps that were made to a value, such as a learning rate."""

    # Any: a number, or an array of it.
    def __call__(self, count: Any, /) -> Any: ...


def is_transformation(annotation: Any) -> bool:
    """Whether an annotation says that a value is a transformation."""
    if not isinstance(annotation, type) or annotation.__module__.partition(".")[
        0
    ] not in ("optax", "graphnode"):
        return False
    return hasattr(annotation, "init") and hasattr(annotation, "update")


def is_schedule(annotation: Any) -> bool:
    """Whether an annotation says that a value is a schedule."""
    return annotation == imported_optax().Schedule or annotation is Schedule


def is_mapping(annotation: Any) -> bool:
    """Whether an annotation says that a value is a mapping, which a file gives as a list of pairs."""
    return any(get_origin(part) in (dict, Mapping) for part in _members(annotation))


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else that alone."""
    return (
        get_args(annotation)
        if get_origin(annotation) in (Union, types.UnionType)
        else (annotation,)
    )


_DTYPES: Final = frozenset(get_args(DTypeLike))
_NUMBERS: Final = (
    bool,
    int,
    float,
    complex,
    jax.Array,
    np.ndarray,
    np.bool_,
    np.number,
)
_PLAIN: Final = (bool, int, float, str)
# Of types that are values here.
_TUPLE: Final[Any] = tuple
_UNION: Final[Any] = Union
_CALLABLE: Final[Any] = Callable


def field_type(parameter: inspect.Parameter) -> Any:
    """The type of the field for a parameter; `None` if it takes what no file could say."""
    if parameter.kind is parameter.VAR_KEYWORD:
        return None
    annotation = parameter.annotation
    if parameter.kind is parameter.VAR_POSITIONAL:
        annotation = _TUPLE[annotation, ...]
    if parameter.annotation is parameter.empty:
        annotation = (
            type(parameter.default) if isinstance(parameter.default, _PLAIN) else None
        )
    members = _members(annotation)
    if "mask" in parameter.name:
        # A tree, or a function that gives one: labels are such a function, and no tree
        # of another kind.
        if any(part is Any or get_origin(part) is Callable for part in members):
            return Labels[bool] | (None if parameter.default is None else bool)
        if jax.Array in members:
            return None
    if parameter.name.endswith("dtype") or set(members) >= _DTYPES:
        return DTypeLike | None if parameter.default is None else DTypeLike
    if is_mapping(annotation):
        (key, item) = next(get_args(part) for part in members if is_mapping(part))
        pair = (_said(key), _said(item))
        pairs = _TUPLE[_TUPLE[pair], ...] if {*pair} <= {*_PLAIN} else None
        return (
            pairs | None if pairs is not None and parameter.default is None else pairs
        )
    return _said(annotation)


def default_value(parameter: inspect.Parameter) -> Any:
    """The default of the field for a parameter.

    Raises:
        TypeError: It is not hashable, as static values are.
    """
    default = (
        ()
        if parameter.kind is parameter.VAR_POSITIONAL
        else as_static(parameter.default)
    )
    hash(default)
    return default


def as_static(value: Any) -> Any:
    """An argument as a static value: a tuple for a list, pairs for a mapping."""
    if isinstance(value, Mapping):
        value = tuple(value.items())
    return tuple(map(as_static, value)) if type(value) in (list, tuple) else value


def _said(annotation: Any) -> Any:
    """The type of what a file says for an annotation of optax; `None` if there is none."""
    if (
        annotation in _PLAIN
        or annotation is types.NoneType
        or get_origin(annotation) is Literal
    ):
        return annotation
    if is_transformation(annotation):
        return Transformation
    if is_schedule(annotation):
        return Schedule
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        said = _said(args[0])
        return None if said is None else Annotated[said, *args[1:]]
    if origin in (Union, types.UnionType):
        return _union_said(args)
    if origin is Callable and isinstance(args[0], list):
        return _CALLABLE[[object] * len(args[0]), object]
    if origin is Callable or getattr(annotation, "_is_protocol", False):
        return _CALLABLE[..., object]
    if isinstance(annotation, type) and (
        dataclasses.is_dataclass(annotation) or issubclass(annotation, enum.Enum)
    ):
        return annotation
    items = [one if one is ... else _said(one) for one in args]
    if None in items or not items:
        return None
    if origin is tuple:
        return _TUPLE[tuple(items)]
    if origin in (list, Sequence, Iterable):
        return _TUPLE[items[0], ...]
    return None


def _union_said(args: tuple[Any, ...]) -> Any:
    members: dict[Any, None] = {}
    if jax.Array in args:  # a number; arrays are for what is traced
        members |= {int: None, float: None}
    for one in args:
        is_number = jax.Array in args and one in _NUMBERS
        said = None if is_number else _said(one)
        members |= {} if said is None else {said: None}
    return _UNION[tuple(members)] if members.keys() - {types.NoneType} else None
