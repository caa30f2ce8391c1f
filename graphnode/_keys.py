"""Random keys: the draws of a stream, the bits of a key on the host, and moving a key to another mesh.

A stream is a key and a count:

    stream (key, count)      draw n = fold_in(key, n + FIRST)       FIRST: a fixed large number
    user's split(key)[n]            = fold_in(key, n)               the same to JAX

Without FIRST, whoever splits the key of a stream, or seeds data and model with 0, would
draw the same numbers twice. So draws are counted from a number far away from those that
people write.

A key that is made while a mesh is set belongs to that mesh, and JAX refuses to compute
with it under another one. The numbers drawn depend on its bits alone, so a stream that
outlives a mesh moves its key by way of the host.
"""

import functools
import zlib
from typing import Any, Final, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from ._compat import Tracer, is_tracing

A = TypeVar("A", bound=jax.Array)


def number_of(name: str) -> int:
    """The number to fold into a key for a name: the same in every process, which `hash` is not."""
    return zlib.crc32(name.encode())


_FIRST_DRAW: Final = np.uint32(number_of("the first draw of a stream"))


# Compiled, as the operations one by one take ten times as long; inlined, so that a
# jaxpr does not show a function.
@functools.partial(jax.jit, inline=True)
def draw(key: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """For ambient streams and `RngStream`: the next key after `count` draws, and the next count."""
    return jax.random.fold_in(key, count.astype(jnp.uint32) + _FIRST_DRAW), count + 1


def derived(key: jax.Array, number: int) -> jax.Array:
    """The key derived from a key by a number, such as that of a name: one seed gives streams that differ.

    By `draw`, which is compiled already: another function would cost the first node of
    a process a compilation.
    """
    count: Any = np.uint32(number)  # an array to compiled code, and cheaper to make
    child: jax.Array
    child, _ = draw(key, count)
    return child


def is_key(array: jax.Array) -> bool:
    """Whether an array holds typed keys, as `jax.random.key` makes them, and not the words of legacy ones."""
    return bool(jnp.issubdtype(array.dtype, jax.dtypes.prng_key))


def bits_of(key: jax.Array) -> npt.NDArray[Any]:
    """The bits of a concrete key array, on the host, also while a JAX transformation runs.

    To compare keys, and to move one to another mesh.
    """
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.random.key_data(key))


def is_on_host(array: object) -> bool:
    """Whether the host can read all of an array: it is concrete, and no part is on another host's devices.

    Asked before keys and counts are compared, or moved to another mesh.
    """
    if not isinstance(array, jax.Array) or isinstance(array, Tracer):
        return False
    return array.is_fully_addressable or array.is_fully_replicated


def under_current_mesh(array: A) -> A:
    """An array of keys or counts, usable under the mesh that is set: a copy if it belongs to another mesh.

    A stream may outlive the mesh that it was made under, and JAX refuses to compute
    with its key under another. An array without a mesh can be used under any.
    """
    if _is_at_home(array):
        return array
    if not is_on_host(array):
        # In a compiled function, or with parts on other hosts: JAX has to move it.
        everywhere = PartitionSpec()  # type: ignore[no-untyped-call]
        replicated: Any = NamedSharding(jax.sharding.get_abstract_mesh(), everywhere)
        return array if replicated.mesh.empty else jax.device_put(array, replicated)
    # While a mesh is set, `device_put` of a NumPy array is the only way to an array that
    # belongs to no mesh.
    if is_key(array):
        bits = jax.device_put(bits_of(array))
        moved: Any = jax.random.wrap_key_data(bits, impl=jax.random.key_impl(array))
    else:
        moved = jax.device_put(np.asarray(array))
    return moved  # type: ignore[no-any-return]


def _is_at_home(array: jax.Array) -> bool:
    """For `under_current_mesh`: whether an array belongs to the mesh that is set or to none, and may stay."""
    # Most arrays, as mostly no mesh is set: `jax.typeof` would cost more than the rest.
    if not isinstance(array, Tracer) and isinstance(
        array.sharding, SingleDeviceSharding
    ):
        return True
    aval: Any = jax.typeof(array)  # JAX's stubs do not say that it has a sharding
    mesh = aval.sharding.mesh
    if mesh.empty:
        return True
    if mesh != jax.sharding.get_abstract_mesh():
        return False
    # Meshes of different devices may have equal names and sizes. While a trace runs,
    # JAX does not say which mesh is set.
    return is_tracing() or array.sharding.device_set == set(
        jax.sharding.get_mesh().devices.flat
    )
