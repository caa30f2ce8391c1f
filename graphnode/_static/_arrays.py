"""Arrays of NumPy and JAX as static values: compared by content, and read-only."""

import hashlib
import math
import re
import weakref
from collections.abc import Hashable, Mapping
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ._attributes import attributes_key, attributes_of, check_no_attributes
from ._dtypes import DTYPE, DTYPES, dtype_from_json, read_dtype
from ._json_parts import (
    BASE64_SCHEMA,
    TEXT_SCHEMA,
    base64_bytes,
    base64_text,
    members,
    part,
)
from ._kind import (
    DEFINED,
    DataForm,
    DataValueError,
    Defined,
    Json,
    JsonForm,
    JsonValueError,
    ReadPart,
    StaticKind,
    StaticValueError,
    Target,
    WritePart,
    subclass_of,
)
from ._lookup import static_key
from ._scalars import COMPLEX_SCHEMA, complex_from_data

Array: TypeAlias = Any  # of either library, or a scalar of NumPy
_NumpyArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]

# The keys of read-only arrays, by their ids, each with a reference to its array.
_DIGESTS: dict[int, tuple["weakref.ref[Any]", Hashable]] = {}


def _array_key(array: Array) -> Hashable:
    """The key of an array: its nature (see `_nature`), dtype, shape, and a digest of its bytes.

    Asked at every visit of a node that has the array, so that read-only ones are hashed
    once.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise StaticValueError(
            "a masked array cannot be static: JAX has none; hold data and mask in two fields"
        )
    # An array that nobody can write to is hashed once. By id, as arrays have no hash; the
    # weak reference shows whether the id is still that of the array.
    ref, cached = _DIGESTS.get(id(array), (None, None))
    if ref is not None and ref() is array:
        return cached
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        raise StaticValueError(
            "an array with parts in other processes cannot be static, as its content is not "
            "known here: hold it in a State"
        )
    # A key array has no bytes of its own; its data are integers.
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        dtype: Hashable = str(array.dtype)
        content = np.asarray(jax.random.key_data(array))
    else:
        content = np.asarray(array)
        check_bytes(content)
        dtype = static_key(content.dtype)
    # A cryptographic digest: a collision would give two models one compiled program.
    digest = hashlib.sha256(np.ascontiguousarray(content).tobytes()).digest()
    key = (*_nature(array), dtype, array.shape, digest)
    if isinstance(array, jax.Array) or _is_read_only(array):
        at = id(array)
        # The callback removes the entry with its array, before the id can be given
        # again.
        _DIGESTS[at] = (weakref.ref(array, lambda _: _DIGESTS.pop(at, None)), key)
    return key


def _nature(array: Array) -> tuple[Hashable, ...]:
    """The properties in which two arrays of the same content may differ.

    For `_array_key`: the bytes are the same for an array and an `np.matrix`, or for one
    on another device, and a program that was compiled for one is wrong for the other.
    """
    if not isinstance(array, jax.Array):
        cls: type = type(array)
        return (cls, attributes_key(array))  # an `np.matrix` multiplies differently
    # A weakly typed array takes the dtype of the other operand. One that was put on
    # devices cannot be combined with those on others.
    return (jax.Array, array.aval.weak_type, _placement(array))


def _placement(array: Array) -> Hashable:
    """The sharding of an array that was put on devices; `None` for one that JAX moves to where it is needed.

    For keys, and to refuse such an array in files: they could not say which devices.
    """
    if not isinstance(array, jax.Array):
        return None
    is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    numbers: Array = jax.random.key_data(array) if is_key else array
    return numbers.sharding if numbers.committed else None


def check_bytes(content: Array) -> None:
    """Raise if the bytes of an array or scalar, which its key is made of, are not its content.

    Raises:
        StaticValueError: They are pointers.
    """
    if not content.dtype.hasobject:  # also true for NumPy's strings of any length
        return
    raise StaticValueError(
        f"an array of {content.dtype} cannot be static, as its bytes are pointers to what it holds: write its items as "
        "a tuple, tuple(array.ravel().tolist())"
    )


def _read_only(array: Array) -> Array:
    """The array that a node keeps: itself if nobody can write to it, else a copy, as its key must stay true."""
    if not isinstance(array, np.ndarray) or _is_read_only(array):
        return array  # those of JAX always are
    copy = array.copy()
    # A subclass may copy some of its attributes itself.
    attributes, copied = attributes_of(array), attributes_of(copy)
    for name in attributes.keys() - copied.keys():
        setattr(copy, name, attributes[name])
    copy.flags.writeable = False
    return copy


def _is_read_only(array: _NumpyArray) -> bool:
    """Whether nobody can write to an array's memory, not even through the array that it is a view of.

    Only such an array is kept without a copy, and hashed but once.
    """
    base = array.base
    if array.flags.writeable:
        return False
    # An array over foreign memory may be changed by whoever owns that.
    return base is None or (isinstance(base, np.ndarray) and _is_read_only(base))


# As JSON

_UNPLACED: Final = (
    "give jnp.asarray(np.asarray(array)), and lay it out where it is used"
)


def _array_to_json(value: Array, write_part: WritePart) -> Json:
    """An array in the JSON of a graphdef: kind, dtype, shape, and its bytes, so that it comes back exactly."""
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise JsonValueError("a random key has no JSON")
    if _placement(value) is not None:
        raise JsonValueError(
            f"an array that was put on devices has no JSON: {_UNPLACED}"
        )
    content = np.asarray(value)
    if content.dtype.name not in DTYPES:
        raise JsonValueError(f"an array of {content.dtype} has no JSON")
    if not content.dtype.isnative:
        raise JsonValueError(
            f"an array of {content.dtype} has no JSON: its bytes stand in another order"
        )
    # In one order of bytes, whatever the machine.
    little_endian = content.dtype.newbyteorder("<")
    data = np.ascontiguousarray(content).astype(little_endian).tobytes()
    parts = {
        "kind": _kind_name(value),
        "dtype": content.dtype.name,
        "shape": list(content.shape),
        "data": base64_text(data),
    }
    return {"array": parts}


def _kind_name(value: Array) -> str:
    """Which of the three forms of an array comes back: of JAX, of NumPy, or a scalar of NumPy.

    It stands in the JSON, so that `_array_from_json` gives back the same form.
    """
    if isinstance(value, jax.Array):
        return "jax"
    return "numpy" if isinstance(value, np.ndarray) else "scalar"


def _array_from_json(data: Json, read_part: ReadPart) -> Array:
    """The array that `_array_to_json` has written, with every part checked, as a file may say anything."""
    parts = members(data, "array", ("kind", "dtype", "shape", "data"))
    dtype = dtype_from_json(parts["dtype"], read_part)
    shape: list[Json] = part(list, parts["shape"], "shape")
    # Bounded, as a file may have any numbers here, and these are multiplied.
    if len(shape) > 32 or not all(
        type(size) is int and 0 <= size < 2**48 for size in shape
    ):
        raise JsonValueError("a shape is a list of sizes")
    content = base64_bytes(parts["data"])
    if math.prod(shape) * dtype.itemsize != len(content):
        raise JsonValueError(
            f"an array of shape {tuple(shape)} and {dtype} does not have {len(content):,} bytes"
        )
    # `astype` copies: the memory of `frombuffer` is that of the bytes.
    array = np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    if parts["kind"] == "scalar" and not shape:
        return array[()]
    if parts["kind"] == "numpy":
        array.flags.writeable = False
        return array
    if parts["kind"] != "jax":
        raise JsonValueError("the kind of an array is jax, numpy or scalar")
    # JAX would silently make a float32 of a float64.
    canonical = jax.dtypes.canonicalize_dtype(dtype)
    if canonical != dtype:
        raise JsonValueError(f"a JAX array of {dtype} needs jax_enable_x64")
    return jnp.asarray(array)


_ARRAY_SCHEMA: Final[Mapping[str, Json]] = {
    "type": "object",
    "required": ["kind", "dtype", "shape", "data"],
    "additionalProperties": False,
    "properties": {
        "kind": {"enum": ["jax", "numpy", "scalar"]},
        "dtype": TEXT_SCHEMA,
        "shape": {"type": "array", "items": {"$ref": "#/$defs/index"}},
        "data": {"description": "Little-endian, row by row.", **BASE64_SCHEMA},
    },
}
# Scalars of NumPy share it: they are arrays without axes.
ARRAY_JSON: Final = JsonForm[Array](
    _array_to_json, "array", _array_from_json, _ARRAY_SCHEMA
)


# In configuration files


def _array_to_data(value: Array, write_part: WritePart) -> Json:
    """An array for a configuration file: its dtype, and its numbers in nested lists."""
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise DataValueError(
            "a random key does not stand in a file: register it with gn.config.register(name, value)"
        )
    if _placement(value) is not None:
        raise DataValueError(
            f"an array that was put on devices does not stand in a file: {_UNPLACED}"
        )
    check_no_attributes(value)
    array = np.asarray(value)
    if array.dtype.kind == "c":  # files have no complex numbers
        array = np.vectorize(str, otypes=[object])(array)
    # Of an array without numbers, nested lists do not say all sizes.
    shape: dict[str, Json] = {} if array.size else {"shape": list(array.shape)}
    return {
        "dtype": str(value.dtype),
        **shape,
        "data": array.tolist() if array.size else [],
    }


def _array_from_data(data: Json, target: Target) -> Array:
    """The array that a configuration file gives: numbers in nested lists, perhaps with dtype and shape."""
    # A program may give the array itself, as a default or an override.
    if isinstance(data, jax.Array | np.ndarray):
        return _read_only(data)
    fields: dict[str, Json] = data if isinstance(data, dict) else {"data": data}
    others = [key for key in fields if key not in ("data", "dtype", "shape")]
    if others:
        raise DataValueError(f"an array has no {others[0]!r}: data, dtype and shape")
    dtype = _dtype_of(fields["dtype"]) if "dtype" in fields else None
    array = _numpy_from_data(fields, dtype)
    if issubclass(target.cls, np.ndarray):
        return _read_only(array)
    if dtype is not None and jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise DataValueError(f"a JAX array of {dtype} needs jax_enable_x64")
    # `_check_fits` finds what does not fit.
    with np.errstate(over="ignore", invalid="ignore"):
        canonical = array.astype(jax.dtypes.canonicalize_dtype(array.dtype))
    _check_fits(array, canonical)
    return jnp.asarray(canonical)


def _numpy_from_data(fields: Mapping[str, Json], dtype: Any) -> _NumpyArray:
    """The NumPy array of numbers in nested lists, which `_array_from_data` then turns into the annotated form.

    Args:
        fields: The parts that the file gives: data, and perhaps the shape.
        dtype: The dtype that it gives; `None` where NumPy finds one.

    Raises:
        DataValueError: They are no numbers, or do not fit into the dtype or the shape.
    """
    content = fields.get("data")
    try:
        if dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating):
            content = _complex_items(content)
        # `_check_fits` tells of an overflow, with the number.
        with np.errstate(over="ignore", invalid="ignore"):
            array = np.asarray(content, dtype)
        if "shape" in fields:
            array = array.reshape(_checked_sizes(fields["shape"]))
    except (TypeError, ValueError, OverflowError) as error:
        raise DataValueError(f"no array: {error}") from None
    # NumPy would make a number of a string, and NaN of `None`, where a dtype is given.
    is_scalar_text = content is None or isinstance(content, str)
    if is_scalar_text or array.dtype.kind not in "biufcV":
        raise DataValueError("an array is a list of numbers, nested by axis")
    _check_fits(np.asarray(content), array)
    return array


def _check_fits(numbers: _NumpyArray, array: _NumpyArray) -> None:
    """Raise if numbers have changed in an array of another dtype, apart from the rounding of floats.

    Without it, integers that are too large would silently become others, and such
    floats infinity.

    Raises:
        DataValueError: Names the first that does not fit.
    """
    numbers, array = np.ravel(numbers), np.ravel(array)
    is_exact = array.dtype.kind in "biu"
    lost = numbers != array if is_exact else np.isfinite(numbers) & ~np.isfinite(array)
    if np.any(lost):
        raise DataValueError(
            f"{numbers[np.argmax(lost)]} does not fit into {array.dtype}"
        )


def _dtype_of(data: Json) -> Any:
    """The dtype that a file gives for an array: its name, or such as `>f4` for another order of bytes."""
    is_ordered = isinstance(data, str) and re.fullmatch(r"[<>][biufc][0-9]{1,2}", data)
    return np.dtype(data) if is_ordered else read_dtype(data)


def _complex_items(data: Json) -> Json:
    """Numbers in nested lists, those in strings such as `1+2j` as complex ones: files have no others."""
    if isinstance(data, list):
        return [_complex_items(item) for item in data]
    return complex_from_data(data)


def _checked_sizes(data: Json) -> list[int]:
    """The shape that a file gives, checked to be a list of sizes.

    NumPy's own `reshape` would take -1, too, for a size that follows from the others.
    """
    if not isinstance(data, list) or any(
        type(size) is not int or size < 0 for size in data
    ):
        raise ValueError("its shape is a list of sizes")
    return data


def _numbers_schema() -> Mapping[str, Json]:
    """The JSON Schema of numbers nested by axis, of which complex ones are strings.

    For `data` beside a `dtype`, which may say that strings are complex numbers.
    """
    return {
        **COMPLEX_SCHEMA,
        "type": ["number", "boolean", "array", "string"],
        "items": {DEFINED: _NUMBERS},
    }


def _plain_numbers_schema() -> Mapping[str, Json]:
    """The JSON Schema of real numbers nested by axis.

    For an array without a `dtype` beside it: nothing says there that a string is a
    number.
    """
    return {"type": ["number", "boolean", "array"], "items": {DEFINED: _PLAIN_NUMBERS}}


def _array_schema() -> Mapping[str, Json]:
    """The JSON Schema of an array in a configuration file."""
    return {
        "type": ["number", "boolean", "array", "object"],
        "description": "Numbers, nested by axis; or these as `data`, with a `dtype`.",
        # Texts are complex numbers, where the dtype says so
        "items": {DEFINED: _PLAIN_NUMBERS},
        "properties": {
            "data": {DEFINED: _NUMBERS},
            "dtype": _ARRAY_DTYPE,
            "shape": _SHAPE,
        },
        "required": ["data"],
    }


_ARRAY_DTYPE: Final[Json] = {
    "anyOf": [
        {DEFINED: DTYPE},
        {"type": "string", "pattern": "^[<>][biufc][0-9]{1,2}$"},
    ]
}
_SHAPE: Final[Json] = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_NUMBERS: Final = Defined("numbers", "numbers", _numbers_schema)
_PLAIN_NUMBERS: Final = Defined("plain_numbers", "plain_numbers", _plain_numbers_schema)
_ARRAY: Final = Defined("array", "array", _array_schema)


ARRAY: Final = StaticKind[Array](
    name="array",
    classes=(np.ndarray,),
    matches=subclass_of(jax.Array, np.ndarray),
    key=_array_key,
    read_only=_read_only,
    json=ARRAY_JSON,
    data=DataForm(_array_to_data, _array_from_data, lambda target: _ARRAY),
    type_names={"array": jax.Array, "ndarray": np.ndarray},
)
