"""`PReLU`, a rectifier whose slope is learnt."""

from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._fields import state, static
from .._state import ParamState
from . import initializers
from ._checks import check_inputs, finite, size
from ._dtypes import inexact, init_vars, of_rank, parameter, promoted
from ._module import Layer

Numbers: TypeAlias = Float[Array, "..."]
Features: TypeAlias = Float[Array, "... width"]


class PReLU(Layer):
    """A rectifier whose slope below 0 is learnt: `y = x` where `x >= 0`, else `negative_slope * x`.

    He et al. 2015, "Delving Deep into Rectifiers", eq. 1. The dtype of the result is
    `dtype`, or what JAX promotes input and slope to.

    Args:
        width: Features, the size of the last axis, for a slope of each; by default all
            have one.
        negative_slope_init: The slope at the start. PyTorch begins with 0.25.
        dtype: What is computed in.
        param_dtype: Dtype of the slope.

    Raises:
        ContractError: A width that is not a positive integer, a slope that is not a
            finite number; an input of another size, or not of a floating-point dtype.

    Example:
        >>> PReLU(negative_slope_init=0.25)(jnp.array([-2.0, 2.0])).tolist()
        [-0.5, 2.0]
    """

    width: int | None = None
    """Size of the last axis, for a slope of each feature."""
    _: KW_ONLY
    negative_slope_init: InitVar[float] = 0.01
    """The slope at the start."""
    dtype: DTypeLike | None = None
    """What is computed in."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    shape: tuple[int, ...] = static(init=False)
    """Of the slope: `width`, or nothing."""
    negative_slope: ParamState[Float[Array, "*channels=shape"]] = state(init=False)
    """What is multiplied with below 0."""

    def __post_init__(self, negative_slope_init: float, param_dtype: DTypeLike) -> None:
        if self.width is not None:
            self.width = size("PReLU.width", self.width)
        self.shape = () if self.width is None else (self.width,)
        self.dtype = inexact("PReLU.dtype", self.dtype)
        slope = finite("PReLU.negative_slope_init", negative_slope_init)
        constant = initializers.Constant(slope)
        self.negative_slope = parameter(constant, self.shape, param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the slope still shows, for `gn.config.to_config`."""
        return init_vars(self.negative_slope)

    def __call__(self, x: Numbers) -> Numbers:
        """Apply it to `x`, of shape `[..., width]` if there is a width.

        Raises:
            ContractError: The last axis of `x` is not `width`, or its dtype is not a
                floating-point one.
        """
        check_inputs(self, x=(x, Numbers if self.width is None else Features))
        x, slope = promoted(self.dtype, x, self.negative_slope.value)
        return jnp.where(x >= 0, x, of_rank(slope, x) * x)
