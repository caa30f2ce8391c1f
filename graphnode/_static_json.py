"""Static values as JSON, exactly: `1`, `True` and `1.0` stay three values, and so do a tuple and a frozenset.

Data in: a static value. Data out: JSON's own values for `None`, booleans, numbers and strings; an object with one key,
which says the kind, for all else: `{"tuple": [1, 2]}`. Functions and classes are names in the table of registered
values, and nothing else: no text makes an import or a call.
"""

import base64
import dataclasses
import enum
import math
from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from ._names import VALUES, name_of
from ._static import StaticValueError, static_key

_MAX_LEVELS: Final = 64
_MAX_BITS: Final = 4_096
_DTYPES: Final[dict[str, Any]] = {
    dtype.name: dtype
    for dtype in (np.dtype(one.dtype) for one in vars(jnp).values() if isinstance(one, type(jnp.float32)))
}


_PARTITION_SPEC: Final[Any] = PartitionSpec  # JAX has no types for it


class JsonValueError(ValueError):
    """A value that has no JSON, or JSON that is no value; the text says why."""


def to_json(value: Any) -> Any:
    """A static value as JSON, of which `from_json` makes an equal one of the same type.

    Raises:
        JsonValueError: There is no such JSON.
    """
    data = _encoded(value, 0)
    if not _is_same(from_json(data), value):
        raise JsonValueError(f"a {type(value).__name__} would come back as another value")
    return data


def from_json(data: Any) -> Any:
    """The static value that JSON stands for.

    Raises:
        JsonValueError: It stands for none.
    """
    return _decoded(data, 0)


def _is_same(one: Any, other: Any) -> bool:
    try:
        return static_key(one) == static_key(other)
    except StaticValueError as error:
        raise JsonValueError(str(error)) from None


def _encoded(value: Any, level: int) -> Any:
    if level > _MAX_LEVELS:
        raise JsonValueError(f"nested more than {_MAX_LEVELS} levels deep")
    kind: Any = type(value)
    if kind is int and value.bit_length() > _MAX_BITS:
        raise JsonValueError(f"an integer of more than {_MAX_BITS:,} bits has no JSON")
    if value is None or kind in (bool, int, str):
        return value
    name = name_of(value)
    if name is not None:
        return {"name": name}
    if kind is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if kind in (tuple, frozenset, PartitionSpec):
        items = [_encoded(item, level + 1) for item in value]
        return {_KIND_NAMES[kind]: sorted(items, key=repr) if kind is frozenset else items}
    encode = next((encode for base, encode in _ENCODERS if isinstance(value, base)), None)
    if encode is not None:
        return encode(value, level + 1)
    if value is ...:
        return {"ellipsis": True}
    if isinstance(value, type(jnp.float32)):
        return {"jax_dtype": np.dtype(value.dtype).name}
    if isinstance(value, type) and issubclass(value, np.generic):
        return {"numpy_dtype": np.dtype(value).name}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if one.init}
        inner = {name: _encoded(held, level + 1) for name, held in fields.items()}
        return {"record": {"class": _registered(kind), "fields": inner}}
    shown = getattr(value, "__qualname__", None) or f"a {kind.__name__}"
    raise JsonValueError(f"{shown} has no name: register it with gn.config.register(name, value)")


def _registered(cls: type) -> str:
    name = name_of(cls)
    if name is None:
        told = "register it with gn.config.register(name, cls)"
        raise JsonValueError(f"the class {cls.__qualname__} has no name: {told}")
    return name


def _array(value: Any, level: int) -> Any:
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise JsonValueError("a random key has no JSON")
    kind = "jax" if isinstance(value, jax.Array) else "numpy" if isinstance(value, np.ndarray) else "scalar"
    content = np.asarray(value)
    if content.dtype.name not in _DTYPES:
        raise JsonValueError(f"an array of {content.dtype} has no JSON")
    if not content.dtype.isnative:
        raise JsonValueError(f"an array of {content.dtype} has no JSON: its bytes stand in another order")
    data = base64.b64encode(np.ascontiguousarray(content).astype(content.dtype.newbyteorder("<")).tobytes()).decode()
    return {"array": {"kind": kind, "dtype": content.dtype.name, "shape": list(content.shape), "data": data}}


_ENCODERS: Final[tuple[tuple[Any, Callable[[Any, int], Any]], ...]] = (
    (enum.Enum, lambda value, level: {"enum": {"class": _registered(type(value)), "member": value.name}}),
    (np.dtype, lambda value, level: {"dtype": value.name}),
    ((jax.Array, np.ndarray, np.generic), _array),
    (complex, lambda value, level: {"complex": [_encoded(value.real, level), _encoded(value.imag, level)]}),
    (bytes, lambda value, level: {"bytes": base64.b64encode(value).decode()}),
)
_KIND_NAMES: Final[dict[Any, str]] = {tuple: "tuple", frozenset: "frozenset", PartitionSpec: "partition_spec"}


def _decoded(data: Any, level: int) -> Any:
    if level > _MAX_LEVELS:
        raise JsonValueError(f"nested more than {_MAX_LEVELS} levels deep")
    if data is None or type(data) in (bool, int, float, str):
        return data
    if not isinstance(data, dict) or len(data) != 1:
        raise JsonValueError("a value is null, a boolean, a number, a string, or an object with one key")
    ((kind, held),) = data.items()
    decode = _DECODERS.get(kind)
    if decode is None:
        raise JsonValueError(f"no kind of value is named {kind[:40]!r}: one of {', '.join(sorted(_DECODERS))}")
    return decode(held, level + 1)


