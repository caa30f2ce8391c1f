"""`BatchNorm`, which normalises each feature over a batch."""

from dataclasses import KW_ONLY, InitVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import ContractError
from .._fields import state
from .._state import BatchState, ParamState
from ._checks import fraction, positive, size
from ._module import Module


class BatchNorm(Module):
    """Normalises each feature to mean 0 and variance 1 over the batch, then scales and shifts it.

    `y = scale * (x - mean) / sqrt(var + epsilon) + bias`, where mean and variance are taken over all axes but the last
    (Ioffe & Szegedy 2015, "Batch Normalization", algorithm 1). A call in training also moves the running averages,
    `running = momentum * running + (1 - momentum) * batch`, with the batch's biased variance; the paper's algorithm 2
    takes the unbiased one. A deterministic call uses the running averages, and writes nothing.

    The work is done in the dtype of the statistics, float32; the result has the dtype of `x`.

    Args:
        width: Features: the size of the last axis.
        momentum: How much of the running averages stays at each call.
        epsilon: Added to the variance.
        use_scale: Whether there is a scale.
        use_bias: Whether there is a bias.
        deterministic: Whether the running averages are used; `gn.view(model, deterministic=True)` sets it everywhere.

    Raises:
        ContractError: A width that is not a positive integer, a momentum outside of [0, 1], an epsilon that is not
            positive; an input of another size or dtype.

    Example:
        >>> layer = BatchNorm(1)
        >>> layer(jnp.array([[0.0], [200.0]])).tolist()
        [[-1.0], [1.0]]
        >>> layer.mean.value
        Array([1.], dtype=float32)
    """

    width: int
    """Size of the last axis."""
    _: KW_ONLY
    momentum: float = 0.99
    """How much of the running averages stays at each call."""
    epsilon: float = 1e-5
    """Added to the variance."""
    use_scale: InitVar[bool] = True
    use_bias: InitVar[bool] = True
    deterministic: bool = False
    """Whether the running averages are used."""
    scale: ParamState[Float[Array, "width"]] | None = state(init=False)
    """What the normalised features are multiplied with, if anything."""
    bias: ParamState[Float[Array, "width"]] | None = state(init=False)
    """What is added to them, if anything."""
    mean: BatchState[Float[Array, "width"]] = state(jax.nn.initializers.zeros)
    """Running average of the mean."""
    var: BatchState[Float[Array, "width"]] = state(jax.nn.initializers.ones)
    """Running average of the variance."""

    def __post_init__(self, use_scale: bool, use_bias: bool) -> None:
        self.width = size("BatchNorm.width", self.width)
        self.momentum = fraction("BatchNorm.momentum", self.momentum)
        self.epsilon = positive("BatchNorm.epsilon", self.epsilon)
        dtype = self.mean.value.dtype
        self.scale = ParamState(jnp.ones(self.width, dtype)) if use_scale else None
        self.bias = ParamState(jnp.zeros(self.width, dtype)) if use_bias else None

    def __init_vars__(self) -> dict[str, object]:
        """What it was made with, for `gn.config.to_config`."""
        return {"use_scale": self.scale is not None, "use_bias": self.bias is not None}

    def __call__(self, x: jax.Array, *, deterministic: bool | None = None) -> jax.Array:
        """Normalise `x` of shape `[..., width]`.

        Args:
            x: The batch.
            deterministic: Used instead of the layer's own.

        Raises:
            ContractError: The last axis of `x` is not `width`, its dtype is not a floating-point one, or it is empty.
            TraceError: A JAX transformation runs that the layer was not passed into, and it is not deterministic.
        """
        is_training = not (self.deterministic if deterministic is None else deterministic)
        self._check_input(x, is_training)
        values = x.astype(self.mean.value.dtype)
        if is_training:
            axes = tuple(range(x.ndim - 1))
            mean, var = jnp.mean(values, axes), jnp.var(values, axes)
            kept = self.momentum
            self.mean.value = kept * self.mean.value + (1.0 - kept) * mean
            self.var.value = kept * self.var.value + (1.0 - kept) * var
        else:
            mean, var = self.mean.value, self.var.value
        factor = jax.lax.rsqrt(var + self.epsilon)
        if self.scale is not None:
            factor = factor * self.scale.value
        y = (values - _of_rank(mean, x)) * _of_rank(factor, x)
        if self.bias is not None:
            y = y + _of_rank(self.bias.value, x)
        return y.astype(x.dtype)

    def _check_input(self, x: jax.Array, is_training: bool) -> None:
        if x.shape[-1:] != (self.width,):
            raise ContractError(f"BatchNorm: expected an input of shape (..., width={self.width}); found {x.shape}")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ContractError(f"BatchNorm: expected an input of a floating-point dtype; found {x.dtype}")
        if is_training and x.size == 0:
            raise ContractError(f"BatchNorm: an empty batch has no mean; found an input of shape {x.shape}")


def _of_rank(one_each: jax.Array, x: jax.Array) -> jax.Array:
    """Values for each feature in the rank of `x`, as JAX may be told to refuse rank promotion."""
    return jnp.expand_dims(one_each, range(x.ndim - 1))
