"""`Conv`, a convolution over one to three axes."""

from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._errors import ContractError
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
from ._windows import (
    DIMENSIONS,
    PADDINGS,
    Padding,
    around_spread,
    one_batch,
    pad,
    padding_of,
)

Input: TypeAlias = Float[Array, "... in_size"]
Output: TypeAlias = Float[Array, "... out_size"]


class Conv(Layer):
    """A convolution over one to three axes; the channels are last.

    `y[p] = sum over k of x[s p + d k] @ weight[k] + bias`, where `s` are the strides,
    `d` is the dilation, and `k` runs over the window: a cross-correlation, as
    everywhere in the field (Goodfellow et al. 2016, "Deep Learning", eq. 9.6). The
    dtype of the result is `dtype`, or what JAX promotes input and parameters to.

    Args:
        in_size: Channels of the input.
        out_size: Channels of the output.
        kernel_size: Size of the window along each axis; an integer is a window along
            one axis.
        strides: Steps between windows, along each axis or along all.
        padding: `"SAME"` (zeros, so that the size stays for stride 1), `"VALID"`
            (none), `"CIRCULAR"`, `"REFLECT"`, `"CAUSAL"` (zeros before, along one
            axis); how many zeros on both sides, for all axes or for each; or a pair for
            each axis, before and after.
        dilation: Steps within a window, along each axis or along all.
        input_dilation: How far the elements of the input are spread, with zeros between
            them, along each axis or along all; with padding by zeros alone.
        groups: Input and output channels fall into this number of parts that do not see
            each other.
        mask: Multiplied with the weight, of its shape; part of the structure, compared by
            content.
        use_bias: Whether there is a bias.
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
            groups that do not divide the channels; padding that is none of these, or
            not by zeros around an input that is spread; a mask of another shape; an
            input of another rank or size.

    Example:
        >>> Conv(3, 8, (5, 5), strides=2)(jnp.ones((10, 28, 28, 3))).shape
        (10, 14, 14, 8)
    """

    in_size: int
    """Channels of the input."""
    out_size: int
    """Channels of the output."""
    kernel_size: int | tuple[int, ...]
    """Size of the window along each axis."""
    _: KW_ONLY
    strides: int | tuple[int, ...] = 1
    """Steps between windows."""
    padding: Padding = "SAME"
    """What is added at the borders."""
    dilation: int | tuple[int, ...] = 1
    """Steps within a window."""
    input_dilation: int | tuple[int, ...] = 1
    """How far the elements of the input are spread."""
    groups: int = 1
    """Parts of the channels that do not see each other."""
    mask: jax.Array | None = static(default=None)
    """Multiplied with the weight."""
    use_bias: InitVar[bool] = True
    """Whether there is a bias."""
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
    weight: ParamState[
        Float[Array, "*window=kernel_size in=in_size//groups out=out_size"]
    ] = state(init=False)
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
        self.in_size = size("Conv.in_size", self.in_size)
        self.out_size = size("Conv.out_size", self.out_size)
        self.kernel_size = kernel_size = sizes("Conv.kernel_size", self.kernel_size)
        rank = len(kernel_size)
        self.strides = sizes("Conv.strides", self.strides, rank)
        self.dilation = sizes("Conv.dilation", self.dilation, rank)
        self.input_dilation = sizes("Conv.input_dilation", self.input_dilation, rank)
        self.padding = padding_of("Conv.padding", self.padding, rank, PADDINGS)
        if self.padding in ("CIRCULAR", "REFLECT") and max(self.input_dilation) > 1:
            raise ContractError(
                f"Conv.padding: expected zeros around an input with input_dilation; found {self.padding!r}"
            )
        # Each group maps as many input channels to as many output channels.
        self.groups = divisor("Conv.groups", self.groups, "in_size", self.in_size)
        self.groups = divisor("Conv.groups", self.groups, "out_size", self.out_size)
        self.dtype = inexact("Conv.dtype", self.dtype)
        self.precision = precision_of("Conv.precision", self.precision)
        self.preferred_element_type = inexact(
            "Conv.preferred_element_type", self.preferred_element_type
        )
        shape = (*kernel_size, self.in_size // self.groups, self.out_size)
        self.mask = mask_of("Conv.mask", self.mask, shape)
        self.weight = parameter(w_init, shape, param_dtype)
        self.bias = optional_parameter(use_bias, b_init, (self.out_size,), param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return init_vars(self.weight, self.bias)

    def __call__(self, x: Input) -> Output:
        """Convolve `x` of shape `[..., *spatial, in_size]` to `[..., *spatial, out_size]`.

        Raises:
            ContractError: `x` has other channels, or too few axes.
        """
        check_inputs(self, x=(x, Input))
        images, weight, bias = promoted(
            self.dtype, x, self.weight.value, value_of(self.bias)
        )
        weight = masked(weight, self.mask)
        # Of the weight, in which two axes are of channels.
        rank = weight.ndim - 2
        dilation = sizes("Conv.dilation", self.dilation, rank)
        reach = tuple(
            (size - 1) * step
            # The spatial axes come first; those of channels have no dilation.
            for size, step in zip(weight.shape, dilation, strict=False)
        )
        named = padding_of("Conv.padding", self.padding, rank, PADDINGS)
        strides = sizes("Conv.strides", self.strides, rank)
        spread = sizes("Conv.input_dilation", self.input_dilation, rank)
        images = one_batch(self, images, rank)
        if max(spread) > 1:
            # JAX knows names of paddings for inputs that are not spread alone.
            named = around_spread(images, named, reach, strides, spread)
        images, padding = pad(images, named, reach)
        precision = precision_of("Conv.precision", self.precision)
        preferred = inexact("Conv.preferred_element_type", self.preferred_element_type)

        def convolve(images: jax.Array, weight: jax.Array) -> jax.Array:
            """The convolution."""
            return jax.lax.conv_general_dilated(
                images,
                weight,
                strides,
                padding,
                lhs_dilation=spread,
                rhs_dilation=dilation,
                dimension_numbers=DIMENSIONS[rank],
                feature_group_count=self.groups,
                precision=precision,
                preferred_element_type=preferred,
            )

        out = channels_last(images, weight, -1)
        y = by_compiler(convolve, out, images, weight)
        return as_batch(add_bias(y, bias), x)
