"""`Einsum`, a linear map that is written as an Einstein summation."""

from dataclasses import KW_ONLY, InitVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._errors import ContractError
from .._fields import Initializer, state
from .._state import ParamState
from . import initializers
from ._checks import check_unstacked, place, shape_of
from ._dtypes import add_bias, inexact, init_vars, parameter, promoted, value_of
from ._module import Layer
from ._precision import Precision, precision_of
from ._spread import axis_names, einsum


class Einsum(Layer):
    """A linear map that is written as an Einstein summation of the input and a weight, and a bias.

    `Einsum("...i,ihd->...hd", (64, 8, 8))` maps 64 features to 8 heads of 8. The
    weight's fans, which initialisers scale by, are its last two axes. The result's
    dtype is `dtype`, or what JAX promotes input and parameters to.

    Args:
        equation: As `jnp.einsum` takes it, with two operands: the input and the weight.
            An ellipsis in the weight stands for axes that those of the input's are
            aligned with, from the last one on.
        shape: Of the weight.
        bias_shape: Of the bias, which is added to the last axes of the output; `None`
            for none.
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
        ContractError: An equation that has not two operands, or another number of axes
            than the weight; a bias that does not fit the output; an input whose shape
            does not fit.

    Example:
        >>> Einsum("...i,ihd->...hd", (6, 2, 3), (2, 3))(jnp.ones((5, 6))).shape
        (5, 2, 3)
    """

    equation: str
    """As `jnp.einsum` takes it, with two operands: the input and the weight."""
    shape: tuple[int, ...]
    """Of the weight."""
    bias_shape: tuple[int, ...] | None = None
    """Of the bias, if there is one."""
    _: KW_ONLY
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
    weight: ParamState[Float[Array, "*shape"]] = state(init=False)
    """The second operand."""
    bias: ParamState[Float[Array, "*bias_shape"]] | None = state(init=False)
    """What is added, if anything."""

    def __post_init__(
        self, w_init: Initializer, b_init: Initializer, param_dtype: DTypeLike
    ) -> None:
        self.shape = shape_of("Einsum.shape", self.shape)
        self.dtype = inexact("Einsum.dtype", self.dtype)
        self.precision = precision_of("Einsum.precision", self.precision)
        self.preferred_element_type = inexact(
            "Einsum.preferred_element_type", self.preferred_element_type
        )
        before, _, result = self.equation.replace(" ", "").partition("->")
        operands = before.split(",")
        if len(operands) != 2 or "->" not in self.equation:
            expected = "two operands and a result, as in '...i,io->...o'"
            raise ContractError(
                f"Einsum.equation: expected {expected}; found {self.equation!r}"
            )
        letters, has_ellipsis = operands[1].replace("...", ""), "..." in operands[1]
        further = len(self.shape) - len(letters)
        if "." in letters or further < 0 or (further > 0 and not has_ellipsis):
            expected = f"a weight with the axes {operands[1]!r} of the equation"
            raise ContractError(
                f"Einsum.shape: expected {expected}; found {self.shape}"
            )
        if further > 0 and "..." not in result:
            expected = "an ellipsis in the result, as in the weight"
            raise ContractError(
                f"Einsum.equation: expected {expected}; found {self.equation!r}"
            )
        self.weight = parameter(w_init, self.shape, param_dtype)
        if self.bias_shape is None:
            self.bias = None
        else:
            self.bias_shape = shape_of("Einsum.bias_shape", self.bias_shape)
            self._check_bias(self.bias_shape, operands[1], result)
            self.bias = parameter(b_init, self.bias_shape, param_dtype)

    def _check_bias(
        self, bias_shape: tuple[int, ...], weight_axes: str, result_axes: str
    ) -> None:
        """Raise if a bias cannot be added to the result, as far as the shape of the weight tells.

        Args:
            bias_shape: The shape of the bias.
            weight_axes: The letters of the weight in the equation.
            result_axes: Those of the result, perhaps after an ellipsis.

        Raises:
            ContractError: An axis of it has another size.
        """
        sizes = dict(
            zip(axis_names(weight_axes, len(self.shape)), self.shape, strict=True)
        )
        # From the last axis on, as broadcasting goes, and not into an ellipsis.
        letters = reversed(result_axes.rpartition(".")[2])
        last = zip(letters, reversed(bias_shape), strict=False)
        # Axes of the input alone have any size; size 1 fits all.
        if any(size not in (1, sizes.get(axis, size)) for axis, size in last):
            expected = f"the last axes of the output {result_axes!r}, for a weight of shape {self.shape}"
            raise ContractError(
                f"Einsum.bias_shape: expected {expected}; found {bias_shape}"
            )

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return init_vars(self.weight)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Sum the products of `x` and the weight as the equation says.

        Raises:
            ContractError: The shape of `x` does not fit the equation, the weight or the
                bias; the layer is stacked.
        """
        check_unstacked(self)
        x, weight, bias = promoted(
            self.dtype, x, self.weight.value, value_of(self.bias)
        )
        precision = precision_of("Einsum.precision", self.precision)
        preferred = inexact(
            "Einsum.preferred_element_type", self.preferred_element_type
        )
        try:
            y = einsum(
                self.equation,
                x,
                weight,
                precision=precision,
                preferred_element_type=preferred,
            )
            return add_bias(y, bias)
        # JAX's message has no name of the layer, nor the shape of its weight.
        except (TypeError, ValueError) as error:
            expected = f"an input that fits {self.equation!r} with a weight of shape {self.shape}"
            raise ContractError(
                f"{place(self)}: expected {expected}; found {x.shape}"
            ) from error
