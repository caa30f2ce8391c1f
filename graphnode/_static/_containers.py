"""Tuples, frozensets and slices as static values: the same if their items are."""

from collections.abc import Hashable, Iterable
from typing import Any, Final, TypeAlias

from ._attributes import (
    attributes_key,
    attributes_of,
    check_no_attributes,
    check_read_only,
)
from ._json_parts import VALUES_SCHEMA, items, values_schema
from ._kind import (
    DataForm,
    DataValueError,
    ExpectedError,
    Json,
    JsonValueError,
    ReadPart,
    StaticKind,
    Target,
    WritePart,
    subclass_of,
    tagged,
)
from ._lookup import frozen, static_key

_Slice: TypeAlias = Any  # a `slice[Any, Any, Any]`, which only type checkers know


def _items_to_json(value: Iterable[Any], write_part: WritePart) -> list[Json]:
    """The items of a container as a list, each as `write_part` writes it: for graphdefs and for config files."""
    return [write_part(item) for item in value]


# Tuples


def _tuple_key(value: tuple[Any, ...]) -> Hashable:
    """The key of a tuple of a subclass, such as a named tuple: its class, items and further attributes."""
    return (type(value), *map(static_key, value), *attributes_key(value))


def _read_only_tuple(value: tuple[Any, ...]) -> tuple[Any, ...]:
    """A tuple with read-only items, for `frozen`; itself if they were so before."""
    items = [frozen(item) for item in value]
    # The same object where possible: whoever holds the tuple meets it again.
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    if type(value) is tuple:
        return tuple(items)
    # Around the class's own, which may take other arguments
    copy: Any = tuple.__new__(type(value), items)
    for name, content in attributes_of(value).items():
        # Past a `__setattr__` of the class, which may refuse.
        object.__setattr__(copy, name, content)
    return copy  # type: ignore[no-any-return]


def _read_only_subclass(value: tuple[Any, ...]) -> tuple[Any, ...]:
    """A named tuple with read-only items, for `frozen`.

    An attribute beside the items must not hold an array that can be written to:
    attributes are not copied.
    """
    check_read_only(value, attributes_of(value))
    return _read_only_tuple(value)


def _read_only_frozenset(value: frozenset[Any]) -> frozenset[Any]:
    """A frozenset with read-only items, for `frozen`; itself if they were so before, or if it is of a subclass."""
    check_read_only(value, attributes_of(value))
    items = [frozen(item) for item in value]
    if type(value) is not frozenset or all(
        new is old for new, old in zip(items, value, strict=True)
    ):
        return value
    return frozenset(items)


def _tuple_subclass_to_data(value: tuple[Any, ...], write_part: WritePart) -> Json:
    """For a config file: a named tuple as an object of its names, any other subclass of a tuple as a list."""
    check_no_attributes(value)
    names: tuple[str, ...] | None = getattr(value, "_fields", None)
    if names is None:
        return _items_to_json(value, write_part)
    return {name: write_part(item) for name, item in zip(names, value, strict=True)}


# Frozensets


def _frozenset_to_json(value: frozenset[Any], write_part: WritePart) -> Json:
    """The items of a frozenset as a list of their JSON, in the same order in every process."""
    # Sorted: the order of a set differs from one process to the next.
    return sorted(_items_to_json(value, write_part), key=repr)


def _frozenset_from_json(data: Json, read_part: ReadPart) -> frozenset[Any]:
    """The frozenset that a list in the JSON of a graphdef stands for; `JsonValueError` if an item is not hashable."""
    try:
        return frozenset(items(data, read_part))
    except TypeError as error:
        raise JsonValueError(f"frozenset: {error}") from None


def _frozenset_to_data(value: frozenset[Any], write_part: WritePart) -> Json:
    """For a config file: the items of a frozenset as a list, in an order that is the same in every process."""
    check_no_attributes(value)
    # By type first: items of several types cannot be compared.
    return sorted(
        _items_to_json(value, write_part), key=lambda item: (str(type(item)), str(item))
    )


# Slices


