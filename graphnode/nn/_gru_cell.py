"""`GRUCell`, a gated recurrent unit."""

from dataclasses import KW_ONLY
from typing import ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._fields import Initializer, state
from .._state import ParamState
from ._cell import GatedCell, first_carry
from ._checks import check_inputs
from ._dtypes import add_bias, dtype_of, optional_parameter, promoted, value_of
from ._spread import product

Carry: TypeAlias = Float[Array, "*batch hidden_size"]
Input: TypeAlias = Float[Array, "*batch in_size"]


class GRUCell(GatedCell[jax.Array]):
    """A gated recurrent unit, which decides at each step how much of what it carries stays.

    With `[r, z, n] = x @ weight + bias` and `[r', z', n'] = h @ recurrent`, each of
    three parts, `reset = sigmoid(r + r')`, `update = sigmoid(z + z')`, `new = tanh(n +
    reset * (n' + candidate_bias))` and `h' = (1 - update) * new + update * h`; the
    output is `h'` (Cho et al. 2014, "Learning Phrase Representations using RNN
    Encoder-Decoder", section 2.3; the reset gate after the product as in cuDNN). The
    result's dtype is `dtype`, or what JAX promotes inputs and parameters to.

    Args:
        in_size: Features of the input.
        hidden_size: Features of what is carried, and of the output.
        gate_fn: Applied to the gates, in place of the sigmoid.
        activation_fn: Applied in place of tanh.
        carry_init: Initialiser of what is carried into the first step.
        use_bias: Whether there are biases.
        w_init: Initialiser of each part of `weight`.
        recurrent_init: Initialiser of each part of `recurrent`.
        b_init: Initialiser of the biases.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A size that is not a positive integer, or what should be a
            function and is not; inputs of other shapes.

    Example:
        >>> cell = GRUCell(3, 4)
        >>> carry, y = cell(cell.initial_carry((2,)), jnp.ones((2, 3)))
        >>> y.shape
        (2, 4)
    """

    _: KW_ONLY
    weight: ParamState[Float[Array, "in=in_size gates=3*hidden_size"]] = state(
        init=False
    )
    """From the input to the reset gate, the update gate and the candidate."""
    recurrent: ParamState[Float[Array, "hidden=hidden_size gates=3*hidden_size"]] = (
        state(init=False)
    )
    """From what is carried to the same."""
    bias: ParamState[Float[Array, "gates=3*hidden_size"]] | None = state(init=False)
    """Added to the same, if anything."""
    candidate_bias: ParamState[Float[Array, "hidden=hidden_size"]] | None = state(
        init=False
    )
    """Added to the part of the candidate that is reset, if anything."""

    _parts: ClassVar[int] = 3

    def __post_init__(
        self,
        w_init: Initializer,
        recurrent_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        super().__post_init__(w_init, recurrent_init, b_init, param_dtype)
        self.candidate_bias = optional_parameter(
            self.use_bias, b_init, (self.hidden_size,), param_dtype
        )

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
        h, x, weight, recurrent, bias, candidate_bias = promoted(
            self.dtype,
            carry,
            x,
            self.weight.value,
            self.recurrent.value,
            value_of(self.bias),
            value_of(self.candidate_bias),
        )
        from_input = jnp.split(add_bias(product(x, weight), bias), 3, -1)
        # Apart from the input's: the reset gate acts on this part of the candidate
        # alone.
        from_carry = jnp.split(product(h, recurrent), 3, -1)
        reset = self.gate_fn(from_input[0] + from_carry[0])
        update = self.gate_fn(from_input[1] + from_carry[1])
        candidate = add_bias(from_carry[2], candidate_bias)
        new = self.activation_fn(from_input[2] + reset * candidate)
        h = (1 - update) * new + update * h
        return h, h
