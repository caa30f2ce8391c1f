"""What the constructor of a node class takes, as the fields of a config: types, defaults, and why there are none.

A State is not an argument: the class makes it. Streams and optimizers take other things
in a file than their constructors do.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin

import pydantic

from .._declare._forms import Form
from .._declare._node import Node
from .._declare._schema import Field, is_computed
from .._declare._type_arguments import resolve
from .._errors import ConfigError, Fault
from .._fields import Kind, NodeBase
from .._members import declaring_classes
from .._registered import name_of
from .._source import Sources
from .._static import StaticValueError, frozen
from ._left_out import DEFAULT
from ._optimizer import FREEZE, MODEL, MODEL_FORM, PARAMETERS, TX, WRT, is_optimizer
from ._streams import DEFAULT_STREAM, STREAMS, Seeds, admits_streams, is_streams
from ._value_errors import value_error
from ._values import configurable

RESERVED: Final = ("type", "id", "ref", "include")
"""Keys of a mapping in a file that are not fields of its class."""

# Class attributes of `Config`, which a field would hide.
_NAMES_OF_CONFIG: Final = ("model_config", "node_class", "slots")
_SOURCES: Final = Sources({})
_DATACLASSES: Final[Any] = dataclasses  # whose kinds of fields have no public names
_INIT_VAR: Final = _DATACLASSES._FIELD_INITVAR


class Argument(NamedTuple):
    """One argument of a constructor.

    Attributes:
        name: Its name.
        type: What pydantic validates; not for nodes.
        default: As arguments of `pydantic.Field`; empty where it has to be given.
        form: Of a field for nodes, what it holds.
        fault: Why no config can have it.
    """

    name: str
    type: Any
    default: dict[str, Any]
    form: Form | None = None
    fault: str = ""


def arguments_of(cls: type[Node], fields: Mapping[str, Field]) -> list[Argument]:
    """The arguments of the constructor of a node class, of which `config_of` makes the fields of its config.

    Raises:
        ConfigError: A config cannot have one of them, or nothing declares them; names
            all.
    """
    # These two have constructors of their own, of which no schema tells anything.
    if is_streams(cls):
        default = {"default": ((DEFAULT_STREAM, None),)}
        return [Argument(STREAMS, Annotated[Any, Seeds], default)]
    if is_optimizer(cls):
        return [
            Argument(MODEL, Any, {}, MODEL_FORM),
            Argument("tx", _read_only_type(TX), {}),
            Argument("wrt", WRT, {"default": PARAMETERS}),
            Argument("freeze", FREEZE, {"default": None}),
        ]
    # An argument with a fault is one too, so that all faults are reported at once.
    arguments = list(_arguments(cls, fields))
    faults: list[Fault] = []
    for argument in arguments:
        if argument.fault:
            path = f"{cls.__name__}.{argument.name}"
            faults.append(Fault(argument.fault, path=path))
    if cls._has_own_init:
        what = "has a constructor of its own, so nothing says what it takes"
        faults.append(Fault(f"{cls.__name__} {what}"))
    if faults:
        raise ConfigError(faults)
    return arguments


def _arguments(cls: type, fields: Mapping[str, Field]) -> Iterator[Argument]:
    """The arguments of a node class: its fields that the constructor takes, then its init variables."""
    for field in fields.values():
        # The class makes a State that has a default: nobody passes one.
        is_made = field.kind is Kind.STATE and field.default is not None
        if field.init and not is_made:
            yield _argument(field)
    for name, pseudo in getattr(cls, "__dataclass_fields__", {}).items():
        if pseudo._field_type is _INIT_VAR:
            yield _init_var(cls, name, pseudo)


def _argument(field: Field) -> Argument:
    """The argument for a field of a node class: with type and default, or with why no config can have it."""
    if field.kind is Kind.STATE:
        fault = "it takes a State that is ready, which no configuration gives"
        return _refused(field.name, fault)
    fault = _name_fault(field.name)
    if fault:
        return _refused(field.name, fault)
    if field.kind is Kind.SUBNODE:
        return Argument(field.name, Any, _node_default(field), field.form)
    if not is_computed(field) and field.default is not None:
        return _with_default(field, field.default)
    validated = _read_only_type(configurable(field.annotation))
    if is_computed(field):
        return Argument(field.name, _or_left_out(validated), {"default": DEFAULT})
    return Argument(field.name, validated, {})


def _refused(name: str, fault: str) -> Argument:
    """An argument that no config can have, with the reason: `arguments_of` collects these, and raises all at once."""
    return Argument(name, Any, {}, fault=fault)


def _with_default(field: Field, make: Callable[[], object]) -> Argument:
    """The argument for a static field whose default `make` returns."""
    try:
        value = make()
    except Exception as error:  # of the user's factory
        fault = f"its default_factory raises {type(error).__name__}: {error}"
        return _refused(field.name, fault)
    validated = _read_only_type(configurable(field.annotation, value))
    # Made again for each config: a default may be an object of which each has its own.
    return Argument(
        field.name,
        validated,
        {"default_factory": lambda: _read_only_or_same(make())},
    )


def _name_fault(name: str) -> str:
    """Why no config has a field of this name, such as `type`; empty if one may have it."""
    if name in RESERVED:
        return f"files use {name!r} otherwise; choose another name"
    if name in _NAMES_OF_CONFIG or name.startswith("_"):
        return "no configuration has a field of this name; choose another"
    return ""


def _init_var(cls: type, name: str, declared: "dataclasses.Field[Any]") -> Argument:
    """The argument for an init variable, as `dataclasses` declared it: its annotation may still be a text."""
    try:
        annotation = resolve(declared.type, declaring_classes(cls)[name], {})
    except NameError as error:
        fault = f"nothing defines {error.name!r} of its annotation"
        return _refused(name, fault)
    if isinstance(annotation, dataclasses.InitVar):
        inner: Any = annotation.type
    else:
        (inner, *_) = get_args(annotation)
    fault = _name_fault(name)
    if fault:
        return _refused(name, fault)
    has_default = declared.default is not dataclasses.MISSING
    validated: Any = configurable(inner, declared.default if has_default else None)
    return Argument(
        name,
        Annotated[validated, pydantic.AfterValidator(unshared)],
        {"default": declared.default} if has_default else {},
    )


def _node_default(field: Field) -> dict[str, Any]:
    """The default of a field for nodes: None, an empty container, or what the class makes itself.

    As arguments of `pydantic.Field`; empty if the field must be given.
    """
    make = field.default
    if make is None:
        return {}
    container = get_origin(make) or make
    if isinstance(container, type) and issubclass(container, (list, dict, tuple)):
        return {"default_factory": container}
    # Other factories are not called, as they would make nodes. So a plain default of
    # `None` is read where it was declared.
    owner: Any = field.owner
    declared = owner.__dataclass_fields__[field.name]
    # A field for streams that the file leaves out gets new ones.
    is_none = declared.default is None and not admits_streams(field.form)
    return {"default": None if is_none else DEFAULT}


def _or_left_out(annotation: Any) -> Any:
    """The pydantic type of a static field that the class computes if it is left out.

    Assigning DEFAULT takes a given value away again.
    """

    def validate(value: Any, handler: Callable[[Any], Any]) -> Any:
        """DEFAULT itself, which the field's type would refuse; else what that type makes of the value."""
        return value if value is DEFAULT else handler(value)

    return Annotated[annotation, pydantic.WrapValidator(validate)]