def _slice_parts(value: _Slice) -> tuple[Any, Any, Any]:
    """Start, stop and step of a slice, of which its key and both of its forms in files are made."""
    return (value.start, value.stop, value.step)


def _slice_key(value: _Slice) -> Hashable:
    """The key of a slice: those of its start, stop and step."""
    # A slice has no hash before Python 3.12.
    return (slice, *map(static_key, _slice_parts(value)))


def _read_only_slice(value: _Slice) -> _Slice:
    """A slice of read-only bounds, for `frozen`: a bound may be an array."""
    return slice(*map(frozen, _slice_parts(value)))


def _slice_from_json(data: Json, read_part: ReadPart) -> _Slice:
    """The slice that a list of start, stop and step in the JSON of a graphdef stands for."""
    parts = items(data, read_part)
    if len(parts) != 3:
        raise JsonValueError("slice is a list of start, stop and step")
    return slice(*parts)


def _is_bound(bound: object) -> bool:
    """Whether a configuration file can have this as start, stop or step of a slice."""
    return bound is None or type(bound) is int


def _slice_to_data(value: _Slice, write_part: WritePart) -> Json:
    """For a config file: a slice as a list of start, stop and step.

    Raises:
        DataValueError: One of them is neither an integer nor `None`.
    """
    parts = _slice_parts(value)
    if not all(map(_is_bound, parts)):
        raise DataValueError(
            f"{value!r} does not stand in a file: only slices of integers and None do"
        )
    return [*parts]


def _slice_from_data(data: Json, target: Target) -> _Slice:
    """The slice that a list of two or three bounds in a config file stands for."""
    if isinstance(data, slice):
        return data
    # A list of one would be read as the start here, and as the stop by whoever knows
    # `slice(3)`.
    if (
        isinstance(data, (list, tuple))
        and len(data) in (2, 3)
        and all(map(_is_bound, data))
    ):
        return slice(*data)
    raise ExpectedError("a list of start, stop and step, each an integer or null")


CONTAINERS: Final[tuple[StaticKind[Any], ...]] = (
    StaticKind[tuple[Any, ...]](
        name="tuple",
        classes=(tuple,),
        key=lambda value: (tuple, *map(static_key, value)),
        parts=lambda value: value,
        read_only=_read_only_tuple,
        json=tagged(
            "tuple",
            _items_to_json,
            lambda data, read_part: tuple(items(data, read_part)),
            VALUES_SCHEMA,
        ),
        data=DataForm(_items_to_json),
    ),
    StaticKind[tuple[Any, ...]](
        name="named tuple",
        matches=subclass_of(tuple),
        key=_tuple_key,
        parts=lambda value: (*value, *attributes_of(value).values()),
        read_only=_read_only_subclass,
        data=DataForm(_tuple_subclass_to_data),
    ),
    StaticKind[frozenset[Any]](
        name="frozenset",
        matches=subclass_of(frozenset),
        key=lambda value: (
            type(value),
            frozenset(map(static_key, value)),
            *attributes_key(value),
        ),
        parts=lambda value: (*value, *attributes_of(value).values()),
        read_only=_read_only_frozenset,
        json=tagged(
            "frozenset", _frozenset_to_json, _frozenset_from_json, VALUES_SCHEMA
        ),
        data=DataForm(_frozenset_to_data),
        type_names={"frozenset": frozenset},
    ),
    StaticKind[_Slice](
        name="slice",
        classes=(slice,),
        key=_slice_key,
        parts=_slice_parts,
        read_only=_read_only_slice,
        is_annotation=True,
        json=tagged(
            "slice",
            lambda value, write_part: _items_to_json(_slice_parts(value), write_part),
            _slice_from_json,
            values_schema(3),
        ),
        data=DataForm(
            _slice_to_data,
            _slice_from_data,
            lambda target: {
                "type": "array",
                "items": {"type": ["integer", "null"]},
                "minItems": 2,
                "maxItems": 3,
                "description": "Start, stop and step; null leaves one out.",
            },
        ),
        type_names={"slice": slice},
    ),
)
