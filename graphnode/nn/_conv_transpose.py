"""`ConvTranspose`, a convolution that makes its input larger."""

from dataclasses import KW_ONLY, InitVar
from typing import Any, Final, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._fields import Initializer, state, static
from .._state import ParamState
from . import initializers
from ._checks import check_inputs, divisor, mask_of, size, sizes
from ._dtypes import (
    add_bias,
    inexact,
    init_vars,
    masked,
    optional_parameter,
    parameter,
    promoted,
    value_of,
)
from ._module import Layer
from ._precision import Precision, precision_of
from ._rows import as_batch
from ._spread import by_compiler, channels_last
from ._windows import DIMENSIONS, Amounts, Named, one_batch, padding_of

Input: TypeAlias = Float[Array, "... in_size"]
Output: TypeAlias = Float[Array, "... out_size"]

_PADDINGS: Final[tuple[Named, ...]] = ("SAME", "VALID", "CIRCULAR")


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
        padding: `"SAME"`, `"VALID"`, `"CIRCULAR"` (what goes over a border comes in at the
            opposite one, and the result is `strides` times as large as the input), or
            how many zeros are added to the spread input: on both sides of all axes or of
            each, or a pair for each axis. PyTorch's padding `p` is `dilation *
            (kernel_size - 1) - p` here.
        output_padding: By how much more zeros are added behind, along each axis or along
            all: by as much the result is larger.
        dilation: Steps within a window, along each axis or along all.
        groups: Input and output channels fall into this number of parts that do not see
            each other.
        mask: Multiplied with the weight, of its shape; part of the structure, compared by
            content.
        use_bias: Whether there is a bias.
        transpose_kernel: Whether the weight is that of the convolution whose transpose
            this is: flipped, and of shape `[*kernel_size, out_size // groups, in_size]`
            instead of `[*kernel_size, in_size // groups, out_size]`.
        w_init: Initialiser of the weight.
        b_init: Initialiser of the bias.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters.
        precision: How exactly products are computed on accelerators, as JAX takes it:
            `"default"`, `"high"`, `"highest"`, a pair of them for input and weight, or an
            algorithm. Kept by its name.
        preferred_element_type: The dtype that products are summed in, and that of the
            result, in place of `dtype`.

    Raises:
        ContractError: A size that is not a positive integer or not one for each axis;
            groups that do not divide the channels; padding that is none of these; a mask
            of another shape; an input of another rank or size.

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
        Literal["SAME", "VALID", "CIRCULAR"]
        | int
        | tuple[int, ...]
        | tuple[tuple[int, int], ...]
    ) = "SAME"
    """What is added to the spread input."""
    output_padding: int | tuple[int, ...] = 0
    """How much more is added behind."""
    dilation: int | tuple[int, ...] = 1
    """Steps within a window."""
    groups: int = 1
    """Parts of the channels that do not see each other."""
    mask: jax.Array | None = static(default=None)
    """Multiplied with the weight."""
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
    precision: Precision | None = None
    """How exactly products are computed."""
    preferred_element_type: DTypeLike | None = None
    """The dtype of sums of products."""
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
        self.output_padding = sizes(
            "ConvTranspose.output_padding", self.output_padding, rank, least=0
        )
        name = "ConvTranspose.groups"
        self.groups = divisor(name, self.groups, "in_size", self.in_size)
        self.groups = divisor(name, self.groups, "out_size", self.out_size)
        self.dtype = inexact("ConvTranspose.dtype", self.dtype)
        self.precision = precision_of("ConvTranspose.precision", self.precision)
        self.preferred_element_type = inexact(
            "ConvTranspose.preferred_element_type", self.preferred_element_type
        )
        shape = (*kernel_size, self.in_size // self.groups, self.out_size)
        if self.transpose_kernel:
            # The weight of a convolution from `out_size` to `in_size` channels.
            shape = (*kernel_size, self.out_size // self.groups, self.in_size)
        self.mask = mask_of("ConvTranspose.mask", self.mask, shape)
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
        weight = masked(weight, self.mask)
        rank = weight.ndim - 2
        images = one_batch(self, images, rank)
        strides = sizes("ConvTranspose.strides", self.strides, rank)
        dilation = sizes("ConvTranspose.dilation", self.dilation, rank)
        named = padding_of("ConvTranspose.padding", self.padding, rank, _PADDINGS)
        more = sizes("ConvTranspose.output_padding", self.output_padding, rank, least=0)
        window = [
            (size - 1) * step + 1
            # The spatial axes come first; those of channels have no dilation.
            for size, step in zip(weight.shape, dilation, strict=False)
        ]
        precision = precision_of("ConvTranspose.precision", self.precision)
        preferred = inexact(
            "ConvTranspose.preferred_element_type", self.preferred_element_type
        )

        def convolve(images: jax.Array, weight: jax.Array) -> jax.Array:
            """The convolution."""
            y: jax.Array = jax.lax.conv_general_dilated(
                images,
                _forward(weight, self.groups) if self.transpose_kernel else weight,
                (1,) * rank,
                _amounts(named, window, strides, more),
                lhs_dilation=strides,
                rhs_dilation=dilation,
                dimension_numbers=DIMENSIONS[rank],
                feature_group_count=self.groups,
                precision=precision,
                preferred_element_type=preferred,
            )
            if named != "CIRCULAR":
                return y
            periods = [
                size * step
                for size, step in zip(images.shape[1:-1], strides, strict=True)
            ]
            return _wrapped(y, periods, self.transpose_kernel)

        features: int | None = -1
        if self.transpose_kernel:
            # With groups, no axis of the weight has all channels of the result.
            features = -2 if self.groups == 1 else None
        out = channels_last(images, weight, features)
        y = by_compiler(convolve, out, images, weight)
        return as_batch(add_bias(y, bias), x)


def _forward(weight: jax.Array, groups: int) -> jax.Array:
    """The weight of a convolution as that of its transpose: flipped, with inputs for outputs in each group.

    [*window, out // groups, groups * (in // groups)]
    [*window, in // groups, groups * (out // groups)]
    """
    *window, out, whole = weight.shape
    flipped = jnp.flip(weight, tuple(range(len(window))))
    if groups == 1:
        return jnp.swapaxes(flipped, -1, -2)
    parts = flipped.reshape(*window, out, groups, whole // groups)
    return jnp.swapaxes(parts, -1, -3).reshape(*window, whole // groups, groups * out)


def _amounts(
    padding: Named | Amounts,
    window: list[int],
    strides: tuple[int, ...],
    more: tuple[int, ...],
) -> Amounts:
    """How many zeros are added to the spread input, before and after each axis.

    As of `jax.lax.conv_transpose`, which has no groups.

    Args:
        padding: From `padding_of`.
        window: The size of the dilated window along each axis.
        strides: How far the elements are spread.
        more: How many zeros are added behind besides.
    """
    pairs: list[tuple[int, int]] = []
    for at, (width, step) in enumerate(zip(window, strides, strict=True)):
        if padding == "SAME":
            total = width + step - 2
            # A stride that is larger than the window leaves zeros behind.
            before = width - 1 if step > width - 1 else -(-total // 2)
            after = total - before
        elif isinstance(padding, str):
            before, after = width - 1, max(width, step) - 1
        else:
            before, after = padding[at]
        pairs.append((before, after + more[at]))
    return tuple(pairs)


def _wrapped(y: jax.Array, periods: list[int], is_flipped: bool) -> jax.Array:
    """The whole result of a transposed convolution, of which what goes over a border comes in at the opposite one.

    It is padded to twice the period, with its middle where the input was, cut into
    periods, and these are added up.

    Args:
        y: Of shape `[batch, *spatial, channels]`.
        periods: The size that is to be left, along each spatial axis.
        is_flipped: Whether the window is that of the convolution whose transpose this
            is. One of an even size has no middle; then it stands one further.
    """
    for axis, period in enumerate(periods, start=1):
        rest = -(y.shape[axis] - period) % (2 * period)
        before = rest // 2 if is_flipped else -(-rest // 2)
        around = [(0, 0)] * y.ndim
        around[axis] = (before, rest - before)
        y = jnp.pad(y, around)
        cut = (*y.shape[:axis], y.shape[axis] // period, period, *y.shape[axis + 1 :])
        y = y.reshape(cut).sum(axis)
    return y
