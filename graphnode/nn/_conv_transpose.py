"""`ConvTranspose`, a convolution that makes its input larger."""

from dataclasses import KW_ONLY, InitVar
from typing import Any, Final, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._fields import Initializer, state
from .._state import ParamState
from . import initializers
from ._checks import check_inputs, size, sizes
from ._dtypes import (
    add_bias,
    inexact,
    init_vars,
    optional_parameter,
    parameter,
    promoted,
    value_of,
)
from ._module import Layer
from ._rows import as_batch
from ._spread import by_compiler, channels_last
from ._windows import DIMENSIONS, Named, one_batch, padding_of

Input: TypeAlias = Float[Array, "... in_size"]
Output: TypeAlias = Float[Array, "... out_size"]

_PADDINGS: Final[tuple[Named, ...]] = ("SAME", "VALID")


class ConvTranspose(Layer):
    """A convolution over an input that is spread out by its strides, which makes it larger; the channels are last.

    Zeros are put between the elements of the input, `strides - 1` of them, and the
    result is convolved: the transpose of a strided convolution (Dumoulin & Visin 2016,
    "A guide to convolution arithmetic for deep learning", section 4). With `"SAME"` the
    result is `strides` times as large as the input. The dtype of the result is `dtype`,
    or what JAX promotes input and parameters to.

    Args:
        in_size: Channels of the input.
        out_size: Channels of the output.
        kernel_size: Size of the window along each axis; an integer is a window along
            one axis.
        strides: How far the elements of the input are spread, along each axis or along
            all.
        padding: `"SAME"`, `"VALID"`, or how many zeros are added to the spread input:
            on both sides of all axes or of each, or a pair for each axis.
        dilation: Steps within a window, along each axis or along all.
        use_bias: Whether there is a bias.
        transpose_kernel: Whether the weight is that of the convolution whose transpose
            this is: flipped, and of shape `[*kernel_size, out_size, in_size]`.
        w_init: Initialiser of the weight.
        b_init: Initialiser of the bias.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A size that is not a positive integer or not one for each axis;
            padding that is none of these; an input of another rank or size.

    Example:
        >>> ConvTranspose(8, 3, (4, 4), strides=2)(jnp.ones((10, 14, 14, 8))).shape
        (10, 28, 28, 3)
    """

    in_size: int
    """Channels of the input."""
    out_size: int
    """Channels of the output."""
    kernel_size: int | tuple[int, ...]
    """Size of the window along each axis."""
    _: KW_ONLY
    strides: int | tuple[int, ...] = 1
    """How far the elements of the input are spread."""
    padding: (
        Literal["SAME", "VALID"] | int | tuple[int, ...] | tuple[tuple[int, int], ...]
    ) = "SAME"
    """What is added to the spread input."""
    dilation: int | tuple[int, ...] = 1
    """Steps within a window."""
    use_bias: InitVar[bool] = True
    """Whether there is a bias."""
    transpose_kernel: bool = False
    """Whether the weight is that of the convolution whose transpose this is."""
    w_init: InitVar[Initializer] = initializers.lecun_normal
    """Initialiser of the weight."""
    b_init: InitVar[Initializer] = initializers.zeros
    """Initialiser of the bias."""
    dtype: DTypeLike | None = None
    """What is computed in."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    weight: ParamState[Float[Array, "*window=kernel_size _ _"]] = state(init=False)
    """The window's weights."""
    bias: ParamState[Float[Array, "out=out_size"]] | None = state(init=False)
    """What is added to each channel, if anything."""

    def __post_init__(
        self,
        use_bias: bool,
        w_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        self.in_size = size("ConvTranspose.in_size", self.in_size)
        self.out_size = size("ConvTranspose.out_size", self.out_size)
        self.kernel_size = kernel_size = sizes(
            "ConvTranspose.kernel_size", self.kernel_size
        )
        rank = len(kernel_size)
        self.strides = sizes("ConvTranspose.strides", self.strides, rank)
        self.dilation = sizes("ConvTranspose.dilation", self.dilation, rank)
        padding: Any = padding_of(
            "ConvTranspose.padding", self.padding, rank, _PADDINGS
        )
        self.padding = padding
        self.dtype = inexact("ConvTranspose.dtype", self.dtype)
        channels = (self.in_size, self.out_size)
        shape = (
            *kernel_size,
            # The weight of a convolution from `out_size` to `in_size` channels.
            *(reversed(channels) if self.transpose_kernel else channels),
        )
        ends = ("out", "in") if self.transpose_kernel else ("in", "out")
        roles = (*["window"] * rank, *ends)
        self.weight = parameter(w_init, shape, param_dtype, roles)
        self.bias = optional_parameter(use_bias, b_init, (self.out_size,), param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return init_vars(self.weight, self.bias)

    def __call__(self, x: Input) -> Output:
        """Convolve `x` of shape `[..., *spatial, in_size]` to `[..., *larger, out_size]`.

        Raises:
            ContractError: `x` has other channels, or too few axes.
        """
        check_inputs(self, x=(x, Input))
        images, weight, bias = promoted(
            self.dtype, x, self.weight.value, value_of(self.bias)
        )
        rank = weight.ndim - 2
        images = one_batch(self, images, rank)

        def convolve(images: jax.Array, weight: jax.Array) -> jax.Array:
            """The convolution."""
            return jax.lax.conv_transpose(
                images,
                weight,
                sizes("ConvTranspose.strides", self.strides, rank),
                padding_of("ConvTranspose.padding", self.padding, rank, _PADDINGS),
                rhs_dilation=sizes("ConvTranspose.dilation", self.dilation, rank),
                dimension_numbers=DIMENSIONS[rank],
                transpose_kernel=self.transpose_kernel,
            )

        features = -2 if self.transpose_kernel else -1
        out = channels_last(images, weight, features)
        y = by_compiler(convolve, out, images, weight)
        return as_batch(add_bias(y, bias), x)
