"""Random numbers for construction: an ambient, scoped stream, with NumPy's names.

`seed(42)` restarts the stream of the process; `with scope(key):` puts another in front
for one block. Every draw takes a new key. Inside of a JAX transformation the ambient
stream refuses, since its draw would be a constant of the compiled function: pass a key
in and open a `scope` there.

Shapes are tuples of integers, or one integer; the default dtypes are JAX's.
"""

from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from ._stream import scope as scope
from ._stream import seed as seed
from ._stream import split_key as split_key
from ._value import array_of as _array_of

Size: TypeAlias = int | Sequence[int] | None


def _shape(size: Size) -> tuple[int, ...]:
    """The shape that NumPy's argument `size` stands for: an integer is one axis, `None` a single number."""
    if size is None:
        return ()
    return (size,) if isinstance(size, int) else tuple(size)


def _own(values: ArrayLike) -> ArrayLike:
    """Parameters of a draw that nobody writes to: JAX may still read a NumPy array after the draw was returned."""
    return _array_of(values) if isinstance(values, np.ndarray) else values


def rand(*shape: int, dtype: DTypeLike = float) -> jax.Array:
    """Uniform numbers in [0, 1), of shape `shape`.

    Raises:
        TraceError: Called in a JAX transformation that does not open a `scope` of its
            own; so does every draw here.

    Example:
        >>> rand(2, 3).shape
        (2, 3)
    """
    return jax.random.uniform(split_key(), shape, dtype)


def randn(*shape: int, dtype: DTypeLike = float) -> jax.Array:
    """Numbers of the standard normal distribution, of shape `shape`.

    Example:
        >>> randn(2, 3).dtype
        dtype('float32')
    """
    return jax.random.normal(split_key(), shape, dtype)


def normal(
    loc: ArrayLike = 0.0,
    scale: ArrayLike = 1.0,
    size: Size = None,
    dtype: DTypeLike = float,
) -> jax.Array:
    """Numbers of the normal distribution with mean `loc` and standard deviation `scale`.

    Without `size`, the shape is that of `loc` and `scale` broadcast.

    Example:
        >>> normal(0.0, 0.1, size=(2, 3)).shape
        (2, 3)
    """
    shape = (
        jnp.broadcast_shapes(jnp.shape(loc), jnp.shape(scale))
        if size is None
        else _shape(size)
    )
    draw = jax.random.normal(split_key(), shape, dtype)
    mean = jnp.broadcast_to(jnp.asarray(_own(loc), draw.dtype), shape)
    deviation = jnp.broadcast_to(jnp.asarray(_own(scale), draw.dtype), shape)
    return mean + deviation * draw


def uniform(
    low: ArrayLike = 0.0,
    high: ArrayLike = 1.0,
    size: Size = None,
    dtype: DTypeLike = float,
) -> jax.Array:
    """Uniform numbers in [`low`, `high`).

    Without `size`, the shape is that of `low` and `high` broadcast.

    Example:
        >>> bool(jnp.all(uniform(2.0, 3.0, size=10) >= 2.0))
        True
    """
    shape = (
        jnp.broadcast_shapes(jnp.shape(low), jnp.shape(high))
        if size is None
        else _shape(size)
    )
    return jax.random.uniform(split_key(), shape, dtype, _own(low), _own(high))


def randint(
    low: int, high: int | None = None, size: Size = None, dtype: DTypeLike = int
) -> jax.Array:
    """Integers in [`low`, `high`), or in [0, `low`) when `high` is not given.

    Example:
        >>> randint(10, size=5).shape
        (5,)
    """
    if high is None:
        low, high = 0, low
    return jax.random.randint(split_key(), _shape(size), low, high, dtype)


def choice(
    a: int | ArrayLike,
    size: Size = None,
    replace: bool = True,
    p: ArrayLike | None = None,
    axis: int = 0,
) -> jax.Array:
    """Random items of `a` along `axis`, or of `range(a)` for an integer, with probabilities `p`.

    Raises:
        ValueError: More items are asked for than there are, without replacement.

    Example:
        >>> choice(100, size=32).shape
        (32,)
    """
    values = a if isinstance(a, int) else jnp.asarray(_own(a))
    weights = None if p is None else jnp.asarray(_own(p))
    return jax.random.choice(split_key(), values, _shape(size), replace, weights, axis)


def permutation(
    x: int | ArrayLike, axis: int = 0, independent: bool = False
) -> jax.Array:
    """The items of `x` along `axis`, or of `range(x)` for an integer, in random order.

    Example:
        >>> sorted(permutation(3).tolist())
        [0, 1, 2]
    """
    values = x if isinstance(x, int) else jnp.asarray(_own(x))
    return jax.random.permutation(split_key(), values, axis, independent=independent)
