"""The key of objects of unknown classes: by identity, or by what pickle would write if they define an `__eq__`."""

import copyreg
from collections.abc import Hashable
from typing import Any, Final

from .._hints import cut, with_article
from ._attributes import places_of
from ._kind import StaticValueError
from ._lookup import static_key

_TUPLE_FORM: Final[dict[type, str]] = {
    list: "a tuple",
    dict: "a tuple of pairs",
    set: "a frozenset",
}

# Whose values equal exactly what they are: dtypes, shardings, meshes.
_TRUSTED: Final = frozenset({"builtins", "jax", "jaxlib", "ml_dtypes", "numpy"})


# Before it, a datetime leaves out which of two hours of one name it is
_PROTOCOL: Final = 4


def object_key(value: Any) -> Hashable:
    """The key of an object that is equal to whatever its class says, if that can be taken apart.

    Python's `==` alone would do, but for classes whose own `__eq__` takes `1` for
    `1.0`: these are taken apart.

    Raises:
        StaticValueError: It is not hashable, or does not say what it holds.
    """
    cls = type(value)
    try:
        hash(value)
    except TypeError:
        remedy = "give it a hash, or hold it in a State"
        for base, form in _TUPLE_FORM.items():
            if isinstance(value, base):
                remedy = f"write {form}"
        raise StaticValueError(
            f"{with_article(cls.__name__)} ({cut(repr(value))}) is not hashable: {remedy}"
        ) from None
    if _has_own_equality(cls):
        return (cls, *content_key(value))
    return (cls, value)


def _has_own_equality(cls: type) -> bool:
    """Whether a class defines its own equality, as attrs, decimals and paths do.

    Only the content of such values is compared part by part. The classes of JAX and
    NumPy are trusted.
    """
    if cls is range:  # which equals those of the same numbers, whatever its own stop is
        return True
    equality: object = cls.__eq__
    is_trusted = cls.__module__.partition(".")[0] in _TRUSTED
    return equality is not object.__eq__ and not is_trusted


def content_key(value: Any) -> tuple[Hashable, ...]:
    """The content of an object whose own `==` may take `1` for `1.0`, as a key: what pickle would write of it.

    Raises:
        StaticValueError: The object does not say, or holds what cannot be static.
    """
    cls: type = type(value)
    try:
        reduced = _reduced(value)
        # The name of a global, which another module may have too: itself
        if isinstance(reduced, str):
            return (reduced, value)
        maker, args, *rest = reduced
        # A reduction may leave out what comes last.
        state, items, pairs = [*rest, None, None, None][:3]
        # What a subclass of a list or dict holds comes after its state, in the order in
        # which it holds it.
        item_keys = [static_key(item) for item in items or ()]
        pair_keys = [(static_key(key), static_key(item)) for key, item in pairs or ()]
        state_key = _state_key(state, places_of(cls).others)
        return (
            maker,
            tuple(map(static_key, args)),
            state_key,
            tuple(item_keys),
            tuple(pair_keys),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise StaticValueError(
            f"{with_article(cls.__name__)} ({cut(repr(value))}) compares by an __eq__ of its own, and its content "
            f"cannot be read ({error}): make it a frozen dataclass or a tuple"
        ) from None


def _reduced(value: Any) -> Any:
    """What pickle would write down of an object: from it `content_key` learns what the object is made of.

    What somebody registered for the class, as `re` does, comes first there too.
    """
    registered: Any = copyreg.dispatch_table.get(type(value))
    if registered is not None:
        return registered(value)
    return value.__reduce_ex__(_PROTOCOL)


def _state_key(state: object, left_out: frozenset[str]) -> Hashable:
    """The key of the state that pickle would write, for `content_key`: of a dict, without names that do not count.

    Args:
        state: The state of an object, by `__reduce_ex__`.
        left_out: Names in its `__dict__` that follow from the rest.
    """
    if isinstance(state, dict):
        # Sorted: the order in which attributes were set does not count.
        names = [name for name in sorted(state, key=str) if name not in left_out]
        return tuple([(static_key(name), static_key(state[name])) for name in names])
    # Attributes and slots; a dataclass with slots gives a list
    if isinstance(state, (tuple, list)):
        return tuple([_state_key(part, left_out) for part in state])
    return static_key(state)
