"""Records in files: dataclasses and named tuples, by their fields.

{rate: 0.1}                   a record of the class that the annotation names
{type: Adam, rate: 0.1}       of one of several, or of one that extends it
[0.1, 0.9]                    a named tuple by position
adam                          by its registered name
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pydantic
import typing_extensions
from pydantic_core import PydanticCustomError

from .._hints import short, with_hint
from .._static import DEFINED, Defined, static_key
from ..optim._calls import Call, call_classes
from ._registry import (
    format_names,
    known_values,
    meant_names,
    near_hint,
    newest,
    value_names,
    value_of,
    with_subclasses,
)
from ._typed import TYPE, is_named_tuple, name_of
from ._validated import Schema, model_of_fields
from ._value_errors import value_error, value_faults

_FORBID: Final = pydantic.ConfigDict(
    extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()
)
_MAX_FAULTS: Final = 10
"""Of one record: the first ones are enough."""


# Any, in this module: classes that the caller has checked to be records, and data.
class RecordField(NamedTuple):
    """What a field for records takes.

    Attributes:
        classes: Those of the annotation; a file may name one that extends them.
        type_of: The pydantic type of an annotation and its default: `configurable`. It is
            handed in, as it needs this module in turn.
    """

    classes: tuple[Any, ...]
    type_of: Callable[[Any, object], Any]

    def read(self, data: Any) -> Any:
        """The record that data describes; a record itself is taken as it is.

        Raises:
            PydanticCustomError: It does not fit.
        """
        # Exactly `str`: an instance of a subclass may be the record itself.
        if type(data) is str and data in value_names():
            data = value_of(data)
        if isinstance(data, self.classes):
            return data
        fields = self._mapping(data)
        # A record may have a field of this name; then nothing names its class.
        if TYPE in fields and not self._have_field(TYPE):
            others = {name: value for name, value in fields.items() if name != TYPE}
            return self._construct(self._class_named(fields[TYPE]), others)
        if self._is_abstract():
            names = format_names([name_of(cls) for cls in self._choices()])
            raise value_error(f"type is missing: one of {names}")
        if len(self.classes) == 1:
            return self._construct(self.classes[0], fields)
        return self._construct_any(fields)

    def schema(self) -> Defined:
        """The JSON Schema of what `read` accepts, made later: a reference stands in its place."""
        name = "-".join([cls.__name__ for cls in self.classes])
        return Defined(name, ("records", self.classes), self._make_schema)

    def _make_schema(self) -> Any:
        """The definition that `schema` names: the model of the one class, or an alternative for each."""
        # Not before a schema is asked for: a class may be extended until then.
        choices = self._choices()
        if len(choices) == 1:
            return _model_of(choices[0], self.type_of)
        schemas: list[Schema] = []
        for cls in choices:
            model = functools.partial(_model_of, cls, self.type_of)
            fields = Defined(cls.__name__, ("record", cls), model)
            is_declared = cls in self.classes
            # A class that extends a declared one is not taken without its name.
            required = {} if is_declared else {"required": [TYPE]}
            schemas.append({DEFINED: fields, **required})
        return {"anyOf": schemas}

    def _is_abstract(self) -> bool:
        """Whether a file has to name a class that extends those of the annotation."""
        return all(map(inspect.isabstract, self.classes))

    def _have_field(self, name: str) -> bool:
        """Whether a class of the annotation has a field of this name.

        Where `type` is one, it does not name a class.
        """
        return any(
            name in _model_of(cls, self.type_of).model_fields for cls in self.classes
        )

    def _choices(self) -> list[Any]:
        """The classes that a file may name for a record; for calls of optax, one for each function that is known."""
        calls: list[Any] = []
        for cls in self.classes:
            if issubclass(cls, Call):
                calls += call_classes(cls, known_values())
        if calls:
            return calls
        classes = newest(with_subclasses(self.classes))
        return [cls for cls in classes if not inspect.isabstract(cls)]

    def _mapping(self, data: Any) -> dict[str, Any]:
        """The fields that data gives a record, by name; a named tuple may come as a list.

        Raises:
            PydanticCustomError: The data has none.
        """
        if isinstance(data, dict):
            return data
        first, *others = self.classes
        is_sequence = isinstance(data, (list, tuple))
        if is_sequence and not others and is_named_tuple(first):
            names = first._fields
            if len(data) > len(names):
                what = f"{first.__name__} has {len(names)} items, found {len(data)}"
                raise value_error(what)
            return dict(zip(names, data, strict=False))
        if not self._is_abstract():
            classes = " or ".join([cls.__name__ for cls in self.classes])
            raise value_error(
                f"the fields of {classes} are expected here", "wrong_record"
            )
        names = [name_of(cls) for cls in self._choices()]
        is_name = isinstance(data, str) and data in names
        raise value_error(
            f"a mapping with `type` is expected here, found {short(data)}",
            hint=f"write {{type: {data}, ...}}" if is_name else "",
        )

    def _class_named(self, name: object) -> Any:
        """The class that a mapping names.

        Raises:
            PydanticCustomError: No class has the name, or several have.
        """
        choices = self._choices()
        by_name: dict[str, list[Any]] = {}
        for cls in choices:
            by_name.setdefault(name_of(cls), []).append(cls)
        # What `names=` of `load` means comes before the classes' own names.
        for meant_name, cls in meant_names().items():
            # By identity: a name may stand for any value, such as an array.
            if any(cls is choice for choice in choices):
                by_name[meant_name] = [cls]
        classes = by_name.get(name, []) if isinstance(name, str) else []
        if len(classes) > 1:
            raise value_error(
                f"several classes are named {name!r}: register them under two names with gn.config.register"
            )
        if not classes:
            hint = near_hint(name, by_name) or f"one of {format_names(by_name)}"
            raise value_error(f"unknown type {short(name)}", hint=hint)
        return classes[0]

    def _construct_any(self, fields: dict[str, Any]) -> Any:
        """The record of the one class of a union that takes some fields, where nothing names the class.

        Raises:
            PydanticCustomError: No class takes them, or several do.
        """
        records: list[Any] = []
        faults: list[str] = []
        # All are tried: fields that two classes take are an error, not the first one's.
        for cls in self.classes:
            try:
                records.append(self._construct(cls, fields))
            except PydanticCustomError as error:
                faults.append(error.message())
        if not records:
            raise value_error("; or ".join(faults), "wrong_record")
        if len(records) > 1:
            names = [type(record).__name__ for record in records]
            raise value_error(
                f"{' and '.join(names)} take these fields: write `type: {names[0]}` beside them, or another one"
            )
        return records[0]

    def _construct(self, cls: Any, fields: dict[str, Any]) -> Any:
        """A record of a class from its fields, each read as its annotation says.

        Raises:
            PydanticCustomError: The class does not take them.
        """
        try:
            model = _model_of(cls, self.type_of).model_validate(fields)
            # Not `model_dump`, which would turn records within it into dicts.
            arguments = {
                name: getattr(model, name) for name in type(model).model_fields
            }
            record = cls(**arguments)
            # A part of it may be a value that no structure can have, such as a dict.
            static_key(record)
            return record
        except pydantic.ValidationError as error:
            texts: list[str] = []
            for fault in value_faults(error, fields)[:_MAX_FAULTS]:
                what = with_hint(fault.what, fault.hint)
                texts.append(f"{fault.key}{fault.inside}: {what}")
            text = "; ".join(texts)
        except Exception as error:  # whatever the class raises of the values of a file
            text = str(error)
        raise value_error(f"{cls.__name__}: {text}", "wrong_record")


@functools.cache
def _model_of(
    cls: Any, type_of: Callable[[Any, object], Any]
) -> type[pydantic.BaseModel]:
    """A pydantic model of the fields of a dataclass or named tuple, which reads each as its annotation says."""
    hints = typing_extensions.get_type_hints(cls, include_extras=True)
    definitions: dict[str, Any] = {}
    for name, default in _defaults_of(cls).items():
        # Factories are not called here: a plain default alone shows the form of values.
        is_value = default is not ... and not isinstance(
            default, pydantic.fields.FieldInfo
        )
        validated = type_of(hints.get(name, Any), default if is_value else None)
        definitions[name] = validated, default
    model: type[pydantic.BaseModel] = model_of_fields(
        cls.__name__, definitions, __config__=_FORBID, __doc__=cls.__doc__
    )
    return model


def _defaults_of(cls: Any) -> dict[str, Any]:
    """The fields of a record's constructor, each with its default as pydantic has it: `...` for none.

    From them, `_model_of` makes the model.
    """
    if is_named_tuple(cls):
        return {name: cls._field_defaults.get(name, ...) for name in cls._fields}
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.init:
            defaults[field.name] = _default_of(field)
    return defaults


def _default_of(field: "dataclasses.Field[Any]") -> Any:
    """The default of a field of a dataclass as pydantic has it: `...` for none."""
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return pydantic.Field(default_factory=field.default_factory)
    return ...
