"""Calls of optax's factories as JSON, so that an optimizer that was made of them says what it is made of.

    call(optax.adamw, 1e-3)     {"call": ["adamw", {"learning_rate": 0.001}]}

A file is data from a stranger: a factory is looked up among those of optax, where the
program has imported it, and among those that were registered. It is not called: a call is
a record, of which the optimizer makes the transformation when it needs it.
"""

import dataclasses
import sys
from typing import Any, Final

from .. import (
    _filters_json as _filters_json,  # filters are part of what is written here
)
from .._static import (
    Json,
    JsonValueError,
    ReadPart,
    WritePart,
    add_json_form,
    part,
    tagged,
)
from ._calls import Call, call_class, factories
from ._groups import Groups
from ._labels import Labels
from ._parameters import as_static


def _write_call(call: Call, write_part: WritePart) -> Json:
    """A call as data: the name of the factory, and the arguments that are not its defaults."""
    name = type(call).__name__
    if factories().get(name) is not type(call).factory:
        raise JsonValueError(
            f"the factory {name} has no name: register it with gn.config.register(name, function)"
        )
    return [name, {key: write_part(value) for key, value in call.explicit().items()}]


def _read_call(data: Json, read_part: ReadPart) -> Call:
    """The call that data stands for."""
    if not isinstance(data, list) or len(data) != 2:
        raise JsonValueError("a call is the name of a factory and its arguments")
    name, arguments = part(str, data[0], "a factory"), part(dict, data[1], "arguments")
    # To look for a name in optax would import it.
    factory = factories().get(name) if "optax" in sys.modules else None
    cls: Any = None if factory is None else call_class(name, factory)
    if cls is None:
        raise JsonValueError(
            f"no factory is named {name[:40]!r}; import optax or register it first"
        )
    unknown = arguments.keys() - {field.name for field in dataclasses.fields(cls)}
    if unknown:
        raise JsonValueError(f"{name} has no parameter {min(unknown)[:40]!r}")
    values = {key: as_static(read_part(value)) for key, value in arguments.items()}
    try:
        return cls(**values)  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise JsonValueError(f"{name}: {error}") from None


def _write_pairs(pairs: Any, write_part: WritePart) -> Json:
    """What goes by filter, as data: the filters, and what each has."""
    values = pairs.values if isinstance(pairs, Labels) else pairs.transformations
    return [list(map(write_part, pairs.filters)), list(map(write_part, values))]


def _parts(data: Json, read_part: ReadPart) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The filters that data has, and what goes with them."""
    rows = [
        tuple([read_part(item) for item in part(list, row, "a list")])
        for row in part(list, data, "filters and values")
    ]
    if len(rows) != 2 or len(rows[0]) != len(rows[1]):
        raise JsonValueError("there is one value for each filter")
    return rows[0], rows[1]


def _read_groups(data: Json, read_part: ReadPart) -> Groups:
    """The transformations by filter that data stands for."""
    return Groups(*_parts(data, read_part))


# Any: the labels are of whatever type.
def _read_labels(data: Json, read_part: ReadPart) -> Labels[Any]:
    """The labels by filter that data stands for."""
    return Labels(*_parts(data, read_part))


_CALL_SCHEMA: Final = {
    "description": "The name of a factory, and its arguments by name.",
    "type": "array",
    "minItems": 2,
    "maxItems": 2,
    "prefixItems": [
        {"type": "string"},
        {"type": "object", "additionalProperties": {"$ref": "#/$defs/value"}},
    ],
}
_PAIRS_SCHEMA: Final = {
    "description": "Filters, and what goes with each.",
    "type": "array",
    "items": {"$ref": "#/$defs/values"},
    "minItems": 2,
    "maxItems": 2,
}
add_json_form(Call, tagged("call", _write_call, _read_call, _CALL_SCHEMA))
add_json_form(Groups, tagged("groups", _write_pairs, _read_groups, _PAIRS_SCHEMA))
add_json_form(Labels, tagged("labels", _write_pairs, _read_labels, _PAIRS_SCHEMA))
