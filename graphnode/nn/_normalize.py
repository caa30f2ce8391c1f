"""What all normalisations share: statistics in at least float32, the result in the dtype of the input.

From a layer's fields and an input to the axes of the features and of the statistics, and
to means over those axes: of all elements, or of those that a mask lets count; on one
device, or on all along an axis of devices.
"""

from typing import Any, Final, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from .._declare._node import Node
from .._errors import ContractError
from .._state import State
from ._checks import check_inputs, is_integer, place
from ._checks import size as checked_size
from ._dtypes import along, at_least_float32, inexact, scalar_type
from ._spread import entries_of, spread

Axes: TypeAlias = int | tuple[int, ...]
AxisName: TypeAlias = str | tuple[str, ...]

Features: TypeAlias = Float[Array, "... width"]
Numbers: TypeAlias = Float[Array, "..."]
Mask: TypeAlias = Bool[Array, "..."]


# Any: JAX's collectives have no types.
_LAX: Final[Any] = jax.lax
# NumPy has no array of more axes.
_LEAST_AXIS: Final = -64


# Any, in these: a field may hold whatever a caller passed in spite of its type.
def widths(where: str, value: Any) -> int | tuple[int, ...]:
    """For a layer's `width`: the size of one axis of features, or the sizes of several.

    Raises:
        ContractError: It is neither.
    """
    if not isinstance(value, tuple):
        return checked_size(where, value)
    if not value or not all(is_integer(item, 1) for item in value):
        raise ContractError(
            f"{where}: expected a positive integer or a tuple of them; found {value!r}"
        )
    return tuple(map(int, value))


def axes_field(where: str, value: Any) -> tuple[int, ...] | None:
    """For a layer's `reduction_axes` and `feature_axes`: a tuple of different axes, or `None`.

    Raises:
        ContractError: It is neither.
    """
    if value is None:
        return None
    axes = value if isinstance(value, tuple) else (value,)
    is_row = bool(axes) and all(is_integer(axis, _LEAST_AXIS) for axis in axes)
    if not is_row or len(set(axes)) != len(axes):
        raise ContractError(
            f"{where}: expected an integer or a tuple of different ones; found {value!r}"
        )
    return tuple(map(int, axes))


# Any: as above.
def axis_number(where: str, value: Any) -> int:
    """For `BatchNorm.axis`: `value`, if it is an integer.

    Raises:
        ContractError: It is not.
    """
    if not is_integer(value, _LEAST_AXIS):
        raise ContractError(f"{where}: expected an integer; found {value!r}")
    return int(value)


# Any: as above.
def axis_names(where: str, value: Any) -> AxisName | None:
    """For a layer's `axis_name`: `value`, if it is a name, some of them, or `None`.

    Raises:
        ContractError: It is not.
    """
    names = value if isinstance(value, tuple) else (value,)
    is_row = bool(names) and all(isinstance(name, str) and name for name in names)
    if value is not None and not is_row:
        raise ContractError(
            f"{where}: expected the name of an axis, as gn.vmap and gn.shard_map give it; found {value!r}"
        )
    return value  # type: ignore[no-any-return]


def positions(
    layer: Node, x: jax.Array, field_name: str, axes: tuple[int, ...]
) -> tuple[int, ...]:
    """Axes of `x` counted from the first one, in their order there.

    Raises:
        ContractError: `x` has not all of them, or two of them are one.
    """
    # Negative ones count from the end, as everywhere.
    found = {axis % x.ndim for axis in axes if -x.ndim <= axis < x.ndim}
    if len(found) != len(axes):
        raise ContractError(
            f"{place(layer)}: x: expected the different axes {axes} of {field_name}; found shape {x.shape}"
        )
    return tuple(sorted(found))


def feature_positions(
    layer: Node,
    x: jax.Array,
    width: int | tuple[int, ...],
    axes: tuple[int, ...] | None,
) -> tuple[int, ...]:
    """The axes of the features in `x`, which have the sizes `width`.

    Args:
        layer: The layer, for errors.
        x: Its input.
        width: One size or several.
        axes: The axes; `None` for the last ones.

    Raises:
        ContractError: `x` has other sizes there, or its dtype is not a floating-point
            one.
    """
    if axes is None and isinstance(width, int):
        check_inputs(layer, x=(x, Features))
        return (x.ndim - 1,)
    check_inputs(layer, x=(x, Numbers))
    sizes = width if isinstance(width, tuple) else (width,)
    asked = tuple(range(-len(sizes), 0)) if axes is None else axes
    found = positions(layer, x, "feature_axes", asked)
    # Otherwise the sizes would be those of other axes.
    if tuple([axis % x.ndim for axis in asked]) != found:
        raise ContractError(
            f"{place(layer)}: x: expected feature_axes in the order of the axes of x; found {asked} for shape {x.shape}"
        )
    if tuple([x.shape[axis] for axis in found]) != sizes:
        raise ContractError(
            f"{place(layer)}: x: expected the sizes {sizes} along the axes {asked}; found shape {x.shape}"
        )
    return found


