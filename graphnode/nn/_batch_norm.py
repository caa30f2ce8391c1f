"""`BatchNorm`, which normalises each feature over a batch."""

from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from .._errors import ContractError
from .._fields import Initializer, state, static
from .._signals import write_all
from .._state import BatchState, ParamState
from . import initializers
from ._checks import check_inputs, fraction, place, positive, size
from ._dtypes import along, inexact, optional_parameter
from ._module import Layer
from ._normalize import (
    AxisName,
    Mask,
    Numbers,
    axis_names,
    axis_number,
    feature_positions,
    norm_vars,
    result_dtype,
    sample_of,
    scaled,
    widened,
)

Features: TypeAlias = Float[Array, "*batch width"]
Marks: TypeAlias = Bool[Array, "*batch"]


class BatchNorm(Layer):
    """Normalises each feature to mean 0 and variance 1 over the batch, then scales and shifts it.

    `y = scale * (x - mean) / sqrt(var + epsilon) + bias`, where mean and variance are
    taken over all axes but that of the features (Ioffe & Szegedy 2015, "Batch Normalization",
    algorithm 1). A call in training also moves the running averages, `running =
    momentum * running + (1 - momentum) * batch`, with the batch's biased variance; the
    paper's algorithm 2 takes the unbiased one. A deterministic call uses the running
    averages, and writes nothing.

    The work is done in at least float32, which the running averages are kept in; the
    result has the dtype of `x`.

    Args:
        width: Features: the size of the axis `axis`.
        momentum: How much of the running averages stays at each call.
        epsilon: Added to the variance.
        use_scale: Whether there is a scale.
        use_bias: Whether there is a bias.
        scale_init: Initialiser of the scale; by default ones. Not kept.
        bias_init: Initialiser of the bias; by default zeros. Not kept.
        axis: The axis of the features; by default the last one.
        axis_name: The axis of `gn.vmap` or `gn.shard_map` along which the statistics are
            taken too, over all that is mapped or all devices. All of them then move
            the running averages alike.
        deterministic: Whether the running averages are used; `gn.view(model,
            deterministic=True)` sets it everywhere.
        dtype: The dtype of the result, in place of that of `x`.
        param_dtype: Dtype of scale and bias.

    Raises:
        ContractError: A width that is not a positive integer, a momentum outside of [0,
            1], an epsilon that is not positive; an input of another size or dtype.

    Example:
        >>> layer = BatchNorm(1)
        >>> layer(jnp.array([[0.0], [200.0]])).tolist()
        [[-1.0], [1.0]]
        >>> layer.mean.value
        Array([1.], dtype=float32)
    """

    width: int
    """Size of the axis of the features."""
    _: KW_ONLY
    momentum: float = 0.99
    """How much of the running averages stays at each call."""
    epsilon: float = 1e-5
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
    axis: int = -1
    """The axis of the features."""
    axis_name: AxisName | None = None
    """The axis of devices along which statistics are taken too."""
    deterministic: bool = False
    """Whether the running averages are used."""
    dtype: DTypeLike | None = None
    """The dtype of the result."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    scale: ParamState[Float[Array, "channels=width"]] | None = state(init=False)
    """What the normalised features are multiplied with, if anything."""
    bias: ParamState[Float[Array, "channels=width"]] | None = state(init=False)
    """What is added to them, if anything."""
    mean: BatchState[Float[Array, "channels=width"]] = state(initializers.zeros)
    """Running average of the mean."""
    var: BatchState[Float[Array, "channels=width"]] = state(initializers.ones)
    """Running average of the variance."""

    def __post_init__(
        self, use_scale: bool, use_bias: bool, param_dtype: DTypeLike
    ) -> None:
        self.width = size("BatchNorm.width", self.width)
        self.momentum = fraction("BatchNorm.momentum", self.momentum)
        self.epsilon = positive("BatchNorm.epsilon", self.epsilon)
        self.dtype = inexact("BatchNorm.dtype", self.dtype)
        self.axis = axis_number("BatchNorm.axis", self.axis)
        self.axis_name = axis_names("BatchNorm.axis_name", self.axis_name)
        shape = (self.width,)
        scale_init = self.scale_init or initializers.ones
        bias_init = self.bias_init or initializers.zeros
        self.scale_init = self.bias_init = None
        self.scale = optional_parameter(use_scale, scale_init, shape, param_dtype)
        self.bias = optional_parameter(use_bias, bias_init, shape, param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return norm_vars(scale=self.scale, bias=self.bias)

    def __call__(
        self,
        x: Numbers,
        *,
        mask: Mask | None = None,
        deterministic: bool | None = None,
    ) -> Numbers:
        """Normalise `x` of shape `[..., width]`.

        Args:
            x: The batch.
            mask: Of shape `[...]`, without the axis of the features: which elements
                count in the mean and variance, such as those that are not padding. All
                are normalised. If none counts, the
                running averages stay, and the batch's mean 0 and variance 0 are used.
            deterministic: Used instead of the layer's own.

        Raises:
            ContractError: The features of `x` are not `width`, its dtype is not a
                floating-point one, or it is empty; a mask of another shape, or that is
                not boolean.
            TraceError: A JAX transformation runs that the layer was not passed into,
                and it is not deterministic.
        """
        features = self._features(x, mask)
        values = widened(x)
        if self.deterministic if deterministic is None else deterministic:
            # They may be kept in more precision than the input has.
            mean = self.mean.value.astype(values.dtype)
            var = self.var.value.astype(values.dtype)
        else:
            mean, var = self._measure(values, mask, features)
        factor = along(jax.lax.rsqrt(var + self.epsilon), x, features)
        values = values - along(mean, x, features)
        return scaled(values, factor, self.scale, self.bias, features).astype(
            result_dtype(self.dtype, x)
        )

    def _features(self, x: jax.Array, mask: jax.Array | None) -> tuple[int, ...]:
        """The axis of the features in `x`, after a check of both arrays.

        Raises:
            ContractError: One of them has another shape or dtype.
        """
        if self.axis == -1:
            if mask is None:
                check_inputs(self, x=(x, Features))
            else:
                check_inputs(self, x=(x, Features), mask=(mask, Marks))
            return (x.ndim - 1,)
        features = feature_positions(self, x, self.width, (self.axis,))
        if mask is not None:
            check_inputs(self, mask=(mask, Mask))
            (axis,) = features
            expected = (*x.shape[:axis], *x.shape[axis + 1 :])
            if mask.shape != expected:
                raise ContractError(
                    f"{place(self)}: mask: expected the shape {expected} of x without the features; "
                    f"found {mask.shape}"
                )
        return features

    def _measure(
        self,
        values: jax.Array,
        mask: jax.Array | None,
        features: tuple[int, ...],
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and variance of the batch, which move the running averages."""
        # Its mean would be NaN, and stay in the running averages.
        if values.size == 0:
            raise ContractError(
                f"{place(self)}: an empty batch has no mean; found an input of shape {values.shape}"
            )
        axes = tuple([axis for axis in range(values.ndim) if axis not in features])
        momentum: jax.Array | float = self.momentum
        if mask is None and self.axis_name is None:
            mean, var = jnp.mean(values, axes), jnp.var(values, axes)
        else:
            counts = None if mask is None else jnp.expand_dims(mask, features)
            sample = sample_of(values, axes, counts, self.axis_name)
            mean = sample.mean(values)
            var = sample.mean(jnp.square(values - mean)).squeeze(axes)
            mean = mean.squeeze(axes)
            if sample.total is not None:
                # With momentum 1 the averages stay as they are.
                momentum = jnp.where(sample.total.squeeze() > 0, momentum, 1.0)
        # An average is not a function to differentiate: a call that uses it would lead
        # back through all calls before.
        averages, moved = (self.mean, self.var), []
        for average, measured in zip(averages, (mean, var), strict=True):
            measured = jax.lax.stop_gradient(measured).astype(average.value.dtype)
            moved.append(momentum * average.value + (1.0 - momentum) * measured)
        # Both or none.
        write_all(averages, moved)
        return mean, var
