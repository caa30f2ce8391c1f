"""Static values from files: what pydantic validates for an annotation. `_plain` is the way back.

Data in: a resolved annotation of a static field. Data out: a type for a pydantic model.
How values of one class stand in a file is known to the table of static kinds; here is
what an annotation adds: what is in a tuple, which values a `Literal` or a union admits,
the fields of a record.
"""

import collections.abc
import dataclasses
import functools
import inspect
import types
import typing
import warnings
from collections.abc import Callable, Mapping
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

import jax
import numpy as np
import pydantic
import typing_extensions
from pydantic_core import PydanticCustomError

from .._contract import is_jaxtyping
from .._declare._annotations import unaliased
from .._hints import short, with_article, with_hint
from .._static import (
    DEFINED,
    DataForm,
    DataValueError,
    Defined,
    ExpectedError,
    Target,
    match_kind,
    options_schema,
    read_option,
    static_key,
)
from ..optim._arguments import acts_as_transformation
from ..optim._calls import Call, ScheduleCall, TransformationCall, call_classes
from ..optim._labels import Labels
from ..optim._parameters import Schedule, is_transformation
from ._array_fields import array_field
from ._filters_as_paths import labels_of
from ._registry import (
    UnknownNameError,
    known_values,
    meant_names,
    near_hint,
    newest,
    shown,
    value_names,
    value_of,
    with_subclasses,
)
from ._typed import (
    REGISTERED,
    TYPE,
    VALUE,
    is_named_tuple,
    is_record,
    name_of,
    named_classes,
    unwrapped,
)
from ._value_errors import value_error, value_faults

_DTYPES: Final = frozenset(get_args(jax.typing.DTypeLike))
_STRICT: Final = (bool, int, float, str)
# Files have these themselves, and a list is a tuple.
_OWN: Final = (*_STRICT, types.NoneType, tuple)
_FORBID: Final = pydantic.ConfigDict(
    extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()
)

_Schema: TypeAlias = Mapping[str, Any]


def _validated(check: Callable[[Any], Any], schema: _Schema | Defined) -> Any:
    metadata = (
        schema if isinstance(schema, Defined) else pydantic.WithJsonSchema(dict(schema))
    )
    return Annotated[Any, pydantic.PlainValidator(check), metadata]


def _checked(read: Callable[[Any], Any], schema: _Schema | Defined) -> Any:
    """What a function of the table of static kinds reads."""

    def check(data: Any) -> Any:
        try:
            return read(data)
        except ExpectedError as error:
            code = "literal_error" if error.has_options else "wrong_form"
            raise PydanticCustomError(
                code, "Input should be {expected}", {"expected": error.expected}
            ) from None
        except DataValueError as error:
            raise value_error(str(error)) from None

    return _validated(check, schema)


def configurable(annotation: Any, default: object = None) -> Any:
    """The type that pydantic validates for the annotation of a static field.

    Numbers and strings are not converted into each other, but a list is taken for a
    tuple, and an integer for a float.

    Args:
        annotation: Resolved; its metadata (`Annotated[int, Field(gt=0)]`) is kept.
        default: The field's default: a dtype that a file names is of the same form,
            `jnp.float32` or `np.dtype`.
    """
    meant = unaliased(annotation)
    if meant is not annotation:
        return configurable(meant, default)
    if annotation in _STRICT:
        return Annotated[annotation, pydantic.Strict()]
    if annotation in (Any, object) or isinstance(
        annotation, TypeVar | typing_extensions.TypeVar
    ):
        return (
            _registered(_is_value, "value")
            if callable(default)
            else _validated(_hashable, _HASHABLE)
        )
    if isinstance(annotation, typing.NewType):
        return configurable(annotation.__supertype__, default)
    if _is_dtype(annotation):
        return _of_class(np.dtype, default)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is None:
        return _of_class(annotation, default)
    if origin is Annotated:
        kept = [one for one in args[1:] if not isinstance(one, str)]
        inner = configurable(args[0], default)
        return Annotated[(inner, *kept)] if kept else inner
    if origin is typing.Final:
        return configurable(args[0], default)
    if origin in (Union, types.UnionType):
        return _union(args, default)
    if origin in (Literal, typing_extensions.Literal):
        return _one_of(get_args(annotation))
    if origin is collections.abc.Callable:
        return _function(args[0] if args else ...)  # `typing.Callable` alone has none
    if origin is type:
        return _registered_class(_bound(args[0]))
    if origin is Labels:
        return _labels(configurable(args[0]))
    if origin in (tuple, frozenset):
        items = tuple(arg if arg is ... else configurable(arg) for arg in args)
        container: Any = origin
        return container[items] if items else annotation
    return _of_class(origin, default)


