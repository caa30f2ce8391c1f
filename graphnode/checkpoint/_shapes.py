"""What changes make of the shape and dtype of one array; `_expressions` does the same to its values."""

from collections.abc import Sequence
from typing import Any, Final

import jax.numpy as jnp
import numpy as np

from ._changes import Cast, Reshape, Transpose
from ._globs import Glob
from ._leaf import DTYPES, Leaf


def described(leaf: Leaf, shape: tuple[int, ...], dtype: str | None = None) -> Leaf:
    """The description of an array that is made from one."""
    return Leaf(leaf.kind, shape, dtype or leaf.dtype)


def with_size(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    """A shape with another size of an axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])


def inserted(row: tuple[Any, ...], at: int, item: Any) -> tuple[Any, ...]:
    """A row with one more item at a position."""
    return (*row[:at], item, *row[at:])


def unlike(leaves: Sequence[Leaf], axis: int | None) -> str:
    """Why arrays cannot become one, along one of their axes or a new one; empty where they can."""
    first = leaves[0]
    for leaf in leaves:
        shapes = first.shape, leaf.shape
        if axis is not None:
            shapes = tuple(
                [
                    with_size(shape, axis, 0) if axis < len(shape) else ()
                    for shape in shapes
                ]
            )  # type: ignore[assignment]
        if (
            shapes[0] != shapes[1]
            or first.dtype != leaf.dtype
            or first.kind != leaf.kind
        ):
            return f"{first} and {leaf} do not go together"
    return ""


_Made = tuple[str, tuple[Any, ...], Leaf]


def changed_array(leaf: Leaf, change: "Transpose | Reshape | Cast") -> "_Made | str":
    """For `_change_arrays`: the operation, empty where there is none to do, and what it makes; or what is wrong."""
    match change:
        case Transpose():
            return _transposed(leaf, change)
        case Reshape():
            return _reshaped(leaf, change)
        case Cast():
            return _cast(leaf, change)


def _transposed(leaf: Leaf, change: Transpose) -> "_Made | str":
    axes = tuple(change.axes or reversed(range(len(leaf.shape))))
    if len(axes) != len(leaf.shape):
        return f"{leaf} has {len(leaf.shape)} axes, and not {len(axes)}"
    shape = tuple([leaf.shape[axis] for axis in axes])
    return ("transpose" if len(axes) > 1 else ""), axes, described(leaf, shape)


def _reshaped(leaf: Leaf, change: Reshape) -> "_Made | str":
    if change.before is not None and _full(change.before, leaf) != leaf.shape:
        return f"{leaf} has not the shape {list(change.before)}"
    shape = _full(change.shape, leaf)
    if shape is None:
        return f"{leaf} has not as many items as the shape {list(change.shape)}"
    return "reshape", shape, described(leaf, shape)


def _full(shape: Sequence[int], leaf: Leaf) -> tuple[int, ...] | None:
    """For `_reshaped`: a shape with the size that it leaves open; `None` where the array has none such."""
    try:
        return np.broadcast_to(np.zeros((), np.bool_), leaf.shape).reshape(shape).shape
    except ValueError:
        return None


def _cast(leaf: Leaf, change: Cast) -> "_Made | str":
    kinds = [kind_of(DTYPES[name]) for name in (leaf.dtype, change.dtype)]
    if kinds[0] is not kinds[1] or kinds[0] is None:
        if Glob(change.path).literal is None:
            return "", (), leaf
        return f"{leaf} and {change.dtype} are numbers of two kinds"
    if change.before is not None and leaf.dtype != change.before:
        return f"{leaf} has not the dtype {change.before}"
    kind = "" if leaf.dtype == change.dtype else "cast"
    return kind, (change.dtype,), described(leaf, leaf.shape, change.dtype)


_KINDS: Final = (np.integer, np.floating, np.complexfloating)


def kind_of(dtype: "np.dtype[Any]") -> object:
    """Whether a dtype is of integers, floats or complex numbers; `None` for others."""
    return next((kind for kind in _KINDS if jnp.issubdtype(dtype, kind)), None)
