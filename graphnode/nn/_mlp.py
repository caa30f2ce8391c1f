"""`MLP`, linear layers with an activation between them."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from itertools import pairwise
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._constrain import constrained, leading
from .._errors import ConfigError, Fault
from .._fields import Initializer, static, subnode
from . import initializers
from ._checks import check_inputs, count, function, size
from ._dtypes import inexact
from ._linear import Linear, linear_part
from ._module import Layer
from ._parts import shared_vars
from ._rows import as_batch, as_rows

Input: TypeAlias = Float[Array, "... in_size"]


class MLP(Layer):
    """A multilayer perceptron: linear layers with an activation between them (Rumelhart et al. 1986).

    The result's dtype is `dtype`, or what JAX promotes input and parameters to.

    Args:
        in_size: Features of the input.
        hidden_size: Features of each hidden layer.
        out_size: Features of the output.
        depth: Number of hidden layers.
        act: Applied after each hidden layer.
        final_act: Applied to the output.
        use_bias: Whether the layers have biases.
        use_final_bias: Whether the last layer has one; by default as the others.
        w_init: Initialiser of the weights.
        b_init: Initialiser of the biases.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A size that is not a positive integer, a negative depth, an
            activation that is not a function; an input of another size.

    Example:
        >>> MLP(2, 16, 1, depth=2)(jnp.ones((5, 2))).shape
        (5, 1)
    """

    in_size: int
    """Features of the input."""
    hidden_size: int
    """Features of each hidden layer."""
    out_size: int
    """Features of the output."""
    _: KW_ONLY
    depth: int = 1
    """Number of hidden layers."""
    act: Callable[[jax.Array], jax.Array] = static(default=jax.nn.relu)
    """Applied after each hidden layer."""
    final_act: Callable[[jax.Array], jax.Array] | None = static(default=None)
    """Applied to the output, if anything."""
    use_bias: InitVar[bool] = True
    """Whether there is a bias."""
    # A field, and no init variable: a subclass may have a `__post_init__` of its own, which
    # takes those that there were.
    use_final_bias: bool | None = None
    """Whether the last layer has a bias; `None` if it is as the others in this."""
    w_init: InitVar[Initializer] = initializers.he_normal
    """Initialiser of the weight."""
    b_init: InitVar[Initializer] = initializers.zeros
    """Initialiser of the bias."""
    dtype: DTypeLike | None = None
    """What is computed in."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    layers: list[Linear] = subnode(init=False)
    """The hidden ones, then that of the output."""

    def __post_init__(
        self,
        use_bias: bool,
        w_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        self.in_size = size("MLP.in_size", self.in_size)
        self.hidden_size = size("MLP.hidden_size", self.hidden_size)
        self.out_size = size("MLP.out_size", self.out_size)
        self.depth = count("MLP.depth", self.depth)
        self.act = function("MLP.act", self.act)
        if self.final_act is not None:
            self.final_act = function("MLP.final_act", self.final_act)
        use_final_bias = (
            use_bias if self.use_final_bias is None else self.use_final_bias
        )
        if self.depth == 0:
            use_bias = use_final_bias  # the last layer is the only one
        # Kept only where it differs: models that are equal have one structure.
        self.use_final_bias = None if use_final_bias == use_bias else use_final_bias
        self.dtype = inexact("MLP.dtype", self.dtype)
        self.layers = [
            Linear(
                before,
                after,
                use_bias=has_bias,
                w_init=w_init,
                b_init=b_init,
                dtype=self.dtype,
                param_dtype=param_dtype,
            )
            for has_bias, (before, after) in zip(
                [use_bias] * self.depth + [use_final_bias],
                pairwise(self._widths()),
                strict=True,
            )
        ]

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`.

        Raises:
            ConfigError: Layers that the constructor does not make; names all.
        """
        widths = self._widths()
        # Before they are compared one by one: a list may have been made longer.
        if len(self.layers) != len(widths) - 1:
            what = f"expected {len(widths) - 1}, depth + 1; found {len(self.layers)}"
            raise ConfigError([Fault(what, path="layers")])
        layers = zip(self.layers, pairwise(widths), strict=True)
        parts = {
            f"layers.{at}": linear_part(layer, *sizes, self.dtype)
            for at, (layer, sizes) in enumerate(layers)
        }
        if self.use_final_bias is not None:
            last = f"layers.{self.depth}"
            parts[last] = parts[last]._replace(
                variables={"use_bias": self.use_final_bias}
            )
        return shared_vars(parts)

    def __roles__(self) -> dict[str, dict[str, str]]:
        """What the roles of the layers are here. None may stand twice in an array, so between two is "mlp_in"."""
        last = len(self.layers) - 1
        return {
            f"layers.{at}": {
                **({"in": "mlp_in" if at < last else "mlp"} if at > 0 else {}),
                **({"out": "mlp"} if at < last else {}),
            }
            for at in range(last + 1)
        }

    def _widths(self) -> list[int]:
        """Features before the first layer and after each, to make them by and, for a config, to check them by."""
        return [self.in_size, *[self.hidden_size] * self.depth, self.out_size]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `x` of shape `[..., in_size]` to `[..., out_size]`.

        Raises:
            ContractError: The last axis of `x` is not `in_size`.
        """
        check_inputs(self, x=(x, Input))
        *hidden, last = self.layers
        # Joined once for all layers.
        y = as_rows(x)
        for layer in hidden:
            y = self.act(layer(y))
            # As rows, whose first axis is the whole batch.
            batch = leading(x.ndim - 1) if y.ndim == x.ndim else ("batch",)
            y = constrained(y, *batch, "mlp")
        y = last(y)
        if self.final_act is not None:
            y = self.final_act(y)
        return as_batch(y, x)
