"""The names of static values that files may use: what the program registered, JAX's activations and initialisers.

`gn.config.register` fills the table; it lies here because a graphdef's JSON form, which needs no configuration, names
functions too. A name is looked up in the table and nowhere else.
"""

from typing import Any, Final

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

# JAX's own, so that files can name them: they are comparable, and the same object in every process.
# fmt: off
_ACTIVATIONS: Final = (
    "celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "identity", "leaky_relu",
    "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softmax",
    "softplus", "sparse_plus", "squareplus", "swish", "tanh",
)
# Made once: JAX makes a new function at every call, and two of these are two static values.
_MADE: Final = (
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "normal",
    "truncated_normal", "uniform",
)
# fmt: on
_orthogonal: Final = jax.nn.initializers.orthogonal()


def orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = float) -> jax.Array:
    """JAX's initialiser, whose QR decomposition knows no half precision: that is made in float32."""
    is_half = jnp.dtype(dtype).itemsize < 4
    made: jax.Array = _orthogonal(key, shape, jnp.float32 if is_half else dtype)
    return made.astype(dtype) if is_half else made


VALUES: Final[dict[str, Any]] = {
    **{name: getattr(jax.nn, name) for name in _ACTIVATIONS if hasattr(jax.nn, name)},
    **{name: getattr(jax.nn.initializers, name)() for name in _MADE},
    **{name: getattr(jax.nn.initializers, name) for name in ("zeros", "ones")},
    "orthogonal": orthogonal,
}


def name_of(value: object) -> str | None:
    """The name that a value is registered under, or `None`."""
    return next((name for name, one in VALUES.items() if one is value), None)
