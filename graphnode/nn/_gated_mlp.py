"""`GatedMLP`, a perceptron with one hidden layer whose features are gated: SwiGLU, GeGLU and their like."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._constrain import constrained, leading
from .._fields import Initializer, static, subnode
from . import initializers
from ._checks import check_inputs, function, size
from ._dtypes import inexact
from ._linear import Linear, linear_part
from ._module import Layer
from ._parts import shared_vars
from ._rows import as_batch, as_rows

Input: TypeAlias = Float[Array, "... width"]


class GatedMLP(Layer):
    """A perceptron with one hidden layer, whose features are multiplied by those of a gate.

    `down(act(gate(x)) * up(x))` (Shazeer 2020, "GLU Variants Improve Transformer", eq.
    6): SwiGLU with `jax.nn.silu`, GeGLU with `jax.nn.gelu`, ReGLU with `jax.nn.relu`,
    GLU with `jax.nn.sigmoid`. The result's dtype is `dtype`, or what JAX promotes input
    and parameters to.

    Args:
        width: Features of the input.
        hidden_size: Features in the middle.
        out_size: Features of the output; by default `width`.
        act: Applied to the gate.
        use_bias: Whether the linear maps have biases.
        w_init: Initialiser of the weights.
        b_init: Initialiser of the biases.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A size that is not a positive integer, an activation that is not
            a function; an input of another size.

    Example:
        >>> GatedMLP(4, 6)(jnp.ones((5, 4))).shape
        (5, 4)
    """

    width: int
    """Features of the input."""
    hidden_size: int
    """Features in the middle."""
    _: KW_ONLY
    out_size: int = static(factory=lambda self: self.width)
    """Features of the output; by default `width`."""
    act: Callable[[jax.Array], jax.Array] = static(default=jax.nn.silu)
    """Applied to the gate."""
    use_bias: InitVar[bool] = False
    """Whether there is a bias."""
    w_init: InitVar[Initializer] = initializers.lecun_normal
    """Initialiser of the weight."""
    b_init: InitVar[Initializer] = initializers.zeros
    """Initialiser of the bias."""
    dtype: DTypeLike | None = None
    """What is computed in."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    gate: Linear = subnode(init=False)
    """What decides how much of each hidden feature passes."""
    up: Linear = subnode(init=False)
    """From the input to the hidden features."""
    down: Linear = subnode(init=False)
    """From the hidden features to the output."""

    def __post_init__(
        self,
        use_bias: bool,
        w_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        self.width = size("GatedMLP.width", self.width)
        self.hidden_size = size("GatedMLP.hidden_size", self.hidden_size)
        self.out_size = size("GatedMLP.out_size", self.out_size)
        self.act = function("GatedMLP.act", self.act)
        self.dtype = inexact("GatedMLP.dtype", self.dtype)
        # One after the other, in this order: each draws from the ambient random stream.
        for name, sizes in self._sizes().items():
            linear = Linear(
                *sizes,
                use_bias=use_bias,
                w_init=w_init,
                b_init=b_init,
                dtype=self.dtype,
                param_dtype=param_dtype,
            )
            setattr(self, name, linear)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`.

        Raises:
            ConfigError: Linear maps that the constructor does not make; names all.
        """
        return shared_vars(
            {
                name: linear_part(getattr(self, name), *sizes, self.dtype)
                for name, sizes in self._sizes().items()
            }
        )

    def __roles__(self) -> dict[str, dict[str, str]]:
        """What the roles of the linear maps are here."""
        return {
            "gate": {"in": "embed", "out": "mlp"},
            "up": {"in": "embed", "out": "mlp"},
            "down": {"in": "mlp", "out": "embed"},
        }

    def _sizes(self) -> dict[str, tuple[int, int]]:
        """Features before and after each of the linear maps, to make them by and, for a config, to check them by."""
        return {
            "gate": (self.width, self.hidden_size),
            "up": (self.width, self.hidden_size),
            "down": (self.hidden_size, self.out_size),
        }

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `x` of shape `[..., width]` to `[..., out_size]`.

        Raises:
            ContractError: The last axis of `x` is not `width`.
        """
        check_inputs(self, x=(x, Input))
        # Joined once for all three maps.
        rows = as_rows(x)
        hidden = self.act(self.gate(rows)) * self.up(rows)
        # As rows, whose first axis is the whole batch.
        batch = leading(x.ndim - 1) if hidden.ndim == x.ndim else ("batch",)
        hidden = constrained(hidden, *batch, "mlp")
        return as_batch(self.down(hidden), x)