def _registered_class(bound: type) -> Any:
    return _registered(
        lambda value: isinstance(value, type) and issubclass(value, bound),
        "class",
        bound,
    )


def _any_schema() -> dict[str, Any]:
    named = {
        "required": [TYPE],
        "properties": {TYPE: {"enum": sorted([REGISTERED, *named_classes()])}},
    }
    types = ["array", "boolean", "null", "number", "object", "string"]
    # What stands beside the class, the class says.
    return {
        "type": types,
        "items": {DEFINED: _HASHABLE},
        "if": {"type": "object"},
        "then": named,
    }


_HASHABLE: Final[Defined] = Defined("data", "data", _any_schema)


def _hashable(given: Any) -> Any:
    """A value with tuples in place of lists: static values are part of the structure. A mapping says its class."""
    if isinstance(given, dict):
        return _of_named_class(given)
    return (
        tuple(map(_hashable, given))
        if isinstance(given, (list, tuple)) and type(given) in (list, tuple)
        else given
    )


def _of_named_class(given: dict[str, Any]) -> Any:
    """The value of a mapping that says its class: `{type: bytes, value: abc}`, or a record's fields beside its name."""
    value = unwrapped(given, REGISTERED)
    if value is not given:
        return _value_named(value, _is_value)
    known, name = named_classes(), given.get(TYPE)
    cls = known.get(name) if isinstance(name, str) else None
    if cls is None:
        if TYPE not in given:
            raise value_error(
                "a mapping says its class here, with `type`, as the field does not"
            )
        hint = (
            near_hint(name, known)
            or f"one of {shown(known)}, or a class that gn.config.register has named"
        )
        raise value_error(f"unknown type {short(name)}", hint=hint)
    return _reader(cls)(given)


@functools.cache
def _reader(cls: Any) -> Callable[[Any], Any]:
    adapter = pydantic.TypeAdapter(
        configurable(cls) if is_record(cls) else _or_typed(configurable(cls), cls)
    )
    return adapter.validate_python


def _or_typed(inner: Any, cls: Any) -> Any:
    """What is read as `inner`, also as the value of a mapping that says its class: `{type: Mode, value: fast}`."""
    name = name_of(cls)
    return Annotated[
        inner,
        pydantic.BeforeValidator(lambda given: unwrapped(given, name)),
        _TypedSchema(name),
    ]


class _TypedSchema(NamedTuple):
    """What JSON Schemas say of a value that may say its class."""

    name: str

    def __get_pydantic_json_schema__(
        self, core_schema: Any, handler: Any
    ) -> Mapping[str, Any]:
        inner = handler(core_schema)
        properties = {TYPE: {"const": self.name}, VALUE: inner}
        made = {"type": "object", "properties": properties, "required": [TYPE, VALUE]}
        return {
            "anyOf": [
                inner,
                {
                    DEFINED: Defined(
                        f"{self.name}.typed", ("typed", repr(made)), lambda: made
                    )
                },
            ]
        }


def _bound(annotation: Any) -> type:
    return annotation if isinstance(annotation, type) else object


def _union(args: tuple[Any, ...], default: object) -> Any:
    union: Any = Union  # of types that are values here
    if set(args) >= _DTYPES:  # `DTypeLike | None` comes flattened
        rest = tuple(arg for arg in args if arg not in _DTYPES)
        validated = configurable(np.dtype, default)
        return union[(validated, *rest)] if rest else validated
    records = tuple(arg for arg in args if is_record(arg))
    several = len([arg for arg in args if arg is not types.NoneType]) > 1
    members: list[Any] = []
    for arg in args:
        if not is_record(arg):
            cls = get_origin(arg) or arg
            may_say = several and isinstance(cls, type) and cls not in _OWN
            members.append(
                _or_typed(configurable(arg, default), cls)
                if may_say
                else configurable(arg, default)
            )
        elif arg is records[0]:
            members.append(_one_record(records))
    return (
        _exact_first(union[tuple(members)], args) if several else union[tuple(members)]
    )