# Values that nothing outside of the config can change


def _read_only_type(annotation: Any) -> Any:
    """The pydantic type of a static field that keeps its value as a node does: no array can be written to."""

    def validate(value: Any) -> Any:
        """The value with read-only arrays, once pydantic has read it; what cannot be static is a fault."""
        try:
            return _read_only(value)
        except StaticValueError as error:
            raise value_error(str(error)) from None

    return Annotated[annotation, pydantic.AfterValidator(validate)]


def unshared(value: Any) -> Any:
    """The value of a static field or init variable, such that nothing which is written to it shows elsewhere.

    For `build` and copies of configs: the node or copy may write to what it gets.

    An init variable may be a list or dict, and may hold them: these are copied.
    """
    # Exactly `list`: a subclass is the program's own, and may not be made so.
    if type(value) is list:
        return [unshared(item) for item in value]
    if type(value) is dict:
        return {key: unshared(item) for key, item in value.items()}
    return _read_only_or_same(value)


def _read_only_or_same(value: Any) -> Any:
    """A value with read-only copies of its arrays, for defaults; one that cannot be static as it is.

    The constructor of the node has the better message for it.
    """
    try:
        return _read_only(value)
    except StaticValueError:
        return value


def _read_only(value: Any) -> Any:
    """A value with read-only copies of the arrays in it: a config keeps it, and nobody may change it from outside.

    Raises:
        StaticValueError: A dataclass holds an array that somebody could still write to.
    """
    # `frozen` copies a partial. One that is registered stays itself, so that its name
    # still leads to it.
    if isinstance(value, functools.partial) and name_of(value) is not None:
        return value
    return frozen(value)


def field_docs(cls: type) -> dict[str, str]:
    """The strings under the fields of a class and of its parents, as descriptions for JSON Schemas, by field."""
    docs: dict[str, str] = {}
    # Parents first, so that the text of a subclass wins.
    for base in reversed(cls.__mro__):
        if issubclass(base, NodeBase) and base.__module__ != "graphnode._declare._node":
            source = _SOURCES.of_class(base)
            if source is not None:
                docs |= source.docs
    return docs
