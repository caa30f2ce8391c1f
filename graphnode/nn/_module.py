"""`Module` and `Layer`, the bases of layers."""

from abc import ABC, abstractmethod

import jax

from .._declare._node import Node


class Module(Node):
    """A node that is called: the base of layers, and a common class to filter nodes by.

    Example:
        >>> class Double(gn.nn.Module):
        ...     def __call__(self, x: jax.Array) -> jax.Array:
        ...         return 2 * x
        >>> Double()(jnp.ones(2))
        Array([2., 2.], dtype=float32)
    """


class Layer(Module, ABC):
    """A module that maps one array to one array, so that others can be built of such modules, whichever they are.

    Example:
        >>> class Residual(gn.nn.Layer):
        ...     inner: gn.nn.Layer
        ...     def __call__(self, x: jax.Array) -> jax.Array:
        ...         return x + self.inner(x)
        >>> Residual(gn.nn.Linear(2, 2))(jnp.ones(2)).shape
        (2,)
    """

    @abstractmethod
    def __call__(self, x: jax.Array, /) -> jax.Array:
        """What the layer makes of `x`."""
