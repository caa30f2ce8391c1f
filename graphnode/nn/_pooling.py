"""`MaxPool`, `MinPool` and `AvgPool`, which combine the elements of each window."""

import math
from dataclasses import KW_ONLY
from typing import Any, Final, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from ._checks import check_inputs, sizes
from ._dtypes import at_least_float32
from ._module import Layer
from ._rows import as_batch
from ._windows import Amounts, Named, one_batch, padding_of

Numbers: TypeAlias = Num[Array, "... channels"]
Floats: TypeAlias = Float[Array, "... channels"]

_PADDINGS: Final[tuple[Named, ...]] = ("SAME", "VALID")


class _Pool(Layer):
    """What they have in common."""

    window: int | tuple[int, ...]
    """Size of the window along each axis."""
    _: KW_ONLY
    strides: int | tuple[int, ...] = 1
    """Steps between windows."""
    padding: (
        Literal["SAME", "VALID"] | int | tuple[int, ...] | tuple[tuple[int, int], ...]
    ) = "VALID"
    """What is added at the borders."""
    use_ceil: bool = False
    """Whether a last window that is not whole counts."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        self.window = window = sizes(f"{name}.window", self.window)
        self.strides = sizes(f"{name}.strides", self.strides, len(window))
        padding: Any = padding_of(
            f"{name}.padding", self.padding, len(window), _PADDINGS
        )
        self.padding = padding

    def _around(
        self, spatial: tuple[int, ...]
    ) -> tuple[str | Amounts, tuple[int, ...]]:
        """The padding, and how much more stands behind for windows that are not whole, along each spatial axis.

        Args:
            spatial: The sizes of the spatial axes.
        """
        # Checked in construction, and again here: a field may have been assigned since,
        # or come from a view.
        window = sizes("window", self.window)
        rank = len(window)
        strides = sizes("strides", self.strides, rank)
        padding = padding_of("padding", self.padding, rank, _PADDINGS)
        # With "SAME", all of the input is in a window.
        if not self.use_ceil or padding == "SAME":
            return padding, (0,) * rank
        pairs = ((0, 0),) * rank if isinstance(padding, str) else padding
        rows = zip(spatial, window, strides, pairs, strict=True)
        return pairs, tuple([_behind(*row) for row in rows])

    # Any: JAX's monoids are recognised by the very functions and start values that are
    # passed.
    def _reduce_windows(self, x: jax.Array, start: Any, combine: Any) -> jax.Array:
        """`x` of shape `[*batch, *spatial, channels]`, with the elements of each window combined.

        Args:
            x: The input.
            start: The neutral element of `combine`, which padding consists of.
            combine: A function of two arrays of `jax.lax`, such as `jax.lax.max`.
        """
        images = one_batch(self, x, len(sizes("window", self.window)))
        around, behind = self._around(images.shape[1:-1])
        if not isinstance(around, str):
            pairs = zip(around, behind, strict=True)
            around = tuple([(before, after + more) for (before, after), more in pairs])
        return as_batch(self._reduce(images, start, combine, around), x)

    # Any: as above.
    def _reduce(
        self, images: jax.Array, start: Any, combine: Any, around: str | Amounts
    ) -> jax.Array:
        """The same of one batch axis, with a padding of its own."""
        window = sizes("window", self.window)
        strides = sizes("strides", self.strides, len(window))
        y: jax.Array = jax.lax.reduce_window(
            # Windows do not reach over batch and channels.
            images,
            start,
            combine,
            (1, *window, 1),
            (1, *strides, 1),
            around if isinstance(around, str) else ((0, 0), *around, (0, 0)),
        )
        return y


class MaxPool(_Pool):
    """The largest element of each window, for each channel; the channels are last, and the dtype stays.

    Args:
        window: Size of the window along each axis; an integer is a window along one
            axis.
        strides: Steps between windows, along each axis or along all.
        padding: `"SAME"`, `"VALID"`, or how much is added: on both sides of all axes or
            of each, or a pair for each axis. What is added is never the largest.
        use_ceil: Whether a last window that is not whole counts: the size of the result is
            rounded up, as with PyTorch's `ceil_mode`. It has to begin in the input or in
            the padding before it.

    Raises:
        ContractError: A size that is not a positive integer or not one for each axis;
            padding that is none of these; an input with too few axes.

    Example:
        >>> MaxPool((2, 2), strides=2)(jnp.arange(16.0).reshape(4, 4, 1))[..., 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """

    def __call__(self, x: Numbers) -> Numbers:
        """Pool `x` of shape `[..., *spatial, channels]`, with any number of batch axes."""
        check_inputs(self, x=(x, Numbers))
        least = (
            # Integers have no infinity.
            -np.inf if jnp.issubdtype(x.dtype, jnp.inexact) else np.iinfo(x.dtype).min
        )
        return self._reduce_windows(x, np.array(least, x.dtype), jax.lax.max)


class MinPool(_Pool):
    """The smallest element of each window, for each channel; the channels are last, and the dtype stays.

    Args:
        window: Size of the window along each axis; an integer is a window along one
            axis.
        strides: Steps between windows, along each axis or along all.
        padding: `"SAME"`, `"VALID"`, or how much is added: on both sides of all axes or
            of each, or a pair for each axis. What is added is never the smallest.
        use_ceil: Whether a last window that is not whole counts: the size of the result is
            rounded up, as with PyTorch's `ceil_mode`. It has to begin in the input or in
            the padding before it.

    Raises:
        ContractError: A size that is not a positive integer or not one for each axis;
            padding that is none of these; an input with too few axes.

    Example:
        >>> MinPool((2, 2), strides=2)(jnp.arange(16.0).reshape(4, 4, 1))[..., 0].tolist()
        [[0.0, 2.0], [8.0, 10.0]]
    """

    def __call__(self, x: Numbers) -> Numbers:
        """Pool `x` of shape `[..., *spatial, channels]`, with any number of batch axes."""
        check_inputs(self, x=(x, Numbers))
        most = (
            # Integers have no infinity.
            np.inf if jnp.issubdtype(x.dtype, jnp.inexact) else np.iinfo(x.dtype).max
        )
        return self._reduce_windows(x, np.array(most, x.dtype), jax.lax.min)


class AvgPool(_Pool):
    """The mean of each window, for each channel; the channels are last, and the dtype stays.

    It is computed in at least float32.

    Args:
        window: Size of the window along each axis; an integer is a window along one
            axis.
        strides: Steps between windows, along each axis or along all.
        padding: `"SAME"`, `"VALID"`, or how many zeros are added: on both sides of all
            axes or of each, or a pair for each axis.
        use_ceil: Whether a last window that is not whole counts: the size of the result is
            rounded up, as with PyTorch's `ceil_mode`. It has to begin in the input or in
            the padding before it.
        count_include_pad: Whether zeros that were added count in the mean; what stands
            behind for a window that is not whole never does.

    Raises:
        ContractError: A size that is not a positive integer or not one for each axis;
            padding that is none of these; an input with too few axes or not of a
            floating-point dtype.

    Example:
        >>> AvgPool((2, 2), strides=2)(jnp.arange(16.0).reshape(4, 4, 1))[..., 0].tolist()
        [[2.5, 4.5], [10.5, 12.5]]
    """

    _: KW_ONLY
    count_include_pad: bool = True
    """Whether zeros that were added count in the mean."""

    def __call__(self, x: Floats) -> Floats:
        """Pool `x` of shape `[..., *spatial, channels]`, with any number of batch axes."""
        check_inputs(self, x=(x, Floats))
        # In half precision a sum may be infinite where the mean is not, and counts
        # above 2048 or 256 are rounded.
        values = x.astype(at_least_float32(x.dtype))
        zero = np.array(0, values.dtype)
        total = self._reduce_windows(values, zero, jax.lax.add)
        return (total / self._count(values, zero)).astype(x.dtype)

    # Any: of NumPy, of the dtype of the values.
    def _count(self, values: jax.Array, zero: Any) -> int | jax.Array:
        """How many elements count in each window: a number where it is the same for all."""
        window = sizes("window", self.window)
        around, behind = self._around(values.shape[-len(window) - 1 : -1])
        if (self.count_include_pad or around == "VALID") and not any(behind):
            # NumPy's might not be promoted
            return math.prod(window)
        # At the borders a window has fewer elements: counted as they are summed.
        ones = jnp.ones_like(values)
        if not self.count_include_pad or isinstance(around, str):
            return self._reduce_windows(ones, zero, jax.lax.add)
        # The padding counts, and is a part of what is summed.
        images = one_batch(self, ones, len(window))
        whole = jnp.pad(images, ((0, 0), *around, (0, 0)), constant_values=1)
        pairs = tuple([(0, more) for more in behind])
        return as_batch(self._reduce(whole, zero, jax.lax.add, pairs), values)


def _behind(size: int, window: int, stride: int, padding: tuple[int, int]) -> int:
    """How much stands behind an axis and its padding so that its last window, which is not whole, becomes whole.

    Args:
        size: Of the axis.
        window: Of the window.
        stride: Steps between windows.
        padding: What is added before and after.
    """
    before, after = padding
    rest = size + before + after - window
    more = -rest % stride
    # A window that begins behind the input would hold padding alone.
    return 0 if rest < 0 or rest + more >= size + before else more
