"""Layers that extend `Linear` and take the place of one: with its States, at the same paths, and back."""

from typing import Any, TypeVar

import jax
from jax.typing import DTypeLike

from .._errors import ContractError
from .._fields import Initializer
from .._hints import with_article
from .._reads import looked_at
from .._state import State
from .._stream import scope
from ._checks import check_unstacked
from ._linear import Linear

L = TypeVar("L", bound=Linear)


# Any: the fields and init variables that the class has beside those of `Linear`.
def taking_over(cls: type[L], linear: Linear, **arguments: Any) -> L:
    """A layer of a class that extends `Linear`, with the fields and the very States of a linear map.

    Args:
        cls: The class.
        linear: The linear map, which stays as it is.
        **arguments: What the constructor takes beside.

    Raises:
        ContractError: It is not a plain `Linear`, whose call would be lost; or it is
            stacked, or abstract.
    """
    if type(linear) is not Linear:
        found = with_article(type(linear).__name__)
        remedy = (
            "fold it first" if hasattr(linear, "fold") else "its own call would be lost"
        )
        raise ContractError(
            f"{cls.__name__}.of: expected a Linear; found {found}: {remedy}"
        )
    return _with_states_of(linear, cls, **arguments)


def plain(linear: Linear) -> Linear:
    """A `Linear` with the fields and the very States of a layer that extends it: without what the layer adds."""
    # The constructor asks for keys, and looks at none: nothing is taken from the ambient stream.
    with scope(0):
        return _with_states_of(linear, Linear)


# Any: as above.
def _with_states_of(linear: Linear, cls: type[L], **arguments: Any) -> L:
    """A layer of a class, with the fields and the States that `Linear` declares, taken from another layer.

    Raises:
        ContractError: The other layer is stacked, or abstract.
    """
    check_unstacked(linear)
    weight, bias = linear.weight, linear.bias
    if isinstance(looked_at(weight), jax.ShapeDtypeStruct):
        raise ContractError(
            f"{type(linear).__name__}.weight is abstract: it has a shape, and no values; "
            "call of and fold in the function that gn.eval_shape is given"
        )
    layer = cls(
        linear.in_size,
        linear.out_size,
        linear.w_mask,
        use_bias=bias is not None,
        # The values that are there: nothing is drawn, and no memory is used.
        w_init=_initially(weight),
        b_init=_initially(weight if bias is None else bias),
        dtype=linear.dtype,
        param_dtype=weight.value.dtype,
        precision=linear.precision,
        preferred_element_type=linear.preferred_element_type,
        axes=linear.axes,
        **arguments,
    )
    layer.weight, layer.bias = weight, bias
    return layer


def _initially(state: State[jax.Array]) -> Initializer:
    """An initialiser that gives the value of a State."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """The value, whatever the key."""
        return state.value

    return init
