"""Dataclasses and enums: classes of the user's, which files name as the program registered them."""

import dataclasses
import enum
import weakref
from collections.abc import Hashable, Iterable, Mapping
from types import NoneType
from typing import Any, Final, NamedTuple, cast

from ._attributes import (
    Places,
    attributes_key,
    attributes_of,
    check_read_only,
    find_places,
)
from ._captured import check_captured
from ._json_parts import TEXT_SCHEMA, class_name, members, part, registered_class
from ._kind import (
    DataForm,
    DataValueError,
    Json,
    JsonValueError,
    ReadPart,
    StaticKind,
    StaticValueError,
    WritePart,
    subclass_of,
    tagged,
)
from ._lookup import static_key
from ._object_key import content_key, object_key
from ._objects import compares_by_identity
from ._options import option_data, options_schema, read_option

# Dataclasses


def _is_record(cls: type) -> bool:
    """Whether a class is a dataclass: what decides that its values are of the kind `RECORD`."""
    return dataclasses.is_dataclass(cls)


class _Fields(NamedTuple):
    """What there is to compare of the values of a dataclass.

    Attributes:
        names: The names of its fields, in order.
        places: Where the values keep other attributes.
        is_frozen: Whether they stay as they are.
        is_compared: Whether they equal others of the same content.
        has_base: Whether a base in C keeps content of its own, as `float` and `dict`
            do.
    """

    names: tuple[str, ...]
    places: Places
    is_frozen: bool
    is_compared: bool
    has_base: bool


# Asked at every visit of a node. Weak: a class that a function defines must not live
# on.
_FIELDS: Final["weakref.WeakKeyDictionary[type, _Fields]"] = weakref.WeakKeyDictionary()


def _fields_of(cls: Any) -> _Fields:
    """What there is to compare of the values of a dataclass; worked out once for each class."""
    fields = _FIELDS.get(cls)
    if fields is None:
        names = tuple([field.name for field in dataclasses.fields(cls)])
        parameters = cls.__dataclass_params__  # set by `dataclasses.dataclass`
        # A class may also refuse to be written to by a `__setattr__` of its own.
        is_frozen = parameters.frozen or cls.__setattr__ is not object.__setattr__
        places = find_places(cls, frozenset(names))
        is_compared = parameters.frozen and parameters.eq
        fields = _FIELDS[cls] = _Fields(
            names, places, is_frozen, is_compared, _has_base_in_c(cls)
        )
    return fields


def _has_base_in_c(cls: type) -> bool:
    """Whether a class extends one in C that makes its own values, such as `float` or `dict`.

    The fields of such a record are not all of it, so that its key takes in what pickle
    would write.
    """
    makers = [
        vars(base)["__new__"]
        for base in cls.__mro__
        # That of `object` makes an empty value.
        if base is not object and "__new__" in vars(base)
    ]
    # As Python makes of one in a class body
    return not all(isinstance(maker, staticmethod) for maker in makers)


def _init_fields(value: Any) -> list[str]:
    """The names of the fields that a dataclass's constructor takes, which files hold; of a value or the class."""
    return [field.name for field in dataclasses.fields(value) if field.init]


def _record_key(value: Any) -> Hashable:
    """The key of a record: class, fields and attributes; that of any object, if it compares itself."""
    cls: Any = type(value)
    names, places, is_frozen, is_compared, has_base = _FIELDS.get(cls) or _fields_of(
        cls
    )
    if not is_frozen:
        raise StaticValueError(
            f"the dataclass {cls.__name__} is not frozen: declare it @dataclass(frozen=True)"
        )
    if not is_compared:
        # Compared by identity, or by an `__eq__` of its own.
        return object_key(value)
    # Also those that the dataclass leaves out of its own `==`: a merge gives back one
    # object for all equal ones.
    keys = [static_key(getattr(value, name)) for name in names]
    key = (cls, *keys, *attributes_key(value, places))
    return (*key, content_key(value)) if has_base else key


def _contents_by_name(value: Any) -> dict[str, Any]:
    """All that a record holds, by name: its fields, and what else was set on it.

    To look for arrays in it that somebody could write to.
    """
    fields = _fields_of(type(value))
    # A field that is not set is found when the value is compared.
    values = {
        name: getattr(value, name) for name in fields.names if hasattr(value, name)
    }
    return values | attributes_of(value, fields.places)


def _record_parts(value: Any) -> Iterable[object]:
    """The values in a record, which may be arrays or hold some; none where it is compared by identity."""
    return (
        () if compares_by_identity(type(value)) else _contents_by_name(value).values()
    )