def _named(held: Any, level: int) -> Any:
    name = _of(str, held, "name")
    if name not in VALUES:
        raise JsonValueError(f"nothing is registered as {name[:40]!r}")
    return VALUES[name]


def _of(kind: Any, held: Any, what: str) -> Any:
    if not isinstance(held, kind) or (isinstance(held, bool) and kind is not bool):
        raise JsonValueError(f"{what} does not fit: {type(held).__name__}")
    return held


def _items(held: Any, level: int) -> list[Any]:
    return [_decoded(item, level) for item in _of(list, held, "a list of items")]


def _frozenset(held: Any, level: int) -> frozenset[Any]:
    try:
        return frozenset(_items(held, level))
    except TypeError as error:
        raise JsonValueError(f"frozenset: {error}") from None


def _float(held: Any, level: int) -> float:
    if held not in ("nan", "inf", "-inf"):
        raise JsonValueError("float is one of nan, inf, -inf; others are numbers")
    return float(held)


def _ellipsis(held: Any, level: int) -> Any:
    if held is not True:
        raise JsonValueError("ellipsis is true")
    return ...


def _complex(held: Any, level: int) -> complex:
    parts = _items(held, level)
    if len(parts) != 2 or any(type(part) is not float for part in parts):
        raise JsonValueError("complex is a list of two floats")
    return complex(*parts)


def _bytes(held: Any, level: int) -> bytes:
    try:
        return base64.b64decode(_of(str, held, "base64"), validate=True)
    except ValueError as error:
        raise JsonValueError(f"no base64: {error}") from None


def _dtype(held: Any, level: int) -> Any:
    name = _of(str, held, "dtype")
    if name not in _DTYPES:
        raise JsonValueError(f"{name[:40]!r} is no dtype")
    return _DTYPES[name]


def _jax_dtype(held: Any, level: int) -> Any:
    dtype = _dtype(held, level)
    found = [one for one in vars(jnp).values() if isinstance(one, type(jnp.float32)) and np.dtype(one.dtype) == dtype]
    return found[0]


def _array_of(held: Any, level: int) -> Any:
    parts = _parts(held, "array", ("kind", "dtype", "shape", "data"))
    dtype, shape = _dtype(parts["dtype"], level), _of(list, parts["shape"], "shape")
    if any(type(size) is not int or not 0 <= size < 2**48 for size in shape) or len(shape) > 32:
        raise JsonValueError("a shape is a list of sizes")
    content = _bytes(parts["data"], level)
    if math.prod(shape) * dtype.itemsize != len(content):
        raise JsonValueError(f"an array of shape {tuple(shape)} and {dtype} does not have {len(content):,} bytes")
    array = np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    if parts["kind"] == "scalar" and not shape:
        return array[()]
    if parts["kind"] == "numpy":
        array.flags.writeable = False
        return array
    if parts["kind"] != "jax":
        raise JsonValueError("the kind of an array is jax, numpy or scalar")
    made = jax.dtypes.canonicalize_dtype(dtype)
    if made != dtype:
        raise JsonValueError(f"a JAX array of {dtype} needs jax_enable_x64")
    return jnp.asarray(array)


def _parts(held: Any, what: str, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(held, dict) or set(held) != set(names):
        raise JsonValueError(f"{what} is an object of {', '.join(names)}")
    return held


def _class_of(held: Any, base: Callable[[Any], bool], what: str) -> Any:
    cls = _named(held, 0)
    if not isinstance(cls, type) or not base(cls):
        raise JsonValueError(f"{held[:40]!r} is no {what}")
    return cls


def _enum(held: Any, level: int) -> Any:
    parts = _parts(held, "enum", ("class", "member"))
    cls = _class_of(parts["class"], lambda cls: issubclass(cls, enum.Enum), "enum")
    member = _of(str, parts["member"], "member")
    if member not in cls.__members__:
        raise JsonValueError(f"{cls.__name__} has no member {member[:40]!r}")
    return cls.__members__[member]


def _record(held: Any, level: int) -> Any:
    parts = _parts(held, "record", ("class", "fields"))
    cls = _class_of(parts["class"], dataclasses.is_dataclass, "dataclass")
    given = {name: _decoded(one, level) for name, one in _of(dict, parts["fields"], "fields").items()}
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    if set(given) != set(known):
        raise JsonValueError(f"{cls.__name__} takes {', '.join(known)}")
    try:
        return cls(**given)
    except Exception as error:  # whatever the class raises that the text gives a value to
        raise JsonValueError(f"{cls.__name__}: {error}") from error


_DECODERS: Final[dict[str, Callable[[Any, int], Any]]] = {
    "array": _array_of,
    "bytes": _bytes,
    "complex": _complex,
    "dtype": _dtype,
    "ellipsis": _ellipsis,
    "enum": _enum,
    "float": _float,
    "frozenset": _frozenset,
    "jax_dtype": _jax_dtype,
    "name": _named,
    "numpy_dtype": lambda held, level: _dtype(held, level).type,
    "partition_spec": lambda held, level: _PARTITION_SPEC(*_items(held, level)),
    "record": _record,
    "tuple": lambda held, level: tuple(_items(held, level)),
}
