"""`Module` and `Layer`, the bases of layers."""

from abc import ABC, abstractmethod
from typing import Final

import jax

from .._declare._node import Node
from .._pretty import Record

# By name: object, as the names in a record are.
_LEFT_OUT: Final[dict[object, object]] = {
    "dtype": None,
    "axes": None,
    "reduction_axes": None,
    "feature_axes": None,
    "axis_name": None,
    "mask": None,
    "scale_init": None,
    "bias_init": None,
    "precision": None,
    "preferred_element_type": None,
    "group_size": None,
    "final_act": None,
    "use_final_bias": None,
    "zero_centered": False,
}
"""Fields that are shown if they are something else alone."""


class Module(Node):
    """A node that is called: the base of layers, and a common class to filter nodes by.

    Example:
        >>> class Double(gn.nn.Module):
        ...     def __call__(self, x: jax.Array) -> jax.Array:
        ...         return 2 * x
        >>> Double()(jnp.ones(2))
        Array([2., 2.], dtype=float32)
    """

    def __pretty__(self) -> Record:
        # A dtype that was left out is left out here too, as in the tutorial; so are the
        # other options that most layers leave out.
        record = super().__pretty__()
        fields = [
            (name, value)
            for name, value in record.fields
            if name not in _LEFT_OUT or value is not _LEFT_OUT[name]
        ]
        return record._replace(fields=fields)


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
