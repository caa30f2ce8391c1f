"""`RNNCell`, the simplest recurrent cell."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._fields import Initializer, state, static
from .._state import ParamState
from . import initializers
from ._cell import Cell, first_carry
from ._checks import check_inputs, function, size
from ._dtypes import (
    add_bias,
    dtype_of,
    inexact,
    init_vars,
    optional_parameter,
    parameter,
    promoted,
    value_of,
)
from ._spread import product

Carry: TypeAlias = Float[Array, "*batch hidden_size"]
Input: TypeAlias = Float[Array, "*batch in_size"]


class RNNCell(Cell[jax.Array]):
    """A recurrent cell of one layer: `h' = act(x @ weight + h @ recurrent + bias)`; the output is `h'`.

    Elman 1990, "Finding Structure in Time". The result's dtype is `dtype`, or what JAX
    promotes inputs and parameters to.

    Args:
        in_size: Features of the input.
        hidden_size: Features of what is carried, and of the output.
        act: Applied to the sum.
        carry_init: Initialiser of what is carried into the first step.
        use_bias: Whether there is a bias.
        w_init: Initialiser of `weight`.
        recurrent_init: Initialiser of `recurrent`.
        b_init: Initialiser of `bias`.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A size that is not a positive integer, an activation that is not
            a function; inputs of other shapes.

    Example:
        >>> cell = RNNCell(3, 4)
        >>> carry, y = cell(cell.initial_carry((2,)), jnp.ones((2, 3)))
        >>> y.shape
        (2, 4)
    """

    in_size: int
    """Features of the input."""
    hidden_size: int
    """Features of what is carried, and of the output."""
    _: KW_ONLY
    act: Callable[[jax.Array], jax.Array] = static(default=jax.nn.tanh)
    """Applied to the sum."""
    carry_init: Initializer = static(default=initializers.zeros)
    """Initialiser of what is carried into the first step."""
    # A field, and no init variable: a subclass may have a `__post_init__` of its own, which
    # takes those that there were.
    use_bias: bool = True
    """Whether there is a bias."""
    w_init: InitVar[Initializer] = initializers.lecun_normal
    """Initialiser of the weight."""
    recurrent_init: InitVar[Initializer] = initializers.orthogonal
    """Initialiser of the recurrent weight."""
    b_init: InitVar[Initializer] = initializers.zeros
    """Initialiser of the bias."""
    dtype: DTypeLike | None = None
    """What is computed in."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    weight: ParamState[Float[Array, "in=in_size gates=hidden_size"]] = state(init=False)
    """From the input."""
    recurrent: ParamState[Float[Array, "hidden=hidden_size gates=hidden_size"]] = state(
        init=False
    )
    """From what is carried."""
    bias: ParamState[Float[Array, "gates=hidden_size"]] | None = state(init=False)
    """What is added, if anything."""

    def __post_init__(
        self,
        w_init: Initializer,
        recurrent_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        self.in_size = size("RNNCell.in_size", self.in_size)
        self.hidden_size = hidden_size = size("RNNCell.hidden_size", self.hidden_size)
        self.act = function("RNNCell.act", self.act)
        self.carry_init = function("RNNCell.carry_init", self.carry_init)
        self.dtype = inexact("RNNCell.dtype", self.dtype)
        self.weight = parameter(w_init, (self.in_size, hidden_size), param_dtype)
        self.recurrent = parameter(
            recurrent_init, (hidden_size, hidden_size), param_dtype
        )
        self.bias = optional_parameter(
            self.use_bias, b_init, (hidden_size,), param_dtype
        )

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return init_vars(self.weight)

    def initial_carry(
        self, batch: tuple[int, ...] = (), *, key: jax.Array | None = None
    ) -> jax.Array:
        """What `carry_init` makes, zeros by default, of shape `[*batch, hidden_size]`.

        Args:
            batch: The batch axes.
            key: What `carry_init` draws with, if it does.

        Raises:
            RngError: It draws, and there is no key.
        """
        shape = (*batch, self.hidden_size)
        dtype = dtype_of(self.dtype, self.weight)
        return first_carry(self, self.carry_init, key, shape, dtype)

    def __call__(self, carry: Carry, x: Input) -> tuple[Carry, Carry]:
        """One step, from `carry` of shape `[..., hidden_size]` and `x` of shape `[..., in_size]`.

        Raises:
            ContractError: An array of another shape.
        """
        check_inputs(self, carry=(carry, Carry), x=(x, Input))
        h, x, weight, recurrent, bias = promoted(
            self.dtype,
            carry,
            x,
            self.weight.value,
            self.recurrent.value,
            value_of(self.bias),
        )
        h = self.act(add_bias(product(x, weight) + product(h, recurrent), bias))
        return h, h
