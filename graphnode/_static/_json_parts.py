"""Read parts of a kind's JSON, which may be anything: checked types, registered names, base64.

What does not fit raises `JsonValueError`.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from .._hints import with_article
from .._registered import VALUES, name_of
from ._kind import Json, JsonValueError, ReadPart, StaticValueError
from ._lookup import kind_of, static_key

P = TypeVar("P")

NAME: Final = "name"
"""The tag of a value that the program registered."""

VALUES_SCHEMA: Final[Mapping[str, Json]] = {"$ref": "#/$defs/values"}
TEXT_SCHEMA: Final[Mapping[str, Json]] = {"type": "string"}
BASE64_SCHEMA: Final[Mapping[str, Json]] = {
    "type": "string",
    "contentEncoding": "base64",
}


def values_schema(count: int) -> Mapping[str, Json]:
    """The schema of a list of `count` static values, such as the two parts of a complex number."""
    return {**VALUES_SCHEMA, "minItems": count, "maxItems": count}


def part(cls: type[P], data: Json, what: str) -> P:
    """`data`, which has to be of a class; an error names it as `what`. So a wrong type is found where it stands."""
    # To Python a boolean is an integer; to a file it is not.
    if not isinstance(data, cls) or (isinstance(data, bool) and cls is not bool):
        raise JsonValueError(f"{what} does not fit: {type(data).__name__}")
    return data


def members(data: Json, what: str, names: tuple[str, ...]) -> dict[str, Json]:
    """`data`, which has to be an object of exactly these names, so that none is overlooked; errors say `what` it is."""
    if not isinstance(data, dict) or set(data) != set(names):
        raise JsonValueError(f"{what} is an object of {', '.join(names)}")
    return data


def items(data: Json, read_part: ReadPart) -> list[Any]:
    """The static values in a list of JSON, each read by `read_part`."""
    entries: list[Json] = part(list, data, "a list of items")
    return [read_part(entry) for entry in entries]


def registered_value(data: Json) -> Any:
    """The value that is registered under a name in JSON; an unknown name is an error, and nothing is imported."""
    name = part(str, data, "name")
    if name not in VALUES:
        raise JsonValueError(f"nothing is registered as {name[:40]!r}")
    return VALUES[name]


def registered_name(value: object) -> str | None:
    """The name that a static value is registered under, or `None`; a copy has the name of what it was made of.

    So that files can say functions and other values that no data describes.
    """
    name = name_of(value)
    if name is not None or not kind_of(value).is_copied:
        return name
    # By content: the node holds a copy of what was registered, which `name_of` does not
    # know.
    for other_name, other in VALUES.items():
        if type(other) is type(value) and _is_equal(value, other):
            return other_name
    return None


def _is_equal(value: object, registered: object) -> bool:
    """Whether a static value has the key of what is registered, which may be anything, also what has no key."""
    key = static_key(value)
    try:
        return key == static_key(registered)
    except StaticValueError:  # anything may be registered
        return False


def registered_class(data: Json, matches: Callable[[type], bool], what: str) -> Any:
    """The class that is registered under a name, for JSON that makes an instance of it: a `what`, by `matches`."""
    cls = registered_value(data)
    if not isinstance(cls, type) or not matches(cls):
        raise JsonValueError(f"{data[:40]!r} is not {with_article(what)}")
    return cls


def class_name(cls: type) -> str:
    """The name that a class is registered under, by which JSON says what a record or enum is of; an error for none."""
    name = name_of(cls)
    if name is None:
        remedy = "register it with gn.config.register(name, cls)"
        raise JsonValueError(f"the class {cls.__qualname__} has no name: {remedy}")
    return name


def base64_text(content: bytes) -> str:
    """Bytes as text, for JSON, which has no bytes."""
    return base64.b64encode(content).decode()


def base64_bytes(data: Json) -> bytes:
    """The bytes of a text that `base64_text` has written; any other character is an error."""
    text = part(str, data, "base64")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise JsonValueError(f"no base64: {error}") from None
