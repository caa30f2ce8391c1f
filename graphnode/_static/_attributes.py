"""Attributes of static values beside the content that their kind knows: in `__dict__`, and in slots.

A dataclass may keep more than its fields, and a subclass of a tuple more than its items.
It may compute with these, so they are part of its key.
"""

import functools
import types
import weakref
from collections.abc import Hashable
from typing import Any, Final, NamedTuple

import numpy as np

from .._caches import TRANSFORMED
from ._kind import DataValueError, StaticValueError
from ._lookup import frozen, kind_of, static_key


class Places(NamedTuple):
    """Where the instances of a class keep attributes.

    Attributes:
        slots: The names of their slots.
        others: Names in their `__dict__` that do not count: those that the kind knows,
            what `functools.cached_property` and transforms store, which follows from
            the rest, and annotations.
    """

    slots: tuple[str, ...]
    others: frozenset[str]


# Nobody computes with these: the annotations that `functools.update_wrapper` copies, which
# may be an unhashable dict, and what was compiled of a callable object.
_NOTES: Final = frozenset({"__annotations__", "__annotate__", TRANSFORMED})

# Weak: a class that a function defines must not live on.
_PLACES: Final["weakref.WeakKeyDictionary[type, Places]"] = weakref.WeakKeyDictionary()


def places_of(cls: type) -> Places:
    """Where the instances of a class keep attributes, if its kind knows no names; worked out once.

    For the kinds whose values have no named content, such as tuples; records call
    `find_places` with their fields.
    """
    places = _PLACES.get(cls)
    if places is None:
        places = _PLACES[cls] = find_places(cls, frozenset())
    return places


def find_places(cls: type, content_names: frozenset[str]) -> Places:
    """Where the instances of a class keep attributes beside `content_names`, which its kind compares itself."""
    slots = sorted(_slots_of(cls) - content_names)
    return Places(tuple(slots), content_names | _cached_names(cls) | _NOTES)


def _slots_of(cls: type) -> frozenset[str]:
    """The names of all slots of a class, its bases' included: a part of what its instances hold, as `__dict__` is."""
    # By their descriptors, as the name of a slot `__name` is mangled. C classes have no
    # `__slots__`, and their descriptors are not attributes.
    namespaces = [vars(base) for base in cls.__mro__ if "__slots__" in vars(base)]
    members = [item for namespace in namespaces for item in namespace.items()]
    return frozenset(
        [
            name
            for name, member in members
            if isinstance(member, types.MemberDescriptorType)
        ]
    )


def _cached_names(cls: type) -> frozenset[str]:
    """The names of cached properties: what they store would make a value's key change at the first look at one."""
    members = [member for base in cls.__mro__ for member in vars(base).values()]
    caches = [
        member for member in members if isinstance(member, functools.cached_property)
    ]
    return frozenset([cache.attrname for cache in caches if cache.attrname is not None])


def attributes_of(value: Any, places: Places | None = None) -> dict[str, Any]:
    """The attributes of an instance beside its content, by name; in one order, as they become part of its key."""
    slots, others = places or places_of(type(value))
    # A slot may be empty, which `hasattr` finds.
    attributes = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    entries: dict[str, Any] = getattr(value, "__dict__", {})
    for name in sorted(entries.keys() - others):
        attributes[name] = entries[name]
    return attributes


def attributes_key(value: Any, places: Places | None = None) -> tuple[Hashable, ...]:
    """The key of the attributes of an instance.

    Kinds append it to the key of the content: two values that differ in an attribute
    are two structures.

    Raises:
        StaticValueError: One cannot be static; names it.
    """
    slots, others = places or places_of(type(value))
    if not slots and others.issuperset(getattr(value, "__dict__", ())):
        return ()  # nearly always, and asked at every visit of a node
    keys: list[Hashable] = []
    for name, content in attributes_of(value, places).items():
        try:
            keys.append((name, static_key(content)))
        except StaticValueError as error:
            raise StaticValueError(f"{type(value).__name__}.{name}: {error}") from None
    return tuple(keys)


def check_no_attributes(value: Any, base_slots: frozenset[str] = frozenset()) -> None:
    """Raise if a value has attributes that a file, which has the content of its base class, would lose.

    Args:
        value: Of a subclass.
        base_slots: The names of the base class's own slots.

    Raises:
        DataValueError: Names them.
    """
    cls = type(value)
    names = ", ".join(attributes_of(value, find_places(cls, base_slots)))
    if names:
        raise DataValueError(
            f"{cls.__name__} keeps {names}, which would not come back from a file: make it a frozen dataclass, with a "
            "field for each"
        )


def check_read_only(value: Any, contents: dict[str, Any]) -> None:
    """Raise if an attribute holds an array that somebody could still write to, as the value is not copied.

    Of values that `frozen` gives back as they are. Their key would go stale if the
    array were written to.

    Raises:
        StaticValueError: Names the attribute.
    """
    for name, content in contents.items():
        frozen(content)  # raises for what is in a dataclass below, and names it
        if _holds_writable_array(content):
            raise StaticValueError(
                f"{type(value).__name__}.{name} holds a NumPy array that may still be written to; copy it "
                "and set array.flags.writeable = False, or hold a jax.Array"
            )


def _holds_writable_array(content: object) -> bool:
    """Whether a value is, or holds at any depth, a NumPy array that somebody could write to: for `check_read_only`."""
    if isinstance(content, np.ndarray):
        # `frozen` copies only what somebody could write to.
        return frozen(content) is not content
    return any(map(_holds_writable_array, kind_of(content).parts(content)))
