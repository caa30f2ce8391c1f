"""`StaticKind`: all that is known about one kind of static values, in one record.

A kind has the classes that it covers, and functions of a value: its key, which equals
that of another value exactly if the two are the same; its parts; a copy whose arrays are
read-only; and its forms in the JSON of a graphdef and in configuration files. `_table`
lists the kinds; to add one is an entry there.
"""

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")

# What the module `json` reads and writes, as do the readers of configuration files.
Json: TypeAlias = Any

# The JSON of a value that is part of another, and back; the data of a configuration
# file.
WritePart: TypeAlias = Callable[[Any], Json]
ReadPart: TypeAlias = Callable[[Json], Any]


class StaticValueError(TypeError):
    """Why a value cannot be static; whoever catches it adds the place."""


class TracedValueError(StaticValueError):
    """The value is one of a running trace.

    A class of its own, as `gn.config.summary` then makes the model with real arrays.
    """


class JsonValueError(ValueError):
    """A value that has no JSON, or JSON that is not a value; the text says why."""


class DataValueError(ValueError):
    """A value that no configuration file can say, or data that is not a value of the kind; the text says why."""


class ExpectedError(DataValueError):
    """Data that is not a value of the kind, where it is enough to say what is expected.

    Attributes:
        expected: What is, after "Input should be".
        has_options: Whether that is a choice of a few, so that a near one is worth a
            hint.
    """

    def __init__(self, expected: str, *, has_options: bool = False) -> None:
        super().__init__(f"Input should be {expected}")
        self.expected = expected
        self.has_options = has_options


class ByName(NamedTuple):
    """In place of a form: a file says such a value by the name that the program registered it under.

    Attributes:
        reason: Why it has no other form, with `{value}` for what an error calls the
            value.
    """

    reason: str = (
        "{value} has no name: register it with gn.config.register(name, value)"
    )

    def fault(self, value: object) -> str:
        """Why this value cannot be written: the text of the error where it has no registered name."""
        return self.reason.format(value=value)


BY_NAME: Final = ByName()


# Without slots, as are the other generic records: in Python 3.11 `JsonForm[int](...)`
# fails with them. And no named tuples, which beartype does not know as generic ones.
@dataclasses.dataclass(frozen=True, eq=False)
class JsonForm(Generic[T]):
    """How the values of a kind stand in the JSON of a graphdef: exactly, so that an equal one comes back.

    Attributes:
        write: A value as JSON: JSON's own value, or an object whose one key is the tag.
        tag: That key; `None` where JSON has all values of the kind itself.
        read: The value that is meant by what the tag holds; raises `JsonValueError`.
        schema: What the tag holds, as a JSON Schema in which `#/$defs/value` is any
            static value.
        own_type: JSON's name for the values that it has itself.
    """

    write: Callable[[T, WritePart], Json]
    tag: str | None = None
    # `None` for what JSON has itself: no tag leads to it.
    read: Callable[[Json, ReadPart], T] | None = None
    schema: Mapping[str, Json] = dataclasses.field(default_factory=dict[str, Json])
    own_type: str | None = None


def tagged(
    tag: str,
    write: Callable[[T, WritePart], Json],
    read: Callable[[Json, ReadPart], T],
    schema: Mapping[str, Json],
) -> JsonForm[T]:
    """The `JsonForm` of values that always stand under their tag; `write` gives what the tag holds."""
    return JsonForm(
        lambda value, write_part: {tag: write(value, write_part)}, tag, read, schema
    )


class Target(NamedTuple):
    """What a place of a configuration file wants.

    Attributes:
        cls: The class that its annotation names.
        default: The default of the field, if it has one.
    """

    cls: Any
    default: object = None


class Defined(NamedTuple):
    """A JSON Schema that others refer to, instead of repeating it.

    Attributes:
        name: Of the definition, if it is free.
        key: What tells it from other definitions.
        make: Gives the schema, or the model of a record; called when it is needed, as
            names are registered later.
    """

    name: str
    key: Hashable
    make: Callable[[], Mapping[str, Json] | type]

    # Pydantic knows nothing of our validators: as metadata of a type, this is what it
    # says of the values.
    def __get_pydantic_json_schema__(
        self, core_schema: object, handler: object
    ) -> Mapping[str, Json]:
        """What pydantic calls for metadata of a type, to get the schema of its values."""
        # Whoever writes the whole schema puts a reference in its place.
        return {DEFINED: self}


DEFINED: Final = "x-graphnode"
"""The key under which a JSON Schema holds a `Defined`."""


def any_data(target: Target) -> Mapping[str, Json]:
    """The JSON Schema of a kind that does not say what it reads: it admits anything."""
    return {}


@dataclasses.dataclass(frozen=True, eq=False)
class DataForm(Generic[T]):
    """How the values of a kind stand in a configuration file, where an annotation says what is wanted.

    Attributes:
        write: A value as strings, numbers, lists and dicts; raises `DataValueError`.
        read: The value that is meant by data; raises `DataValueError`. `None` where the
            annotation has more to say than its class, such as what a tuple holds:
            `config` then reads it by its parts.
        schema: What `read` accepts, as a JSON Schema.
        is_own: Whether files have the values themselves, so that none is written as a
            name.
    """

    write: Callable[[T, WritePart], Json]
    read: Callable[[Json, Target], T] | None = None
    schema: Callable[[Target], Mapping[str, Json] | Defined] = any_data
    is_own: bool = False


def unchanged(value: T) -> T:
    """The value itself: the key of what equals nothing but its like, the read-only form of what never changes.

    `set_kinds` looks for this very function: values with it are their own keys, without
    a call.
    """
    return value


def never(cls: type) -> bool:
    """Of no class: the default of `StaticKind.matches`, for kinds whose exact classes are all."""
    return False


def subclass_of(*bases: type) -> Callable[[type], bool]:
    """A function for `StaticKind.matches`: whether a class is one of these or extends one."""
    return lambda cls: issubclass(cls, bases)


def no_parts(value: object) -> Iterable[object]:
    """The default of `StaticKind.parts`: a value of the kind holds no other static values."""
    return ()


@dataclasses.dataclass(frozen=True, eq=False)
class StaticKind(Generic[T]):
    """One kind of static values.

    Attributes:
        name: What it is called.
        key: Equal for two values exactly when they have the same type and content;
            raises `StaticValueError`.
        classes: The exact classes of its values, which are looked up without a
            question.
        matches: Whether the values of another class are of this kind; the first kind of
            the table that says so has it.
        parts: The static values in a value, if it is equal to another whose parts are.
        read_only: The value with read-only copies of the NumPy arrays in it; raises
            `StaticValueError`.
        is_annotation: Whether an annotation with a class of this kind says that a field
            is static.
        is_copied: Whether nodes keep copies of its values, which therefore have the
            name of a registered equal one.
        json: The form in graphdefs, or why there is none.
        data: The form in configuration files, or why there is none.
        type_names: The classes that a file may name with `type:` where the annotation
            says none: `{type: Fraction, value: 3/4}`.
    """

    name: str
    key: Callable[[T], Hashable]
    classes: tuple[type, ...] = ()
    matches: Callable[[type], bool] = never
    parts: Callable[[T], Iterable[object]] = no_parts
    read_only: Callable[[T], T] = unchanged
    is_annotation: bool = False
    is_copied: bool = False
    json: JsonForm[T] | ByName = BY_NAME
    data: DataForm[T] | ByName = BY_NAME
    type_names: Mapping[str, Any] = dataclasses.field(default_factory=dict)