def _exact_first(union: Any, args: tuple[Any, ...]) -> Any:
    """A union, of which a number or text of a file is first of all the member of that very class.

    pydantic alone would take an integer for an array of integers rather than for a
    float.
    """
    adapters: dict[type, Any] = {}
    for arg in args:
        cls = get_args(arg)[0] if get_origin(arg) is Annotated else arg
        if cls in _STRICT:
            adapters.setdefault(cls, pydantic.TypeAdapter(configurable(arg)))
    if float in adapters:
        adapters.setdefault(int, adapters[float])

    def read(given: Any, read_any: Callable[[Any], Any]) -> Any:
        adapter = adapters.get(type(given))
        if adapter is None:
            return read_any(given)
        try:
            return adapter.validate_python(given)
        except (
            pydantic.ValidationError
        ):  # of a constraint, which another member may not have
            return read_any(given)

    return Annotated[union, pydantic.WrapValidator(read)] if adapters else union


def _of_class(cls: Any, default: object) -> Any:
    if cls is type:
        return _registered_class(object)
    if not isinstance(cls, type):
        return cls
    if is_transformation(cls):
        return _called_or_named(
            TransformationCall, acts_as_transformation, "transformation"
        )
    if cls is Schedule:
        return _called_or_named(ScheduleCall, callable, "schedule")
    if is_record(cls):
        return _one_record((cls,))
    if cls is tuple:
        return configurable(tuple[Any, ...])
    if cls is frozenset:
        return configurable(frozenset[Any])
    wanted: Any = cls
    if is_jaxtyping(cls) or wanted in (jax.Array, np.ndarray):
        field = array_field(cls, default)
        return _checked(field.read, field.schema())
    form = match_kind(wanted).data
    read = form.read if isinstance(form, DataForm) else None
    if isinstance(form, DataForm) and read is not None:
        target = Target(wanted, default)
        return _checked(lambda data: read(data, target), form.schema(target))
    if wanted is types.NoneType:
        return wanted
    if getattr(wanted, "_is_protocol", False) or wanted is collections.abc.Callable:
        return _registered(callable, "function")
    return _registered(lambda value: isinstance(value, wanted), wanted.__name__, wanted)


def _function(parameters: Any) -> Any:
    """A function that takes as many arguments as its type says: an initialiser is not an activation."""
    if not isinstance(parameters, list):
        return _registered(callable, "function")
    count = len(cast("list[object]", parameters))
    what = f"function of {count} argument{'' if count == 1 else 's'}"
    return _registered(lambda value: callable(value) and _takes(value, count), what)


