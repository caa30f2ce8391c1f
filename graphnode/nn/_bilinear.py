"""`Bilinear`, a map that is linear in each of two inputs."""

from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._fields import Initializer, state
from .._state import ParamState
from . import initializers
from ._checks import check_inputs, size
from ._dtypes import (
    add_bias,
    inexact,
    init_vars,
    optional_parameter,
    parameter,
    promoted,
    value_of,
)
from ._module import Module
from ._precision import Precision, precision_of
from ._spread import einsum

Left: TypeAlias = Float[Array, "*batch left_size"]
Right: TypeAlias = Float[Array, "*batch right_size"]
Output: TypeAlias = Float[Array, "*batch out_size"]


class Bilinear(Module):
    """A map that is linear in each of two inputs.

    `y[k] = sum over i, j of left[i] * weight[i, j, k] * right[j] + bias[k]`: the neural
    tensor layer of Socher et al. 2013, "Reasoning With Neural Tensor Networks", eq. 1,
    without its linear part and activation. The dtype of the result is `dtype`, or what
    JAX promotes inputs and parameters to.

    Args:
        left_size: Features of the first input.
        right_size: Features of the second input.
        out_size: Features of the output.
        use_bias: Whether there is a bias.
        w_init: Initialiser of the weight.
        b_init: Initialiser of the bias.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters.
        precision: How exactly products are computed on accelerators, as JAX takes it:
            `"default"`, `"high"`, `"highest"`, or an algorithm. Kept by its name.

    Raises:
        ContractError: A size that is not a positive integer; inputs of other sizes.

    Example:
        >>> Bilinear(2, 3, 4)(jnp.ones((5, 2)), jnp.ones((5, 3))).shape
        (5, 4)
    """

    left_size: int
    """Features of the first input."""
    right_size: int
    """Features of the second input."""
    out_size: int
    """Features of the output."""
    _: KW_ONLY
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
    weight: ParamState[Float[Array, "left=left_size right=right_size out=out_size"]] = (
        state(init=False)
    )
    """What each pair of features counts for each output."""
    bias: ParamState[Float[Array, "out=out_size"]] | None = state(init=False)
    """What is added, if anything."""

    def __post_init__(
        self,
        use_bias: bool,
        w_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        self.left_size = size("Bilinear.left_size", self.left_size)
        self.right_size = size("Bilinear.right_size", self.right_size)
        self.out_size = size("Bilinear.out_size", self.out_size)
        self.dtype = inexact("Bilinear.dtype", self.dtype)
        self.precision = precision_of("Bilinear.precision", self.precision)
        self.weight = parameter(
            w_init, (self.left_size, self.right_size, self.out_size), param_dtype
        )
        self.bias = optional_parameter(use_bias, b_init, (self.out_size,), param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return init_vars(self.weight, self.bias)

    def __call__(self, left: Left, right: Right) -> Output:
        """Map `left` of shape `[..., left_size]` and `right` of shape `[..., right_size]` to `[..., out_size]`.

        Raises:
            ContractError: An input has another size, or their leading axes differ.
        """
        check_inputs(self, left=(left, Left), right=(right, Right))
        left, right, weight, bias = promoted(
            self.dtype, left, right, self.weight.value, value_of(self.bias)
        )
        # It chooses the order of the two products by the sizes.
        y = einsum(
            "...i,ijk,...j->...k",
            left,
            weight,
            right,
            precision=precision_of("Bilinear.precision", self.precision),
        )
        return add_bias(y, bias)
