"""`Identity`, which leaves its input as it is."""

import jax

from ._module import Layer


class Identity(Layer):
    """Leaves its input as it is: for a place in a model where there may be a layer.

    Example:
        >>> Identity()(jnp.arange(3))
        Array([0, 1, 2], dtype=int32)
    """

    def __call__(self, x: jax.Array) -> jax.Array:
        """The input itself."""
        return x
