"""Types and models for pydantic: of a function that reads data, of unions, of fields that only the program knows."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias, Union

import pydantic
from pydantic_core import PydanticCustomError

from .._static import DataValueError, Defined, ExpectedError
from ._value_errors import value_error

Schema: TypeAlias = Mapping[str, Any]
"""A JSON Schema."""

# Any, in this module: pydantic takes data of all kinds, and a type it is given is a value.


def validated_by(read: Callable[[Any], Any], schema: Schema | Defined) -> Any:
    """The pydantic type of what `read` gives, which raises errors that pydantic carries; with its JSON Schema."""
    if isinstance(schema, Defined):
        return Annotated[Any, pydantic.PlainValidator(read), schema]
    metadata = pydantic.WithJsonSchema(dict(schema))
    return Annotated[Any, pydantic.PlainValidator(read), metadata]


def read_by(read: Callable[[Any], Any], schema: Schema | Defined) -> Any:
    """The pydantic type of what a function of a static kind reads, which raises `DataValueError`."""

    def validate(data: Any) -> Any:
        """What `read` makes of data, with its errors as those that pydantic carries."""
        try:
            return read(data)
        except ExpectedError as error:
            # In pydantic's words, so that a union joins it with what other members expect.
            code = "literal_error" if error.has_options else "wrong_form"
            raise PydanticCustomError(
                code, "Input should be {expected}", {"expected": error.expected}
            ) from None
        except DataValueError as error:
            raise value_error(str(error)) from None

    return validated_by(validate, schema)


def union_of(members: Sequence[Any]) -> Any:
    """The union of the pydantic types of an annotation's members.

    They are objects that only the running program has, so that nobody can write their
    union as an annotation.
    """
    union: Any = Union
    return union[tuple(members)]


def by_tag(types: Mapping[str, Any], tag_of: Callable[[Any], str]) -> Any:
    """The union of some types, of which `tag_of` selects one by the data.

    So that a fault is one of the member that was meant, and not one of each.
    """
    members: list[Any] = []
    for tag, member in types.items():
        members.append(Annotated[member, pydantic.Tag(tag)])
    union: Any = union_of(members)
    return Annotated[union, pydantic.Discriminator(tag_of)]


def model_of_fields(name: str, fields: Mapping[str, Any], **options: Any) -> Any:
    """A pydantic model of fields, each a pair of type and default, whatever their names.

    For the config of a node class, and for records.
    """
    with warnings.catch_warnings():
        # pydantic warns of a field that has the name of one of its methods.
        warnings.simplefilter("ignore", UserWarning)
        return pydantic.create_model(name, **options, **fields)
