"""Look up the kind of a value, for its key (`static_key`) and its read-only copy (`frozen`).

Each visit of a node calls `static_key`, so exact classes are looked up first; another
class is compared with the kinds once. The kinds use these functions themselves, for the
parts of a value: so `_table` passes the kinds in, by `set_kinds`.
"""

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

from ._kind import StaticKind, unchanged

_KINDS: Final[list[StaticKind[Any]]] = []
_EXACT: Final[dict[type, StaticKind[Any]]] = {}
_KEYS: Final[dict[type, Callable[[Any], Hashable]]] = {}
# Classes whose values are their own keys, as none equals a value of another class.
_OWN_KEY: Final[set[type]] = set()
# Weak: a class that a function defines must not live on.
_MATCHED: Final["weakref.WeakKeyDictionary[type, StaticKind[Any]]"] = (
    weakref.WeakKeyDictionary()
)


def set_kinds(kinds: Sequence[StaticKind[Any]]) -> None:
    """Let values be looked up among these kinds, as `_table` lists them; the last one has to match all classes."""
    _KINDS[:] = kinds
    for kind in kinds:
        for cls in kind.classes:
            _EXACT[cls] = kind
            _KEYS[cls] = kind.key
            # A string, or `None`: what equals nothing of another class.
            if kind.key is unchanged:
                _OWN_KEY.add(cls)


def match_kind(cls: type) -> StaticKind[Any]:
    """The kind of a class, as an annotation names it; not kept, as the class may not be finished.

    What is not a dataclass while its body runs may be one later.
    """
    exact = _EXACT.get(cls)
    if exact is not None:
        return exact
    return next(kind for kind in _KINDS if kind.matches(cls))


def kind_of(value: object) -> StaticKind[Any]:
    """The kind of a value: what it has as key, copy and forms in files. Found once for each class, and kept."""
    cls = type(value)
    kind = _EXACT.get(cls) or _MATCHED.get(cls)
    if kind is None:
        kind = match_kind(cls)
        _MATCHED[cls] = kind
    return kind


def static_key(value: Any) -> Hashable:
    """A key that is equal for two static values exactly when they have the same type and content.

    Python's own `==` will not do: to it `1`, `True` and `1.0` are one, a NaN is never
    itself, and an array has no answer.

    Raises:
        StaticValueError: The value cannot be static: a tracer, a node or State, or
            something unhashable.
    """
    cls = type(value)
    if cls in _OWN_KEY:
        own_key: Hashable = value
        return own_key
    key = _KEYS.get(cls)
    if key is None:
        key = kind_of(value).key
    return key(value)


def frozen(value: Any) -> Any:
    """`value` with read-only copies of the NumPy arrays in it: what was hashed must not change afterwards.

    Raises:
        StaticValueError: A dataclass holds an array that somebody could still write to.
    """
    return kind_of(value).read_only(value)
