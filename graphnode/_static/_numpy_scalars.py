"""Scalars of NumPy, such as `np.float32(1.5)`: in graphdefs arrays without axes, in configuration files numbers."""

import math
from collections.abc import Hashable, Mapping
from typing import Any, Final, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._hints import short
from ._arrays import ARRAY_JSON, Array, check_bytes
from ._attributes import attributes_key
from ._dtypes import DTYPES
from ._kind import (
    DataForm,
    DataValueError,
    ExpectedError,
    Json,
    StaticKind,
    Target,
    WritePart,
    subclass_of,
)
from ._lookup import static_key
from ._scalars import COMPLEX_SCHEMA, complex_from_data

# Those that say the dtype: not `np.floating`.
_SCALAR_CLASSES: Final = frozenset([dtype.type for dtype in DTYPES.values()])


class _Numbers(NamedTuple):
    """What a scalar of some dtype is in a file."""

    base: Any
    classes: Any
    expected: str
    schema: Mapping[str, Json]


_NUMBERS_OF: Final = (
    _Numbers(np.bool_, bool, "a boolean", {"type": "boolean"}),
    _Numbers(jnp.integer, int, "an integer", {"type": "integer"}),
    _Numbers(jnp.floating, int | float, "a number", {"type": "number"}),
    _Numbers(
        jnp.complexfloating,
        int | float | complex,
        "a number, or such as '1+2j'",
        COMPLEX_SCHEMA,
    ),
)


def _numbers_of(cls: Any) -> _Numbers | None:
    """What a file gives for the scalars of a class; `None` if it does not say the dtype, as `np.floating`."""
    if cls not in _SCALAR_CLASSES:
        return None
    return next(numbers for numbers in _NUMBERS_OF if jnp.issubdtype(cls, numbers.base))


def _scalar_key(value: Array) -> Hashable:
    """The key of a scalar of NumPy: class, dtype, bytes and attributes."""
    check_bytes(value)
    return (
        type(value),
        static_key(value.dtype),
        # By bytes: a NaN does not equal itself, and 0.0 equals -0.0.
        value.tobytes(),
        *attributes_key(value),
    )


def _scalar_to_data(value: Array, write_part: WritePart) -> Json:
    """A scalar of NumPy as the number of Python; its dtype is in the annotation."""
    if type(value) not in _SCALAR_CLASSES:
        raise DataValueError(f"a scalar of {value.dtype} does not stand in a file")
    return write_part(value.item())


def _scalar_from_data(data: Json, target: Target) -> Array:
    """The scalar of the annotated class that a number stands for.

    Raises:
        DataValueError: The class does not say the dtype, or the number does not fit into it.
    """
    if isinstance(data, target.cls):
        return data
    numbers = _numbers_of(target.cls)
    if numbers is None:
        raise DataValueError(
            f"a file does not say which {target.cls.__name__} is meant: annotate such as np.float32"
        )
    if numbers.base is jnp.complexfloating:
        return target.cls(complex_from_data(data))
    # To Python a boolean is an integer; to a file it is not.
    if not isinstance(data, numbers.classes) or (
        isinstance(data, bool) and numbers.classes is not bool
    ):
        raise ExpectedError(numbers.expected)
    if not _fits(target.cls, data):
        raise DataValueError(f"{short(data)} does not fit into {target.cls.__name__}")
    return target.cls(data)


def _fits(cls: Any, data: int | float) -> bool:
    """Whether a number stays what it is, but for the rounding of a float: NumPy would make a large one infinity."""
    if cls is np.bool_:
        return True
    is_integer = jnp.issubdtype(cls, jnp.integer)
    # Any: JAX has no types for them.
    limits_of: Any = jnp.iinfo if is_integer else jnp.finfo
    limits = limits_of(cls)
    if is_integer:
        return bool(limits.min <= data <= limits.max)
    # Also of an integer that no float holds, which `math.isfinite` refuses.
    return not float(limits.max) < abs(data) < math.inf


def _scalar_schema(target: Target) -> Mapping[str, Json]:
    """The JSON Schema of what `_scalar_from_data` takes; one that admits nothing if the class says no dtype."""
    numbers = _numbers_of(target.cls)
    return {"not": {}} if numbers is None else numbers.schema


_NAMED: Final = (
    *(np.bool_, np.int8, np.int16, np.int32, np.int64),
    *(np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.float16, np.float32, np.float64, np.complex64, np.complex128),
)

NUMPY_SCALAR: Final = StaticKind[Array](
    name="scalar of NumPy",
    matches=subclass_of(np.generic),
    key=_scalar_key,
    is_annotation=True,
    json=ARRAY_JSON,
    data=DataForm(_scalar_to_data, _scalar_from_data, _scalar_schema),
    type_names={cls.__name__: cls for cls in _NAMED},
)
