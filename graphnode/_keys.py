"""Random keys: the draws of a stream, the bits of a key on the host, and the same key made anew under another mesh.

A stream is a key and a count. To JAX, `split(key)[n]` and `fold_in(key, n)` are one and
the same. If draw number `n` were that key too, whoever splits the key of a stream, or
seeds data and model with 0, would draw the same numbers twice. So draws are counted
from a number far away from those that people write.

A key that is made while a mesh is set belongs to that mesh, and JAX refuses to compute
with it under another one. What is drawn depends on its bits alone. So a stream that
outlives a mesh takes its key through the host.
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


# Compiled, as it takes a tenth of the time of its operations one by one; inlined, so
# that a jaxpr shows no function.
@functools.partial(jax.jit, inline=True)
def draw(key: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The next key of a stream that has given out `count` of them, and the count after it."""
    return jax.random.fold_in(key, count.astype(jnp.uint32) + _FIRST_DRAW), count + 1


def derived(key: jax.Array, number: int) -> jax.Array:
    """The key that a key gives for a number, such as that of a name; by the function that is compiled for draws."""
    count: Any = np.uint32(number)  # an array to what is compiled, and cheaper to make
    drawn: jax.Array
    drawn, _ = draw(key, count)
    return drawn


def is_key(array: jax.Array) -> bool:
    """Whether an array holds keys."""
    return bool(jnp.issubdtype(array.dtype, jax.dtypes.prng_key))


def bits_of(key: jax.Array) -> npt.NDArray[Any]:
    """The bits of a concrete key array, on the host, also while a JAX transformation runs."""
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.random.key_data(key))


def is_on_host(array: object) -> bool:
    """Whether the host can read all of an array: it is concrete, and no part of it is on the devices of others."""
    if not isinstance(array, jax.Array) or isinstance(array, Tracer):
        return False
    return array.is_fully_addressable or array.is_fully_replicated


def under_current_mesh(array: A) -> A:
    """The same array of keys or counts, made anew if it belongs to another mesh than the one that is set.

    What belongs to no mesh can be used under each.
    """
    if _is_at_home(array):
        return array
    if not is_on_host(array):
        # In a compiled function, or with parts on other hosts: JAX moves it.
        everywhere = PartitionSpec()  # type: ignore[no-untyped-call]
        replicated: Any = NamedSharding(jax.sharding.get_abstract_mesh(), everywhere)
        return array if replicated.mesh.empty else jax.device_put(array, replicated)
    # `device_put` of what the host holds is the one way to an array that belongs to no
    # mesh while one is set.
    if is_key(array):
        bits = jax.device_put(bits_of(array))
        remade: Any = jax.random.wrap_key_data(bits, impl=jax.random.key_impl(array))
    else:
        remade = jax.device_put(np.asarray(array))
    return remade  # type: ignore[no-any-return]


def _is_at_home(array: jax.Array) -> bool:
    # Most arrays: where nobody has set a mesh, and what a type costs is saved.
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
    # Meshes of other devices may have equal names and sizes. While a trace runs, JAX
    # does not say which is set.
    return is_tracing() or array.sharding.device_set == set(
        jax.sharding.get_mesh().devices.flat
    )