def _takes(function: Callable[..., object], count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except ValueError:  # written in C, without a signature
        return True
    except TypeError:
        return False
    return True


def _registered(
    is_admitted: Callable[[Any], bool], what: str, of: type = object
) -> Any:
    """A value that a file gives by its name in the registry, and a program as it is.

    Args:
        is_admitted: Whether the annotation admits a value.
        what: How messages call such a value.
        of: The class of the values, where `what` does not say it.
    """

    def find(given: Any) -> Any:
        value = unwrapped(given, REGISTERED)
        if type(value) is str:  # one of a subclass is a value that a program gives
            value = _value_named(value, is_admitted)
        if not is_admitted(value):
            text = f"{short(given)} is not {with_article(what)}: register one with gn.config.register(name, value)"
            raise value_error(text)
        return value

    # What the schema admits is asked of the same function, at the time when it is made.
    def said() -> dict[str, Any]:
        names = sorted(name for name in value_names() if is_admitted(value_of(name)))
        made: dict[str, Any] = {
            "description": f"The name of a registered {what}.",
            "enum": names,
        }
        others = [kind for kind, sample in _SAMPLES.items() if is_admitted(sample)]
        return {"anyOf": [made, {"type": others}]} if others else made

    return _validated(
        find, Defined(what.replace(" ", "_"), ("registered", what, of), said)
    )


def _value_named(name: Any, is_admitted: Callable[[Any], bool]) -> Any:
    """The value that is registered under a name.

    Raises:
        PydanticCustomError: None is; says which are that a place admits.
    """
    try:
        return value_of(name)
    except UnknownNameError as error:
        admitted = (one for one in value_names() if is_admitted(value_of(one)))
        hint = error.hint or f"known are {shown(admitted) or 'none'}"
        raise value_error(error.what, "unknown_name", hint=hint) from None


_SAMPLES: Final[dict[str, Any]] = {
    "null": None,
    "boolean": True,
    "number": 1.5,
    "array": [],
    "object": {},
}


def _is_value(value: object) -> bool:
    return True


def _one_of(options: tuple[Any, ...]) -> Any:
    """One of some values, which a file gives exactly: pydantic would take `true`, `1.0` and `"1"` for 1."""
    return _checked(
        functools.partial(read_option, options=options), options_schema(options)
    )


def _is_dtype(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    if origin is np.dtype or annotation is jax.typing.DTypeLike:
        return True
    if get_origin(annotation) is type:
        (of,) = get_args(annotation)
        return isinstance(of, type) and issubclass(of, np.generic)
    return False


# What an optimizer is made of


# Any: mypy takes no abstract class for one.
def _called_or_named(call: Any, is_admitted: Callable[[Any], bool], what: str) -> Any:
    """A call of a factory, by its arguments; or a registered value, by its name."""

    def how_given(given: Any) -> str:
        is_name = type(given) is str and given in value_names()
        is_live = is_admitted(given) and not isinstance(given, call)
        return "name" if is_name or is_live else "call"

    return by_tag(
        {"call": _one_record((call,)), "name": _registered(is_admitted, what)},
        how_given,
    )


def by_tag(types: Mapping[str, Any], tag_of: Callable[[Any], str]) -> Any:
    """One of some types, of which what is given says the tag."""
    union: Any = Union  # of types that are values here
    members = tuple([Annotated[one, pydantic.Tag(tag)] for tag, one in types.items()])
    return Annotated[union[members], pydantic.Discriminator(tag_of)]


def _labels(inner: Any) -> Any:
    """Labels by filter, from a mapping."""

    def read(given: Any, read_rows: Callable[[Any], Any]) -> Labels[Any]:
        return given if isinstance(given, Labels) else labels_of(read_rows(given))

    return Annotated[dict[str, inner], pydantic.WrapValidator(read)]


# Dataclasses and named tuples


def _one_record(classes: tuple[Any, ...]) -> Any:
    """A record of one of some classes, or of a class that extends one, which the file then names."""
    return _validated(
        functools.partial(_record, classes=classes), _records_schema(classes)
    )


def _records_schema(classes: tuple[Any, ...]) -> Defined:
    def make() -> Any:
        # Asked when the schema is made: a class may be extended later.
        found = _choices(classes)
        if len(found) == 1:
            return _model_of(found[0])
        choices: list[_Schema] = []
        for cls in found:
            fields = Defined(
                cls.__name__, ("record", cls), functools.partial(_model_of, cls)
            )
            choices.append(
                {DEFINED: fields}
                if cls in classes
                else {DEFINED: fields, "required": [TYPE]}
            )
        return {"anyOf": choices}

    return Defined(
        "-".join([cls.__name__ for cls in classes]), ("records", classes), make
    )


def _choices(classes: tuple[Any, ...]) -> list[Any]:
    """The classes that a record may be of."""
    calls = [
        call
        for cls in classes
        if issubclass(cls, Call)
        for call in call_classes(cls, known_values())
    ]
    return calls or [
        cls for cls in newest(with_subclasses(classes)) if not inspect.isabstract(cls)
    ]


@functools.cache
def _model_of(cls: Any) -> type[pydantic.BaseModel]:
    """A model of the fields of a dataclass or named tuple."""
    hints = typing_extensions.get_type_hints(cls, include_extras=True)
    if is_named_tuple(cls):
        fields = {name: cls._field_defaults.get(name, ...) for name in cls._fields}
    else:
        fields = {
            field.name: _default_of(field)
            for field in dataclasses.fields(cls)
            if field.init
        }
    definitions: dict[str, Any] = {}
    for name, default in fields.items():
        value = (
            None
            if default is ... or isinstance(default, pydantic.fields.FieldInfo)
            else default
        )
        definitions[name] = (configurable(hints.get(name, Any), value), default)
    with warnings.catch_warnings():
        # A field may have the name of a method of pydantic's
        warnings.simplefilter("ignore", UserWarning)
        return pydantic.create_model(
            cls.__name__, __config__=_FORBID, __doc__=cls.__doc__, **definitions
        )


def _default_of(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return pydantic.Field(default_factory=field.default_factory)
    return ...


def _record(given: Any, classes: tuple[Any, ...]) -> Any:
    if type(given) is str and given in value_names():
        given = value_of(given)
    if isinstance(given, classes):
        return given
    if (
        isinstance(given, (list, tuple))
        and len(classes) == 1
        and is_named_tuple(classes[0])
    ):
        (cls,) = classes
        if len(given) > len(cls._fields):
            raise value_error(
                f"{cls.__name__} has {len(cls._fields)} items, found {len(given)}"
            )
        given = dict(zip(cls._fields, given, strict=False))
    if not isinstance(given, dict) and all(map(inspect.isabstract, classes)):
        is_name = isinstance(given, str) and given in map(name_of, _choices(classes))
        raise value_error(
            f"a mapping with `type` is expected here, found {short(given)}",
            hint=f"write {{type: {given}, ...}}" if is_name else "",
        )
    if not isinstance(given, dict):
        text = f"the fields of {' or '.join([cls.__name__ for cls in classes])} are expected here"
        raise value_error(text, "wrong_record")
    if TYPE in given and not any(
        TYPE in _model_of(cls).model_fields for cls in classes
    ):
        fields = {name: value for name, value in given.items() if name != TYPE}
        return _made(_class_named(given[TYPE], classes), fields)
    if all(map(inspect.isabstract, classes)):
        raise value_error(
            f"type is missing: one of {shown([name_of(cls) for cls in _choices(classes)])}"
        )
    if len(classes) == 1:
        return _made(classes[0], given)
    return _made_of_any(classes, given)


def _class_named(name: object, classes: tuple[Any, ...]) -> Any:
    """The class of a record that says it.

    Raises:
        PydanticCustomError: None has the name, or several have.
    """
    named: dict[str, list[Any]] = {}
    choices = _choices(classes)
    for cls in choices:
        named.setdefault(name_of(cls), []).append(cls)
    named |= {
        one: [cls]
        for one, cls in meant_names().items()
        if any(cls is choice for choice in choices)
    }
    found = named.get(name, []) if isinstance(name, str) else []
    if len(found) > 1:
        raise value_error(
            f"several classes are named {name!r}: register them under two names with gn.config.register"
        )
    if not found:
        hint = near_hint(name, named) or f"one of {shown(named)}"
        raise value_error(f"unknown type {short(name)}", hint=hint)
    return found[0]


def _made_of_any(classes: tuple[Any, ...], given: dict[str, Any]) -> Any:
    """The record of the one class that takes some fields.

    Raises:
        PydanticCustomError: None takes them, or several do.
    """
    made: list[Any] = []
    faults: list[str] = []
    for cls in classes:
        try:
            made.append(_made(cls, given))
        except PydanticCustomError as error:
            faults.append(error.message())
    if len(made) == 1:
        return made[0]
    if made:
        names = [type(one).__name__ for one in made]
        raise value_error(
            f"{' and '.join(names)} take these fields: write `type: {names[0]}` beside them, or another one"
        )
    raise value_error("; or ".join(faults), "wrong_record")


def _made(cls: Any, given: dict[str, Any]) -> Any:
    """A record of a class from its fields.

    Raises:
        PydanticCustomError: The class does not take them.
    """
    try:
        made = _model_of(cls).model_validate(given)
        record = cls(**{name: getattr(made, name) for name in type(made).model_fields})
        # What is in it may be no part of a structure, such as a dict
        static_key(record)
        return record
    except pydantic.ValidationError as error:
        # Of a dozen, the first say enough.
        faults = [
            f"{fault.key}{fault.inside}: {with_hint(fault.what, fault.hint)}"
            for fault in value_faults(error, given)[:10]
        ]
        text = f"{cls.__name__}: {'; '.join(faults)}"
    except (
        Exception
    ) as error:  # whatever the class raises that the file gives a value to
        text = f"{cls.__name__}: {error}"
    raise value_error(text, "wrong_record")
