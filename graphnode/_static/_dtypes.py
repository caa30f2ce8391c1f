"""Dtypes in the three forms that JAX takes: `np.dtype("int8")`, `jnp.int8` and `np.int8`; and other classes."""

from typing import Any, Final, TypeAlias

import jax.numpy as jnp
import numpy as np

from ._json_parts import TEXT_SCHEMA, part
from ._kind import BY_NAME, Json, JsonValueError, ReadPart, StaticKind, WritePart, subclass_of, tagged
from ._object_key import object_key

_JaxDType: TypeAlias = Any  # `jnp.float32` and its like, whose class JAX does not publish
_JAX_DTYPE: Final[Any] = type(jnp.float32)
_IN_JAX: Final[list[_JaxDType]] = [value for value in vars(jnp).values() if isinstance(value, _JAX_DTYPE)]

JAX_DTYPES: Final[dict[str, _JaxDType]] = {np.dtype(jax_dtype.dtype).name: jax_dtype for jax_dtype in _IN_JAX}
DTYPES: Final[dict[str, Any]] = {name: np.dtype(jax_dtype.dtype) for name, jax_dtype in JAX_DTYPES.items()}


def _dtype_name(data: Json) -> str:
    name = part(str, data, "dtype")
    if name not in DTYPES:
        raise JsonValueError(f"{name[:40]!r} is no dtype")
    return name


def dtype_from_json(data: Json, read_part: ReadPart) -> Any:
    """The NumPy dtype of a name."""
    return DTYPES[_dtype_name(data)]


def _class_to_json(value: type, write_part: WritePart) -> Json:
    if not issubclass(value, np.generic):
        raise JsonValueError(BY_NAME.fault(value.__qualname__))
    return np.dtype(value).name


DTYPE_KINDS: Final[tuple[StaticKind[Any], ...]] = (
    StaticKind[Any](
        name="dtype",
        matches=subclass_of(np.dtype),
        key=object_key,
        is_annotation=True,
        json=tagged("dtype", lambda value, write_part: value.name, dtype_from_json, TEXT_SCHEMA),
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
    ),
)
