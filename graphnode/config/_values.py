"""Static values in files: what pydantic validates for an annotation, and the plain data that a value is written as.

Data in: a resolved annotation of a static field, or a static value. Data out: a type for a pydantic model, or data of
strings, numbers, lists and dicts. Functions and classes are names in the registry, dtypes are their own names.
"""

import collections.abc
import dataclasses
import enum
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Hashable
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import typing_extensions
from pydantic_core import PydanticCustomError

from .._contract import is_jaxtyping
from .._names import name_of
from ._places import short
from ._registry import NameError_, near_hint, shown, value_names, value_of

_DTYPES: Final = frozenset(get_args(jax.typing.DTypeLike))
_STRICT: Final = (bool, int, float, str)
_FORBID: Final = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

# What JAX computes with. numpy reads far more as a dtype: "a", "i4,i4", null.
# fmt: off
_DTYPE_NAMES: Final = (
    "bfloat16", "bool", "complex128", "complex64", "float16", "float32", "float4_e2m1fn", "float64", "float8_e3m4",
    "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
    "float8_e8m0fnu", "int16", "int2", "int32", "int4", "int64", "int8", "uint16", "uint2", "uint32", "uint4",
    "uint64", "uint8",
)
# fmt: on
_NUMBER: Final = r"(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|inf|nan)"
_COMPLEX: Final = rf"^\(?[-+]?{_NUMBER}(?:j|[-+]{_NUMBER}j)?\)?$"

MARK: Final = "x-graphnode"
"""The key under which a JSON Schema of pydantic holds a `Defined`."""


class Defined(NamedTuple):
    """Metadata of a type: what a JSON Schema says of its values, for pydantic knows nothing of our validators.

    Attributes:
        name: Of the definition, if it is free.
        key: What tells it from other definitions.
        make: Gives the schema, or the model of a record; called when it is needed, as names are registered later.
    """

    name: str
    key: Hashable
    make: Callable[[], dict[str, Any] | type[pydantic.BaseModel]]

    def __get_pydantic_json_schema__(self, core_schema: object, handler: object) -> dict[str, Any]:
        return {MARK: self}


def _validated(check: Callable[[Any], Any], said: "Defined | pydantic.WithJsonSchema") -> Any:
    return Annotated[Any, pydantic.PlainValidator(check), said]


def configurable(annotation: Any, default: object = None) -> Any:
    """The type that pydantic validates for the annotation of a static field.

    Numbers and strings are not converted into each other, but a list is taken for a tuple, and an integer for a float.

    Args:
        annotation: Resolved; its metadata (`Annotated[int, Field(gt=0)]`) is kept.
        default: The field's default: a dtype that a file names is of the same form, `jnp.float32` or `np.dtype`.
    """
    if annotation in _STRICT:
        return Annotated[annotation, pydantic.Strict()]
    if annotation in (Any, object) or isinstance(annotation, TypeVar | typing_extensions.TypeVar):
        return _registered(_is_value, "value") if callable(default) else _validated(_hashable, _HASHABLE)
    if isinstance(annotation, typing.NewType):
        return configurable(annotation.__supertype__, default)
    if isinstance(annotation, typing_extensions.TypeAliasType):
        return configurable(annotation.__value__, default)
    if _is_dtype(annotation):
        return _validated(functools.partial(_dtype, default=default), _DTYPE)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is None:
        return _of_class(annotation)
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
        return _function(args[0])
    if origin is type:
        return _registered_class(_bound(args[0]))
    if origin in (tuple, frozenset):
        items = tuple(arg if arg is ... else configurable(arg) for arg in args)
        container: Any = origin
        return container[items] if items else annotation
    return _of_class(origin)


def _registered_class(bound: type) -> Any:
    return _registered(lambda value: isinstance(value, type) and issubclass(value, bound), "class", bound)


_HASHABLE: Final[Defined] = Defined(
    "data", "data", lambda: {"type": ["array", "boolean", "null", "number", "string"], "items": {MARK: _HASHABLE}}
)


def _hashable(given: Any) -> Any:
    """A value with tuples in place of lists: static values are part of the structure."""
    if isinstance(given, dict):
        text = "no mapping stands here: the field says not of which class it is"
        raise PydanticCustomError("wrong_value", "{text}", {"text": text})
    return tuple(map(_hashable, given)) if isinstance(given, (list, tuple)) and type(given) in (list, tuple) else given


def _bound(annotation: Any) -> type:
    return annotation if isinstance(annotation, type) else object


