"""`AdaptiveMaxPool` and `AdaptiveAvgPool`, which pool to a given size, whatever the input's."""

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._errors import ContractError
from ._checks import check_inputs, place, sizes
from ._module import Layer

Numbers: TypeAlias = Num[Array, "... channels"]
Floats: TypeAlias = Float[Array, "... channels"]


class _AdaptivePool(Layer):
    """What both have in common."""

    out_size: int | tuple[int, ...]
    """Size of the result along each spatial axis."""
    _: KW_ONLY
    overlap: bool = False
    """Whether the windows are PyTorch's."""

    def __post_init__(self) -> None:
        self.out_size = sizes(f"{type(self).__name__}.out_size", self.out_size)

    def _pooled(
        self, x: jax.Array, combine: Callable[[jax.Array, int], jax.Array]
    ) -> jax.Array:
        """`x` with the elements of each part combined, along one spatial axis after the other."""
        out_size = sizes("out_size", self.out_size)
        first = x.ndim - 1 - len(out_size)
        wanted = [1 if self.overlap else size for size in out_size]
        if first < 0 or any(
            have < want for have, want in zip(x.shape[first:], wanted, strict=False)
        ):
            least = ", ".join(f"at least {want}" for want in wanted)
            expected = f"an input of shape (..., {least}, channels)"
            raise ContractError(f"{place(self)}: expected {expected}; found {x.shape}")
        for axis, count in enumerate(out_size, start=first):
            parts = _split
            if self.overlap and x.shape[axis] % count:
                parts = _overlapping
            # The axis of a part's elements comes after that of the parts.
            x = jnp.concatenate(
                [combine(part, axis + 1) for part in parts(x, axis, count)], axis
            )
        return x


class AdaptiveMaxPool(_AdaptivePool):
    """The largest element of each of `out_size` parts along each spatial axis; the channels are last, the dtype stays.

    The parts are those of `numpy.array_split`: where the size is not a multiple, the
    first ones are longer by one.

    Args:
        out_size: Size of the result along each spatial axis; an integer is for one
            axis.
        overlap: Whether the windows are PyTorch's: the one at `i` goes from `floor(i * size /
            out_size)` to `ceil((i + 1) * size / out_size)`. Where the size is not a
            multiple they overlap, and the size may be smaller than `out_size`.

    Raises:
        ContractError: A size that is not a positive integer; an input that has too few
            axes, or is smaller.

    Example:
        >>> AdaptiveMaxPool((2, 1))(jnp.arange(15.0).reshape(5, 3, 1))[..., 0].tolist()
        [[8.0], [14.0]]
    """

    def __call__(self, x: Numbers) -> Numbers:
        """Pool `x` of shape `[..., *spatial, channels]` to `[..., *out_size, channels]`."""
        check_inputs(self, x=(x, Numbers))
        return self._pooled(x, jnp.max)


class AdaptiveAvgPool(_AdaptivePool):
    """The mean of each of `out_size` parts along each spatial axis; the channels are last, and the dtype stays.

    The parts are those of `numpy.array_split`: where the size is not a multiple, the
    first ones are longer by 1. Size 1 is the mean over the axis: global pooling (Lin et
    al. 2014, "Network In Network", section 3.2).

    Args:
        out_size: Size of the result along each spatial axis; an integer is for one
            axis.
        overlap: Whether the windows are PyTorch's: the one at `i` goes from `floor(i * size /
            out_size)` to `ceil((i + 1) * size / out_size)`. Where the size is not a
            multiple they overlap, and the size may be smaller than `out_size`.

    Raises:
        ContractError: A size that is not a positive integer; an input that has too few
            axes, is smaller, or is not of a floating-point dtype.

    Example:
        >>> AdaptiveAvgPool((2, 1))(jnp.arange(15.0).reshape(5, 3, 1))[..., 0].tolist()
        [[4.0], [11.5]]
    """

    def __call__(self, x: Floats) -> Floats:
        """Pool `x` of shape `[..., *spatial, channels]` to `[..., *out_size, channels]`."""
        check_inputs(self, x=(x, Floats))
        return self._pooled(x, jnp.mean)


def _split(x: jax.Array, axis: int, count: int) -> list[jax.Array]:
    """`x` in parts along an axis, those of one length together: each `[..., parts, length, ...]`.

    Where `count` does not divide the axis there are two lengths, each reduced at once.
    """
    length, longer = divmod(x.shape[axis], count)
    pieces = [(x, count)]
    # The first parts are longer by one: parts of one length can be combined in one
    # call.
    if longer:
        first, last = jnp.split(x, [longer * (length + 1)], axis)
        pieces = [(first, longer), (last, count - longer)]
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    # No size is left to JAX as -1, which it cannot infer in an empty batch.
    return [
        piece.reshape(*before, parts, piece.shape[axis] // parts, *after)
        for piece, parts in pieces
    ]


def _overlapping(x: jax.Array, axis: int, count: int) -> list[jax.Array]:
    """The windows of `x` that PyTorch takes along an axis, each `[..., 1, length, ...]`."""
    size = x.shape[axis]
    windows: list[jax.Array] = []
    for at in range(count):
        start, end = at * size // count, -(-(at + 1) * size // count)
        window = jax.lax.slice_in_dim(x, start, end, axis=axis)
        windows.append(jnp.expand_dims(window, axis))
    return windows
