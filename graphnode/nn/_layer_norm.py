"""`LayerNorm`, which normalises the features of each element of a batch."""

from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._fields import state
from .._state import ParamState
from . import initializers
from ._checks import check_inputs, positive, size
from ._dtypes import inexact, optional_parameter
from ._module import Layer
from ._normalize import norm_vars, result_dtype, scaled, widened

Features: TypeAlias = Float[Array, "... width"]


class LayerNorm(Layer):
    """Normalises the features of each element to mean 0 and variance 1, then scales and shifts them.

    `y = scale * (x - mean) / sqrt(var + epsilon) + bias`, where mean and biased
    variance are taken over the last axis (Ba et al. 2016, "Layer Normalization", eq.
    4). The work is done in at least float32; the result has the dtype of `x`.

    Args:
        width: Features: the size of the last axis.
        epsilon: Added to the variance.
        use_scale: Whether there is a scale.
        use_bias: Whether there is a bias.
        dtype: The dtype of the result, in place of that of `x`.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A width that is not a positive integer, an epsilon that is not
            positive; an input of another size or dtype.

    Example:
        >>> LayerNorm(2)(jnp.array([[0.0, 200.0], [30.0, 10.0]])).tolist()
        [[-1.0, 1.0], [1.0, -1.0]]
    """

    width: int
    """Size of the last axis."""
    _: KW_ONLY
    epsilon: float = 1e-6
    """Added to the variance."""
    use_scale: InitVar[bool] = True
    """Whether there is a scale."""
    use_bias: InitVar[bool] = True
    """Whether there is a bias."""
    dtype: DTypeLike | None = None
    """The dtype of the result."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    scale: ParamState[Float[Array, "embed=width"]] | None = state(init=False)
    """What the normalised features are multiplied with, if anything."""
    bias: ParamState[Float[Array, "embed=width"]] | None = state(init=False)
    """What is added to them, if anything."""

    def __post_init__(
        self, use_scale: bool, use_bias: bool, param_dtype: DTypeLike
    ) -> None:
        self.width = size("LayerNorm.width", self.width)
        self.epsilon = positive("LayerNorm.epsilon", self.epsilon)
        self.dtype = inexact("LayerNorm.dtype", self.dtype)
        self.scale = optional_parameter(
            use_scale, initializers.ones, (self.width,), param_dtype
        )
        self.bias = optional_parameter(
            use_bias, initializers.zeros, (self.width,), param_dtype
        )

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return norm_vars(scale=self.scale, bias=self.bias)

    def __call__(self, x: Features) -> Features:
        """Normalise `x` of shape `[..., width]`.

        Raises:
            ContractError: The last axis of `x` is not `width`, or its dtype is not a
                floating-point one.
        """
        check_inputs(self, x=(x, Features))
        values = widened(x)
        mean = values.mean(-1, keepdims=True)
        # Subtracted first: the mean of the squares, less the square of the mean, would
        # lose digits.
        values = values - mean
        var = jnp.square(values).mean(-1, keepdims=True)
        factor = jax.lax.rsqrt(var + self.epsilon)
        return scaled(values, factor, self.scale, self.bias).astype(
            result_dtype(self.dtype, x)
        )
