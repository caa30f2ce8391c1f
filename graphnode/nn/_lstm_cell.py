"""`LSTMCell`, a cell with long short-term memory."""

from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._errors import ContractError
from .._fields import Initializer, state
from .._hints import with_article
from .._state import ParamState
from . import initializers
from ._cell import Cell
from ._checks import check_inputs, place, size
from ._dtypes import add_bias, dtype_of, each, inexact, init_vars, parameter, promoted

Carry: TypeAlias = Float[Array, "*batch hidden_size"]
Input: TypeAlias = Float[Array, "*batch in_size"]


class LSTMCell(Cell[tuple[jax.Array, jax.Array]]):
    """A cell with long short-term memory, which carries a memory `c` and an output `h`.

    With `[i, f, g, o] = x @ weight + h @ recurrent + bias`, in four parts, `c' =
    sigmoid(f) * c + sigmoid(i) * tanh(g)` and `h' = sigmoid(o) * tanh(c')`; the output
    is `h'` (Hochreiter & Schmidhuber 1997, "Long Short-Term Memory"; the forget gate
    from Gers et al. 2000, "Learning to Forget"). The result's dtype is `dtype`, or what
    JAX promotes inputs and parameters to.

    Args:
        in_size: Features of the input.
        hidden_size: Features of memory and output.
        w_init: Initialiser of each part of `weight`.
        recurrent_init: Initialiser of each part of `recurrent`.
        b_init: Initialiser of the bias.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A size that is not a positive integer; inputs of other shapes.

    Example:
        >>> cell = LSTMCell(3, 4)
        >>> (memory, output), y = cell(cell.initial_carry((2,)), jnp.ones((2, 3)))
        >>> memory.shape, y is output
        ((2, 4), True)
    """

    in_size: int
    """Features of the input."""
    hidden_size: int
    """Features of memory and output."""
    _: KW_ONLY
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
    weight: ParamState[Float[Array, "in_size 4*hidden_size"]] = state(init=False)
    """From the input to the input gate, the forget gate, the candidate and the output gate."""
    recurrent: ParamState[Float[Array, "hidden_size 4*hidden_size"]] = state(init=False)
    """From the last output to the same."""
    bias: ParamState[Float[Array, "4*hidden_size"]] = state(init=False)
    """Added to the same."""

    def __post_init__(
        self,
        w_init: Initializer,
        recurrent_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        self.in_size = size("LSTMCell.in_size", self.in_size)
        self.hidden_size = hidden_size = size("LSTMCell.hidden_size", self.hidden_size)
        self.dtype = inexact("LSTMCell.dtype", self.dtype)
        self.weight = parameter(
            each(w_init, 4), (self.in_size, 4 * hidden_size), param_dtype
        )
        self.recurrent = parameter(
            each(recurrent_init, 4), (hidden_size, 4 * hidden_size), param_dtype
        )
        self.bias = parameter(b_init, (4 * hidden_size,), param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return init_vars(self.weight)

    def initial_carry(self, batch: tuple[int, ...] = ()) -> tuple[jax.Array, jax.Array]:
        """Memory and output of zeros, both of shape `[*batch, hidden_size]`."""
        zeros = jnp.zeros((*batch, self.hidden_size), dtype_of(self.dtype, self.weight))
        return zeros, zeros

    def __call__(
        self, carry: tuple[Carry, Carry], x: Input
    ) -> tuple[tuple[Carry, Carry], Carry]:
        """One step, from memory and output of shape `[..., hidden_size]` and `x` of shape `[..., in_size]`.

        Raises:
            ContractError: An array of another shape, or a carry that is not a pair.
        """
        # An array of two rows would unpack too.
        if not isinstance(carry, tuple) or len(carry) != 2:
            found = with_article(type(carry).__name__)
            raise ContractError(
                f"{place(self)}: carry: expected a pair of memory and output; found {found}"
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
            self.bias.value,
        )
        i, f, g, o = jnp.split(add_bias(x @ weight + h @ recurrent, bias), 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h
