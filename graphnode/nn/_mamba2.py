"""`Mamba2`, a state-space layer, which mixes a sequence in a time linear in its length."""

import functools
import math
import operator
from dataclasses import KW_ONLY, InitVar
from typing import Final, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._fields import Initializer, state, static, subnode
from .._signals import write_all
from .._state import ParamState
from . import initializers
from ._checks import check_inputs, divisor, positive, size
from ._dtypes import (
    add_bias,
    at_least_float32,
    dtype_of,
    inexact,
    of_rank,
    optional_parameter,
    parameter,
    value_of,
)
from ._linear import Linear, linear_part
from ._linear_scan import behind
from ._mamba2_cache import Mamba2Cache
from ._module import Layer
from ._parts import shared_vars
from ._spread import entries_of, spread, whole
from ._ssd import ssd

Sequence: TypeAlias = Float[Array, "*batch time width"]
Continued: TypeAlias = Float[Array, "batch time width"]
Window: TypeAlias = Float[Array, "batch window channels"]

# What the authors' code draws from, of the first values of the steps and the decays.
_STEPS: Final = (1e-3, 1e-1)
_DECAYS: Final = (1.0, 16.0)


class Mamba2(Layer):
    """A state-space layer: each head carries a matrix from token to token, and forgets at a rate that the token says.

    From `[z, x, B, C, dt] = in_proj(u)`, where a causal convolution over the last
    `kernel_size` tokens and `silu` go over `x`, `B` and `C`, and with `dt =
    softplus(dt + dt_bias)`, each head computes

        h[t] = exp(-exp(A_log) * dt[t]) * h[t - 1] + dt[t] * outer(x[t], B[t])
        y[t] = h[t] @ C[t] + skip * x[t]

    and the result is `out_proj(rms_norm(y * silu(z)) * norm_scale)` (Dao & Gu 2024,
    "Transformers are SSMs", section 7.1 and figure 6). Within chunks of the sequence it
    is computed as attention is, and states pass from chunk to chunk (section 6 and
    listing 1). All between the two projections is computed in at least float32; the
    dtype of the result is `dtype`, or what JAX promotes input and parameters to.

    Args:
        width: Features of input and output.
        inner_size: Features of all heads; by default `2 * width`.
        head_size: Features of a head; divides `inner_size`.
        state_size: Numbers that a head carries for each of its features.
        num_groups: Heads fall into this number of groups with the same `B` and `C`,
            over which the norm goes, too.
        kernel_size: How many tokens the convolution reaches over.
        chunk_size: Tokens that are computed as attention is. It says how fast, not
            what.
        epsilon: Added to the mean square by the norm.
        use_bias: Whether the projections have biases.
        use_conv_bias: Whether the convolution has one.
        w_init: Initialiser of the weights of projections and convolution.
        b_init: Initialiser of their biases.
        dtype: What the projections compute in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A size that is not a positive integer, heads that do not divide
            the inner size, groups that do not divide the heads; an input of another
            shape.

    Example:
        >>> layer = Mamba2(8, head_size=4, state_size=2)
        >>> gn.eval_shape(layer, jnp.ones((2, 5, 8))).shape
        (2, 5, 8)
    """

    width: int
    """Features of input and output."""
    _: KW_ONLY
    inner_size: int = static(factory=lambda self: 2 * self.width)
    """Features of all heads; by default `2 * width`."""
    head_size: int = 64
    """Features of a head."""
    state_size: int = 128
    """Numbers that a head carries for each of its features."""
    num_groups: int = 1
    """Groups of heads that have the same `B` and `C`."""
    kernel_size: int = 4
    """How many tokens the convolution reaches over."""
    chunk_size: int = 256
    """Tokens that are computed as attention is."""
    epsilon: float = 1e-5
    """Added to the mean square by the norm."""
    use_bias: InitVar[bool] = False
    """Whether there is a bias."""
    use_conv_bias: InitVar[bool] = True
    """Whether the convolution has a bias."""
    w_init: InitVar[Initializer] = initializers.lecun_normal
    """Initialiser of the weight."""
    b_init: InitVar[Initializer] = initializers.zeros
    """Initialiser of the bias."""
    dtype: DTypeLike | None = None
    """What is computed in."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    num_heads: int = static(init=False)
    """Number of heads."""
    channels: int = static(init=False)
    """Channels of the convolution: of `x`, `B` and `C`."""
    in_proj: Linear = subnode(init=False)
    """From the input to `z`, `x`, `B`, `C` and `dt`."""
    out_proj: Linear = subnode(init=False)
    """From all heads to the output."""
    conv_weight: ParamState[Float[Array, "window=kernel_size inner=channels"]] = state(
        init=False
    )
    """The window's weights, oldest token first."""
    conv_bias: ParamState[Float[Array, "inner=channels"]] | None = state(init=False)
    """What is added to each channel, if anything."""
    A_log: ParamState[Float[Array, "heads=num_heads"]] = state(init=False)
    """The logarithm of how fast each head forgets."""
    dt_bias: ParamState[Float[Array, "heads=num_heads"]] = state(init=False)
    """What is added to the steps, before `softplus`."""
    skip: ParamState[Float[Array, "heads=num_heads"]] = state(init=False)
    """How much of its input each head passes on."""
    norm_scale: ParamState[Float[Array, "inner=inner_size"]] = state(init=False)
    """What the normalised features are multiplied with."""
    cache: Mamba2Cache | None = subnode(default=None)
    """What is kept of earlier calls, while a text is decoded."""

    def __post_init__(
        self,
        use_bias: bool,
        use_conv_bias: bool,
        w_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        self._check_sizes()
        self.dtype = inexact("Mamba2.dtype", self.dtype)
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
        # The fans of a matrix are its two axes: here the tokens that a channel sums
        # over.
        self.conv_weight = parameter(
            w_init, (self.kernel_size, self.channels), param_dtype
        )
        self.conv_bias = optional_parameter(
            use_conv_bias, b_init, (self.channels,), param_dtype
        )
        of_heads = (self.num_heads,)
        self.A_log = parameter(_decay_logarithms, of_heads, param_dtype)
        self.dt_bias = parameter(_step_biases, of_heads, param_dtype)
        self.skip = parameter(initializers.ones, of_heads, param_dtype)
        self.norm_scale = parameter(initializers.ones, (self.inner_size,), param_dtype)

    def _check_sizes(self) -> None:
        """Check the static fields, and set those that follow.

        Raises:
            ContractError: A size that does not fit.
        """
        self.width = size("Mamba2.width", self.width)
        self.inner_size = size("Mamba2.inner_size", self.inner_size)
        self.head_size = divisor(
            "Mamba2.head_size", self.head_size, "inner_size", self.inner_size
        )
        self.num_heads = self.inner_size // self.head_size
        self.num_groups = divisor(
            "Mamba2.num_groups", self.num_groups, "num_heads", self.num_heads
        )
        self.state_size = size("Mamba2.state_size", self.state_size)
        self.kernel_size = size("Mamba2.kernel_size", self.kernel_size)
        self.chunk_size = size("Mamba2.chunk_size", self.chunk_size)
        self.epsilon = positive("Mamba2.epsilon", self.epsilon)
        self.channels = self.inner_size + 2 * self.num_groups * self.state_size

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`.

        Raises:
            ConfigError: Linear maps that the constructor does not make; names all.
        """
        shared = shared_vars(
            {
                name: linear_part(getattr(self, name), *sizes, self.dtype)
                for name, sizes in self._sizes().items()
            }
        )
        return {**shared, "use_conv_bias": self.conv_bias is not None}

    def __roles__(self) -> dict[str, dict[str, str]]:
        """What the roles of the linear maps are here."""
        return {
            "in_proj": {"in": "embed", "out": "inner"},
            "out_proj": {"in": "inner", "out": "embed"},
        }

    def _sizes(self) -> dict[str, tuple[int, int]]:
        """Features before and after each of the linear maps, to make them by and, for a config, to check them by."""
        packed = self.inner_size + self.channels + self.num_heads
        return {
            "in_proj": (self.width, packed),
            "out_proj": (self.inner_size, self.width),
        }

    def init_cache(
        self, batch_size: int, dtype: DTypeLike | None = None
    ) -> Mamba2Cache:
        """Give the layer an empty cache, in place of any that it has: from then on, a call continues the sequence.

        Args:
            batch_size: Number of sequences.
            dtype: Of what is kept; by default `dtype`, or that of the parameters, and at
                least float32, as each token adds to it.

        Returns:
            The cache, which is the layer's. `layer.cache = None` takes it away again.
        """
        if dtype is None:
            own = jnp.dtype(dtype_of(self.dtype, self.A_log))
            dtype = at_least_float32(own)
        self.cache = Mamba2Cache(
            batch_size,
            self.num_heads,
            self.head_size,
            self.state_size,
            self.kernel_size - 1,
            self.channels,
            dtype=dtype,
        )
        return self.cache

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `x` of shape `[..., time, width]` to the same shape; with a cache, `[batch_size, time, width]`.

        Raises:
            ContractError: `x` is of another shape.
        """
        cache = self.cache
        if cache is None:
            check_inputs(self, x=(x, Sequence))
            return self._mixed(x, None, None)[0]
        window, carried = cache.conv_state.value, cache.ssm_state.value
        # What is kept says the batch: under `shard_map`, it is a part of `batch_size`.
        check_inputs(self, window=(window, Window), x=(x, Continued))
        y, inputs, states = self._mixed(x, window, carried)
        end = states[..., -1, :, :, :, :].reshape(carried.shape)
        after = (_kept_as(inputs[:, x.shape[1] :], window), _kept_as(end, carried))
        write_all((cache.conv_state, cache.ssm_state), after)
        return y

    def _mixed(
        self, x: jax.Array, window: jax.Array | None, carried: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The result; all inputs of the convolution; and the states between chunks, the last one at the end.

        Args:
            x: Of shape `[..., time, width]`.
            window: The inputs of the convolution before; `None` for zeros.
            carried: The state before; `None` for zeros.
        """
        packed = self.in_proj(x)
        # They are split by features: of each token, all are on one device; and of each
        # sequence, all time.
        entries = entries_of(packed)
        if entries is not None:
            packed = spread(packed, (*entries[:-2], None, None))
        dtype = at_least_float32(packed.dtype)
        ends = (self.inner_size, self.inner_size + self.channels)
        z, inputs, dt = jnp.split(packed.astype(dtype), ends, -1)
        before = None if window is None else window.astype(dtype)
        inputs = behind(before, inputs, self.kernel_size - 1, axis=-2)
        y, states = self._scanned(jax.nn.silu(self._convolved(inputs)), dt, carried)
        y = self._normalized(y * jax.nn.silu(z))
        return self.out_proj(y.astype(packed.dtype)), inputs, states

    def _convolved(self, inputs: jax.Array) -> jax.Array:
        """The convolution of each channel of `[..., kernel_size - 1 + time, channels]`, to `[..., time, channels]`."""
        time = inputs.shape[-2] - self.kernel_size + 1
        weight = whole(self.conv_weight.value).astype(inputs.dtype)
        # A few products that XLA fuses, and no convolution: for one channel alone, those
        # are slow on most devices.
        rows = [
            inputs[..., at : at + time, :] * of_rank(weight[at], inputs)
            for at in range(self.kernel_size)
        ]
        y = functools.reduce(operator.add, rows)
        bias = value_of(self.conv_bias)
        return y if bias is None else add_bias(y, bias.astype(y.dtype))

    def _scanned(
        self, mixed: jax.Array, dt: jax.Array, carried: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """What the heads give, of shape `[..., time, inner_size]`, and their states between chunks.

        Args:
            mixed: `x`, `B` and `C` side by side.
            dt: The steps, before their bias.
            carried: The state before; `None` for zeros.
        """
        *batch, time, _ = mixed.shape
        groups, dtype = self.num_groups, mixed.dtype
        # The heads of a group have one `B` and `C`.
        of_heads = (groups, self.num_heads // groups)
        ends = (self.inner_size, self.inner_size + groups * self.state_size)
        x, b, c = jnp.split(mixed, ends, -1)
        x = x.reshape(*batch, time, *of_heads, self.head_size)
        b, c = (part.reshape(*batch, time, groups, self.state_size) for part in (b, c))
        dt = jax.nn.softplus(add_bias(dt, self.dt_bias.value.astype(dtype)))
        rates = -jnp.exp(self.A_log.value.astype(dtype))
        decays = (dt * of_rank(rates, dt)).reshape(*batch, time, *of_heads)
        dt = dt.reshape(*batch, time, *of_heads, 1)
        if carried is not None:
            shape = (*batch, *of_heads, self.head_size, self.state_size)
            carried = carried.astype(dtype).reshape(shape)
        y, states = ssd(x * dt, decays, b, c, carried, self.chunk_size)
        passed = whole(self.skip.value).astype(dtype).reshape(*of_heads, 1)
        y = y + x * of_rank(passed, x)
        return y.reshape(*batch, time, self.inner_size), states

    def _normalized(self, y: jax.Array) -> jax.Array:
        """The features of each group at mean square 1, times `norm_scale`."""
        of_group = self.inner_size // self.num_groups
        groups = y.reshape(*y.shape[:-1], self.num_groups, of_group)
        squares = jnp.square(groups).mean(-1, keepdims=True)
        y = (groups * jax.lax.rsqrt(squares + self.epsilon)).reshape(y.shape)
        return y * of_rank(self.norm_scale.value.astype(y.dtype), y)


def _kept_as(new: jax.Array, before: jax.Array) -> jax.Array:
    """What is kept, as what was kept before: perhaps in less precision, and spread like it."""
    new = new.astype(before.dtype)
    entries = entries_of(before)
    return new if entries is None else spread(new, entries)


def _decay_logarithms(
    key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike
) -> jax.Array:
    """First values of `A_log`, as in the authors' code."""
    decays = jax.random.uniform(key, shape, jnp.float32, *_DECAYS)
    return jnp.log(decays).astype(dtype)


def _step_biases(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """First values of `dt_bias`, as in the authors' code: with them alone, steps have uniform logarithms."""
    low, high = map(math.log, _STEPS)
    steps = jnp.exp(jax.random.uniform(key, shape, jnp.float32, low, high))
    # The inverse of softplus
    return (steps + jnp.log(-jnp.expm1(-steps))).astype(dtype)
