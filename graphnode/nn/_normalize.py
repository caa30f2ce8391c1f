"""What all normalisations share: statistics in float32, the result in the dtype of the input."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._state import State
from ._dtypes import inexact


def widened(x: jax.Array) -> jax.Array:
    """`x` in at least float32: statistics of half-precision numbers are taken in it."""
    return x if x.dtype.itemsize >= 4 else x.astype(np.float32)


def scaled(
    x: jax.Array, factor: jax.Array | None, scale: State[jax.Array] | None, bias: State[jax.Array] | None
) -> jax.Array:
    """`x * (factor * scale) + bias`, with scale and bias over the last axis, in the dtype of `x`."""
    if scale is not None:
        each = jnp.expand_dims(scale.value.astype(x.dtype), range(x.ndim - 1))
        factor = each if factor is None else factor * each
    y = x if factor is None else x * factor
    return y if bias is None else y + jnp.expand_dims(bias.value.astype(x.dtype), range(x.ndim - 1))


def result_dtype(dtype: DTypeLike | None, x: jax.Array) -> DTypeLike:
    """The dtype of the result: the layer's, or that of its input."""
    known = inexact("dtype", dtype)
    return x.dtype if known is None else known


def norm_vars(**parameters: State[jax.Array] | None) -> dict[str, object]:
    """What a normalisation was made with, as far as its parameters still show it."""
    shown: dict[str, object] = {f"use_{name}": one is not None for name, one in parameters.items()}
    dtypes = [one.value.dtype.name for one in parameters.values() if one is not None]
    return {**shown, "param_dtype": getattr(jnp, dtypes[0])} if dtypes else shown
