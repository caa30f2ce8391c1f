"""One leaf of a value as a manifest describes it: an array, a random key, a number.

    jnp.ones((2, 3))        {"shape": [2, 3], "dtype": "float32"}      in the store
    jax.random.key(0)       {"shape": [], "key": "threefry2x32"}       its data in the store
    jnp.zeros((0, 3))       {"shape": [0, 3], "dtype": "float32"}      there is nothing to store
    3                       {"int": 3}                                 in the manifest itself

A file is data from a stranger: `leaf_from_json` checks all that it reads.
"""

import base64
import dataclasses
import math
import struct
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import Tracer
from .._describe import describe
from .._hints import with_article

_NAMES: Final = (
    *("bool", "int2", "int4", "int8", "int16", "int32", "int64"),
    *("uint2", "uint4", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    *("float4_e2m1fn", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    "float8_e8m0fnu",
)
# Other names are refused: `np.dtype` evaluates what it gets.
DTYPES: Final[dict[str, np.dtype[Any]]] = {
    name: np.dtype(getattr(jnp, f"{name}_" if name == "bool" else name))
    for name in _NAMES
    if hasattr(jnp, name)
}
# The store does not know them: their bytes are stored.
AS_BYTES: Final = frozenset(["uint2", "uint4", "float8_e4m3"])

_MAX_SIZE: Final = 2**62
_MAX_AXES: Final = 64
_MAX_BITS: Final = 2**20

ARRAY: Final = "array"
KEY: Final = "key"
NUMPY: Final = "numpy"
NUMPY_SCALAR: Final = "numpy scalar"
_NUMBERS: Final = {"bool": bool, "int": int, "float": float, "complex": complex}
_TEXTS: Final = {"str": str, "bytes": bytes}


class UnsavableError(Exception):
    """A value has no place in a checkpoint; the text says why. Raised and caught within `checkpoint`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Leaf:
    """What a manifest says of one leaf.

    Attributes:
        kind: `array` (of JAX), `key`, `numpy`, `numpy scalar`, or the name of the type
            of a number or text.
        shape: Of an array; of keys without the axis of their data.
        dtype: The name of the dtype, or of the implementation of keys.
        weak: Whether the dtype is weak, so that it gives way to others.
        data: A number or text itself.
        checksum: The CRC-32 of the bytes of an array; `None` where no process has all.
    """

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    weak: bool = False
    data: bool | int | float | complex | str | bytes | None = None
    checksum: int | None = None

    @property
    def is_array(self) -> bool:
        """Whether it is an array, of JAX or NumPy, or keys, rather than a number or text."""
        return self.kind in (ARRAY, KEY, NUMPY, NUMPY_SCALAR)

    @property
    def is_stored(self) -> bool:
        """Whether the store has its bytes; else the manifest says all."""
        return self.is_array and math.prod(self.shape) > 0

    def __str__(self) -> str:
        axes = f"[{','.join(map(str, self.shape))}]"
        if self.kind == KEY:
            return f"key<{self.dtype}>{axes}"
        if not self.is_array:
            return with_article(self.kind)
        prefix = "" if self.kind == ARRAY else "numpy "
        return f"{prefix}{self.dtype}{axes}"


# Any: whatever somebody has put into a State.
def leaf_of(value: Any) -> Leaf:
    """The description of a leaf, without its checksum.

    Raises:
        UnsavableError: It is neither an array nor a number nor a text.
    """
    if isinstance(value, Tracer):
        raise UnsavableError(f"{describe(value)} has no value yet")
    if isinstance(value, jax.Array | jax.ShapeDtypeStruct):
        return _leaf_of_array(value)
    if isinstance(value, np.ndarray | np.generic):
        return _leaf_of_numpy(value)
    kind = type(value).__name__
    # By exact type: a subclass would come back as something else.
    if _NUMBERS.get(kind) is type(value) or _TEXTS.get(kind) is type(value):
        number: Any = value
        return Leaf(kind, data=number)
    raise UnsavableError(
        f"a checkpoint holds arrays and numbers; found {describe(value)}"
    )


def _leaf_of_array(value: "jax.Array | jax.ShapeDtypeStruct") -> Leaf:
    """For `leaf_of`: the description of an array of JAX, or of what stands for one."""
    weak = bool(getattr(value, "weak_type", False))
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return Leaf(KEY, value.shape, implementation_of(value.dtype))
    name = str(value.dtype)
    if name not in DTYPES:
        raise UnsavableError(f"a checkpoint holds no arrays of dtype {name}")
    return Leaf(ARRAY, value.shape, name, weak)


def implementation_of(dtype: Any) -> str:
    """The name of the implementation of a dtype of random keys, such as `threefry2x32`."""
    # Public functions take keys alone, and there may be none yet.
    return str(dtype._impl.name)


def _leaf_of_numpy(value: "np.ndarray[Any, np.dtype[Any]] | np.generic") -> Leaf:
    """For `leaf_of`: the description of an array or scalar of NumPy."""
    name = str(value.dtype.newbyteorder("="))
    is_plain = type(value) is np.ndarray or isinstance(value, np.generic)
    if name not in DTYPES or not is_plain:
        raise UnsavableError(
            f"a checkpoint holds arrays and numbers; found {describe(value)}"
        )
    kind = NUMPY if isinstance(value, np.ndarray) else NUMPY_SCALAR
    return Leaf(kind, value.shape, name)


def leaf_to_json(leaf: Leaf) -> dict[str, Any]:
    """A leaf as the manifest has it; `leaf_from_json` is the inverse."""
    if not leaf.is_array:
        return {leaf.kind: _data_to_json(leaf.data)}
    data: dict[str, Any] = {"shape": leaf.shape}
    data["key" if leaf.kind == KEY else "dtype"] = leaf.dtype
    if leaf.weak:
        data["weak"] = True
    if leaf.kind in (NUMPY, NUMPY_SCALAR):
        data["of"] = leaf.kind
    if leaf.checksum is not None:
        data["crc32"] = leaf.checksum
    return data


def _data_to_json(data: Any) -> Any:
    """For `leaf_to_json`: a number or text, so that it comes back to the bit."""
    if isinstance(data, complex):
        return [_data_to_json(data.real), _data_to_json(data.imag)]
    if isinstance(data, bytes):
        return base64.b64encode(data).decode()
    # JSON has no NaN, which has a payload besides, and no infinity.
    if isinstance(data, float) and not math.isfinite(data):
        return struct.pack(">d", data).hex()
    # Other programs read integers as floats of 53 bits.
    if isinstance(data, int) and not isinstance(data, bool) and abs(data) >= 2**53:
        return hex(data)
    return data


def leaf_from_json(data: Any) -> Leaf:
    """The leaf that a part of a manifest describes.

    Raises:
        ValueError: It describes none; the text says why.
    """
    if not isinstance(data, dict):
        raise ValueError("a leaf is an object")
    if "shape" in data:
        return _array_from_json(data)
    if len(data) == 1:
        ((kind, content),) = data.items()
        if kind in _NUMBERS or kind in _TEXTS:
            return Leaf(kind, data=_data_from_json(kind, content))
    raise ValueError("a leaf has a shape and a dtype or key, or is a number or text")


def _array_from_json(data: dict[str, Any]) -> Leaf:
    """For `leaf_from_json`: the description of an array or of keys."""
    shape, checksum, kind = data["shape"], data.get("crc32"), data.get("of", ARRAY)
    unknown = data.keys() - {"shape", "dtype", "key", "weak", "of", "crc32"}
    if unknown or ("dtype" in data) is ("key" in data):
        raise ValueError("an array has shape, dtype or key, weak, of and crc32")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("a shape is a list of sizes")
    if len(shape) > _MAX_AXES or math.prod(n for n in shape if n) > _MAX_SIZE:
        raise ValueError("no array is so large")
    if checksum is not None and (type(checksum) is not int or checksum >> 32):
        raise ValueError("crc32 is a number of 32 bits")
    if kind not in (ARRAY, NUMPY, NUMPY_SCALAR) or data.get("weak", True) is not True:
        raise ValueError("of is numpy or numpy scalar, and weak is true")
    name = data.get("key", data.get("dtype"))
    if "key" in data:
        if not isinstance(name, str) or kind != ARRAY or "weak" in data:
            raise ValueError("key is the name of an implementation of random keys")
        return Leaf(KEY, tuple(shape), name, checksum=checksum)
    if not isinstance(name, str) or name not in DTYPES:
        raise ValueError("not a valid dtype")
    if kind == NUMPY_SCALAR and shape:
        raise ValueError("a scalar has no axes")
    return Leaf(kind, tuple(shape), name, "weak" in data, checksum=checksum)


def _data_from_json(kind: str, content: Any) -> Any:
    """For `leaf_from_json`: a number or text of a kind.

    Raises:
        ValueError: The content does not stand for one.
    """
    if kind == "complex":
        if not isinstance(content, list) or len(content) != 2:
            raise ValueError("a complex number has two parts")
        return complex(*[_data_from_json("float", part) for part in content])
    if kind == "bytes" and isinstance(content, str):
        return base64.b64decode(content, validate=True)
    if kind == "float" and isinstance(content, str) and len(content) == 16:
        return struct.unpack(">d", bytes.fromhex(content))[0]
    if kind == "int" and isinstance(content, str) and len(content) < _MAX_BITS // 4:
        return int(content, 16)
    expected = _NUMBERS.get(kind, _TEXTS.get(kind))
    if type(content) is not expected:
        raise ValueError(f"not a valid {kind}")
    return content
