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
from jax.sharding import NamedSharding, Sharding

from .._compat import alias_of, unplaced, weakly_typed
from ._leaf import ARRAY, AS_BYTES, DTYPES, KEY, NUMPY, NUMPY_SCALAR, Leaf
from ._orbax import wanted_numpy
from ._processes import are_several


# Any: an array of JAX or NumPy.
def to_store(leaf: Leaf, value: Any) -> Any:
    """An array as the store takes it."""
    if not isinstance(value, jax.Array):
        # A copy of what its owner may write to while the store writes it to the disk.
        copy = np.array(value)
        return _on_host(copy).reshape(leaf.shape) if leaf.dtype in AS_BYTES else copy
    array = jax.random.key_data(value) if leaf.kind == KEY else value
    whole = _whole(array)
    if leaf.dtype in AS_BYTES:
        if whole is None:
            return _as_bytes(array)
        return _on_host(whole).reshape(leaf.shape)
    # Of an array of its own in each of several processes, the store takes none of JAX.
    if array.is_fully_addressable and are_several():
        return np.array(whole)
    return array


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
    whole = _whole(array)
    return None if whole is None else zlib.crc32(_on_host(whole).data)


def _whole(array: Any) -> Any:
    """The array, where this process has all of it; `None` where it has parts."""
    if not isinstance(array, jax.Array):
        return array
    if array.is_fully_addressable:
        # An alias, as the array itself would keep the copy, and could not be donated.
        return alias_of(array)
    return array.addressable_data(0) if array.is_fully_replicated else None


def _as_bytes(array: jax.Array) -> jax.Array:
    """Items that the store does not know as bytes, each where it is; `_from_bytes` is the inverse."""
    if array.dtype.itemsize == 1 and jnp.issubdtype(array.dtype, jnp.floating):
        return jax.lax.bitcast_convert_type(array, jnp.uint8)
    return array.astype(jnp.uint8)


def _from_bytes(array: Any, dtype: "np.dtype[Any]") -> Any:
    """Items of a dtype from bytes."""
    if not isinstance(array, jax.Array):
        return array.view(dtype)
    if jnp.issubdtype(dtype, jnp.floating):
        return jax.lax.bitcast_convert_type(array, dtype)
    return array.astype(dtype)


def _on_host(array: Any) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The bytes of an array in the order of its items, as one row."""
    host = np.asarray(array)
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
        dtype = np.dtype(np.uint8)
    is_jax = leaf.kind in (ARRAY, KEY)
    is_spread = is_jax and sharding is not None and len(sharding.device_set) > 1
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


def fault_of(leaf: Leaf, sharding: Sharding | None) -> str | None:
    """Why this program cannot hold what a file describes, or not with this sharding; or `None`."""
    if leaf.kind == KEY:
        try:
            _key_shape(leaf.dtype)
        except ValueError:
            return f"there are no random keys of the implementation {leaf.dtype!r}"
    elif leaf.kind != ARRAY:
        return None
    else:
        dtype = DTYPES[leaf.dtype]
        if jax.dtypes.canonicalize_dtype(dtype) != dtype:
            return f"JAX would turn {leaf.dtype} into {jax.dtypes.canonicalize_dtype(dtype)}: enable jax_enable_x64"
    return None if sharding is None else _sharding_fault(leaf, sharding)


def _sharding_fault(leaf: Leaf, sharding: Sharding) -> str | None:
    """For `fault_of`: why an array cannot be laid out so."""
    fault = None
    # JAX's own text for it is an IndexError.
    if isinstance(sharding, NamedSharding) and len(sharding.spec) > len(leaf.shape):
        fault = f"its spec is for {len(sharding.spec)} axes or more"
    else:
        try:
            sharding.shard_shape(leaf.shape)
        except ValueError as error:
            fault = str(error).partition("\n")[0]
    return fault and f"{leaf} cannot be laid out as {sharding}: {fault}"


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
        array = _from_bytes(array, DTYPES[leaf.dtype])
    if leaf.kind == NUMPY:
        return array
    if leaf.kind == NUMPY_SCALAR:
        return array[()]
    if leaf.kind == KEY:
        return jax.random.wrap_key_data(_placed(array, sharding), impl=leaf.dtype)
    array = _placed(array, sharding)
    return weakly_typed(array) if leaf.weak else array


def _placed(array: Any, sharding: Sharding | None) -> jax.Array:
    """For `from_store`: an array of JAX, laid out as it is to be."""
    if isinstance(array, jax.Array):
        return unplaced(array) if sharding is None else array
    if sharding is None:
        return jnp.asarray(array)
    if sharding.is_fully_addressable:
        placed: jax.Array = jax.device_put(array, sharding)
        return placed
    # Each process has all of the array, and gives the parts that its own devices get.
    return jax.make_array_from_callback(
        array.shape, sharding, lambda index: array[index]
    )


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
