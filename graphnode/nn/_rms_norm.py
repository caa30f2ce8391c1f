"""`RMSNorm`, which scales the features of each element of a batch to mean square 1."""

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


class RMSNorm(Layer):
    """Scales the features of each element to mean square 1, then by a parameter.

    `y = scale * x / sqrt(mean(x ** 2) + epsilon)`, where the mean is taken over the
    last axis (Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", eq. 4), or
    over others. The work is done in at least float32; the result has the dtype of `x`.

    Args:
        width: Features: the size of the last axis, or the sizes of several.
        epsilon: Added to the mean square.
        use_scale: Whether there is a scale.
        zero_centered: Whether the result is multiplied with `1 + scale`, and not with
            `scale` (Gemma): a decay of weights then draws it to 1.
        scale_init: Initialiser of the scale; by default ones, and zeros if it is
            zero-centred. Not kept.
        reduction_axes: The axes over which the mean is taken; by default the last ones,
            as many as `width` has sizes.
        feature_axes: The axes that have a scale each, of the sizes `width`; by default
            the last ones.
        axis_name: The axis of `gn.vmap` or `gn.shard_map` along which the mean is taken
            too, over all that is mapped or all devices.
        dtype: The dtype of the result, in place of that of `x`.
        param_dtype: Dtype of the scale.

    Raises:
        ContractError: A width that is not a positive integer, an epsilon that is not
            positive; an input of another size or dtype.

    Example:
        >>> RMSNorm(2)(jnp.array([100.0, -700.0])).tolist()
        [0.2, -1.4]
    """

    width: int | tuple[int, ...]
    """Size of the last axis, or sizes of several."""
    _: KW_ONLY
    epsilon: float = 1e-6
    """Added to the mean square."""
    use_scale: InitVar[bool] = True
    """Whether there is a scale."""
    zero_centered: bool = False
    """Whether the result is multiplied with `1 + scale`."""
    # Fields, and no init variables: a subclass may have a `__post_init__` of its own, which
    # takes those that there were.
    scale_init: Initializer | None = static(default=None)
    """Initialiser of the scale; `None` after it was used."""
    reduction_axes: Axes | None = None
    """The axes over which the mean is taken."""
    feature_axes: Axes | None = None
    """The axes that have a scale each."""
    axis_name: AxisName | None = None
    """The axis of devices along which the mean is taken too."""
    dtype: DTypeLike | None = None
    """The dtype of the result."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    scale: ParamState[Float[Array, "*embed=width"]] | None = state(init=False)
    """What the result is multiplied with, if anything."""

    def __post_init__(self, use_scale: bool, param_dtype: DTypeLike) -> None:
        self.width = width = widths("RMSNorm.width", self.width)
        self.epsilon = positive("RMSNorm.epsilon", self.epsilon)
        self.reduction_axes = axes_field("RMSNorm.reduction_axes", self.reduction_axes)
        self.feature_axes = axes_field("RMSNorm.feature_axes", self.feature_axes)
        self.axis_name = axis_names("RMSNorm.axis_name", self.axis_name)
        self.dtype = inexact("RMSNorm.dtype", self.dtype)
        shape = width if isinstance(width, tuple) else (width,)
        default_init = initializers.zeros if self.zero_centered else initializers.ones
        scale_init = self.scale_init or default_init
        self.scale_init = None
        self.scale = optional_parameter(use_scale, scale_init, shape, param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the scale still shows, for `gn.config.to_config`."""
        return norm_vars(scale=self.scale)

    def __call__(self, x: Numbers, *, mask: Mask | None = None) -> Numbers:
        """Normalise `x` of shape `[..., width]`.

        Args:
            x: The features.
            mask: Which elements count in the mean, of a shape that broadcasts to that of
                `x`. All are scaled. Where none counts, the mean square is 0.

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
        factor = jax.lax.rsqrt(sample.mean(jnp.square(values)) + self.epsilon)
        offset = 1.0 if self.zero_centered else 0.0
        return scaled(
            values, factor, self.scale, None, features, scale_offset=offset
        ).astype(result_dtype(self.dtype, x))
