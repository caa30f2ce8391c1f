"""Static values in files: what pydantic validates for an annotation, and the plain data that a value is written as.

Data in: a resolved annotation of a static field, or a static value. Data out: a type for a pydantic model, or data of
strings, numbers, lists and dicts. How values of one class stand in a file is known to the table of static kinds; here
is what an annotation adds: what is in a tuple, which values a `Literal` or a union admits, the fields of a record.
"""

import collections.abc
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin

import jax
import numpy as np
import pydantic
import typing_extensions
from pydantic_core import PydanticCustomError

from .._annotations import unaliased
from .._contract import is_jaxtyping
from .._hints import short
from .._static import (
    DEFINED,
    ByName,
    DataForm,
    DataValueError,
    Defined,
    ExpectedError,
    Target,
    kind_of,
    match_kind,
    options_schema,
    read_option,
    registered_name,
)
from ._registry import NameError_, shown, value_names, value_of

_DTYPES: Final = frozenset(get_args(jax.typing.DTypeLike))
_STRICT: Final = (bool, int, float, str)
_FORBID: Final = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

_Schema: TypeAlias = Mapping[str, Any]


def _validated(check: Callable[[Any], Any], schema: _Schema | Defined) -> Any:
    metadata = schema if isinstance(schema, Defined) else pydantic.WithJsonSchema(dict(schema))
    return Annotated[Any, pydantic.PlainValidator(check), metadata]


def _checked(read: Callable[[Any], Any], schema: _Schema | Defined) -> Any:
    """What a function of the table of static kinds reads."""

    def check(data: Any) -> Any:
        try:
            return read(data)
        except ExpectedError as error:
            code = "literal_error" if error.has_options else "wrong_form"
            raise PydanticCustomError(code, "Input should be {expected}", {"expected": error.expected}) from None
        except DataValueError as error:
            raise PydanticCustomError("wrong_value", "{text}", {"text": str(error)}) from None

    return _validated(check, schema)


def configurable(annotation: Any, default: object = None) -> Any:
    """The type that pydantic validates for the annotation of a static field.

    Numbers and strings are not converted into each other, but a list is taken for a tuple, and an integer for a float.

    Args:
        annotation: Resolved; its metadata (`Annotated[int, Field(gt=0)]`) is kept.
        default: The field's default: a dtype that a file names is of the same form, `jnp.float32` or `np.dtype`.
    """
    meant = unaliased(annotation)
    if meant is not annotation:
        return configurable(meant, default)
    if annotation in _STRICT:
        return Annotated[annotation, pydantic.Strict()]
    if annotation in (Any, object) or isinstance(annotation, TypeVar | typing_extensions.TypeVar):
        return _registered(_is_value, "value") if callable(default) else _validated(_hashable, _HASHABLE)
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
        return _function(args[0])
    if origin is type:
        return _registered_class(_bound(args[0]))
    if origin in (tuple, frozenset):
        items = tuple(arg if arg is ... else configurable(arg) for arg in args)
        container: Any = origin
        return container[items] if items else annotation
    return _of_class(origin, default)


def _registered_class(bound: type) -> Any:
    return _registered(lambda value: isinstance(value, type) and issubclass(value, bound), "class", bound)


_HASHABLE: Final[Defined] = Defined(
    "data", "data", lambda: {"type": ["array", "boolean", "null", "number", "string"], "items": {DEFINED: _HASHABLE}}
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


def _of_class(cls: Any, default: object) -> Any:
    if cls is type:
        return _registered_class(object)
    if not isinstance(cls, type):
        return cls
    if dataclasses.is_dataclass(cls):
        model = Defined(cls.__name__, ("record", cls), functools.partial(_model_of, cls))
        return _validated(functools.partial(_record, cls=cls), model)
    wanted: Any = jax.Array if is_jaxtyping(cls) else cls
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
        if type(given) is str:  # one of a subclass is a value that a program gives
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
    return _checked(functools.partial(read_option, options=options), options_schema(options))


def _is_dtype(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    if origin is np.dtype or annotation is jax.typing.DTypeLike:
        return True
    if get_origin(annotation) is type:
        (of,) = get_args(annotation)
        return isinstance(of, type) and issubclass(of, np.generic)
    return False


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


def _record(given: Any, cls: Any) -> Any:
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


def plain(value: Any) -> Any:
    """A static value as data for a file: strings, numbers, lists and dicts. `configurable` reads it back.

    Raises:
        DataValueError: No file can say it.
    """
    if isinstance(value, list):  # what a tuple may be given as
        return [plain(item) for item in value]
    form = kind_of(value).data
    is_own = isinstance(form, DataForm) and form.is_own
    name = None if is_own else registered_name(value)
    if name is not None:
        return name
    if isinstance(form, ByName):
        raise DataValueError(form.fault(getattr(value, "__qualname__", None) or repr(value)))
    return form.write(value, plain)
