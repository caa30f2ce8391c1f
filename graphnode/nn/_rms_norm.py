"""`RMSNorm`, which scales the features of each element of a batch to mean square 1."""

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


class RMSNorm(Layer):
    """Scales the features of each element to mean square 1, then by a parameter.

    `y = scale * x / sqrt(mean(x ** 2) + epsilon)`, where the mean is taken over the
    last axis (Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", eq. 4).
    The work is done in at least float32; the result has the dtype of `x`.

    Args:
        width: Features: the size of the last axis.
        epsilon: Added to the mean square.
        use_scale: Whether there is a scale.
        dtype: The dtype of the result, in place of that of `x`.
        param_dtype: Dtype of the scale.

    Raises:
        ContractError: A width that is not a positive integer, an epsilon that is not
            positive; an input of another size or dtype.

    Example:
        >>> RMSNorm(2)(jnp.array([100.0, -700.0])).tolist()
        [0.2, -1.4]
    """

    width: int
    """Size of the last axis."""
    _: KW_ONLY
    epsilon: float = 1e-6
    """Added to the mean square."""
    use_scale: InitVar[bool] = True
    """Whether there is a scale."""
    dtype: DTypeLike | None = None
    """The dtype of the result."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    scale: ParamState[Float[Array, "embed=width"]] | None = state(init=False)
    """What the result is multiplied with, if anything."""

    def __post_init__(self, use_scale: bool, param_dtype: DTypeLike) -> None:
        self.width = size("RMSNorm.width", self.width)
        self.epsilon = positive("RMSNorm.epsilon", self.epsilon)
        self.dtype = inexact("RMSNorm.dtype", self.dtype)
        self.scale = optional_parameter(
            use_scale, initializers.ones, (self.width,), param_dtype
        )

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the scale still shows, for `gn.config.to_config`."""
        return norm_vars(scale=self.scale)

    def __call__(self, x: Features) -> Features:
        """Normalise `x` of shape `[..., width]`.

        Raises:
            ContractError: The last axis of `x` is not `width`, or its dtype is not a
                floating-point one.
        """
        check_inputs(self, x=(x, Features))
        values = widened(x)
        factor = jax.lax.rsqrt(
            jnp.square(values).mean(-1, keepdims=True) + self.epsilon
        )
        return scaled(values, factor, self.scale, None).astype(
            result_dtype(self.dtype, x)
        )
