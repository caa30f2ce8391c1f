"""`Activation`, a function as a layer."""

from collections.abc import Callable

import jax

from .._fields import static
from ._checks import function
from ._module import Layer


class Activation(Layer):
    """A function as a layer, for models that are made of layers: `y = function(x)`.

    The function is part of the structure: pass one that is made once, such as those of
    `jax.nn`, as another function is another structure and is compiled again. A
    configuration names it: `{type: Activation, function: gelu}`.

    Args:
        function: From an array to an array.

    Raises:
        ContractError: What is not a function.

    Example:
        >>> Activation(jax.nn.relu)(jnp.array([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """

    function: Callable[[jax.Array], jax.Array] = static()
    """From an array to an array."""

    def __post_init__(self) -> None:
        self.function = function("Activation.function", self.function)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the function."""
        return self.function(x)
