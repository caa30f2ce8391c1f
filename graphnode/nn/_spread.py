"""What layers do with arrays whose types say how they are spread over devices: under a mesh with explicit axes.

JAX then refuses an operation whose result could be laid out in several ways. Layers decide
by one rule: *activations stay where they are, and parameters come to them*. Mesh axes that
split the input keep on splitting the result; those that split the features of a parameter
do so too, unless the input uses them already, and then the parameter is gathered along
them.

    x [batch@data, in]         weight [in@data, out@model]     the weight is gathered along "data"
    y [batch@data, out@model]

    x [batch@data, in@model]   weight [in@model, out]          partial sums are added up over "model"
    y [batch@data, out]

Without such a mesh, and under automatic axes, where the compiler decides, nothing is
changed.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec
from jax.typing import DTypeLike

from .._compat import varying_axes
from ._precision import Precision

# What splits one axis of an array: a mesh axis, several, or none.
Entry: TypeAlias = str | tuple[str, ...] | None
Entries: TypeAlias = tuple[Entry, ...]

# Any: JAX has no types for it.
_PartitionSpec: Final[Any] = PartitionSpec


def entries_of(x: jax.Array) -> Entries | None:
    """What splits each axis of an array; `None` where its type does not say: there are no explicit axes."""
    aval: Any = jax.typeof(x)  # JAX's stubs do not say that it has a sharding
    mesh = aval.sharding.mesh
    if mesh.empty or AxisType.Explicit not in mesh.axis_types:
        return None
    entries = tuple(aval.sharding.spec)
    return (*entries, *[None] * (x.ndim - len(entries)))


def spread(x: jax.Array, entries: Sequence[Entry]) -> jax.Array:
    """An array with its axes split so, under a mesh with explicit axes."""
    return x if entries_of(x) == tuple(entries) else _reshard(x, entries)


def whole(x: jax.Array) -> jax.Array:
    """An array with all of it on each device, under a mesh with explicit axes."""
    return x if entries_of(x) is None else spread(x, (None,) * x.ndim)


def without(entry: Entry, used: Iterable[Entry]) -> Entry:
    """What splits an axis, less the mesh axes that are used already, of which each may split one axis of an array."""
    taken = {name for other in used for name in _names(other)}
    free = tuple([name for name in _names(entry) if name not in taken])
    return free[0] if len(free) == 1 else free or None


def product(
    x: jax.Array,
    weight: jax.Array,
    *,
    precision: Precision | None = None,
    preferred_element_type: DTypeLike | None = None,
) -> jax.Array:
    """`x @ weight`, for `x` of shape `[..., in]` and a matrix; with the options of `jnp.matmul`."""
    of_x = entries_of(x)
    if of_x is None:
        return jnp.matmul(
            x,
            weight,
            precision=precision,
            preferred_element_type=preferred_element_type,
        )
    features = without(_all_entries(weight)[-1], of_x)
    weight = spread(weight, (of_x[-1], features))
    return jnp.matmul(
        x,
        weight,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=_PartitionSpec(*of_x[:-1], features),
    )


def einsum(
    equation: str,
    x: jax.Array,
    *others: jax.Array,
    precision: Precision | None = None,
    preferred_element_type: DTypeLike | None = None,
) -> jax.Array:
    """`jnp.einsum` of an input, which is named first, and parameters and further inputs like it."""
    if entries_of(x) is None:
        return jnp.einsum(
            equation,
            x,
            *others,
            precision=precision,
            preferred_element_type=preferred_element_type,
        )
    before, _, after = equation.replace(" ", "").partition("->")
    operands = [x, *others]
    axes = [
        axis_names(text, operand.ndim)
        for text, operand in zip(before.split(","), operands, strict=True)
    ]
    splits: dict[str, Entry] = {}
    for names, operand in zip(axes, operands, strict=True):
        for name, entry in zip(names, _all_entries(operand), strict=True):
            if splits.get(name) is None:
                splits[name] = without(entry, splits.values())
    arrays = [
        spread(operand, [splits[name] for name in names])
        for names, operand in zip(axes, operands, strict=True)
    ]
    batch = [name for name in splits if name.startswith(".")]
    rank = len(after.replace("...", "")) + len(batch)
    out = _PartitionSpec(*[splits[name] for name in axis_names(after, rank)])
    return jnp.einsum(
        equation,
        *arrays,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out,
    )


def rows_at(weight: jax.Array, indices: jax.Array) -> jax.Array:
    """The rows of a matrix at some indices, NaN for one that is out of range."""
    of_indices = entries_of(indices)
    of_weight = entries_of(weight)
    if of_indices is None or of_weight is None:
        # Not `weight[indices]`, which would take the last row for one out of range.
        return jnp.take(weight, indices, axis=0)
    features = without(of_weight[-1], of_indices)
    out = _PartitionSpec(*of_indices, features)
    rows: Any = weight.at[indices]
    result: jax.Array = rows.get(mode="fill", out_sharding=out)
    return result


def beside(features: jax.Array, x: jax.Array) -> jax.Array:
    """Values for each feature, of the rank of `x` and with axes of size 1 before, laid out so that they fit `x`."""
    of_x = entries_of(x)
    if of_x is None:
        return features
    own = [
        # Features that split where the input does not would split the result.
        of_x[axis] if size > 1 else None
        for axis, size in enumerate(features.shape)
    ]
    return spread(features, own)


def varying_as(x: jax.Array, other: jax.Array) -> jax.Array:
    """Under `shard_map`, an array that differs among devices as another one does, by its type; else the array."""
    missing = varying_axes(other) - varying_axes(x)
    return jax.lax.pcast(x, tuple(missing), to="varying") if missing else x


def by_compiler(
    function: Callable[..., jax.Array], out: Sequence[Entry] | None, *arrays: Any
) -> jax.Array:
    """Call a function with axes that are automatic inside of it, so that the compiler lays out what it computes.

    Args:
        function: What JAX cannot do, or not in all layouts, with explicit axes.
        out: What splits each axis of the result; `None` where there are no explicit
            axes.
        *arrays: Its arguments.
    """
    if out is None:
        return function(*arrays)
    mesh = jax.sharding.get_abstract_mesh()
    names = [
        name
        for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
        if kind == AxisType.Explicit
    ]
    automatic: Any = jax.sharding.auto_axes  # its stubs admit no arguments
    result: jax.Array = automatic(
        function, axes=tuple(names), out_sharding=_PartitionSpec(*out)
    )(*arrays)
    return result


def channels_last(
    images: jax.Array, weight: jax.Array, features: int | None
) -> Entries | None:
    """For `by_compiler`: what splits the result of a convolution, the batch and the channels alone.

    Args:
        images: Of shape `[batch, *spatial, channels]`.
        weight: The window's weights.
        features: The axis of the weight that the channels of the result are; `None` if
            none is.
    """
    of_images = entries_of(images)
    if of_images is None:
        return None
    channels: Entry = None
    if features is not None:
        channels = without(_all_entries(weight)[features], of_images[:1])
    return (of_images[0], *[None] * (images.ndim - 2), channels)


def divides(entry: Entry, size: int) -> bool:
    """Whether the mesh axes that split an axis could split one of that size."""
    sizes = dict(jax.sharding.get_abstract_mesh().shape)
    count = 1
    for name in _names(entry):
        count *= sizes[name]
    return size % count == 0


def _reshard(x: jax.Array, entries: Sequence[Entry]) -> jax.Array:
    """An array laid out anew."""
    reshard: Any = jax.reshard  # JAX has no types for it
    result: jax.Array = reshard(x, _PartitionSpec(*entries))
    return result


def _all_entries(x: jax.Array) -> Entries:
    """What splits each axis; nothing does where its type does not say."""
    return entries_of(x) or (None,) * x.ndim


def _names(entry: Entry) -> tuple[str, ...]:
    """The mesh axes that split an axis."""
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else entry


def axis_names(text: str, rank: int) -> list[str]:
    """A name for each axis of an operand: its letter, or for those of the ellipsis a number from the last one."""
    before, _, after = text.partition("...")
    count = rank - len(before) - len(after)
    return [*before, *_ellipsis(count), *after]


def _ellipsis(count: int) -> list[str]:
    """Names of the axes that an ellipsis stands for; aligned at the last one, as in broadcasting."""
    return [f".{at}" for at in reversed(range(count))]