def norm_axes(
    layer: Node,
    x: jax.Array,
    width: int | tuple[int, ...],
    feature_axes: Axes | None,
    reduction_axes: Axes | None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of the features in `x`, and those over which the statistics are taken; see `feature_positions`.

    Raises:
        ContractError: `x` has other sizes along the features, or lacks an axis.
    """
    features = feature_positions(
        layer, x, width, axes_field("feature_axes", feature_axes)
    )
    over = axes_field("reduction_axes", reduction_axes)
    if over is None:
        return features, tuple(range(x.ndim - len(features), x.ndim))
    return features, positions(layer, x, "reduction_axes", over)


class Sample(NamedTuple):
    """The elements that a mean is taken of: those along some axes, all or some, of one device or of several."""

    axes: tuple[int, ...]
    mask: jax.Array | None
    total: jax.Array | None
    """How many elements the mask lets count."""
    axis_name: AxisName | None

    def mean(self, x: jax.Array) -> jax.Array:
        """The mean along the axes, which stay with size 1; 0 where nothing counts."""
        if self.mask is None or self.total is None:
            mean = x.mean(self.axes, keepdims=True)
            # All devices have as many elements.
            return mean if self.axis_name is None else _LAX.pmean(mean, self.axis_name)
        added = jnp.where(self.mask, x, 0).sum(self.axes, keepdims=True)
        if self.axis_name is not None:
            added = _LAX.psum(added, self.axis_name)
        # Not by zero, not even for a gradient.
        return added / jnp.maximum(self.total, 1)


def sample_of(
    x: jax.Array,
    axes: tuple[int, ...],
    mask: jax.Array | None = None,
    axis_name: AxisName | None = None,
) -> Sample:
    """What a mean over axes of `x` is taken of.

    Args:
        x: The numbers.
        axes: The axes, counted from the first one.
        mask: Which elements count, of the shape of `x`, or with size 1 along axes that
            are not among these.
        axis_name: The axis of devices, or of `gn.vmap`, along which the mean is taken
            too.
    """
    count = None
    if mask is not None:
        # Sums and counts are added up among devices: a mean of means would weigh the
        # elements of a device by how few of them count.
        count = mask.sum(axes, keepdims=True, dtype=x.dtype)
        count = count if axis_name is None else _LAX.psum(count, axis_name)
    return Sample(axes, mask, count, axis_name)


def whole_mask(layer: Node, mask: jax.Array | None, x: jax.Array) -> jax.Array | None:
    """The mask of a call in the shape of `x`; `None` for none.

    Raises:
        ContractError: It is not boolean, or has a shape that does not broadcast to that
            of `x`.
    """
    if mask is None:
        return None
    check_inputs(layer, mask=(mask, Mask))
    # Axes of size 1, and those that are missing in front.
    last = zip(reversed(mask.shape), reversed(x.shape), strict=False)
    if mask.ndim > x.ndim or any(size not in (1, whole) for size, whole in last):
        raise ContractError(
            f"{place(layer)}: mask: expected a shape that broadcasts to {x.shape} of x; found {mask.shape}"
        )
    mask = jnp.broadcast_to(mask, x.shape)
    entries = entries_of(x)
    return mask if entries is None else spread(mask, entries)


def widened(x: jax.Array) -> jax.Array:
    """`x` in at least float32: statistics of half-precision numbers are taken in it."""
    return x.astype(at_least_float32(x.dtype))


def scaled(
    x: jax.Array,
    factor: jax.Array | None,
    scale: State[jax.Array] | None,
    bias: State[jax.Array] | None,
    axes: tuple[int, ...] | None = None,
    *,
    scale_offset: float = 0.0,
) -> jax.Array:
    """`x * (factor * (scale_offset + scale)) + bias`, in the dtype of `x`.

    Args:
        x: The normalised numbers.
        factor: What they are multiplied with besides, if anything.
        scale: Over the features.
        bias: Over the features.
        axes: The axes of the features; by default the last one.
        scale_offset: What is added to the scale.
    """
    last = (x.ndim - 1,) if axes is None else axes
    if scale is not None:
        scales = along(scale.value.astype(x.dtype), x, last)
        # In the dtype of `x`: near 1, half precision would round small scales away.
        if scale_offset:
            scales = scales + scale_offset
        factor = scales if factor is None else factor * scales
    y = x if factor is None else x * factor
    return y if bias is None else y + along(bias.value.astype(x.dtype), y, last)


def result_dtype(dtype: DTypeLike | None, x: jax.Array) -> DTypeLike:
    """The dtype of the result: the layer's, or that of its input, though statistics are in at least float32."""
    own = inexact("dtype", dtype)
    return x.dtype if own is None else own


def norm_vars(**parameters: State[jax.Array] | None) -> dict[str, object]:
    """For `__init_vars__`: the init variables of a normalisation that its parameters still show.

    Args:
        **parameters: By name, `scale` and `bias`; `None` for one that it was made without.

    Returns:
        `use_scale` and `use_bias`, as far as given, and `param_dtype`.
    """
    used = [parameter for parameter in parameters.values() if parameter is not None]
    variables: dict[str, object] = {
        f"use_{name}": parameter is not None for name, parameter in parameters.items()
    }
    # Without parameters nothing shows what dtype they would have.
    if used:
        variables["param_dtype"] = scalar_type(used[0].value)
    return variables
