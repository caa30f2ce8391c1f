"""A choice of a few values, which a configuration file gives exactly: the members of an enum, or of a `Literal`."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._kind import ExpectedError, Json


def option_data(option: Any) -> Json:
    """What a file gives for an option: its value, or the name of an enum's member whose value is not a plain one.

    For all that deals with a choice: reading it, its messages, its JSON Schema, and
    writing it.
    """
    if not isinstance(option, enum.Enum):
        return option
    is_plain = option.value is None or isinstance(
        option.value, bool | int | float | str
    )
    return option.value if is_plain else option.name


def read_option(data: Json, options: Sequence[Any]) -> Any:
    """The option that data of a file gives, compared by type too: 1 is neither `true` nor `1.0` nor `"1"`.

    Raises:
        ExpectedError: It is none of them.
    """
    choices = [option_data(option) for option in options]
    for option, choice in zip(options, choices, strict=True):
        # By type and value, as to Python 1, True and 1.0 are equal.
        if data is option or (type(data) is type(choice) and data == choice):
            return option
    *others, last = map(repr, choices)
    expected = f"{', '.join(others)} or {last}" if others else last
    raise ExpectedError(expected, has_options=True)


def options_schema(options: Iterable[Any]) -> Mapping[str, Json]:
    """The options as a JSON Schema, from which editors complete them."""
    return {"enum": [option_data(option) for option in options]}
