"""What a file may say for the parameters of optax's factories, by their annotations.

From a parameter of a factory to an annotation as `config` reads it:

    optax's annotation                    what a file may say
    ------------------------------------------------------------------
    Array | float                         int | float: a number
    Sequence[float]                       tuple[float, ...]
    Mapping[str, float]                   tuple[tuple[str, float], ...]: pairs
    a mask: Any, or a function of a tree  Labels[bool] | bool
    GradientTransformation                Transformation: another call
    Schedule                              Schedule: another call
    Callable[[A], B]                      a function that has a name in files
    anything else                         None: no file can say it
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
    """Whether an annotation says that a value is a transformation, which a file gives as a call such as `adam`."""
    if not isinstance(annotation, type):
        return False
    package, _, _ = annotation.__module__.partition(".")
    # A class of another package may have such methods for something else.
    return package in ("optax", "graphnode") and has_init_and_update(annotation)


def has_init_and_update(cls: type) -> bool:
    """Whether instances of a class have what optax's transformations have, which are of several classes."""
    return hasattr(cls, "init") and hasattr(cls, "update")


def is_schedule(annotation: Any) -> bool:
    """Whether an annotation says that a value is a schedule, which a file gives as a call of a factory."""
    # Equality for optax's, which is a type alias: each evaluation of an annotation
    # makes a new one.
    return annotation == imported_optax().Schedule or annotation is Schedule


def is_mapping(annotation: Any) -> bool:
    """Whether an annotation says that a value is a mapping, which a file gives as a list of pairs."""
    return any(get_origin(part) in (dict, Mapping) for part in _members(annotation))


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else that alone: what a parameter takes, one by one."""
    is_union = get_origin(annotation) in _UNIONS
    return get_args(annotation) if is_union else (annotation,)


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
_UNIONS: Final = (Union, types.UnionType)
# Any: to type checkers, types that are values are not to be subscripted.
_TUPLE: Final[Any] = tuple
_UNION: Final[Any] = Union
_CALLABLE: Final[Any] = Callable


def field_type(parameter: inspect.Parameter) -> Any:
    """What a file may say for a parameter of a factory: the type of its field; `None` if no file could say it."""
    # Its names are the caller's, and a dataclass has a field for each name.
    if parameter.kind is parameter.VAR_KEYWORD:
        return None
    annotation = _annotation_of(parameter)
    members = _members(annotation)
    if "mask" in parameter.name:
        if any(part is Any or get_origin(part) is Callable for part in members):
            # A tree, or a function that gives one: labels are such a function. A file
            # cannot say another kind of tree.
            return Labels[bool] | (None if parameter.default is None else bool)
        # A mask that is an array: no file can say that.
        if jax.Array in members:
            return None
    if parameter.name.endswith("dtype") or set(members) >= _DTYPES:
        return _with_default(parameter, DTypeLike)
    if is_mapping(annotation):
        return _with_default(parameter, _pairs_type(members))
    return _file_type(annotation)


def _annotation_of(parameter: inspect.Parameter) -> Any:
    """What a parameter takes, by its annotation; without one, which optax does not always have, by a plain default."""
    if parameter.annotation is parameter.empty:
        is_plain = isinstance(parameter.default, _PLAIN)
        return type(parameter.default) if is_plain else None
    if parameter.kind is parameter.VAR_POSITIONAL:
        return _TUPLE[parameter.annotation, ...]
    return parameter.annotation


def _with_default(parameter: inspect.Parameter, field: Any) -> Any:
    """A type that admits the default `None`, which the annotations of optax do not always do."""
    if field is None or parameter.default is not None:
        return field
    return field | None


def _pairs_type(members: Sequence[Any]) -> Any:
    """The type of the pairs by which a file gives the mapping in a union; `None` if files have no such items."""
    key, item = next(get_args(part) for part in members if is_mapping(part))
    pair = (_file_type(key), _file_type(item))
    return _TUPLE[_TUPLE[pair], ...] if {*pair} <= {*_PLAIN} else None


def default_value(parameter: inspect.Parameter) -> Any:
    """The default of the field for a parameter: what the factory itself takes if a file says nothing.

    Raises:
        TypeError: It is not hashable, as static values are.
    """
    if parameter.kind is parameter.VAR_POSITIONAL:
        return ()
    default = as_static(parameter.default)
    hash(default)
    return default


def as_static(value: Any) -> Any:
    """An argument as a call keeps it, hashable as static values are: a tuple for a list, pairs for a mapping."""
    if isinstance(value, Mapping):
        value = tuple(value.items())
    return tuple(map(as_static, value)) if type(value) in (list, tuple) else value


def _file_type(annotation: Any) -> Any:
    """The type of what a file says for an annotation of optax; `None` if it can say nothing."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN or annotation is types.NoneType or origin is Literal:
        return annotation
    if is_transformation(annotation):
        return Transformation
    if is_schedule(annotation):
        return Schedule
    if origin is Annotated:
        inner = _file_type(args[0])
        return None if inner is None else Annotated[inner, *args[1:]]
    if origin in _UNIONS:
        return _union_type(args)
    if origin is Callable or getattr(annotation, "_is_protocol", False):
        return _callable_type(args)
    # Behind the transformations, some of which are dataclasses
    if dataclasses.is_dataclass(annotation) or _is_enum(annotation):
        return annotation
    return _sequence_type(origin, args)


def _callable_type(args: tuple[Any, ...]) -> Any:
    """For a parameter that is a function, which files name: one of as many arguments; what they are is not checked."""
    if args and isinstance(args[0], list):
        return _CALLABLE[[object] * len(args[0]), object]
    return _CALLABLE[..., object]


def _is_enum(annotation: Any) -> bool:
    """Whether an annotation is an enumeration, which the field of a call takes as it is."""
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def _sequence_type(origin: Any, args: tuple[Any, ...]) -> Any:
    """What a file says for a tuple, list or other sequence; `None` if it can say nothing.

    Args:
        origin: The generic class of the annotation, such as `tuple`.
        args: What it is subscripted with.
    """
    items = [item if item is ... else _file_type(item) for item in args]
    # A sequence of what no file can say; and a bare `list`, of which the items are
    # unknown.
    if None in items or not items:
        return None
    if origin is tuple:
        return _TUPLE[tuple(items)]
    if origin in (list, Sequence, Iterable):
        return _TUPLE[items[0], ...]
    return None


def _union_type(args: tuple[Any, ...]) -> Any:
    """What a file says for a union: the members that it can say; `None` if there are none but `None`."""
    # A dict as a set with an order
    members: dict[Any, None] = {}
    takes_arrays = jax.Array in args
    if takes_arrays:  # a number in a file; arrays are for what is traced
        members = {int: None, float: None}
    for member in args:
        if takes_arrays and member in _NUMBERS:
            continue
        member_type = _file_type(member)
        if member_type is not None:
            members[member_type] = None
    return _UNION[tuple(members)] if members.keys() - {types.NoneType} else None
