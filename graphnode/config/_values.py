"""Static values from files: the type that pydantic validates for an annotation. `_plain` is the way back.

How values of one class stand in a file is known to its static kind. Here is what an
annotation adds: what is in a tuple, which values a `Literal` or a union admits, of
which class a record is.

    annotation                    what a file gives
    int, float, str, bool         the value itself
    Literal, enums, arrays ...    data that the static kind reads
    tuple[int, ...]               a list
    a dataclass, a named tuple    a mapping of fields (`_records`)
    Callable, type[C], others     a registered name (`_named_values`)
    Any                           data, or a mapping that names its class
"""

import collections.abc
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import jax
import numpy as np
import pydantic
import typing_extensions

from .._contract import is_jaxtyping
from .._declare._type_arguments import unaliased
from .._fields import Initializer
from .._hints import short
from .._static import (
    DEFINED,
    DataForm,
    Defined,
    Target,
    match_kind,
    options_schema,
    read_option,
)
from ..nn.initializers import Preset
from ..optim._arguments import acts_as_transformation
from ..optim._calls import ScheduleCall, TransformationCall
from ..optim._labels import Labels
from ..optim._parameters import Schedule, is_transformation
from ._array_fields import array_field
from ._filters_as_paths import labels_of
from ._named_values import (
    class_type,
    function_type,
    instance_type,
    registered_type,
    value_named,
)
from ._records import RecordField
from ._registry import format_names, near_hint, value_names, with_subclasses
from ._typed import (
    REGISTERED,
    TYPE,
    VALUE,
    is_record,
    name_of,
    named_classes,
    unwrapped,
)
from ._validated import by_tag, read_by, union_of, validated_by
from ._value_errors import value_error

_DTYPES: Final = frozenset(get_args(jax.typing.DTypeLike))
_STRICT: Final = (bool, int, float, str)
# Files have values of these classes themselves, of a tuple as a list: none is wrapped in a
# mapping that names its class.
_UNWRAPPED: Final = (*_STRICT, types.NoneType, tuple)

# Any, in this module: an annotation, and a type for pydantic, may be more than classes.


def configurable(annotation: Any, default: object = None) -> Any:
    """The type that pydantic validates for the annotation of a static field.

    For the fields of configs, and of records in them.

    Numbers and strings are not converted into each other, but a list is taken for a
    tuple, and an integer for a float.

    Args:
        annotation: Resolved; its metadata (`Annotated[int, Field(gt=0)]`) is kept.
        default: The field's default: a dtype that a file names is of the same form,
            `jnp.float32` or `np.dtype`.
    """
    annotation = unaliased(annotation)
    if annotation in _STRICT:
        strict: Any = annotation
        # Otherwise pydantic would take the text `3` for a number.
        return Annotated[strict, pydantic.Strict()]
    if _is_any(annotation):
        return _any_type(default)
    if isinstance(annotation, typing.NewType):
        return configurable(annotation.__supertype__, default)
    # Before generics, as `type[np.floating]` is a dtype here, and not a class.
    if _is_dtype(annotation):
        return _of_class(np.dtype, default)
    origin = get_origin(annotation)
    if origin is None:
        return _of_class(annotation, default)
    of_generic = _GENERICS.get(origin)
    if of_generic is None:
        return _of_class(origin, default)
    return of_generic(annotation, default)


def _is_any(annotation: Any) -> bool:
    """Whether an annotation admits all values (`Any`, `object`, a type variable), so that data must name its class."""
    is_variable = isinstance(annotation, TypeVar | typing_extensions.TypeVar)
    return is_variable or annotation in (Any, object)


def _is_dtype(annotation: Any) -> bool:
    """Whether an annotation is for dtypes: `np.dtype`, `DTypeLike`, `type[np.floating]` and the like.

    A file has the name of a dtype for each of them; as any other class, `type[np.floating]`
    would be the registered name of a class.
    """
    origin = get_origin(annotation) or annotation
    if origin is np.dtype or annotation is jax.typing.DTypeLike:
        return True
    if get_origin(annotation) is type:
        (cls,) = get_args(annotation)
        return isinstance(cls, type) and issubclass(cls, np.generic)
    return False


