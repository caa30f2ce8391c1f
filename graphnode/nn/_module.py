"""`Module`, the base of layers."""

from .._node import Node


class Module(Node):
    """A node that is called: the base of layers, and a common class to filter nodes by.

    Example:
        >>> class Double(gn.nn.Module):
        ...     def __call__(self, x: jax.Array) -> jax.Array:
        ...         return 2 * x
        >>> Double()(jnp.ones(2))
        Array([2., 2.], dtype=float32)
    """
