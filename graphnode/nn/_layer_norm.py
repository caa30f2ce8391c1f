"""`LayerNorm`, which normalises the features of each element of a batch."""

from dataclasses import KW_ONLY, InitVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._fields import Initializer, state, static
from .._state import ParamState
from . import initializers
from ._checks import positive
from ._dtypes import inexact, optional_parameter
from ._module import Layer
from ._normalize import (
    Axes,
    AxisName,
    Mask,
    Numbers,
    axes_field,
    axis_names,
    norm_axes,
    norm_vars,
    result_dtype,
    sample_of,
    scaled,
    whole_mask,
    widened,
    widths,
)


class LayerNorm(Layer):
    """Normalises the features of each element to mean 0 and variance 1, then scales and shifts them.

    `y = scale * (x - mean) / sqrt(var + epsilon) + bias`, where mean and biased
    variance are taken over the last axis (Ba et al. 2016, "Layer Normalization", eq.
    4), or over others. The work is done in at least float32; the result has the dtype
    of `x`.

    Args:
        width: Features: the size of the last axis, or the sizes of several.
        epsilon: Added to the variance.
        use_scale: Whether there is a scale.
        use_bias: Whether there is a bias.
        scale_init: Initialiser of the scale; by default ones. Not kept.
        bias_init: Initialiser of the bias; by default zeros. Not kept.
        reduction_axes: The axes over which mean and variance are taken; by default the
            last ones, as many as `width` has sizes.
        feature_axes: The axes that have a scale and a bias each, of the sizes `width`;
            by default the last ones.
        axis_name: The axis of `gn.vmap` or `gn.shard_map` along which the statistics are
            taken too, over all that is mapped or all devices.
        dtype: The dtype of the result, in place of that of `x`.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A width that is not a positive integer, an epsilon that is not
            positive; an input of another size or dtype.

    Example:
        >>> LayerNorm(2)(jnp.array([[0.0, 200.0], [30.0, 10.0]])).tolist()
        [[-1.0, 1.0], [1.0, -1.0]]
    """

    width: int | tuple[int, ...]
    """Size of the last axis, or sizes of several."""
    _: KW_ONLY
    epsilon: float = 1e-6
    """Added to the variance."""
    use_scale: InitVar[bool] = True
    """Whether there is a scale."""
    use_bias: InitVar[bool] = True
    """Whether there is a bias."""
    # Fields, and no init variables: a subclass may have a `__post_init__` of its own, which
    # takes those that there were.
    scale_init: Initializer | None = static(default=None)
    """Initialiser of the scale; `None` after it was used."""
    bias_init: Initializer | None = static(default=None)
    """Initialiser of the bias; `None` after it was used."""
    reduction_axes: Axes | None = None
    """The axes over which statistics are taken."""
    feature_axes: Axes | None = None
    """The axes that have a scale and a bias each."""
    axis_name: AxisName | None = None
    """The axis of devices along which statistics are taken too."""
    dtype: DTypeLike | None = None
    """The dtype of the result."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    scale: ParamState[Float[Array, "*embed=width"]] | None = state(init=False)
    """What the normalised features are multiplied with, if anything."""
    bias: ParamState[Float[Array, "*embed=width"]] | None = state(init=False)
    """What is added to them, if anything."""

    def __post_init__(
        self, use_scale: bool, use_bias: bool, param_dtype: DTypeLike
    ) -> None:
        self.width = width = widths("LayerNorm.width", self.width)
        self.epsilon = positive("LayerNorm.epsilon", self.epsilon)
        self.reduction_axes = axes_field(
            "LayerNorm.reduction_axes", self.reduction_axes
        )
        self.feature_axes = axes_field("LayerNorm.feature_axes", self.feature_axes)
        self.axis_name = axis_names("LayerNorm.axis_name", self.axis_name)
        self.dtype = inexact("LayerNorm.dtype", self.dtype)
        shape = width if isinstance(width, tuple) else (width,)
        scale_init = self.scale_init or initializers.ones
        bias_init = self.bias_init or initializers.zeros
        self.scale_init = self.bias_init = None
        self.scale = optional_parameter(use_scale, scale_init, shape, param_dtype)
        self.bias = optional_parameter(use_bias, bias_init, shape, param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return norm_vars(scale=self.scale, bias=self.bias)

    def __call__(self, x: Numbers, *, mask: Mask | None = None) -> Numbers:
        """Normalise `x` of shape `[..., width]`.

        Args:
            x: The features.
            mask: Which elements count in the statistics, of a shape that broadcasts to that
                of `x`. All are normalised. Where none counts, the mean is 0, and so is the
                variance.

        Raises:
            ContractError: The features of `x` have not the size `width`, its dtype is not
                a floating-point one, or it lacks an axis; a mask of another shape, or
                that is not boolean.
        """
        features, axes = norm_axes(
            self, x, self.width, self.feature_axes, self.reduction_axes
        )
        values = widened(x)
        sample = sample_of(values, axes, whole_mask(self, mask, x), self.axis_name)
        # Subtracted first: the mean of the squares, less the square of the mean, would
        # lose digits.
        values = values - sample.mean(values)
        var = sample.mean(jnp.square(values))
        factor = jax.lax.rsqrt(var + self.epsilon)
        return scaled(values, factor, self.scale, self.bias, features).astype(
            result_dtype(self.dtype, x)
        )