# Classes


def _of_class(cls: Any, default: object) -> Any:
    """The pydantic type for a class, by its static kind or as a registered value; what is no class pydantic reads."""
    if not isinstance(cls, type):
        return cls
    if cls in _PARAMETRIZED:
        return configurable(_PARAMETRIZED[cls])
    if is_transformation(cls):
        return _call_or_name(
            TransformationCall, acts_as_transformation, "transformation"
        )
    if cls is Schedule:
        return _call_or_name(ScheduleCall, callable, "schedule")
    if is_record(cls):
        return _record_of((cls,))
    if is_jaxtyping(cls) or cls in (jax.Array, np.ndarray):
        field = array_field(cls, default)
        return read_by(field.read, field.schema())
    form = match_kind(cls).data
    read = form.read if isinstance(form, DataForm) else None
    if isinstance(form, DataForm) and read is not None:
        target = Target(cls, default)
        return read_by(lambda data: read(data, target), form.schema(target))
    return cls if cls is types.NoneType else instance_type(cls)


_PARAMETRIZED: Final[Mapping[Any, Any]] = {
    type: type[object],
    tuple: tuple[Any, ...],
    frozenset: frozenset[Any],
}
"""What a class without parameters stands for."""


def _record_of(classes: tuple[Any, ...]) -> Any:
    """The pydantic type for a record of one of some classes: a mapping of fields, which may name the class."""
    field = RecordField(classes, configurable)
    return validated_by(field.read, field.schema())


def _call_or_name(call: Any, is_admitted: Callable[[Any], bool], what: str) -> Any:
    """The pydantic type of a field for an optax transformation or a schedule.

    A file gives the call of its factory (`TransformationCall`, `ScheduleCall`), or the
    name of a registered value.
    """

    def tag_of(data: Any) -> str:
        """The member that data is for, by which a fault is one of what was meant: `name` or `call`."""
        is_name = type(data) is str and data in value_names()
        # Already the value itself, not data from a file.
        is_live = is_admitted(data) and not isinstance(data, call)
        return "name" if is_name or is_live else "call"

    types = {"call": _record_of((call,)), "name": registered_type(is_admitted, what)}
    return by_tag(types, tag_of)


def _initializer() -> Any:
    """The pydantic type of an initialiser: its registered name, or the mapping of one with arguments (`Preset`)."""
    types = {
        "name": function_type(list(get_args(Initializer)[0])),
        "arguments": _record_of((Preset,)),
    }

    def tag_of(data: Any) -> str:
        """The member that data is for; the name of one that needs arguments is for the one that says so."""
        if isinstance(data, dict):
            return "name" if data.get(TYPE) == REGISTERED else "arguments"
        needs_arguments = (
            type(data) is str
            and data not in value_names()
            and data in [name_of(cls) for cls in with_subclasses((Preset,))]
        )
        return "arguments" if needs_arguments else "name"

    return by_tag(types, tag_of)


# Generics: each function takes an annotation and the default of the field.


def _annotated(annotation: Any, default: object) -> Any:
    """`Annotated[int, Field(gt=0)]`: the type of what it annotates, with constraints."""
    inner, *metadata = get_args(annotation)
    validated: Any = configurable(inner, default)
    # A text is for people, such as a unit; pydantic would not know what to do with it.
    constraints = [part for part in metadata if not isinstance(part, str)]
    return Annotated[(validated, *constraints)] if constraints else validated


def _final(annotation: Any, default: object) -> Any:
    """`Final[int]`: the type of what it wraps."""
    return configurable(get_args(annotation)[0], default)


def _literal(annotation: Any, default: object) -> Any:
    """`Literal[1, "a"]`: one of the options."""
    # Exactly the values: pydantic would take `true`, `1.0` and `"1"` for 1.
    options = get_args(annotation)
    read = functools.partial(read_option, options=options)
    return read_by(read, options_schema(options))


