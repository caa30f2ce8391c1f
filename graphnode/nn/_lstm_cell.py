"""`LSTMCell`, a cell with long short-term memory."""

from dataclasses import KW_ONLY
from typing import ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import ContractError
from .._fields import state
from .._hints import with_article
from .._state import ParamState
from ._cell import GatedCell, first_carry
from ._checks import check_inputs, place
from ._dtypes import add_bias, dtype_of, promoted, value_of
from ._spread import product

Carry: TypeAlias = Float[Array, "*batch hidden_size"]
Input: TypeAlias = Float[Array, "*batch in_size"]


class LSTMCell(GatedCell[tuple[jax.Array, jax.Array]]):
    """A cell with long short-term memory, which carries a memory `c` and an output `h`.

    With `[i, f, g, o] = x @ weight + h @ recurrent + bias`, in four parts, `c' =
    sigmoid(f) * c + sigmoid(i) * tanh(g)` and `h' = sigmoid(o) * tanh(c')`; the output
    is `h'` (Hochreiter & Schmidhuber 1997, "Long Short-Term Memory"; the forget gate
    from Gers et al. 2000, "Learning to Forget"). The result's dtype is `dtype`, or what
    JAX promotes inputs and parameters to.

    Args:
        in_size: Features of the input.
        hidden_size: Features of memory and output.
        gate_fn: Applied to the gates, in place of the sigmoid.
        activation_fn: Applied in place of tanh.
        carry_init: Initialiser of what is carried into the first step.
        use_bias: Whether there is a bias.
        w_init: Initialiser of each part of `weight`.
        recurrent_init: Initialiser of each part of `recurrent`.
        b_init: Initialiser of the bias.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A size that is not a positive integer, or what should be a
            function and is not; inputs of other shapes.

    Example:
        >>> cell = LSTMCell(3, 4)
        >>> (memory, output), y = cell(cell.initial_carry((2,)), jnp.ones((2, 3)))
        >>> memory.shape, y is output
        ((2, 4), True)
    """

    hidden_size: int
    """Features of memory and output."""
    _: KW_ONLY
    weight: ParamState[Float[Array, "in=in_size gates=4*hidden_size"]] = state(
        init=False
    )
    """From the input to the input gate, the forget gate, the candidate and the output gate."""
    recurrent: ParamState[Float[Array, "hidden=hidden_size gates=4*hidden_size"]] = (
        state(init=False)
    )
    """From the last output to the same."""
    bias: ParamState[Float[Array, "gates=4*hidden_size"]] | None = state(init=False)
    """Added to the same, if anything."""

    _parts: ClassVar[int] = 4

    def initial_carry(
        self, batch: tuple[int, ...] = (), *, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Memory and output, which `carry_init` makes, zeros by default; both of shape `[*batch, hidden_size]`.

        Args:
            batch: The batch axes.
            key: What `carry_init` draws with, if it does: each of both with a key of its
                own.

        Raises:
            RngError: It draws, and there is no key.
        """
        shape = (*batch, self.hidden_size)
        dtype = dtype_of(self.dtype, self.weight)
        if key is None:
            first = first_carry(self, self.carry_init, None, shape, dtype)
            return first, first
        of_memory, of_output = jax.random.split(key)
        memory = first_carry(self, self.carry_init, of_memory, shape, dtype)
        return memory, first_carry(self, self.carry_init, of_output, shape, dtype)

    def __call__(
        self, carry: tuple[Carry, Carry], x: Input
    ) -> tuple[tuple[Carry, Carry], Carry]:
        """One step, from memory and output of shape `[..., hidden_size]` and `x` of shape `[..., in_size]`.

        Raises:
            ContractError: An array of another shape, or a carry that is not a pair.
        """
        # An array of two rows would unpack too.
        if not isinstance(carry, tuple) or len(carry) != 2:
            text = with_article(type(carry).__name__)
            raise ContractError(
                f"{place(self)}: carry: expected a pair of memory and output; found {text}"
            )
        memory, output = carry
        check_inputs(self, memory=(memory, Carry), output=(output, Carry), x=(x, Input))
        c, h, x, weight, recurrent, bias = promoted(
            self.dtype,
            memory,
            output,
            x,
            self.weight.value,
            self.recurrent.value,
            value_of(self.bias),
        )
        # One product for all four parts, and one for the recurrent ones.
        i, f, g, o = jnp.split(
            add_bias(product(x, weight) + product(h, recurrent), bias), 4, -1
        )
        c = self.gate_fn(f) * c + self.gate_fn(i) * self.activation_fn(g)
        h = self.gate_fn(o) * self.activation_fn(c)
        return (c, h), h