def _read_only_record(value: Any) -> Any:
    """The record itself, for `frozen`, which raises if an array in it can be written to.

    A copy would run the user's code, and be another object than the one given.
    """
    check_read_only(value, _contents_by_name(value))
    return value


def _loss(value: Any) -> str | None:
    """Why a record would not come back from a file; `None` if it would.

    A file has its fields alone, and gives them to the constructor: what else it keeps,
    or what the constructor changes, would be lost in silence.
    """
    cls = type(value)
    # The constructor would not get them.
    others = ", ".join(attributes_of(value, _fields_of(cls).places))
    if others:
        return f"{cls.__name__} keeps {others} beside its fields, and files have fields alone: declare what it keeps"
    try:
        # Tried, as a `__post_init__` may do anything with the fields.
        again = cls(**{name: getattr(value, name) for name in _init_fields(value)})
    except Exception as error:  # whatever the class raises
        return f"{cls.__name__} cannot be made from its fields ({error})"
    if not compares_by_identity(cls) and static_key(again) != static_key(value):
        return f"{cls.__name__} makes another value from its fields"
    return None


_OR_NAME: Final = "or register the value with gn.config.register(name, value)"


def _record_to_json(value: Any, write_part: WritePart) -> Json:
    """For the JSON of a graphdef: a record as the registered name of its class, and its constructor's fields.

    Raises:
        JsonValueError: It would not come back from these.
    """
    name = class_name(type(value))
    fields = {name: write_part(getattr(value, name)) for name in _init_fields(value)}
    # After the fields: a field that has no JSON has the better text.
    loss = _loss(value)
    if loss is not None:
        raise JsonValueError(f"{loss}, {_OR_NAME}")
    return {"class": name, "fields": fields}


def _record_from_json(data: Json, read_part: ReadPart) -> Any:
    """The record that the name of a class and its fields stand for."""
    parts = members(data, "record", ("class", "fields"))
    cls = registered_class(parts["class"], _is_record, "dataclass")
    fields: Mapping[str, Json] = part(dict, parts["fields"], "fields")
    values = {name: read_part(content) for name, content in fields.items()}
    names = _init_fields(cls)
    if set(values) != set(names):
        raise JsonValueError(f"{cls.__name__} takes {', '.join(names)}")
    try:
        return cls(**values)
    except (
        Exception
    ) as error:  # whatever the class raises that the text gives a value to
        raise JsonValueError(f"{cls.__name__}: {error}") from error


def _record_to_data(value: Any, write_part: WritePart) -> Json:
    """For a config file: a record as an object of the fields that its constructor takes.

    Raises:
        DataValueError: It would not come back from these.
    """
    loss = _loss(value)
    if loss is not None:
        raise DataValueError(f"{loss}, {_OR_NAME}")
    return {name: write_part(getattr(value, name)) for name in _init_fields(value)}


# Enums


def _enum_to_json(value: enum.Enum, write_part: WritePart) -> Json:
    """A member of an enum as the registered name of its class and its own name."""
    return {"class": class_name(type(value)), "member": value.name}


def _enum_from_json(data: Json, read_part: ReadPart) -> enum.Enum:
    """The member that the names of an enum and of a member stand for."""
    parts = members(data, "enum", ("class", "member"))
    cls = cast(
        "type[enum.Enum]",
        registered_class(parts["class"], subclass_of(enum.Enum), "enum"),
    )
    member = part(str, parts["member"], "member")
    if member not in cls.__members__:
        raise JsonValueError(f"{cls.__name__} has no member {member[:40]!r}")
    return cls.__members__[member]


# What members of most enums are.
_PLAIN: Final = frozenset({int, str, float, bool, NoneType})


def _checked_member(value: enum.Enum) -> enum.Enum:
    """The member itself, for `frozen`; checked where it is given, as that is not done at every visit.

    Raises:
        StaticValueError: It stands for a node or State.
    """
    if type(value.value) not in _PLAIN:
        member = f"the member {type(value).__name__}.{value.name}"
        check_captured(
            member, [("value", value.value)], use="keep only its name in the enum"
        )
    return value


ENUM: Final = StaticKind[enum.Enum](
    name="enum",
    matches=subclass_of(enum.Enum),
    key=object_key,
    read_only=_checked_member,
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

# Whether an annotation with a dataclass says that a field is static depends on the
# class: it has to be frozen.
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
                "fields": {
                    "type": "object",
                    "additionalProperties": {"$ref": "#/$defs/value"},
                },
            },
        },
    ),
    data=DataForm(_record_to_data),
)