def _function(annotation: Any, default: object) -> Any:
    """`Callable[[X], Y]`: a registered function that takes as many arguments, or an initialiser."""
    if annotation == Initializer:
        return _initializer()
    parameters, *_ = get_args(annotation) or (...,)  # `typing.Callable` alone has none
    return function_type(parameters)


def _class(annotation: Any, default: object) -> Any:
    """`type[C]`: a registered class that extends another."""
    return class_type(get_args(annotation)[0])


def _labels(annotation: Any, default: object) -> Any:
    """`Labels[X]`: labels by filter, from a mapping."""
    label: Any = configurable(get_args(annotation)[0])

    def read(data: Any, read_rows: Callable[[Any], Any]) -> Labels[Any]:
        """The labels that a program gives, or those of a mapping, whose values pydantic reads first."""
        return data if isinstance(data, Labels) else labels_of(read_rows(data))

    rows: Any = dict  # of types that are values here
    return Annotated[rows[str, label], pydantic.WrapValidator(read)]


def _container(annotation: Any, default: object) -> Any:
    """`tuple[...]` or `frozenset[...]`: pydantic's own, of what its parameters stand for."""
    args = get_args(annotation)
    if not args:  # `tuple[()]`
        return annotation
    container: Any = get_origin(annotation)
    return container[tuple(arg if arg is ... else configurable(arg) for arg in args)]


def _union(annotation: Any, default: object) -> Any:
    """A union: all records in it are one member; of several members, values may name their class."""
    args = get_args(annotation)
    if set(args) >= _DTYPES:  # `DTypeLike | None` comes flattened
        others = [arg for arg in args if arg not in _DTYPES]
        return union_of([configurable(np.dtype, default), *others])
    records = tuple(arg for arg in args if is_record(arg))
    is_optional = len([arg for arg in args if arg is not types.NoneType]) <= 1
    type_of = configurable if is_optional else _member
    members: list[Any] = []
    for arg in args:
        if not is_record(arg):
            members.append(type_of(arg, default))
        # One member for all records, in the place of the first: it alone can find the
        # class that takes some fields.
        elif arg is records[0]:
            members.append(_record_of(records))
    union = union_of(members)
    return union if is_optional else _exact_first(union, args)


def _member(annotation: Any, default: object) -> Any:
    """The pydantic type of one of several types of a union, to which data alone may not show that it belongs.

    Where JSON has no type for it, a value may name its class.
    """
    member = configurable(annotation, default)
    cls = get_origin(annotation) or annotation
    if isinstance(cls, type) and cls not in _UNWRAPPED:
        return _or_typed(member, cls)
    return member


def _exact_first(union: Any, args: tuple[Any, ...]) -> Any:
    """A union of which a number or text in a file is preferably the member of that very class.

    pydantic alone would take an integer for an array of integers rather than for a
    float.
    """
    adapters: dict[type, Any] = {}
    for arg in args:
        cls = get_args(arg)[0] if get_origin(arg) is Annotated else arg
        if cls in _STRICT:
            # The first of several, which differ in constraints alone.
            adapters.setdefault(cls, pydantic.TypeAdapter(configurable(arg)))
    if not adapters:
        return union
    # An integer is a float where the union has no integers.
    if float in adapters:
        adapters.setdefault(int, adapters[float])

    def read(data: Any, read_any: Callable[[Any], Any]) -> Any:
        """The value of the member with the data's own class; if there is none, of any member."""
        adapter = adapters.get(type(data))
        if adapter is None:
            return read_any(data)
        try:
            return adapter.validate_python(data)
        except pydantic.ValidationError:
            # Of a constraint, which another member may not have.
            return read_any(data)

    return Annotated[union, pydantic.WrapValidator(read)]


_GENERICS: Final[Mapping[Any, Callable[[Any, object], Any]]] = {
    Annotated: _annotated,
    typing.Final: _final,
    Union: _union,
    types.UnionType: _union,
    Literal: _literal,
    typing_extensions.Literal: _literal,
    collections.abc.Callable: _function,
    type: _class,
    Labels: _labels,
    tuple: _container,
    frozenset: _container,
}
"""What makes the type of a generic annotation, by its origin. Other generics are taken for their class."""


