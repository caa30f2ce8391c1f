"""`Embedding`, a vector for each of a number of tokens."""

from dataclasses import KW_ONLY, InitVar
from typing import Final, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from .._constrain import constrained, leading
from .._fields import Initializer, state
from .._state import ParamState
from ._checks import check_inputs, size
from ._dtypes import inexact, init_vars, parameter, promoted
from ._module import Layer
from ._precision import Precision, precision_of
from ._spread import product, rows_at

Tokens: TypeAlias = Integer[Array, "*batch"]
Features: TypeAlias = Float[Array, "*batch width"]
Scores: TypeAlias = Float[Array, "*batch num_embeddings"]

# JAX takes axis -2 for that of the inputs, which is axis 0 here: all else counts as a
# receptive field, and the fan is n * (n * width / n / n) = width.
_UNIT_LENGTH: Final = jax.nn.initializers.variance_scaling(
    1.0, "fan_in", "normal", out_axis=0
)


class Embedding(Layer):
    """A vector for each of a number of tokens: `y = weight[tokens]`; `attend` is the way back, with the same weight.

    Tying both ways to one weight is from Press & Wolf 2017, "Using the Output Embedding
    to Improve Language Models". At the start, the vectors have length 1 on average. A
    token that is out of range gives NaN, as in `jnp.take`.

    Args:
        num_embeddings: Number of tokens.
        width: Features of each.
        w_init: Initialiser of the weight; by default normal with variance `1 / width`.
        dtype: The dtype of the result; by default that of the weight.
        param_dtype: Dtype of the weight.
        precision: How exactly `attend` computes products on accelerators, as JAX takes it:
            `"default"`, `"high"`, `"highest"`, a pair of them for input and weight, or an
            algorithm. Kept by its name.

    Raises:
        ContractError: A size that is not a positive integer; tokens that are not
            integers.

    Example:
        >>> layer = Embedding(10, 4)
        >>> y = layer(jnp.array([[1, 2, 3]]))
        >>> y.shape, layer.attend(y).shape
        ((1, 3, 4), (1, 3, 10))
    """

    num_embeddings: int
    """Number of tokens."""
    width: int
    """Features of each."""
    _: KW_ONLY
    w_init: InitVar[Initializer] = _UNIT_LENGTH
    """Initialiser of the weight."""
    dtype: DTypeLike | None = None
    """The dtype of the result."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    precision: Precision | None = None
    """How exactly `attend` computes products."""
    weight: ParamState[Float[Array, "vocab=num_embeddings embed=width"]] = state(
        init=False
    )
    """The vectors."""

    def __post_init__(self, w_init: Initializer, param_dtype: DTypeLike) -> None:
        self.num_embeddings = size("Embedding.num_embeddings", self.num_embeddings)
        self.width = size("Embedding.width", self.width)
        self.dtype = inexact("Embedding.dtype", self.dtype)
        self.precision = precision_of("Embedding.precision", self.precision)
        self.weight = parameter(w_init, (self.num_embeddings, self.width), param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return init_vars(self.weight)

    def __call__(self, tokens: Tokens) -> Features:
        """The vectors of `tokens`, of shape `[...]`, as `[..., width]`.

        Raises:
            ContractError: `tokens` are not integers.
        """
        check_inputs(self, tokens=(tokens, Tokens))
        (weight,) = promoted(self.dtype, self.weight.value)
        rows = rows_at(weight, tokens)
        return constrained(rows, *leading(tokens.ndim), "embed")

    def attend(self, x: Features) -> Scores:
        """The scalar product of `x`, of shape `[..., width]`, with the vector of each token, as logits.

        Raises:
            ContractError: The last axis of `x` is not `width`.
        """
        check_inputs(self, x=(x, Features))
        x, weight = promoted(self.dtype, x, self.weight.value)
        return product(
            x, weight.T, precision=precision_of("Embedding.precision", self.precision)
        )
