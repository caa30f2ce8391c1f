"""Names for static values in files: those that the program registered, JAX's activations and initialisers.

`gn.config.register` adds to the table. It is here because the JSON form of a graphdef,
which does not need `gn.config`, names functions too. Names are looked up in this table
only, never imported: a file must not run code.
"""

import functools
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ._importable import goes_by_value
from ._public import named_in_pickles

# JAX's own, so that files can name them: they are comparable, and the same object in every process.
# fmt: off
_ACTIVATIONS: Final = (
    "celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "identity", "leaky_relu",
    "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softmax",
    "softplus", "sparse_plus", "sparse_sigmoid", "squareplus", "swish", "tanh",
)
# JAX makes a new function at every call, and two functions are two static values. So
# each initialiser is made once.
_INITIALIZERS: Final = (
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "normal",
    "truncated_normal", "uniform",
)
# fmt: on
_orthogonal: Final = jax.nn.initializers.orthogonal()
_delta_orthogonal: Final = jax.nn.initializers.delta_orthogonal()


def orthogonal(
    key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = float
) -> jax.Array:
    """JAX's initialiser, also for half precision, which its QR decomposition does not support: by way of float32."""
    return by_float32(_orthogonal, key, shape, dtype)


def delta_orthogonal(
    key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = float
) -> jax.Array:
    """JAX's initialiser, also for half precision; see `orthogonal`."""
    return by_float32(_delta_orthogonal, key, shape, dtype)


def by_float32(
    initializer: Callable[..., jax.Array],
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: DTypeLike,
) -> jax.Array:
    """What an initialiser that knows no half precision makes, in a dtype that may be of half precision."""
    is_half = jnp.dtype(dtype).itemsize < 4
    matrix = initializer(key, shape, jnp.float32 if is_half else dtype)
    return matrix.astype(dtype) if is_half else matrix


def quick_gelu(x: jax.Array) -> jax.Array:
    """`x * sigmoid(1.702 * x)`, another approximation of `gelu` (Hendrycks & Gimpel 2016, section 2)."""
    return x * jax.nn.sigmoid(1.702 * x)


VALUES: Final[dict[str, Any]] = {
    **{name: getattr(jax.nn, name) for name in _ACTIVATIONS if hasattr(jax.nn, name)},
    **{name: getattr(jax.nn.initializers, name)() for name in _INITIALIZERS},
    **{name: getattr(jax.nn.initializers, name) for name in ("zeros", "ones")},
    "orthogonal": orthogonal,
    "delta_orthogonal": delta_orthogonal,
    # `gelu` of JAX is the approximation by tanh. Other libraries mean the exact function
    # by that name, so files may say which one they want.
    "gelu_tanh": jax.nn.gelu,
    "gelu_exact": functools.partial(jax.nn.gelu, approximate=False),
    "quick_gelu": quick_gelu,
}

# Other libraries' names, after those that files are written with.
VALUES.update(
    kaiming_normal=VALUES["he_normal"],
    kaiming_uniform=VALUES["he_uniform"],
    xavier_normal=VALUES["glorot_normal"],
    xavier_uniform=VALUES["glorot_uniform"],
)

HUGGING_FACE: Final[Mapping[str, Callable[[jax.Array], jax.Array]]] = {
    "gelu": VALUES["gelu_exact"],
    **dict.fromkeys(
        ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate"),
        VALUES["gelu_tanh"],
    ),
    "gelu_python": VALUES["gelu_exact"],
    "linear": VALUES["identity"],
    "quick_gelu": quick_gelu,
    **{
        name: VALUES[name]
        for name in (
            "leaky_relu",
            "mish",
            "relu",
            "relu6",
            "sigmoid",
            "silu",
            "swish",
            "tanh",
        )
    },
}
"""What the names of activations mean in a `config.json` of Hugging Face, where `gelu` is the exact function."""


def name_of(value: object) -> str | None:
    """For files and pickles: the name that a value is registered under, or `None`. By identity, not by `==`."""
    for name, registered_value in VALUES.items():
        if registered_value is value:
            return name
    return None


def pickled(value: object) -> object:
    """What a pickle holds for a value: itself, or the registered name of a function in a function.

    Pickle cannot find such functions by name. JAX's initialisers are some.
    """
    is_local = isinstance(value, FunctionType) and "<" in value.__qualname__
    if not is_local or goes_by_value(value.__module__):
        return value
    name = name_of(value)
    return value if name is None else _Named(name)


class _Named:
    """Takes the place of a registered value in a pickle, and is loaded as that value."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        """Let a pickle hold a call of `registered` with the name."""
        return registered, (self._name,)


@named_in_pickles("_pickled_registered")
def registered(name: str) -> object:
    """The value that is registered under a name, for a pickle that is loaded.

    Raises:
        LookupError: Nothing is registered under it.
    """
    if name not in VALUES:
        raise LookupError(
            f"nothing is registered as {name!r}: call gn.config.register before the pickle is loaded"
        )
    return VALUES[name]
