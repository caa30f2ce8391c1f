"""What all normalisations share: statistics in at least float32, the result in the dtype of the input."""

import jax
from jax.typing import DTypeLike

from .._state import State
from ._dtypes import add_bias, at_least_float32, inexact, of_rank, scalar_type


def widened(x: jax.Array) -> jax.Array:
    """`x` in at least float32: statistics of half-precision numbers are taken in it."""
    return x.astype(at_least_float32(x.dtype))


def scaled(
    x: jax.Array,
    factor: jax.Array | None,
    scale: State[jax.Array] | None,
    bias: State[jax.Array] | None,
) -> jax.Array:
    """`x * (factor * scale) + bias`, with scale and bias over the last axis, in the dtype of `x`."""
    if scale is not None:
        scales = of_rank(scale.value.astype(x.dtype), x)
        factor = scales if factor is None else factor * scales
    y = x if factor is None else x * factor
    return add_bias(y, None if bias is None else bias.value.astype(x.dtype))


def result_dtype(dtype: DTypeLike | None, x: jax.Array) -> DTypeLike:
    """The dtype of the result: the layer's, or that of its input, though statistics are in at least float32."""
    own = inexact("dtype", dtype)
    return x.dtype if own is None else own


def norm_vars(**parameters: State[jax.Array] | None) -> dict[str, object]:
    """For `__init_vars__`: the init variables of a normalisation that its parameters still show.

    Args:
        **parameters: By name, `scale` and `bias`; `None` for one that it was made without.

    Returns:
        `use_scale` and `use_bias`, as far as given, and `param_dtype`.
    """
    used = [parameter for parameter in parameters.values() if parameter is not None]
    variables: dict[str, object] = {
        f"use_{name}": parameter is not None for name, parameter in parameters.items()
    }
    # Without parameters nothing shows what dtype they would have.
    if used:
        variables["param_dtype"] = scalar_type(used[0].value)
    return variables
