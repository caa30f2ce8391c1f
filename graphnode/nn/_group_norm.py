"""`GroupNorm`, which normalises groups of features over all positions of each element of a batch."""

from dataclasses import KW_ONLY, InitVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._errors import ContractError
from .._fields import Initializer, state, static
from .._state import ParamState
from . import initializers
from ._checks import check_inputs, count, divisor, place, positive, size
from ._dtypes import inexact, optional_parameter
from ._module import Layer
from ._normalize import (
    Axes,
    AxisName,
    Features,
    Mask,
    axes_field,
    axis_names,
    norm_vars,
    positions,
    result_dtype,
    sample_of,
    scaled,
    whole_mask,
    widened,
)


class GroupNorm(Layer):
    """Normalises groups of features to mean 0 and variance 1 over all positions, then scales and shifts each feature.

    `y = scale * (x - mean) / sqrt(var + epsilon) + bias`, where mean and biased
    variance are taken over the features of a group and over all axes after the batch
    (Wu & He 2018, "Group Normalization", eq. 1 and 7). With as many groups as features
    it is `InstanceNorm`. The work is done in at least float32; the result has
    the dtype of `x`.

    Args:
        width: Features: the size of the last axis.
        num_groups: Number of groups of features that follow each other.
        group_size: Features of each group, in place of `num_groups`. Not kept.
        batch_axes: How many leading axes of the input are a batch, whose elements do
            not see each other.
        epsilon: Added to the variance.
        use_scale: Whether there is a scale.
        use_bias: Whether there is a bias.
        scale_init: Initialiser of the scale; by default ones. Not kept.
        bias_init: Initialiser of the bias; by default zeros. Not kept.
        reduction_axes: The axes over which mean and variance are taken, the last one
            among them, of which they take a group; by default all after the batch.
        axis_name: The axis of `gn.vmap` or `gn.shard_map` along which the statistics are
            taken too, over all that is mapped or all devices.
        dtype: The dtype of the result, in place of that of `x`.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A width that is not a positive integer, groups that do not divide
            it, both or none of their number and their size, an epsilon that is not
            positive; an input of another size or dtype, or with too few axes.

    Example:
        >>> GroupNorm(4, 2)(jnp.array([[0.0, 200.0, 30.0, 10.0]])).tolist()
        [[-1.0, 1.0, 1.0, -1.0]]
    """

    width: int
    """Size of the last axis."""
    num_groups: int | None = None
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
    # Fields, and no init variables: a subclass may have a `__post_init__` of its own, which
    # takes those that there were.
    scale_init: Initializer | None = static(default=None)
    """Initialiser of the scale; `None` after it was used."""
    bias_init: Initializer | None = static(default=None)
    """Initialiser of the bias; `None` after it was used."""
    group_size: int | None = None
    """Features of each group; `None` after it was used."""
    reduction_axes: Axes | None = None
    """The axes over which statistics are taken."""
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
        self, use_scale: bool, use_bias: bool, param_dtype: DTypeLike
    ) -> None:
        self.width = size("GroupNorm.width", self.width)
        self.num_groups = self._count_groups()
        self.group_size = None
        self.batch_axes = count("GroupNorm.batch_axes", self.batch_axes)
        self.epsilon = positive("GroupNorm.epsilon", self.epsilon)
        self.dtype = inexact("GroupNorm.dtype", self.dtype)
        self.reduction_axes = axes_field(
            "GroupNorm.reduction_axes", self.reduction_axes
        )
        self.axis_name = axis_names("GroupNorm.axis_name", self.axis_name)
        shape = (self.width,)
        scale_init = self.scale_init or initializers.ones
        bias_init = self.bias_init or initializers.zeros
        self.scale_init = self.bias_init = None
        self.scale = optional_parameter(use_scale, scale_init, shape, param_dtype)
        self.bias = optional_parameter(use_bias, bias_init, shape, param_dtype)

    def _count_groups(self) -> int:
        """The number of groups, which their size may say.

        Raises:
            ContractError: It does not divide the features; both or none of them are given.
        """
        if (self.num_groups is None) == (self.group_size is None):
            found = "neither" if self.num_groups is None else "both"
            raise ContractError(
                f"GroupNorm.num_groups: expected num_groups or group_size; found {found}"
            )
        if self.group_size is None:
            return divisor("GroupNorm.num_groups", self.num_groups, "width", self.width)
        group_size = divisor(
            "GroupNorm.group_size", self.group_size, "width", self.width
        )
        return self.width // group_size

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
                floating-point one, or it has not more axes than the batch; a mask of
                another shape, or that is not boolean.
        """
        check_inputs(self, x=(x, Features))
        num_groups = divisor("num_groups", self.num_groups, "width", self.width)
        shape = (*x.shape[:-1], num_groups, self.width // num_groups)
        grouped = widened(x).reshape(shape)
        counts = whole_mask(self, mask, x)
        counts = None if counts is None else counts.reshape(shape)
        # All positions, and the features in a group; the axis of groups is between
        # them.
        axes = (*self._positions(x), x.ndim)
        sample = sample_of(grouped, axes, counts, self.axis_name)
        # Subtracted first: the mean of the squares, less that of the mean, would lose
        # digits.
        grouped = grouped - sample.mean(grouped)
        var = sample.mean(jnp.square(grouped))
        y = (grouped * jax.lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        return scaled(y, None, self.scale, self.bias).astype(
            result_dtype(self.dtype, x)
        )

    def _positions(self, x: jax.Array) -> tuple[int, ...]:
        """The axes of `x` over which the statistics are taken, but for that of the features.

        Raises:
            ContractError: `x` lacks an axis, or the features are not among them.
        """
        asked = axes_field("reduction_axes", self.reduction_axes)
        if asked is not None:
            *before, last = positions(self, x, "reduction_axes", asked)
            if last != x.ndim - 1:
                expected = "the last axis, of the features, among reduction_axes"
                raise ContractError(
                    f"{place(self)}: x: expected {expected}; found {asked} for shape {x.shape}"
                )
            return tuple(before)
        if x.ndim <= self.batch_axes:
            expected = f"more axes than the {self.batch_axes} of the batch"
            raise ContractError(
                f"{place(self)}: x: expected {expected}; found shape {x.shape}"
            )
        return tuple(range(self.batch_axes, x.ndim - 1))
