"""Static values in files: what pydantic validates for an annotation, and the plain data that a value is written as.

Data in: a resolved annotation of a static field, or a static value. Data out: a type for a pydantic model, or data of
strings, numbers, lists and dicts. Functions and classes are names in the registry, dtypes are their own names.
"""

import collections.abc
import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import typing_extensions
from pydantic_core import PydanticCustomError

from .._contract import is_jaxtyping
from .._names import name_of
from ._places import short
from ._registry import NameError_, did_you_mean, shown, value_names, value_of

_DTYPES: Final = frozenset(get_args(jax.typing.DTypeLike))
_STRICT: Final = (bool, int, float, str)
_FORBID: Final = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())


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
        anything = Annotated[Any, pydantic.PlainValidator(_hashable)]
        return _registered(lambda value: True, "value") if callable(default) else anything
    if isinstance(annotation, typing.NewType):
        return configurable(annotation.__supertype__, default)
    if isinstance(annotation, typing_extensions.TypeAliasType):
        return configurable(annotation.__value__, default)
    if _is_dtype(annotation):
        return Annotated[Any, pydantic.PlainValidator(functools.partial(_dtype, default=default))]
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
        return annotation
    if origin is collections.abc.Callable:
        return _registered(callable, "function")
    if origin is type:
        return _registered(lambda value: isinstance(value, type) and issubclass(value, _bound(args[0])), "class")
    if origin in (tuple, frozenset):
        items = tuple(arg if arg is ... else configurable(arg) for arg in args)
        generic: Any = origin
        return generic[items] if items else annotation
    return _of_class(origin)


def _hashable(given: Any) -> Any:
    """A value with tuples in place of lists: static values are part of the structure."""
    if isinstance(given, dict):
        text = "no mapping stands here: the field says not of which class it is"
        raise PydanticCustomError("wrong_value", "{text}", {"text": text})
    return tuple(map(_hashable, given)) if isinstance(given, list | tuple) and type(given) in (list, tuple) else given


def _bound(annotation: Any) -> type:
    return annotation if isinstance(annotation, type) else object


def _union(args: tuple[Any, ...], default: object) -> Any:
    if set(args) >= _DTYPES:  # `DTypeLike | None` comes flattened
        rest = tuple(arg for arg in args if arg not in _DTYPES)
        validated = configurable(np.dtype, default)
        return Union[(validated, *rest)] if rest else validated
    return Union[tuple(configurable(arg, default) for arg in args)]  # noqa: UP007


def _of_class(cls: Any) -> Any:
    if cls is type:
        return _registered(lambda value: isinstance(value, type), "class")
    if not isinstance(cls, type):
        return cls
    if is_jaxtyping(cls) or issubclass(cls, jax.Array | np.ndarray):
        family = np.ndarray if not is_jaxtyping(cls) and issubclass(cls, np.ndarray) else jax.Array
        return Annotated[Any, pydantic.PlainValidator(functools.partial(_array, family=family))]
    if dataclasses.is_dataclass(cls):
        return Annotated[Any, pydantic.PlainValidator(functools.partial(_dataclass, cls=cls))]
    if issubclass(cls, enum.Enum | complex | bytes | type(None)):
        return cls
    if getattr(cls, "_is_protocol", False) or cls is collections.abc.Callable:
        return _registered(callable, "function")
    return _registered(lambda value: isinstance(value, cls), cls.__name__)


def _registered(is_admitted: Callable[[Any], bool], what: str) -> Any:
    """A value that a file gives by its name in the registry, and a program as it is."""

    def find(given: Any) -> Any:
        value = given
        if isinstance(given, str):
            try:
                value = value_of(given)
            except NameError_ as error:
                hint = "" if "did you mean" in str(error) else f"; known are {shown(value_names())}"
                raise PydanticCustomError("unknown_name", "{text}", {"text": f"{error}{hint}"}) from None
        if not is_admitted(value):
            text = f"{short(given)} is no {what}: register one with gn.config.register(name, value)"
            raise PydanticCustomError("wrong_value", "{text}", {"text": text})
        return value

    schema = {"type": "string", "description": f"The name of a registered {what}."}
    return Annotated[Any, pydantic.PlainValidator(find), pydantic.WithJsonSchema(schema)]


def _is_dtype(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    if origin is np.dtype or annotation is jax.typing.DTypeLike:
        return True
    if get_origin(annotation) is type:
        (of,) = get_args(annotation)
        return isinstance(of, type) and issubclass(of, np.generic)
    return isinstance(origin, type) and issubclass(origin, np.generic)


# NumPy takes much more for a dtype: `None`, a list of fields, a text that is parsed.
_DTYPE_NAMES: Final[dict[str, Any]] = {
    dtype.name: dtype
    for dtype in (np.dtype(one.dtype) for one in vars(jnp).values() if isinstance(one, type(jnp.float32)))
}


def _is_dtype_like(given: object) -> bool:
    """Whether a program gave a dtype in one of its forms: never what a file can say."""
    if given is None or isinstance(given, str | int | float | list | tuple | dict):
        return False
    try:
        jnp.dtype(given)  # type: ignore[call-overload]
    except TypeError:
        return False
    return True


def _dtype(given: Any, default: object) -> Any:
    dtype = _DTYPE_NAMES.get(given) if isinstance(given, str) else None
    if dtype is None:
        if _is_dtype_like(given):
            return given
        hint = did_you_mean(given, _DTYPE_NAMES)
        text = f"{short(given)} is no dtype{hint or '; such as float32, bfloat16 or int32'}"
        raise PydanticCustomError("unknown_dtype", "{text}", {"text": text})
    # `jnp.float32` and `np.dtype("float32")` are two static values.
    if default is not None and not isinstance(default, np.dtype):
        return getattr(jnp, dtype.name, dtype)
    return dtype


def _array(given: Any, family: type) -> Any:
    if isinstance(given, jax.Array | np.ndarray):
        return given
    data, dtype = (given.get("data"), given.get("dtype")) if isinstance(given, dict) else (given, None)
    try:
        made = np.asarray(data, None if dtype is None else _dtype(dtype, np.dtype(bool)))
    except (TypeError, ValueError, OverflowError) as error:
        raise PydanticCustomError("wrong_array", "{text}", {"text": f"no array: {error}"}) from None
    if made.dtype.kind not in "biufcV" or data is None:
        raise PydanticCustomError("wrong_array", "{text}", {"text": "an array is a list of numbers, nested by axis"})
    return made if family is np.ndarray else jnp.asarray(made)


@functools.cache
def _model_of(cls: type) -> type[pydantic.BaseModel]:
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
    return pydantic.create_model(cls.__name__, __config__=_FORBID, **definitions)


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
        return value.value
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
