"""`Module` and `Layer`, the bases of layers."""

from abc import ABC, abstractmethod

import jax

from .._errors import SchemaError
from .._faults import defining, is_refused
from .._node import Node
from .._pretty import Record
from ._overrides import lost_faults


class Module(Node):
    """A node that is called: the base of layers, and a common class to filter nodes by.

    Example:
        >>> class Double(gn.nn.Module):
        ...     def __call__(self, x: jax.Array) -> jax.Array:
        ...         return 2 * x
        >>> Double()(jnp.ones(2))
        Array([2., 2.], dtype=float32)
    """

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        super().__init_subclass__(kw_only=kw_only)
        if is_refused(cls):
            return
        with defining(cls):
            faults = list(lost_faults(cls))
            if faults:
                raise SchemaError(cls.__name__, faults)

    def __pretty__(self) -> Record:
        # Most layers are not told what to compute in, and are shown as the tutorial shows them.
        shown = super().__pretty__()
        return shown._replace(
            fields=[(name, value) for name, value in shown.fields if (name, value) != ("dtype", None)]
        )


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
