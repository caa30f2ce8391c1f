"""`Linear`, an affine map over the last axis."""

import operator
from dataclasses import KW_ONLY, InitVar
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact

from .._errors import ContractError
from .._fields import Initializer, state, static
from .._hints import with_article
from .._state import ParamState
from . import initializers
from ._checks import check_unstacked, place, roles
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
from ._parts import Part
from ._precision import Precision, precision_of
from ._spread import product


class Linear(Layer):
    """An affine map over the last axis: `y = x @ (weight * w_mask) + bias`.

    `weight` has the shape `[in_features, out_features]` and `bias` `[out_features]`,
    the last of the sizes; without a bias it is `None`. The default initialisation is
    He's normal (He et al. 2015, "Delving Deep into Rectifiers", eq. 10).

    Args:
        in_size: Features of the input, or its trailing shape; the last is what the map
            is over. Kept as a tuple.
        out_size: Features of the output, or its trailing shape; all but the last agree
            with `in_size`. Kept as a tuple.
        w_mask: Multiplied with the weight, of its shape; part of the structure,
            compared by content.
        use_bias: Whether there is a bias.
        w_init: Initialiser of the weight, called with a key of the ambient random
            stream.
        b_init: Initialiser of the bias.
        dtype: What is computed in, and the dtype of the result; by default what JAX
            promotes input and parameters to.
        param_dtype: Dtype of the parameters.
        precision: How exactly products are computed on accelerators, as JAX takes it:
            `"default"`, `"high"`, `"highest"`, a pair of them for input and weight, or an
            algorithm. Kept by its name.
        preferred_element_type: The dtype that products are summed in, and that of the
            result, in place of `dtype`.
        axes: The roles of the features of input and output, which rules of sharding go
            by; by default `("in", "out")`.

    Raises:
        ContractError: Sizes that are not positive or do not agree; a mask of another
            shape; an input of another size.

    Example:
        >>> layer = Linear(2, 3)
        >>> layer
        Linear(  # 9 parameters, 36 B
          in_size=(2,), out_size=(3,), weight=ParamState(f32[2,3]), bias=ParamState(f32[3])
        )
        >>> layer(jnp.ones((5, 2))).shape
        (5, 3)
    """

    in_size: int | tuple[int, ...]
    """Trailing shape of the input."""
    out_size: int | tuple[int, ...]
    """Trailing shape of the output."""
    w_mask: jax.Array | None = static(default=None)
    """Multiplied with the weight."""
    _: KW_ONLY
    use_bias: InitVar[bool] = True
    """Whether there is a bias."""
    w_init: InitVar[Initializer] = initializers.he_normal
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
    axes: tuple[str, str] | None = None
    """The roles of the features of input and output."""
    in_features: int = static(init=False)
    """The last of `in_size`."""
    out_features: int = static(init=False)
    """The last of `out_size`."""
    # Not `Float`: the tutorial's layer may be complex.
    weight: ParamState[Inexact[Array, "in=in_features out=out_features"]] = state(
        init=False
    )
    """What each feature of the input counts for each of the output."""
    bias: ParamState[Inexact[Array, "out=out_features"]] | None = state(init=False)
    """What is added, if anything."""

    def __post_init__(
        self,
        use_bias: bool,
        w_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        # That of the class itself, as others extend it; `type(self)` would hide from
        # `dataclasses.replace` which fields are used here.
        name = self.__class__.__name__
        self.in_size = before_in = _checked_sizes(f"{name}.in_size", self.in_size)
        self.out_size = before_out = _checked_sizes(f"{name}.out_size", self.out_size)
        self.dtype = inexact(f"{name}.dtype", self.dtype)
        self.precision = precision_of(f"{name}.precision", self.precision)
        self.preferred_element_type = inexact(
            f"{name}.preferred_element_type", self.preferred_element_type
        )
        # Only the last axis is mapped; those before it stay.
        if before_in[:-1] != before_out[:-1]:
            expected = f"{before_in[:-1]} before the last size, as in_size has"
            raise ContractError(
                f"{name}.out_size: expected {expected}; found {before_out}"
            )
        self.in_features, self.out_features = shape = (before_in[-1], before_out[-1])
        if self.w_mask is not None and jnp.shape(self.w_mask) != shape:
            raise ContractError(
                f"{name}.w_mask: expected shape {shape} of the weight; found {jnp.shape(self.w_mask)}"
            )
        self.axes = axes = roles(f"{name}.axes", self.axes, 2)
        self.weight = parameter(w_init, shape, param_dtype, axes)
        self.bias = optional_parameter(
            use_bias, b_init, shape[1:], param_dtype, axes and axes[1:]
        )

    @classmethod
    def _shows(cls, name: str, value: object) -> bool:
        # The last ones of `in_size` and `out_size` again
        is_repeated = name in ("in_features", "out_features")
        return not is_repeated and super()._shows(name, value)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return init_vars(self.weight, self.bias)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `x` of shape `[..., *in_size]` to `[..., *out_size]`.

        Raises:
            ContractError: The last axis of `x` is not the last of `in_size`; the layer
                is stacked.
        """
        check_unstacked(self)
        shape = getattr(x, "shape", None)  # a list has none
        if shape is None or shape[-1:] != (self.in_features,):
            expected = f"an input of shape (..., in_size[-1]={self.in_features})"
            text = with_article(type(x).__name__) if shape is None else shape
            raise ContractError(f"{place(self)}: expected {expected}; found {text}")
        x, weight, bias = promoted(
            self.dtype, x, self.effective_weight(), value_of(self.bias)
        )
        # At each call, since an optimizer may move what is masked, as by weight decay.
        if self.w_mask is not None:
            weight = weight * self.w_mask.astype(weight.dtype)
        return add_bias(self._product(x, weight), bias)

    def effective_weight(self) -> jax.Array:
        """What inputs are multiplied with, before the mask: the weight, unless a class derives it from that."""
        return self.weight.value

    def _product(self, x: jax.Array, weight: jax.Array) -> jax.Array:
        """`x @ weight`, as exactly as the fields say."""
        name = type(self).__name__
        return product(
            x,
            weight,
            precision=precision_of(f"{name}.precision", self.precision),
            preferred_element_type=inexact(
                f"{name}.preferred_element_type", self.preferred_element_type
            ),
        )


def linear_part(
    layer: Linear, in_size: int, out_size: int, dtype: DTypeLike | None
) -> Part:
    """For `shared_vars`: a linear map in a layer whose constructor makes it with these sizes."""
    return Part(
        layer,
        Linear,
        {
            "in_size": (in_size,),
            "out_size": (out_size,),
            "w_mask": None,
            "dtype": dtype,
            "precision": None,
            "preferred_element_type": None,
            "axes": None,
        },
    )


def _checked_sizes(where: str, size: Any) -> tuple[int, ...]:
    """`in_size` or `out_size` as a tuple of integers, the last of which counts the features.

    Args:
        where: The class and field, for the error.
        size: An integer or a tuple of them.

    Raises:
        ContractError: Something else, a size that is not positive, or none.
    """
    try:
        items = size if isinstance(size, tuple) else (size,)
        sizes = tuple(map(operator.index, items))
    except TypeError:
        items = sizes = ()
    # `operator.index` takes a boolean for 0 or 1.
    if not sizes or min(sizes) <= 0 or bool in map(type, items):
        raise ContractError(
            f"{where}: expected a positive integer or a tuple of them; found {size!r}"
        )
    return sizes
