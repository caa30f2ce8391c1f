"""`MixtureOfExperts`, of which each token passes through a few, and `Routing`, which says through which."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._constrain import constrained
from .._errors import ContractError
from .._fields import Initializer, state, static
from .._state import ParamState
from . import initializers
from ._checks import check_inputs, function, place, positive, size
from ._dtypes import (
    at_least_float32,
    inexact,
    init_vars,
    optional_parameter,
    parameter,
    promoted,
    stacked,
    value_of,
)
from ._module import Layer
from ._spread import by_compiler, entries_of, product, spread

Input: TypeAlias = Float[Array, "... width"]
# A product of the rows of each expert with that expert's matrix.
Multiply: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]


class Routing(NamedTuple):
    """Which experts each token of a call went to, and the losses that keep them evenly busy.

    Example:
        >>> layer = gn.nn.MixtureOfExperts(4, 8, 3)
        >>> y, routing = layer.run(jnp.ones((5, 4)))
        >>> routing.experts.shape, routing.load_balance_loss().shape
        ((5, 2), ())
    """

    logits: jax.Array
    """What the router gave for each expert, of shape `[..., num_experts]`."""
    experts: jax.Array
    """The numbers of the chosen experts, best first, of shape `[..., top_k]`."""
    weights: jax.Array
    """What their outputs are multiplied with, of shape `[..., top_k]`."""

    def load_balance_loss(self) -> jax.Array:
        """How unevenly the experts are chosen: 1 if evenly, up to their number.

        `num_experts * sum(f * p)`, where `f` is each expert's share of the choices and
        `p` its mean probability (Fedus et al. 2021, "Switch Transformers", eq. 4-6; for
        several choices, those of all count alike). Add it to the loss, times a number
        such as 0.01.
        """
        num_experts = self.logits.shape[-1]
        probabilities = jax.nn.softmax(self.logits).reshape(-1, num_experts)
        choices = jax.nn.one_hot(
            self.experts.reshape(-1), num_experts, dtype=probabilities.dtype
        )
        # Of no tokens, it is 0 and not NaN.
        share = choices.sum(0) / max(1, choices.shape[0])
        mean = probabilities.sum(0) / max(1, probabilities.shape[0])
        return num_experts * jnp.sum(share * mean)

    def z_loss(self) -> jax.Array:
        """How large the router's logits are, which rounds them off in half precision.

        The mean of `logsumexp(logits) ** 2` (Zoph et al. 2022, "ST-MoE", eq. 5).
        """
        squares = jnp.square(jax.nn.logsumexp(self.logits, -1))
        return squares.sum() / max(1, squares.size)


class MixtureOfExperts(Layer):
    """Perceptrons, the experts, of which each token passes through the few that a router chooses for it.

    `sum of w[e] * expert[e](x)` over the `top_k` experts of the largest `softmax(x @
    router)` (Shazeer et al. 2017, "Outrageously Large Neural Networks", eq. 1). Experts
    are as `GatedMLP` without biases (Jiang et al. 2024, "Mixtral of Experts", section
    2.1), or `down(act(up(x)))` (Fedus et al. 2021, "Switch Transformers"). Their weights
    are stacked along an axis with the role "expert", by which a plan puts them on
    different devices. The router computes in at least float32.

    Without a capacity, no token is dropped: `jax.lax.ragged_dot` multiplies the tokens
    of each expert, however many, with its weights. On a CPU, JAX has each expert
    multiply all tokens. With a capacity, all experts have buffers of the same size,
    which is what an exchange between devices needs; of the tokens for an expert that is
    full, first choices and earlier tokens go before, and the rest gets zeros of it.

    Args:
        width: Features of input and output.
        hidden_size: Features in the middle of an expert.
        num_experts: Number of experts.
        top_k: How many of them each token passes through.
        normalize: Whether the weights of the chosen experts sum to 1, rather than the
            probabilities of all; by default if there are several, since the router
            would get no gradient of the one.
        capacity_factor: How many times its even share of tokens an expert has room for;
            by default for all.
        act: Applied in the middle: to the gate, if there is one.
        use_gate: Whether the hidden features are gated.
        w_init: Initialiser of each expert's weights, and of the router's.
        dtype: What the experts compute in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A size that is not a positive integer, more choices than experts,
            a factor that is not positive; an input of another size; a `jax.vmap`
            that maps the input alone, without a capacity, which JAX cannot.

    Example:
        >>> layer = MixtureOfExperts(4, 8, 3, top_k=2)
        >>> layer.up.value.shape, layer(jnp.ones((5, 4))).shape
        ((3, 4, 8), (5, 4))
    """

    width: int
    """Features of input and output."""
    hidden_size: int
    """Features in the middle of an expert."""
    num_experts: int
    """Number of experts."""
    _: KW_ONLY
    top_k: int = 2
    """How many of them each token passes through."""
    normalize: bool = static(factory=lambda self: self.top_k != 1)
    """Whether the weights of the chosen experts sum to 1."""
    capacity_factor: float | None = None
    """How many times its even share of tokens an expert has room for."""
    act: Callable[[jax.Array], jax.Array] = static(default=jax.nn.silu)
    """Applied in the middle: to the gate, if there is one."""
    use_gate: InitVar[bool] = True
    """Whether the hidden features are gated."""
    w_init: InitVar[Initializer] = initializers.lecun_normal
    """Initialiser of the weight."""
    dtype: DTypeLike | None = None
    """What is computed in."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    router: ParamState[Float[Array, "embed=width expert=num_experts"]] = state(
        init=False
    )
    """From a token to the logits of the experts."""
    gate: (
        ParamState[Float[Array, "expert=num_experts embed=width mlp=hidden_size"]]
        | None
    ) = state(init=False)
    """What decides how much of each hidden feature passes, if there is a gate."""
    up: ParamState[Float[Array, "expert=num_experts embed=width mlp=hidden_size"]] = (
        state(init=False)
    )
    """From a token to the hidden features."""
    down: ParamState[Float[Array, "expert=num_experts mlp=hidden_size embed=width"]] = (
        state(init=False)
    )
    """From the hidden features to the output."""

    def __post_init__(
        self, use_gate: bool, w_init: Initializer, param_dtype: DTypeLike
    ) -> None:
        self.width = size("MixtureOfExperts.width", self.width)
        self.hidden_size = size("MixtureOfExperts.hidden_size", self.hidden_size)
        self.num_experts = size("MixtureOfExperts.num_experts", self.num_experts)
        self.top_k = size("MixtureOfExperts.top_k", self.top_k)
        if self.top_k > self.num_experts:
            raise ContractError(
                f"MixtureOfExperts.top_k: expected at most num_experts={self.num_experts}; found {self.top_k}"
            )
        if self.capacity_factor is not None:
            self.capacity_factor = positive(
                "MixtureOfExperts.capacity_factor", self.capacity_factor
            )
        self.act = function("MixtureOfExperts.act", self.act)
        self.dtype = inexact("MixtureOfExperts.dtype", self.dtype)
        inward = (self.num_experts, self.width, self.hidden_size)
        outward = (self.num_experts, self.hidden_size, self.width)
        each = stacked(w_init)
        self.router = parameter(w_init, (self.width, self.num_experts), param_dtype)
        self.gate = optional_parameter(use_gate, each, inward, param_dtype)
        self.up = parameter(each, inward, param_dtype)
        self.down = parameter(each, outward, param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return {"use_gate": self.gate is not None, **init_vars(self.up)}

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `x` of shape `[..., width]` to the same shape.

        Raises:
            ContractError: The last axis of `x` is not `width`.
        """
        return self.run(x)[0]

    def run(self, x: jax.Array) -> tuple[jax.Array, Routing]:
        """What a call gives, and which experts each token went to: for the losses that balance them.

        Args:
            x: Of shape `[..., width]`.

        Raises:
            ContractError: The last axis of `x` is not `width`.

        Example:
            >>> layer = MixtureOfExperts(4, 8, 3)
            >>> y, routing = layer.run(jnp.ones((5, 4)))
            >>> loss = jnp.mean(y**2) + 0.01 * routing.load_balance_loss()
        """
        check_inputs(self, x=(x, Input))
        tokens, gate, up, down = promoted(
            self.dtype, x, value_of(self.gate), self.up.value, self.down.value
        )
        routing = self._route(tokens)
        layout = entries_of(tokens)

        def mix(
            tokens: jax.Array, experts: jax.Array, weights: jax.Array, *matrices: Any
        ) -> jax.Array:
            """The experts' outputs, each times its weight."""
            flat = tokens.reshape(math.prod(tokens.shape[:-1]), self.width)
            chosen = experts.reshape(len(flat), self.top_k)
            # Inside of `by_compiler`, all layouts are the compiler's.
            lay_out = constrained if layout is None else _as_it_is
            outputs = self._outputs(flat, chosen, matrices, lay_out)
            scales = weights.reshape(chosen.shape).astype(outputs.dtype)
            return jnp.einsum("tkd,tk->td", outputs, scales).reshape(tokens.shape)

        y = by_compiler(
            mix, layout, tokens, routing.experts, routing.weights, gate, up, down
        )
        return y, routing

    def _route(self, tokens: jax.Array) -> Routing:
        """Choose the experts of each token."""
        dtype = at_least_float32(tokens.dtype)
        logits = product(tokens.astype(dtype), self.router.value.astype(dtype))
        entries = entries_of(logits)
        if entries is not None:
            # All experts of a token are compared on one device.
            logits = spread(logits, (*entries[:-1], None))
        weights, experts = jax.lax.top_k(jax.nn.softmax(logits), self.top_k)
        if self.normalize:
            weights = weights / weights.sum(-1, keepdims=True)
        return Routing(logits, experts, weights)

    def _outputs(
        self,
        tokens: jax.Array,
        chosen: jax.Array,
        # Any: the first one may be None, which no row of types says.
        matrices: tuple[Any, ...],
        lay_out: Callable[..., jax.Array],
    ) -> jax.Array:
        """What its experts give for each token, of shape `[tokens, top_k, width]`.

        Args:
            tokens: Of shape `[tokens, width]`.
            chosen: The numbers of their experts, of shape `[tokens, top_k]`.
            matrices: Of the gate or `None`, up, and down.
            lay_out: Lays out an array by the roles of its axes.
        """
        if self.capacity_factor is None:
            return self._dropless(tokens, chosen, matrices)
        even = self.top_k * len(tokens) / self.num_experts
        # An expert is chosen once by a token, so that there are no more than tokens.
        room = max(1, min(len(tokens), math.ceil(even * self.capacity_factor)))
        return self._with_room(tokens, chosen, matrices, room, lay_out)

    def _dropless(
        self, tokens: jax.Array, chosen: jax.Array, matrices: tuple[Any, ...]
    ) -> jax.Array:
        """For `_outputs`: sort by experts, so that each has its tokens in a row.

        chosen    [[2, 0], [0, 1]]     order     [1, 2, 3, 0], by the expert
        sizes     [2, 1, 1]            rows      tokens [0, 1, 1, 0]
        """
        flat = chosen.reshape(-1)
        order = jnp.argsort(flat)
        sizes = jnp.bincount(flat, length=self.num_experts).astype(jnp.int32)

        def multiply(rows: jax.Array, weights: jax.Array) -> jax.Array:
            """The rows of each expert with its weights."""
            try:
                return jax.lax.ragged_dot(rows, weights, sizes)
            except NotImplementedError as error:
                raise ContractError(
                    f"{place(self)}: JAX cannot map an input without its experts by vmap, as they get rows of any "
                    "number; pass batch axes to the layer itself, or give it a capacity_factor"
                ) from error

        outputs = self._experts(tokens[order // self.top_k], matrices, multiply)
        # The inverse of a permutation is what sorts it.
        return outputs[jnp.argsort(order)].reshape(*chosen.shape, self.width)

    def _with_room(
        self,
        tokens: jax.Array,
        chosen: jax.Array,
        matrices: tuple[Any, ...],
        room: int,
        lay_out: Callable[..., jax.Array],
    ) -> jax.Array:
        """For `_outputs`: put tokens into a buffer of each expert, as far as there is room."""
        # All first choices, then all second ones: those find room before these.
        flat = chosen.T.reshape(-1)
        is_chosen = jax.nn.one_hot(flat, self.num_experts, dtype=jnp.int32)
        count = jnp.sum(jnp.cumsum(is_chosen, 0) * is_chosen, 1, dtype=jnp.int32)
        rank = count - 1
        # What finds none gets a place behind all buffers, where writes are dropped and
        # reads are 0.
        slots = jnp.where(
            rank < room, flat * room + rank, jnp.int32(self.num_experts * room)
        )
        shape = (self.num_experts, room, self.width)
        empty = jnp.zeros((self.num_experts * room, self.width), tokens.dtype)
        rows = jnp.tile(tokens, (self.top_k, 1))
        buffers = empty.at[slots].set(rows, mode="drop").reshape(shape)

        def multiply(rows: jax.Array, weights: jax.Array) -> jax.Array:
            """The buffer of each expert with its weights."""
            return lay_out(rows @ weights, "expert", None, None)

        buffers = lay_out(buffers, "expert", None, None)
        outputs = self._experts(buffers, matrices, multiply).reshape(empty.shape)
        found = outputs.at[slots].get(mode="fill", fill_value=0)
        return found.reshape(self.top_k, len(tokens), self.width).swapaxes(0, 1)

    def _experts(
        self, rows: jax.Array, matrices: tuple[Any, ...], multiply: Multiply
    ) -> jax.Array:
        """What each expert makes of its rows."""
        gate, up, down = matrices
        hidden = multiply(rows, up)
        if gate is None:
            return multiply(self.act(hidden), down)
        return multiply(self.act(multiply(rows, gate)) * hidden, down)


def _as_it_is(x: jax.Array, *roles: str | None) -> jax.Array:
    """In place of `constrained`: the compiler lays out the array."""
    del roles
    return x
