"""Errors of validators: those of ours, which pydantic carries, and pydantic's own as faults of the data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import pydantic
from pydantic_core import PydanticCustomError

from .._hints import short, with_hint
from ._registry import near_hint

# pydantic hands our texts on as they are, with a code that sets them apart from its own.
Code: TypeAlias = Literal["wrong_value", "wrong_record", "wrong_node", "unknown_name"]
_OURS: Final = ("wrong_value", "wrong_record", "wrong_node", "unknown_name")
# What is wrong with a key, whatever its value is.
_OF_KEYS: Final = ("missing", "extra_forbidden")

_INTEGER: Final = "Input should be a valid integer"
_NUMBER: Final = "Input should be a valid number"


class ValueFault(NamedTuple):
    """What is wrong with one value of a mapping that was validated.

    Attributes:
        key: The key of the mapping.
        inside: Where within its value, as text: `[1].name`.
        kind: pydantic's name for the kind of the error.
        what: What is wrong.
        hint: What would do.
    """

    key: str
    inside: str
    kind: str
    what: str
    hint: str


def value_error(
    what: str, code: Code = "wrong_value", *, hint: str = ""
) -> PydanticCustomError:
    """The error that a validator of ours raises for a value that a field does not take; pydantic carries it."""
    # As the argument of a template: the text itself may have braces.
    parts = {"text": with_hint(what, hint), "what": what, "hint": hint}
    return PydanticCustomError(code, "{text}", parts)


def value_faults(
    error: pydantic.ValidationError, data: Mapping[Any, Any]
) -> list[ValueFault]:
    """What pydantic found wrong with a mapping, one fault for each place.

    pydantic reports an error for each member of a union. Here they are one fault, with
    all that the members would take. Of a list with a wrong item, a member that takes no
    list adds nothing to the one that took the others.
    """
    by_place: dict[tuple[str, str], list[Any]] = {}
    looked_into: set[tuple[str, str]] = set()  # the places with a fault inside of them
    for detail in error.errors(include_url=False):
        key, *steps = detail["loc"]
        *above, where = places_inside(data.get(key), steps)
        by_place.setdefault((str(key), where), []).append(detail)
        looked_into.update((str(key), place) for place in above)
    return [
        ValueFault(*place, *_joined(details))
        for place, details in by_place.items()
        if not (place in looked_into and _are_of_type(details))
    ]


def _are_of_type(details: Sequence[Any]) -> bool:
    """Whether all errors of a value are that it is of another type: news only if nothing within it is wrong."""
    return all(detail["type"].endswith("_type") for detail in details)


def _joined(details: Sequence[Any]) -> tuple[str, str, str]:
    """Kind, text and hint of the one fault for all errors of a value, as each member of a union may raise one."""
    # A mapping was meant as a record: that other members take no mapping is no news.
    records = [detail for detail in details if detail["type"] in _OURS]
    if records and isinstance(details[0]["input"], dict):
        details = records
    texts = list(dict.fromkeys([_text_of(detail) for detail in details]))
    if _INTEGER in texts and _NUMBER in texts:
        texts.remove(_INTEGER)  # which is a number, too
    what = ", or: ".join(texts)
    hints = [hint for detail in details if (hint := _hint_of(detail))]
    if not records and details[0]["type"] not in _OF_KEYS:
        what += f", found {value_text(details[0]['input'])}"
    return details[0]["type"], what, hints[0] if hints else ""


def _text_of(detail: Any) -> str:
    """What one error of pydantic's says: our own text, where a validator of ours raised it, or pydantic's."""
    return str(detail["ctx"]["what"] if detail["type"] in _OURS else detail["msg"])


def _hint_of(detail: Any) -> str:
    """What would do: of a few expected values the one that the value is nearly."""
    if detail["type"] in _OURS:
        return str(detail["ctx"]["hint"])
    if detail["type"] not in ("literal_error", "enum"):
        return ""
    return near_hint(detail["input"], list(_quoted(detail["ctx"]["expected"])))


def _quoted(text: str) -> Iterator[str]:
    """The names in single quotes in pydantic's text of what it expected: one of them may have been meant."""
    yield from text.split("'")[1::2]


def places_inside(value: Any, steps: Sequence[Any]) -> list[str]:
    """The places on the way to an error within a value, as text, from the value itself (`""`) to where the error is.

    pydantic's steps name the members of unions that it tried, too, which are left out.
    """
    places = [""]
    for step in steps:
        if _has_item(value, step):
            places.append(places[-1] + step_text(value, step))
            value = value[step]
    return places


def _has_item(value: Any, step: Any) -> bool:
    """Whether a step of pydantic's leads to an item of a value, and is not a member of a union."""
    if isinstance(value, dict):
        return step in value
    is_position = isinstance(value, (list, tuple)) and isinstance(step, int)
    return is_position and 0 <= step < len(value)


def step_text(container: object, key: object) -> str:
    """The text of one step into a container, as `inside` joins them."""
    return f".{key}" if isinstance(container, dict) else f"[{key}]"


def value_text(value: object) -> str:
    """A value that a file gave, for `found ...` in a message: its type, and itself if that is short."""
    if value is None:
        return "null"
    name = type(value).__name__
    return f"{name} {short(value)}" if isinstance(value, str | int | float) else name
