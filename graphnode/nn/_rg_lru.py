"""`RGLRU`, the real-gated linear recurrent unit of Griffin."""

import functools
from dataclasses import KW_ONLY, InitVar
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._fields import Initializer, state
from .._state import ParamState
from . import initializers
from ._checks import check_inputs, divisor, size
from ._dtypes import (
    add_bias,
    at_least_float32,
    dtype_of,
    inexact,
    init_vars,
    of_rank,
    parameter,
    promoted,
    stacked,
)
from ._linear_scan import carried_on, linear_scan, with_whole_time
from ._module import Layer
from ._spread import einsum, entries_of, spread, whole

Sequence: TypeAlias = Float[Array, "*batch time width"]
Element: TypeAlias = Float[Array, "*batch width"]

# How many times the decay of a whole gate is that of the parameter: `c` in the paper.
_SHARPNESS: Final = 8.0
# What `a ** c` is drawn from.
_DECAYS: Final = (0.9, 0.999)


class _Terms(NamedTuple):
    """What the formulas are made of, for an input."""

    decays: jax.Array
    inputs: jax.Array
    dtype: Any  # NumPy's, which is generic
    """Of the result."""


class RGLRU(Layer):
    """A linear recurrent unit whose features decide, token by token, how much comes in and how much is kept.

        r[t] = sigmoid(x[t] @ decay_weight + decay_bias)
        i[t] = sigmoid(x[t] @ input_weight + input_bias)
        a[t] = exp(-8 * softplus(decay_log) * r[t])
        h[t] = a[t] * h[t - 1] + sqrt(1 - a[t] ** 2) * i[t] * x[t]

    and the output is `h` (De et al. 2024, "Griffin: Mixing Gated Linear Recurrences
    with Local Attention", eq. 1-4 and 6). The weights of the gates are block-diagonal,
    with a block for each head. A whole sequence is computed at once, by
    `jax.lax.associative_scan`, in at least float32; the dtype of the result is `dtype`,
    or what JAX promotes input and parameters to.

    Published weights of RecurrentGemma take the first element of a sequence without the
    root: give `run` a carry of `i[0] * x[0]`, and the rest.

    Args:
        width: Features of input and output.
        num_heads: Blocks of the weights; divides `width`.
        w_init: Initialiser of each block.
        b_init: Initialiser of the biases.
        dtype: What the result is given in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A width that is not a positive integer, heads that do not divide
            it; an input of another shape.

    Example:
        >>> layer = RGLRU(4, 2)
        >>> gn.eval_shape(layer, jnp.ones((2, 7, 4))).shape
        (2, 7, 4)
        >>> carry, y = layer.step(layer.initial_carry((2,)), jnp.ones((2, 4)))
        >>> y.shape
        (2, 4)
    """

    width: int
    """Features of input and output."""
    num_heads: int = 1
    """Blocks of the weights."""
    _: KW_ONLY
    w_init: InitVar[Initializer] = initializers.lecun_normal
    """Initialiser of the weight."""
    b_init: InitVar[Initializer] = initializers.zeros
    """Initialiser of the bias."""
    dtype: DTypeLike | None = None
    """What the result is given in."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    decay_log: ParamState[Float[Array, "hidden=width"]] = state(init=False)
    """How fast each feature decays at most, before `softplus`."""
    decay_weight: ParamState[
        Float[Array, "heads=num_heads in=width//num_heads hidden=width//num_heads"]
    ] = state(init=False)
    """From the input to the gate of what is kept."""
    decay_bias: ParamState[Float[Array, "hidden=width"]] = state(init=False)
    """Added to the same."""
    input_weight: ParamState[
        Float[Array, "heads=num_heads in=width//num_heads hidden=width//num_heads"]
    ] = state(init=False)
    """From the input to the gate of what comes in."""
    input_bias: ParamState[Float[Array, "hidden=width"]] = state(init=False)
    """Added to the same."""

    def __post_init__(
        self, w_init: Initializer, b_init: Initializer, param_dtype: DTypeLike
    ) -> None:
        self.width = size("RGLRU.width", self.width)
        self.num_heads = divisor("RGLRU.num_heads", self.num_heads, "width", self.width)
        self.dtype = inexact("RGLRU.dtype", self.dtype)
        of_head = self.width // self.num_heads
        blocks = (self.num_heads, of_head, of_head)
        self.decay_log = parameter(_decay_logarithms, (self.width,), param_dtype)
        self.decay_weight = parameter(stacked(w_init), blocks, param_dtype)
        self.decay_bias = parameter(b_init, (self.width,), param_dtype)
        self.input_weight = parameter(stacked(w_init), blocks, param_dtype)
        self.input_bias = parameter(b_init, (self.width,), param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variable that the parameters still show, for `gn.config.to_config`."""
        return init_vars(self.decay_log)

    def initial_carry(self, batch: tuple[int, ...] = ()) -> jax.Array:
        """Zeros of shape `[*batch, width]`."""
        dtype = jnp.dtype(dtype_of(self.dtype, self.decay_log))
        return jnp.zeros((*batch, self.width), at_least_float32(dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `x` of shape `[..., time, width]` to the same shape.

        Raises:
            ContractError: `x` is of another shape.
        """
        check_inputs(self, x=(x, Sequence))
        return self._whole(x, None)[1]

    def run(
        self, x: Sequence, carry: Element | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """What is carried at the end, and the outputs.

        Args:
            x: Of shape `[..., time, width]`.
            carry: What is carried into the first step; by default zeros.

        Raises:
            ContractError: An array of another shape.

        Example:
            >>> layer = RGLRU(4)
            >>> carry, first = layer.run(jnp.ones((5, 4)))
            >>> carry, then = layer.run(jnp.ones((5, 4)), carry)
            >>> then.shape
            (5, 4)
        """
        # Any: to type checkers, the annotations of arrays are not classes.
        arrays: dict[str, tuple[jax.Array, Any]] = {"x": (x, Sequence)}
        if carry is not None:
            arrays["carry"] = (carry, Element)
        check_inputs(self, **arrays)
        states, outputs = self._whole(x, carry)
        zeros = functools.partial(self.initial_carry, x.shape[:-2])
        return carried_on(states, carry, zeros), outputs

    def step(self, carry: Element, x: Element) -> tuple[jax.Array, jax.Array]:
        """One step, from `carry` and `x` of shape `[..., width]`.

        Returns:
            What is carried on, and the output.

        Raises:
            ContractError: An array of another shape.
        """
        check_inputs(self, carry=(carry, Element), x=(x, Element))
        decays, inputs, dtype = self._terms(x)
        after = decays * carry.astype(inputs.dtype) + inputs
        return after, after.astype(dtype)

    def _whole(
        self, x: jax.Array, carry: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """What is carried after each element of a sequence, and the outputs."""
        decays, inputs, dtype = self._terms(with_whole_time(x))
        before = None if carry is None else carry.astype(inputs.dtype)
        states = linear_scan(decays, inputs, before, axis=-2)
        return states, states.astype(dtype)

    def _terms(self, x: jax.Array) -> _Terms:
        """What is kept, and what comes in, of the shape of `x`."""
        values = promoted(
            self.dtype,
            x,
            self.decay_log.value,
            self.decay_weight.value,
            self.decay_bias.value,
            self.input_weight.value,
            self.input_bias.value,
        )
        dtype = values[0].dtype
        wide = at_least_float32(dtype)
        x, decay_log, *of_gates = [value.astype(wide) for value in values]
        entries = entries_of(x)
        if entries is not None:
            x = spread(x, (*entries[:-1], None))
        kept = self._gate(x, *of_gates[:2])
        rates = -_SHARPNESS * jax.nn.softplus(decay_log)
        logarithms = of_rank(rates, kept) * kept
        # 1 - a ** 2, without the loss of digits for `a` near 1. The gradient of the
        # root is infinite at 0.
        least = float(np.finfo(np.float32).tiny)
        squares = jnp.maximum(-jnp.expm1(2 * logarithms), least)
        inputs = jnp.sqrt(squares) * self._gate(x, *of_gates[2:]) * x
        return _Terms(jnp.exp(logarithms), inputs, dtype)

    def _gate(self, x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
        """A gate of each feature, from those of its head."""
        heads = x.reshape(*x.shape[:-1], self.num_heads, weight.shape[-1])
        # Heads are whole, or could not be joined.
        y = einsum("...hi,hio->...ho", heads, whole(weight)).reshape(x.shape)
        return jax.nn.sigmoid(add_bias(y, bias))


def _decay_logarithms(
    key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike
) -> jax.Array:
    """First values of `decay_log`, with which a feature keeps 0.9 to 0.999 of itself if its gate is 1."""
    kept = jax.random.uniform(key, shape, jnp.float32, *_DECAYS)
    # exp(-8 * softplus(x)) is what is kept; the inverse of softplus.
    rates = -jnp.log(kept) / _SHARPNESS
    return jnp.log(jnp.expm1(rates)).astype(dtype)
