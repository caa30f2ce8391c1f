"""`Record`: how an object describes itself to whoever shows it. Nothing here knows what a node is."""

from collections.abc import Hashable, Iterable
from typing import Final, NamedTuple, Protocol, TypeGuard, runtime_checkable


class Size(NamedTuple):
    """How much a State holds: its numbers, if it is a parameter, and its bytes."""

    parameters: int
    bytes: int


NO_SIZE: Final = Size(0, 0)


class Record(NamedTuple):
    """How an object is shown: `name(field=value, ...)`, or as a mapping in braces where the name is empty.

    Attributes:
        name: What stands before the fields.
        fields: Names and values, or the keys and values of a mapping. A name that is `None` is not
            shown, as that of an argument by position.
        size: How much a State holds; `None` where that is not known.
        identity: Two records of one identity are one object, which is shown once; `None` for the
            object that has described itself.
        content: The value of a State alone, for who shows arrays: the last field without a name
            stands for it.
        cls: The class that the name is of, where it is not that of the object: parts of two
            classes are not alike, whatever they are called.
    """

    name: str
    fields: Iterable[tuple[object, object]]
    size: Size | None = NO_SIZE
    identity: Hashable = None
    content: tuple[object, ...] = ()
    cls: type | None = None


class Text(NamedTuple):
    """A value that is shown as this text, not as its `repr`.

    Attributes:
        text: What is shown.
        value: What it stands for, if others of the same text may be something else.
    """

    text: str
    value: object = None

    def __repr__(self) -> str:
        return self.text


@runtime_checkable
class Pretty(Protocol):
    """What can describe itself."""

    def __pretty__(self) -> Record: ...


def is_pretty(value: object) -> TypeGuard[Pretty]:
    """Whether a value is an object that describes itself with `__pretty__`."""
    # A class has `__pretty__` too, unbound: it is shown as itself.
    return hasattr(type(value), "__pretty__") and not isinstance(value, type)
