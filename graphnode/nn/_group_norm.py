"""`GroupNorm`, which normalises groups of features over all positions of each element of a batch."""

from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._errors import ContractError
from .._fields import state
from .._state import ParamState
from . import initializers
from ._checks import check_inputs, count, divisor, place, positive, size
from ._dtypes import inexact, optional_parameter
from ._module import Layer
from ._normalize import norm_vars, result_dtype, scaled, widened

Features: TypeAlias = Float[Array, "... width"]


class GroupNorm(Layer):
    """Normalises groups of features to mean 0 and variance 1 over all positions, then scales and shifts each feature.

    `y = scale * (x - mean) / sqrt(var + epsilon) + bias`, where mean and biased
    variance are taken over the features of a group and over all axes after the batch
    (Wu & He 2018, "Group Normalization", eq. 1 and 7). With as many groups as features
    it is instance normalisation. The work is done in at least float32; the result has
    the dtype of `x`.

    Args:
        width: Features: the size of the last axis.
        num_groups: Number of groups of features that follow each other.
        batch_axes: How many leading axes of the input are a batch, whose elements do
            not see each other.
        epsilon: Added to the variance.
        use_scale: Whether there is a scale.
        use_bias: Whether there is a bias.
        dtype: The dtype of the result, in place of that of `x`.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A width that is not a positive integer, groups that do not divide
            it, an epsilon that is not positive; an input of another size or dtype, or
            with too few axes.

    Example:
        >>> GroupNorm(4, 2)(jnp.array([[0.0, 200.0, 30.0, 10.0]])).tolist()
        [[-1.0, 1.0, 1.0, -1.0]]
    """

    width: int
    """Size of the last axis."""
    num_groups: int
    """Number of groups of features that follow each other."""
    _: KW_ONLY
    batch_axes: int = 1
    """How many leading axes of the input are a batch."""
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
    scale: ParamState[Float[Array, "channels=width"]] | None = state(init=False)
    """What the normalised features are multiplied with, if anything."""
    bias: ParamState[Float[Array, "channels=width"]] | None = state(init=False)
    """What is added to them, if anything."""

    def __post_init__(
        self, use_scale: bool, use_bias: bool, param_dtype: DTypeLike
    ) -> None:
        self.width = size("GroupNorm.width", self.width)
        self.num_groups = divisor(
            "GroupNorm.num_groups", self.num_groups, "width", self.width
        )
        self.batch_axes = count("GroupNorm.batch_axes", self.batch_axes)
        self.epsilon = positive("GroupNorm.epsilon", self.epsilon)
        self.dtype = inexact("GroupNorm.dtype", self.dtype)
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
        """Normalise `x` of shape `[*batch, *positions, width]`.

        Raises:
            ContractError: The last axis of `x` is not `width`, its dtype is not a
                floating-point one, or it has not more axes than the batch.
        """
        check_inputs(self, x=(x, Features))
        if x.ndim <= self.batch_axes:
            expected = f"more axes than the {self.batch_axes} of the batch"
            raise ContractError(
                f"{place(self)}: x: expected {expected}; found shape {x.shape}"
            )
        grouped = widened(x).reshape(
            *x.shape[:-1], self.num_groups, self.width // self.num_groups
        )
        # All positions, and the features in a group; the axis of groups is between
        # them.
        axes = (*range(self.batch_axes, x.ndim - 1), x.ndim)
        # Subtracted first: the mean of the squares, less that of the mean, would lose
        # digits.
        grouped = grouped - grouped.mean(axes, keepdims=True)
        var = jnp.square(grouped).mean(axes, keepdims=True)
        y = (grouped * jax.lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        return scaled(y, None, self.scale, self.bias).astype(
            result_dtype(self.dtype, x)
        )