# Values whose class the file names


def _any_type(default: object) -> Any:
    """The pydantic type for an annotation that admits all values.

    Registered names where the default is a function, data elsewhere.
    """
    # Where the default is a function, the values are functions, and a text is a name.
    if callable(default):
        return registered_type(_is_value, "value")
    return validated_by(_hashable, _HASHABLE)


def _any_schema() -> dict[str, Any]:
    """The definition of what `_hashable` reads: any JSON, where a mapping names its class."""
    types = ["array", "boolean", "null", "number", "object", "string"]
    names = sorted([REGISTERED, *named_classes()])
    # Which fields stand beside the class is left to `load`.
    mapping = {"required": [TYPE], "properties": {TYPE: {"enum": names}}}
    return {
        "type": types,
        "items": {DEFINED: _HASHABLE},
        "if": {"type": "object"},
        "then": mapping,
    }


_HASHABLE: Final[Defined] = Defined("data", "data", _any_schema)


def _hashable(data: Any) -> Any:
    """A value of a field of `Any`, from data: with tuples for lists, as what is static is hashed.

    A mapping names its class.
    """
    if isinstance(data, dict):
        return _of_named_class(data)
    # Exactly these classes: a named tuple that a program gives stays what it is.
    if isinstance(data, (list, tuple)) and type(data) in (list, tuple):
        return tuple(map(_hashable, data))
    return data


def _of_named_class(data: dict[str, Any]) -> Any:
    """The value of a mapping that names its class: `{type: bytes, value: abc}`, or the fields of a record beside it."""
    value = unwrapped(data, REGISTERED)
    if value is not data:
        return value_named(value, _is_value)
    if TYPE not in data:
        raise value_error(
            "a mapping says its class here, with `type`, as the field does not"
        )
    name, classes = data[TYPE], named_classes()
    cls = classes.get(name) if isinstance(name, str) else None
    if cls is None:
        names = f"one of {format_names(classes)}, or a class that gn.config.register has named"
        hint = near_hint(name, classes) or names
        raise value_error(f"unknown type {short(name)}", hint=hint)
    return _reader(cls)(data)


@functools.cache
def _reader(cls: Any) -> Callable[[Any], Any]:
    """The function that reads the mapping of a class that the file has named; made once for each class."""
    validated = configurable(cls)
    # A record has its class beside its fields, and needs no mapping around it.
    if not is_record(cls):
        validated = _or_typed(validated, cls)
    return pydantic.TypeAdapter(validated).validate_python


def _or_typed(inner: Any, cls: Any) -> Any:
    """The pydantic type of what `inner` reads, also in a mapping that names its class: `{type: Mode, value: fast}`."""
    name = name_of(cls)

    def unwrap(data: Any) -> Any:
        """The value of `{type: <name>, value: ...}`; other data itself. For pydantic, before it validates."""
        return unwrapped(data, name)

    return Annotated[inner, pydantic.BeforeValidator(unwrap), _TypedSchema(name)]


class _TypedSchema(NamedTuple):
    """The schema of a value that may name its class."""

    name: str

    def __get_pydantic_json_schema__(
        self, core_schema: Any, handler: Any
    ) -> Mapping[str, Any]:
        """What pydantic calls for metadata of a type: the schema of the value, or of a mapping around it."""
        inner = handler(core_schema)
        properties = {TYPE: {"const": self.name}, VALUE: inner}
        typed = {"type": "object", "properties": properties, "required": [TYPE, VALUE]}
        # One class may be read in several ways, by its default: compared as data.
        key = "typed", repr(typed)
        defined = Defined(f"{self.name}.typed", key, lambda: typed)
        return {"anyOf": [inner, {DEFINED: defined}]}


def _is_value(value: object) -> bool:
    """For `value_named`, where an annotation admits every registered value, as `Any` does."""
    return True