def _union(args: tuple[Any, ...], default: object) -> Any:
    union: Any = Union  # of types that are values here
    if set(args) >= _DTYPES:  # `DTypeLike | None` comes flattened
        rest = tuple(arg for arg in args if arg not in _DTYPES)
        validated = configurable(np.dtype, default)
        return union[(validated, *rest)] if rest else validated
    return union[tuple(configurable(arg, default) for arg in args)]


def _of_class(cls: Any) -> Any:
    if cls is type:
        return _registered_class(object)
    if not isinstance(cls, type):
        return cls
    if is_jaxtyping(cls) or issubclass(cls, jax.Array | np.ndarray):
        family = np.ndarray if not is_jaxtyping(cls) and issubclass(cls, np.ndarray) else jax.Array
        return _validated(functools.partial(_array, family=family), _ARRAY)
    if dataclasses.is_dataclass(cls):
        said = Defined(cls.__name__, ("record", cls), functools.partial(_model_of, cls))
        return _validated(functools.partial(_dataclass, cls=cls), said)
    if issubclass(cls, enum.Enum):
        return _one_of(tuple(cls))
    if issubclass(cls, complex):
        return _validated(_complex, pydantic.WithJsonSchema(_COMPLEX_SCHEMA))
    if issubclass(cls, bytes | type(None)):
        return cls
    if getattr(cls, "_is_protocol", False) or cls is collections.abc.Callable:
        return _registered(callable, "function")
    wanted: Any = cls
    return _registered(lambda value: isinstance(value, wanted), wanted.__name__, wanted)


def _function(parameters: Any) -> Any:
    """A function that takes as many arguments as its type says: an initialiser is no activation."""
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


def _registered(is_admitted: Callable[[Any], bool], what: str, of: type = object) -> Any:
    """A value that a file gives by its name in the registry, and a program as it is.

    Args:
        is_admitted: Whether the annotation admits a value.
        what: How messages call such a value.
        of: The class of the values, where `what` does not say it.
    """

    def find(given: Any) -> Any:
        value = given
        if isinstance(given, str):
            try:
                value = value_of(given)
            except NameError_ as error:
                admitted = (name for name in value_names() if is_admitted(value_of(name)))
                hint = "" if "did you mean" in str(error) else f"; known are {shown(admitted)}"
                raise PydanticCustomError("unknown_name", "{text}", {"text": f"{error}{hint}"}) from None
        if not is_admitted(value):
            text = f"{short(given)} is no {what}: register one with gn.config.register(name, value)"
            raise PydanticCustomError("wrong_value", "{text}", {"text": text})
        return value

    # What the schema admits is asked of the same function, at the time when it is made.
    def said() -> dict[str, Any]:
        names = sorted(name for name in value_names() if is_admitted(value_of(name)))
        made: dict[str, Any] = {"description": f"The name of a registered {what}.", "enum": names}
        others = [kind for kind, sample in _SAMPLES.items() if is_admitted(sample)]
        return {"anyOf": [made, {"type": others}]} if others else made

    return _validated(find, Defined(what.replace(" ", "_"), ("registered", what, of), said))


_SAMPLES: Final[dict[str, Any]] = {"null": None, "boolean": True, "number": 1.5, "array": [], "object": {}}


def _is_value(value: object) -> bool:
    return True


def _one_of(options: tuple[Any, ...]) -> Any:
    """One of some values, which a file gives exactly: pydantic would take `true`, `1.0` and `"1"` for 1."""
    said = [_said(option) for option in options]
    expected = " or ".join(", ".join(map(repr, said)).rsplit(", ", 1))

    def find(given: Any) -> Any:
        for option, value in zip(options, said, strict=True):
            if given is option or (type(given) is type(value) and given == value):
                return option
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})

    return _validated(find, pydantic.WithJsonSchema({"enum": said}))


def _said(option: Any) -> Any:
    """What a file says for an option: its value, or the name of an enum's member whose value is no plain one."""
    if not isinstance(option, enum.Enum):
        return option
    return option.value if option.value is None or isinstance(option.value, _STRICT) else option.name


