"""The classes that a static value in a file names with `type:`, where its annotation admits several.

A name is that of a class of the annotation, of the table here, or of one that the
program has registered: nothing is imported or looked up elsewhere.
"""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, Final

from .._static import KINDS, registered_name
from ._registry import value_names, value_of

TYPE: Final = "type"
VALUE: Final = "value"
REGISTERED: Final = "registered"
"""The type of what stands under its registered name, where a text may be meant, too."""

# What a file may name where the annotation has no class.
_CLASSES: Final[Mapping[str, Any]] = {
    name: cls for kind in KINDS for name, cls in kind.type_names.items()
}


def is_record(cls: object) -> bool:
    """Whether the values of a class are written by their fields: those of dataclasses and named tuples.

    A mapping names its class among its fields; another value needs a mapping around it.
    """
    return isinstance(cls, type) and (
        dataclasses.is_dataclass(cls) or is_named_tuple(cls)
    )


def is_named_tuple(cls: type) -> bool:
    """Whether a class is made by `typing.NamedTuple`, or as it makes them.

    It is read by its fields, where another tuple is a list.
    """
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def named_classes() -> dict[str, Any]:
    """The classes that a file may name with `type:` where the annotation has none, by name.

    Those of the static kinds, such as `Fraction`, and records and enums that are
    registered.
    """
    classes = dict(_CLASSES)
    for name in value_names():
        value = value_of(name)
        if _has_type(value):
            classes[name] = value
    return classes


def _has_type(value: object) -> bool:
    """Whether a registered value is a class that `type:` may name: of records, or an enum."""
    return is_record(value) or (
        isinstance(value, type) and issubclass(value, enum.Enum)
    )


def name_of(cls: Any) -> str:
    """The name of a class in a file, which stands there as `type:`."""
    # The exact class first: NumPy's float64 extends Python's float.
    exact = (name for name, of in _CLASSES.items() if cls is of)
    extended = (name for name, of in _CLASSES.items() if issubclass(cls, of))
    return (
        next(exact, None)
        or registered_name(cls)
        or next(extended, None)
        or cls.__name__
    )


def unwrapped(data: Any, name: str) -> Any:
    """The value in `{type: name, value: ...}`, if it is for this class; any other data itself."""
    if not isinstance(data, dict) or data.keys() != {TYPE, VALUE}:
        return data
    return data[VALUE] if data[TYPE] == name else data
