"""Static values as JSON, exactly: `1`, `True` and `1.0` stay three values, and so do a tuple and a frozenset.

`None`, booleans, numbers and strings are JSON's own; all others are an object with one key,
which says the kind: `{"tuple": [1, 2]}`. Functions and classes are names in the table of
registered values: no text can import or call anything.
"""

import functools
from collections.abc import Mapping
from typing import Any, Final

from .._hints import with_article
from ._json_parts import NAME, registered_name, registered_value
from ._kind import ByName, Json, JsonForm, JsonValueError, ReadPart, StaticValueError
from ._lookup import kind_of, static_key
from ._table import KINDS

# Both ways recurse, so that a file must not choose the depth.
_MAX_LEVELS: Final = 64
_TOO_DEEP: Final = f"nested more than {_MAX_LEVELS} levels deep"

# By tag. A kind is written in one form, and read back without being asked for.
_FORMS: Final[dict[str, JsonForm[Any]]] = {
    kind.json.tag: kind.json
    for kind in KINDS
    if isinstance(kind.json, JsonForm) and kind.json.tag is not None
}
# Those of the table, for messages.
_TAGS: Final = sorted([NAME, *_FORMS])
# The forms of classes that stand further to the right in the package, subclasses included:
# to everything else they are records or objects.
_ADDED: Final[dict[type, JsonForm[Any]]] = {}


def add_json_form(cls: type, form: JsonForm[Any]) -> None:
    """Have the values of a class of graphnode's own stand in files in this form.

    For what is a static value here and there, and not known to this package: layouts,
    filters, calls of factories.
    """
    assert form.tag is not None  # what JSON has itself is in the table
    _ADDED[cls] = _FORMS[form.tag] = form


def to_json(value: Any) -> Json:
    """A static value as JSON, of which `from_json` makes an equal one of the same type.

    Raises:
        JsonValueError: There is no such JSON.
    """
    data = _write_value(value, 0)
    # Tried at once: nobody could tell later what has been lost.
    if not _has_same_key(from_json(data), value):
        raise JsonValueError(
            f"{with_article(type(value).__name__)} would come back as another value"
        )
    return data


def from_json(data: Json) -> Any:
    """The static value that JSON stands for.

    Raises:
        JsonValueError: It stands for none.
    """
    return _read_value(data, 0)


def _has_same_key(first: object, second: object) -> bool:
    """Whether two static values are the same: `to_json` reads back what it writes, to see that nothing was lost.

    A value that has no key raises `JsonValueError`.
    """
    try:
        return static_key(first) == static_key(second)
    except StaticValueError as error:
        raise JsonValueError(str(error)) from None


def _write_value(value: Any, level: int) -> Json:
    """The JSON of a static value: its own, a registered name, or an object with the tag of its kind.

    Calls itself for the parts of a value; `to_json` then reads back what it gives.

    Args:
        value: The value.
        level: How deep it stands in the one that `to_json` was given.
    """
    if level > _MAX_LEVELS:
        raise JsonValueError(_TOO_DEEP)
    form = _added_form(type(value)) or kind_of(value).json
    is_own = isinstance(form, JsonForm) and form.own_type is not None
    # Numbers and strings are never written as names, even if an equal one is
    # registered.
    name = None if is_own else registered_name(value)
    if name is not None:
        return {NAME: name}
    if isinstance(form, ByName):
        raise JsonValueError(
            form.fault(
                getattr(value, "__qualname__", None)
                or with_article(type(value).__name__)
            )
        )
    return form.write(value, functools.partial(_write_value, level=level + 1))


def _added_form(cls: type) -> JsonForm[Any] | None:
    """For `_write_value`: the form that was added for a class, or for a base of it."""
    return next((_ADDED[base] for base in cls.__mro__ if base in _ADDED), None)


def _read_value(data: Json, level: int) -> Any:
    """The static value that JSON stands for, for `from_json`; calls itself for the parts of a value.

    Args:
        data: The JSON.
        level: How deep it stands in what `from_json` was given.
    """
    if level > _MAX_LEVELS:
        raise JsonValueError(_TOO_DEEP)
    # By exact type: `json` makes no others.
    if data is None or type(data) in (bool, int, float, str):
        return data
    if not isinstance(data, dict) or len(data) != 1:
        raise JsonValueError(
            "a value is null, a boolean, a number, a string, or an object with one key"
        )
    ((tag, content),) = data.items()
    if tag == NAME:
        return registered_value(content)
    form = _FORMS.get(tag)
    if form is None or form.read is None:
        raise JsonValueError(
            f"no kind of value is named {tag[:40]!r}: one of {', '.join(_TAGS)}"
        )
    read_part: ReadPart = functools.partial(_read_value, level=level + 1)
    return form.read(content, read_part)


def value_schema() -> Mapping[str, Json]:
    """What `to_json` writes, as a JSON Schema in which `#/$defs/value` is any static value, and `values` a list.

    For the schema of graphdefs, which is published so that other programs can check
    them.
    """
    forms = [kind.json for kind in KINDS if isinstance(kind.json, JsonForm)]
    forms += _ADDED.values()
    name = {"description": "What the program registered under it.", "type": "string"}
    tags = {form.tag: form.schema for form in forms if form.tag is not None}
    return {
        "description": "A static value: itself, or an object with one key that says the kind. A "
        "number with a point or an exponent is a float.",
        "anyOf": [
            {
                "type": sorted(
                    {form.own_type for form in forms if form.own_type is not None}
                )
            },
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
                "properties": {NAME: name, **tags},
            },
        ],
    }
