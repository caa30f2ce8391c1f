"""Rotary positions: pairs of features are rotated by angles that grow with the position."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from ._dtypes import at_least_float32


def rotary(
    x: Float[Array, "... time heads head_size"],
    positions: Integer[Array, "time"],
    base: float = 10_000.0,
) -> Float[Array, "... time heads head_size"]:
    """`x` with its features rotated by its positions, so that scalar products depend on distances alone.

    Feature `i` of the first half and feature `i` of the second are a pair; at position
    `p` it is rotated by the angle `p * base ** (-2 i / head_size)` (Su et al. 2021,
    "RoFormer: Enhanced Transformer with Rotary Position Embedding", eq. 34, which pairs
    neighbours; halves are what GPT-NeoX and LLaMA pair). Angles are taken in the dtype
    of `x`, in float32 if that has less precision; the dtype stays.

    Args:
        x: Queries or keys.
        positions: Of each element along the axis `time`.
        base: The larger, the slower the slowest rotation.

    Example:
        >>> x = jnp.ones((3, 1, 2))
        >>> y = rotary(x, jnp.arange(3))
        >>> [round(float(y[0, 0] @ y[1, 0]), 3), round(float(y[1, 0] @ y[2, 0]), 3)]
        [1.081, 1.081]
    """
    half = x.shape[-1] // 2
    dtype = at_least_float32(x.dtype)
    # By NumPy: a constant of what is compiled, and not computed at each call.
    rates = base ** (-np.arange(half, dtype=dtype) / half)
    angles = positions.astype(dtype)[:, None, None] * rates[None, None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    leading = range(x.ndim - 3)
    cos, sin = (
        # Only now in the dtype of `x`: in half precision, large angles could be off by a
        # whole turn.
        jnp.expand_dims(cos, leading).astype(x.dtype),
        jnp.expand_dims(sin, leading).astype(x.dtype),
    )
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
