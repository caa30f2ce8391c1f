"""Dataclasses and enums: classes of the user's, which files name as the program registered them."""

import dataclasses
import enum
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final, cast

from ._json_parts import TEXT_SCHEMA, class_name, members, part, registered_class
from ._kind import (
    DataForm,
    Json,
    JsonValueError,
    ReadPart,
    StaticKind,
    StaticValueError,
    WritePart,
    subclass_of,
    tagged,
)
from ._lookup import frozen, static_key
from ._object_key import object_key
from ._objects import compares_by_identity
from ._options import option_data, options_schema, read_option

# Dataclasses


def _is_record(cls: type) -> bool:
    return dataclasses.is_dataclass(cls)


def _init_fields(value: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(value) if field.init]


def _record_key(value: Any) -> Hashable:
    cls: Any = type(value)
    parameters = cls.__dataclass_params__  # set by `dataclasses.dataclass`
    if not (parameters.frozen and parameters.eq):
        return object_key(value)
    # Also those that the dataclass leaves out of its own `==`: a merge gives back one object for all equal ones.
    return (cls, *[static_key(getattr(value, field.name)) for field in dataclasses.fields(value)])


def _record_parts(value: Any) -> Iterable[object]:
    if compares_by_identity(type(value)):
        return ()
    return [getattr(value, field.name) for field in dataclasses.fields(value)]


def _read_only_record(value: Any) -> Any:
    """The record itself: a copy would run the user's code, and be another object than the one given."""
    for field in dataclasses.fields(value):
        content = getattr(value, field.name, None)
        if frozen(content) is not content:
            raise StaticValueError(
                f"{type(value).__name__}.{field.name} holds a NumPy array that may still be written to; copy it "
                "and set array.flags.writeable = False, or hold a jax.Array"
            )
    return value


def _record_to_json(value: Any, write_part: WritePart) -> Json:
    fields = {name: write_part(getattr(value, name)) for name in _init_fields(value)}
    return {"class": class_name(type(value)), "fields": fields}


def _record_from_json(data: Json, read_part: ReadPart) -> Any:
    parts = members(data, "record", ("class", "fields"))
    cls = registered_class(parts["class"], _is_record, "dataclass")
    fields: Mapping[str, Json] = part(dict, parts["fields"], "fields")
    values = {name: read_part(content) for name, content in fields.items()}
    names = _init_fields(cls)
    if set(values) != set(names):
        raise JsonValueError(f"{cls.__name__} takes {', '.join(names)}")
    try:
        return cls(**values)
    except Exception as error:  # whatever the class raises that the text gives a value to
        raise JsonValueError(f"{cls.__name__}: {error}") from error


def _record_to_data(value: Any, write_part: WritePart) -> Json:
    return {name: write_part(getattr(value, name)) for name in _init_fields(value)}


# Enums


def _enum_to_json(value: enum.Enum, write_part: WritePart) -> Json:
    return {"class": class_name(type(value)), "member": value.name}


def _enum_from_json(data: Json, read_part: ReadPart) -> enum.Enum:
    parts = members(data, "enum", ("class", "member"))
    cls = cast("type[enum.Enum]", registered_class(parts["class"], subclass_of(enum.Enum), "enum"))
    member = part(str, parts["member"], "member")
    if member not in cls.__members__:
        raise JsonValueError(f"{cls.__name__} has no member {member[:40]!r}")
    return cls.__members__[member]


ENUM: Final = StaticKind[enum.Enum](
    name="enum",
    matches=subclass_of(enum.Enum),
    key=object_key,
    is_annotation=True,
    json=tagged(
        "enum",
        _enum_to_json,
        _enum_from_json,
        {
            "type": "object",
            "required": ["class", "member"],
            "additionalProperties": False,
            "properties": {"class": TEXT_SCHEMA, "member": TEXT_SCHEMA},
        },
    ),
    data=DataForm(
        lambda value, write_part: option_data(value),
        lambda data, target: read_option(data, tuple(target.cls)),
        lambda target: options_schema(target.cls),
    ),
)

# Whether an annotation with a dataclass says that a field is static depends on the class: it has to be frozen.
RECORD: Final = StaticKind[Any](
    name="record",
    matches=_is_record,
    key=_record_key,
    parts=_record_parts,
    read_only=_read_only_record,
    json=tagged(
        "record",
        _record_to_json,
        _record_from_json,
        {
            "type": "object",
            "required": ["class", "fields"],
            "additionalProperties": False,
            "properties": {
                "class": TEXT_SCHEMA,
                "fields": {"type": "object", "additionalProperties": {"$ref": "#/$defs/value"}},
            },
        },
    ),
    data=DataForm(_record_to_data),
)
