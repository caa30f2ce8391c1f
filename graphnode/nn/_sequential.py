"""`Sequential`, layers one after the other."""

from collections.abc import Iterator
from typing import overload

import jax

from ._module import Layer


class Sequential(Layer):
    """Layers one after the other: each gets what the one before gave.

    Every item is a `Layer`, which maps one array to one array; a function becomes one
    as `Activation(function)`.

    Args:
        layers: The layers; none is the identity.

    Raises:
        FieldError: An item that is not a layer.

    Example:
        >>> model = Sequential([gn.nn.Linear(2, 8), gn.nn.Activation(jax.nn.relu), gn.nn.Linear(8, 1)])
        >>> model(jnp.ones((5, 2))).shape
        (5, 1)
    """

    layers: list[Layer]
    """The layers, in their order."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the layers, the first one first."""
        for layer in self.layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    @overload
    def __getitem__(self, at: int) -> Layer: ...
    @overload
    def __getitem__(self, at: slice) -> "Sequential": ...
    def __getitem__(self, at: int | slice) -> Layer:
        """A layer by its place, or some of them in a sequence of their own, which shares them."""
        return Sequential(self.layers[at]) if isinstance(at, slice) else self.layers[at]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)
