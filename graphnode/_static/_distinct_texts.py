"""Word two static values that differ, for messages, so that the two texts differ as well."""

from collections.abc import Callable, Hashable
from typing import Any, Final, cast

import numpy as np

from .._hints import cut
from .._importable import object_by_name
from ._lookup import static_key

ANOTHER: Final = "another that prints the same"


def _with_class(value: object) -> str:
    """The `repr` of a value, with the name of its class in front: for values of two classes that print the same."""
    return f"{type(value).__name__} {value!r}"


def _with_full_class(value: object) -> str:
    """The `repr` of a value, with module and name of its class in front, for classes of one name."""
    cls = type(value)
    return f"{cls.__module__}.{cls.__qualname__} {value!r}"


_SHORTEST_FIRST: Final[tuple[Callable[[object], str], ...]] = (
    repr,
    _with_class,
    _with_full_class,
)


def distinct_texts(left: Any, right: Any) -> tuple[str, str]:
    """The texts of two static values with different keys: their `repr`, and as much detail as they need to differ.

    Messages on two structures say `left != right`, which `1.0 != 1.0` would not explain
    where one is NumPy's.
    """
    for text_of in _SHORTEST_FIRST:
        texts = text_of(left), text_of(right)
        # The first pair that differs is the shortest.
        if texts[0] != texts[1]:
            return texts
    details = _array_texts(left, right)
    if details is None:
        left_part, right_part = _first_difference(static_key(left), static_key(right))
        details = _part_texts(left_part, right_part)
        if left_part is left:  # a value that is its own key
            return details
    return f"{left!r} with {details[0]}", f"{right!r} with {details[1]}"


def _first_difference(left: Hashable, right: Hashable) -> tuple[Hashable, Hashable]:
    """The first parts of two keys that differ, as deep inside as they do: `distinct_texts` shows these alone."""
    while (
        isinstance(left, tuple) and isinstance(right, tuple) and len(left) == len(right)
    ):
        pairs = zip(
            cast("tuple[Hashable, ...]", left),
            cast("tuple[Hashable, ...]", right),
            strict=True,
        )
        left, right = next(pair for pair in pairs if pair[0] != pair[1])
    return left, right


def _array_texts(left: Any, right: Any) -> tuple[str, str] | None:
    """The first elements that differ in two arrays of one shape and dtype, of which a `repr` leaves out most."""
    if not (isinstance(left, np.ndarray) and isinstance(right, np.ndarray)):
        return None
    if left.shape != right.shape or left.dtype != right.dtype:
        return None
    for at in np.ndindex(left.shape):
        # By bytes, as in the key: a NaN does not equal itself, and 0.0 equals -0.0.
        if left[at].tobytes() != right[at].tobytes():
            return f"{list(at)} = {left[at]}", f"{list(at)} = {right[at]}"
    return None


def _part_texts(left: Hashable, right: Hashable) -> tuple[str, str]:
    """What `distinct_texts` says of two parts of keys that differ: with a hint where they print the same."""
    texts = cut(_part_text(left)), cut(_part_text(right))
    if texts[0] != texts[1]:
        return texts
    replaced = _is_replaced(left), _is_replaced(right)
    if replaced == (True, False):
        return f"{texts[0]} of before it was defined again", texts[1]
    if replaced == (False, True):
        return texts[0], f"{texts[1]} of before it was defined again"
    # They are two objects, and both are alive.
    return f"{texts[0]} at {id(left):#x}", f"{texts[1]} at {id(right):#x}"


def _part_text(part: Hashable) -> str:
    """The text of a part of a key: of a pair such as `(int, 1)`, by which keys tell `1` from `True`, as `int 1`."""
    # A value beside its class
    if isinstance(part, tuple) and len(part) == 2 and isinstance(part[0], type):
        return f"{part[0].__name__} {part[1]!r}"
    return repr(part)


def _is_replaced(part: object) -> bool:
    """Whether a part is a class whose module has another one by its name, as after a reload.

    Its text is that of the new class, so that a message has to say that it is the old
    one.
    """
    if not isinstance(part, type):
        return False
    current = object_by_name(part.__module__, part.__qualname__)
    return isinstance(current, type) and current is not part
