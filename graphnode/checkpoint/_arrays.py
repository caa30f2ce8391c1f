"""Arrays as the store has them, and back: keys as their data, bytes that it does not know, checksums.

The store notices a flipped bit in its own files, and not in those of the arrays: so the
manifest has a checksum of each.
"""

import math
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from .._compat import alias_of, unplaced, weakly_typed
from ._leaf import ARRAY, AS_BYTES, DTYPES, KEY, NUMPY, NUMPY_SCALAR, Leaf
from ._orbax import wanted_numpy


# Any: an array of JAX or NumPy.
def to_store(leaf: Leaf, value: Any) -> Any:
    """An array as the store takes it."""
    if leaf.dtype in AS_BYTES:
        return _on_host(value).reshape(leaf.shape)
    if isinstance(value, jax.Array):
        return jax.random.key_data(value) if leaf.kind == KEY else value
    # A copy of what its owner may write to while the store writes it to the disk.
    return np.array(value)


def checksums_of(arrays: Mapping[str, Any]) -> dict[str, int | None]:
    """The CRC-32 of the bytes of arrays, as the store has them; `None` for one that no process has whole.

    Of large ones several are looked at together, by threads.
    """
    sizes = {name: array.size * array.dtype.itemsize for name, array in arrays.items()}
    large = [name for name, size in sizes.items() if size > _LARGE]
    sums = {name: _checksum(arrays[name]) for name in arrays if sizes[name] <= _LARGE}
    if large:
        with ThreadPoolExecutor() as threads:
            results = threads.map(_checksum, [arrays[name] for name in large])
            sums.update(zip(large, results, strict=True))
    return sums


def _checksum(array: Any) -> int | None:
    """For `checksums_of`: that of one array."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return None
    return zlib.crc32(_on_host(array).data)


def _on_host(array: Any) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The bytes of an array in the order of its items, as one row."""
    # An alias, as the array itself would keep the copy, and could not be donated.
    host = np.asarray(alias_of(array) if isinstance(array, jax.Array) else array)
    row = np.ascontiguousarray(host, host.dtype.newbyteorder("=")).reshape(-1)
    return row.view(np.uint8)


# Threads are worth it from here on.
_LARGE: Final = 2**20
# A small array takes half the time by way of NumPy, and of a large one that is a copy.
_SMALL: Final = 2**18


# Any: a shape and dtype, as `_orbax.read` takes it.
def to_read(leaf: Leaf, sharding: Sharding | None) -> Any:
    """What the store is asked for."""
    shape, dtype = leaf.shape, DTYPES.get(leaf.dtype)
    if leaf.kind == KEY:
        shape, dtype = (*shape, *_key_shape(leaf.dtype)), np.dtype(np.uint32)
    assert dtype is not None  # another one is refused where the manifest is read
    if leaf.dtype in AS_BYTES:
        return wanted_numpy(shape, np.dtype(np.uint8))
    is_spread = sharding is not None and len(sharding.device_set) > 1
    is_large = leaf.kind == ARRAY and math.prod(shape) * dtype.itemsize > _SMALL
    if not is_spread and not is_large:
        return wanted_numpy(shape, dtype)
    if sharding is None:
        sharding = jnp.zeros(()).sharding  # that of new arrays
    # Of random keys the data have an axis more, which is whole on each device.
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)  # type: ignore[no-untyped-call]


def _key_shape(implementation: str) -> tuple[int, ...]:
    """The shape of the data of one key of an implementation."""
    key = jax.eval_shape(
        lambda: jax.random.key_data(jax.random.key(0, impl=implementation))
    )
    return tuple(key.shape)


def fault_of(leaf: Leaf) -> str | None:
    """Why this program cannot hold what a file describes, or `None`."""
    if leaf.kind == KEY:
        try:
            _key_shape(leaf.dtype)
        except ValueError:
            return f"there are no random keys of the implementation {leaf.dtype!r}"
        return None
    if leaf.kind != ARRAY:
        return None
    dtype = DTYPES[leaf.dtype]
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        return f"JAX would turn {leaf.dtype} into {jax.dtypes.canonicalize_dtype(dtype)}: enable jax_enable_x64"
    return None


class CorruptError(Exception):
    """An array is not what was saved; the text says how. Raised and caught within `checkpoint`."""


def from_store(
    leaf: Leaf, array: Any, checksum: int | None, sharding: Sharding | None
) -> Any:
    """The value that a leaf of a manifest describes.

    Args:
        leaf: The description.
        array: What the store has given; `None` for a leaf that is not stored.
        checksum: That of the array.
        sharding: Where an array of JAX is to be; `None` for where JAX puts new ones.

    Raises:
        CorruptError: The array is another one.
    """
    if not leaf.is_array:
        return leaf.data
    if leaf.is_stored:
        _check(leaf, array, checksum)
    else:
        array = _empty(leaf)
    if leaf.dtype in AS_BYTES and leaf.is_stored:
        array = array.view(DTYPES[leaf.dtype])
    if leaf.kind == NUMPY:
        return array
    if leaf.kind == NUMPY_SCALAR:
        return array[()]
    if leaf.kind == KEY:
        keys = jax.random.wrap_key_data(jnp.asarray(array), impl=leaf.dtype)
        return keys if sharding is None else jax.device_put(keys, sharding)
    if isinstance(array, jax.Array):
        array = array if sharding is not None else unplaced(array)
    else:
        array = (
            jnp.asarray(array) if sharding is None else jax.device_put(array, sharding)
        )
    return weakly_typed(array) if leaf.weak else array


def _check(leaf: Leaf, array: Any, checksum: int | None) -> None:
    """For `from_store`: raise if an array that was read is not what the manifest says."""
    expected: Any = to_read(leaf, None)
    if not isinstance(array, jax.Array | np.ndarray) or (array.shape, array.dtype) != (
        expected.shape,
        expected.dtype,
    ):
        raise CorruptError(
            f"the file of the array holds another one than the manifest says, {leaf}"
        )
    if None not in (leaf.checksum, checksum) and checksum != leaf.checksum:
        raise CorruptError(
            "its bytes are not those that were saved: the file is damaged"
        )


def _empty(leaf: Leaf) -> "np.ndarray[Any, np.dtype[Any]]":
    """For `from_store`: an array without items, which the store does not hold."""
    if leaf.kind == KEY:
        return np.zeros((*leaf.shape, *_key_shape(leaf.dtype)), np.uint32)
    return np.zeros(leaf.shape, DTYPES[leaf.dtype])
