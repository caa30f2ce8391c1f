"""Dtypes in the three forms that JAX takes: `np.dtype("int8")`, `jnp.int8` and `np.int8`; and other classes."""

from collections.abc import Hashable
from typing import Any, Final, TypeAlias

import jax.numpy as jnp
import numpy as np

from .._hints import did_you_mean, short
from ._json_parts import TEXT_SCHEMA, part
from ._kind import (
    BY_NAME,
    DataForm,
    DataValueError,
    Defined,
    Json,
    JsonValueError,
    ReadPart,
    StaticKind,
    Target,
    WritePart,
    subclass_of,
    tagged,
)
from ._lookup import static_key
from ._object_key import object_key

# `jnp.float32` and its like, whose class JAX does not publish
_JaxDType: TypeAlias = Any
_JAX_DTYPE: Final[Any] = type(jnp.float32)
_IN_JAX: Final[list[_JaxDType]] = [
    value for value in vars(jnp).values() if isinstance(value, _JAX_DTYPE)
]

JAX_DTYPES: Final[dict[str, _JaxDType]] = {
    np.dtype(jax_dtype.dtype).name: jax_dtype for jax_dtype in _IN_JAX
}
DTYPES: Final[dict[str, Any]] = {
    name: np.dtype(jax_dtype.dtype) for name, jax_dtype in JAX_DTYPES.items()
}


# What JAX computes with. numpy reads far more as a dtype: "a", "i4,i4", null.
# fmt: off
DTYPE_NAMES: Final = (
    "bfloat16", "bool", "complex128", "complex64", "float16", "float32", "float4_e2m1fn", "float64", "float8_e3m4",
    "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
    "float8_e8m0fnu", "int16", "int2", "int32", "int4", "int64", "int8", "uint16", "uint2", "uint32", "uint4",
    "uint64", "uint8",
)
# fmt: on
_MAX_NAME: Final = 40
"""Of names that are compared: the time that takes grows with the square."""


def _dtype_name(data: Json) -> str:
    """The name of a dtype of a graphdef's JSON, checked to be one that JAX knows.

    `np.dtype` would read far more, such as lists of fields.
    """
    name = part(str, data, "dtype")
    if name not in DTYPES:
        raise JsonValueError(f"{name[:40]!r} is not a valid dtype")
    return name


def dtype_from_json(data: Json, read_part: ReadPart) -> Any:
    """The NumPy dtype of a name in the JSON of a graphdef."""
    return DTYPES[_dtype_name(data)]


def _dtype_key(value: Any) -> Hashable:
    """The key of a NumPy dtype: itself, with the metadata of it and of the dtypes inside of it.

    The metadata counts as NumPy's own `==` leaves it out, and a program can read it.
    """
    # To NumPy, dtypes are equal whose metadata, or whose fields' metadata, differ.
    if value.metadata is None and value.names is None and value.subdtype is None:
        return (type(value), value)
    metadata = [
        (static_key(name), static_key(note))
        for name, note in (value.metadata or {}).items()
    ]
    inner = [value.fields[name][0] for name in value.names or ()]
    inner += [value.subdtype[0]] if value.subdtype is not None else []
    return (type(value), value, frozenset(metadata), *map(_dtype_key, inner))


# In configuration files


def read_dtype(data: Json) -> Any:
    """The dtype that a configuration file names; a dtype that a program gives is left as it is.

    Raises:
        DataValueError: The data is not the name of a dtype that JAX computes with.
    """
    if isinstance(data, str) and data in DTYPE_NAMES:
        return jnp.dtype(data)
    # Of a file, only names count: NumPy reads nearly anything as a dtype.
    is_data = data is None or isinstance(data, (str, int, float, list, tuple, dict))
    if is_data or not _is_dtype(data):
        hint = (
            did_you_mean(data, DTYPE_NAMES, longest=_MAX_NAME)
            or "such as float32, bfloat16 or int32"
        )
        raise DataValueError(f"{short(data)} is not a valid dtype; {hint}")
    return data


def _is_dtype(value: Any) -> bool:
    """Whether JAX takes a value for a dtype: to tell `jnp.int8` from classes and data that mean something else."""
    try:
        jnp.dtype(value)
    except (
        TypeError,
        ValueError,
    ):  # the second of a class with an attribute `dtype` of its own
        return False
    return True


def _dtype_from_data(data: Json, target: Target) -> Any:
    """The dtype that a file names, in the form that the default of its field has."""
    dtype = read_dtype(data)
    # `jnp.float32` and `np.dtype("float32")` are two static values: a name is of the
    # form that the default has.
    if isinstance(data, str) and isinstance(target.default, type):
        return getattr(jnp, dtype.name, dtype)
    return dtype


def _dtype_to_data(value: Any, write_part: WritePart) -> Json:
    """The name of a dtype, for a file.

    Raises:
        DataValueError: The name would not say all of it.
    """
    dtype = jnp.dtype(value)
    # What `np.dtype(">f4")`, or one with metadata, has beside its name would be lost.
    if static_key(dtype) != static_key(DTYPES.get(dtype.name)):
        raise DataValueError(
            f"the dtype {dtype!r} does not stand in a file, which names those that JAX computes with"
        )
    return str(dtype.name)


def _class_to_data(value: type, write_part: WritePart) -> Json:
    """For a config file: the name of the dtype that a class stands for; any other class has only a registered name."""
    # To NumPy, any class it does not know is that of objects.
    if not _is_dtype(value) or jnp.dtype(value).hasobject:
        raise DataValueError(BY_NAME.fault(value.__qualname__))
    return _dtype_to_data(value, write_part)


DTYPE: Final = Defined(
    "dtype",
    "dtype",
    lambda: {"enum": list(DTYPE_NAMES), "description": "The name of a dtype."},
)
DTYPE_DATA: Final = DataForm[Any](
    _dtype_to_data, _dtype_from_data, lambda target: DTYPE
)


# As JSON


def _class_to_json(value: type, write_part: WritePart) -> Json:
    """The name of the dtype of a class of NumPy scalars, for the JSON of a graphdef."""
    if not issubclass(value, np.generic):
        raise JsonValueError(BY_NAME.fault(value.__qualname__))
    return np.dtype(value).name


DTYPE_KINDS: Final[tuple[StaticKind[Any], ...]] = (
    StaticKind[Any](
        name="dtype",
        matches=subclass_of(np.dtype),
        key=_dtype_key,
        is_annotation=True,
        json=tagged(
            "dtype", lambda value, write_part: value.name, dtype_from_json, TEXT_SCHEMA
        ),
        data=DTYPE_DATA,
        type_names={"dtype": np.dtype},
    ),
    StaticKind[_JaxDType](
        name="dtype of JAX",
        classes=(_JAX_DTYPE,),
        key=object_key,
        json=tagged(
            "jax_dtype",
            lambda value, write_part: np.dtype(value.dtype).name,
            lambda data, read_part: JAX_DTYPES[_dtype_name(data)],
            TEXT_SCHEMA,
        ),
        data=DTYPE_DATA,
    ),
    StaticKind[type](
        name="class",
        classes=(type,),
        matches=subclass_of(type),
        key=object_key,
        is_annotation=True,
        json=tagged(
            "numpy_dtype",
            _class_to_json,
            lambda data, read_part: dtype_from_json(data, read_part).type,
            TEXT_SCHEMA,
        ),
        data=DataForm(_class_to_data),
    ),
)
