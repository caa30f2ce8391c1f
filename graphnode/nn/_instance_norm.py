"""`InstanceNorm`, which normalises each feature over all positions of each element of a batch."""

from dataclasses import KW_ONLY, InitVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._errors import ContractError
from .._fields import Initializer, state
from .._state import ParamState
from . import initializers
from ._checks import check_inputs, count, place, positive, size
from ._dtypes import inexact, optional_parameter
from ._module import Layer
from ._normalize import (
    AxisName,
    Features,
    Mask,
    axis_names,
    norm_vars,
    result_dtype,
    sample_of,
    scaled,
    whole_mask,
    widened,
)


class InstanceNorm(Layer):
    """Normalises each feature to mean 0 and variance 1 over all positions, then scales and shifts it.

    `y = scale * (x - mean) / sqrt(var + epsilon) + bias`, where mean and biased
    variance are taken over all axes between the batch and the features (Ulyanov et al.
    2016, "Instance Normalization: The Missing Ingredient for Fast Stylization", eq. 3).
    The work is done in at least float32; the result has the dtype of `x`.

    Args:
        width: Features: the size of the last axis.
        batch_axes: How many leading axes of the input are a batch, whose elements do
            not see each other.
        epsilon: Added to the variance.
        use_scale: Whether there is a scale.
        use_bias: Whether there is a bias.
        scale_init: Initialiser of the scale.
        bias_init: Initialiser of the bias.
        axis_name: The axis of `gn.vmap` or `gn.shard_map` along which the statistics are
            taken too, over all that is mapped or all devices.
        dtype: The dtype of the result, in place of that of `x`.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A width that is not a positive integer, an epsilon that is not
            positive; an input of another size or dtype, or without positions.

    Example:
        >>> InstanceNorm(2)(jnp.array([[[0.0, 30.0], [200.0, 10.0]]])).tolist()
        [[[-1.0, 1.0], [1.0, -1.0]]]
    """

    width: int
    """Size of the last axis."""
    _: KW_ONLY
    batch_axes: int = 1
    """How many leading axes of the input are a batch."""
    epsilon: float = 1e-6
    """Added to the variance."""
    use_scale: InitVar[bool] = True
    """Whether there is a scale."""
    use_bias: InitVar[bool] = True
    """Whether there is a bias."""
    scale_init: InitVar[Initializer] = initializers.ones
    """Initialiser of the scale."""
    bias_init: InitVar[Initializer] = initializers.zeros
    """Initialiser of the bias."""
    axis_name: AxisName | None = None
    """The axis of devices along which statistics are taken too."""
    dtype: DTypeLike | None = None
    """The dtype of the result."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    scale: ParamState[Float[Array, "channels=width"]] | None = state(init=False)
    """What the normalised features are multiplied with, if anything."""
    bias: ParamState[Float[Array, "channels=width"]] | None = state(init=False)
    """What is added to them, if anything."""

    def __post_init__(
        self,
        use_scale: bool,
        use_bias: bool,
        scale_init: Initializer,
        bias_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        self.width = size("InstanceNorm.width", self.width)
        self.batch_axes = count("InstanceNorm.batch_axes", self.batch_axes)
        self.epsilon = positive("InstanceNorm.epsilon", self.epsilon)
        self.axis_name = axis_names("InstanceNorm.axis_name", self.axis_name)
        self.dtype = inexact("InstanceNorm.dtype", self.dtype)
        shape = (self.width,)
        self.scale = optional_parameter(use_scale, scale_init, shape, param_dtype)
        self.bias = optional_parameter(use_bias, bias_init, shape, param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return norm_vars(scale=self.scale, bias=self.bias)

    def __call__(self, x: Features, *, mask: Mask | None = None) -> Features:
        """Normalise `x` of shape `[*batch, *positions, width]`.

        Args:
            x: The features.
            mask: Which elements count in the statistics, of a shape that broadcasts to that
                of `x`. All are normalised. Where none counts, the mean is 0, and so is the
                variance.

        Raises:
            ContractError: The last axis of `x` is not `width`, its dtype is not a
                floating-point one, or it has no axis between batch and features; a mask
                of another shape, or that is not boolean.
        """
        check_inputs(self, x=(x, Features))
        axes = tuple(range(self.batch_axes, x.ndim - 1))
        # The variance of one number is 0, and all would become 0.
        if not axes:
            expected = f"axes of positions between the {self.batch_axes} of the batch and the features"
            raise ContractError(
                f"{place(self)}: x: expected {expected}; found shape {x.shape}"
            )
        values = widened(x)
        sample = sample_of(values, axes, whole_mask(self, mask, x), self.axis_name)
        # Subtracted first: the mean of the squares, less the square of the mean, would
        # lose digits.
        values = values - sample.mean(values)
        var = sample.mean(jnp.square(values))
        factor = jax.lax.rsqrt(var + self.epsilon)
        return scaled(values, factor, self.scale, self.bias).astype(
            result_dtype(self.dtype, x)
        )