def _is_dtype(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    if origin is np.dtype or annotation is jax.typing.DTypeLike:
        return True
    if get_origin(annotation) is type:
        (of,) = get_args(annotation)
        return isinstance(of, type) and issubclass(of, np.generic)
    return isinstance(origin, type) and issubclass(origin, np.generic)


def _dtype(given: Any, default: object) -> Any:
    is_named = isinstance(given, str) and given in _DTYPE_NAMES
    try:
        if not is_named and (given is None or isinstance(given, (str, int, float, list, tuple, dict))):
            raise TypeError
        dtype = jnp.dtype(given)
    except TypeError:
        hint = near_hint(given, _DTYPE_NAMES)
        text = f"{short(given)} is no dtype{hint or '; such as float32, bfloat16 or int32'}"
        raise PydanticCustomError("unknown_dtype", "{text}", {"text": text}) from None
    if not is_named:
        return given
    # `jnp.float32` and `np.dtype("float32")` are two static values.
    if default is not None and not isinstance(default, np.dtype):
        return getattr(jnp, dtype.name, dtype)
    return dtype


_DTYPE: Final = Defined("dtype", "dtype", lambda: {"enum": list(_DTYPE_NAMES), "description": "The name of a dtype."})


def _array(given: Any, family: type) -> Any:
    if isinstance(given, jax.Array | np.ndarray):
        return given
    said = given if isinstance(given, dict) else {"data": given}
    others = [key for key in said if key not in ("data", "dtype")]
    if others:
        raise PydanticCustomError("wrong_array", "{text}", {"text": f"an array has no {others[0]!r}: data and dtype"})
    data = said.get("data")
    dtype = _dtype(said["dtype"], None) if "dtype" in said else None
    try:
        made = np.asarray(data, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise PydanticCustomError("wrong_array", "{text}", {"text": f"no array: {error}"}) from None
    if isinstance(data, str) or made.dtype.kind not in "biufcV" or data is None:
        raise PydanticCustomError("wrong_array", "{text}", {"text": "an array is a list of numbers, nested by axis"})
    return made if family is np.ndarray else jnp.asarray(made)


_NUMBERS: Final[Defined] = Defined(
    "numbers", "numbers", lambda: {"type": ["number", "boolean", "array"], "items": {MARK: _NUMBERS}}
)
_ARRAY: Final = Defined(
    "array",
    "array",
    lambda: {
        "type": ["number", "boolean", "array", "object"],
        "description": "Numbers, nested by axis; or these as `data`, with a `dtype`.",
        "items": {MARK: _NUMBERS},
        "properties": {"data": {MARK: _NUMBERS}, "dtype": {MARK: _DTYPE}},
        "required": ["data"],
    },
)


_COMPLEX_SCHEMA: Final[dict[str, Any]] = {
    "type": ["number", "string"],
    "pattern": _COMPLEX,
    "description": "A number, or such as `1+2j`.",
}


def _complex(given: Any) -> complex:
    is_number = isinstance(given, int | float | complex) and not isinstance(given, bool)
    if not is_number and not (isinstance(given, str) and re.fullmatch(_COMPLEX, given)):
        raise PydanticCustomError("wrong_complex", "Input should be a number, or such as '1+2j'")
    return complex(given)


@functools.cache
def _model_of(cls: Any) -> type[pydantic.BaseModel]:
    """A model of the fields of a plain dataclass."""
    hints = typing_extensions.get_type_hints(cls, include_extras=True)
    definitions: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        default: Any = ...
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = pydantic.Field(default_factory=field.default_factory)
        definitions[field.name] = (configurable(hints[field.name], default), default)
    return pydantic.create_model(cls.__name__, __config__=_FORBID, __doc__=cls.__doc__, **definitions)


def _dataclass(given: Any, cls: Any) -> Any:
    if isinstance(given, cls):
        return given
    if not isinstance(given, dict):
        raise PydanticCustomError("wrong_record", "{text}", {"text": f"the fields of {cls.__name__} are expected here"})
    try:
        made = _model_of(cls).model_validate(given)
        return cls(**{name: getattr(made, name) for name in type(made).model_fields})
    except pydantic.ValidationError as error:
        faults = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False)[:10]]
        text = f"{cls.__name__}: {'; '.join(faults)}"
    except Exception as error:  # whatever the class raises that the file gives a value to
        text = f"{cls.__name__}: {error}"
    raise PydanticCustomError("wrong_record", "{text}", {"text": text})


class Unwritable(ValueError):
    """A static value that no file can say; the text says why."""


def plain(value: Any) -> Any:
    """A static value as data for a file: strings, numbers, lists and dicts. `configurable` reads it back.

    Raises:
        Unwritable: No file can say it.
    """
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)):
        return value
    name = name_of(value)
    if name is not None:
        return name
    if isinstance(value, enum.Enum):
        return _said(value)
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, frozenset):
        return sorted((plain(item) for item in value), key=lambda item: (str(type(item)), str(item)))
    if isinstance(value, complex):
        return str(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, jax.Array | np.ndarray):
        return {"dtype": str(value.dtype), "data": np.asarray(value).tolist()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if not callable(value) or isinstance(value, type) or hasattr(value, "dtype"):
        try:
            return str(jnp.dtype(cast("Any", value)).name)
        except TypeError:
            pass  # no dtype either
    shown_as = getattr(value, "__qualname__", None) or repr(value)
    raise Unwritable(f"{shown_as} has no name: register it with gn.config.register(name, value)")
