"""What is added to the scores of attention by the distance of two elements: T5's relative positions, and ALiBi."""

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, InitVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer
from numpy.typing import NDArray

from .._errors import ContractError
from .._fields import Initializer, state
from .._state import ParamState
from . import initializers
from ._checks import check_unstacked, size
from ._dtypes import init_vars, parameter
from ._module import Module
from ._spread import rows_at


class ScoreBias(Module, ABC):
    """What `MultiHeadAttention(score_bias=...)` adds to its scores, by the positions of queries and keys.

    Example:
        >>> class Nearer(gn.nn.ScoreBias):
        ...     def __call__(self, query_positions, key_positions):
        ...         return -jnp.abs(gn.nn.ScoreBias.distances(query_positions, key_positions))[None] / 10
        >>> gn.nn.MultiHeadAttention(8, 2, score_bias=Nearer())(jnp.ones((5, 8))).shape
        (5, 8)
    """

    @abstractmethod
    def __call__(
        self,
        query_positions: Integer[Array, "... time"],
        key_positions: Integer[Array, "... context"],
    ) -> jax.Array:
        """What is added to the scores, of shape `[..., heads, time, context]`, where `heads` may be 1.

        Args:
            query_positions: Of shape `[time]`, or `[..., time]` if rows differ.
            key_positions: Of shape `[context]`, or `[..., context]` if rows differ.
        """

    @staticmethod
    def distances(
        query_positions: Integer[Array, "... time"],
        key_positions: Integer[Array, "... context"],
    ) -> Integer[Array, "... time context"]:
        """How far each key is behind each query; negative for a key before it."""
        query, key = query_positions[..., :, None], key_positions[..., None, :]
        rank = max(query.ndim, key.ndim)
        query = jnp.expand_dims(query, range(rank - query.ndim))
        key = jnp.expand_dims(key, range(rank - key.ndim))
        return key - query


class RelativePositionBias(ScoreBias):
    """A parameter for each head and each class of distances, the relative positions of T5.

    Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified
    Text-to-Text Transformer", section 2.1. Small distances have a class each; larger
    ones share classes that grow with the logarithm, up to `max_distance`, from which on
    all are one. T5's layers share one, which is one node in several layers, and divide
    scores by nothing: `MultiHeadAttention(scale=1.0, score_bias=...)`.

    Args:
        num_heads: Heads of the attention.
        num_buckets: Number of classes.
        max_distance: The distance from which on all are in one class.
        bidirectional: Whether keys after a query have classes of their own, half of
            all; otherwise they are in the class of distance 0, as in a decoder.
        w_init: Initialiser of the weight.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A number that is not a positive integer; fewer classes than 2 in
            each direction, or an odd number for both; a `max_distance` that is among
            those with a class of their own.

    Example:
        >>> bias = RelativePositionBias(2)
        >>> bias.weight.value.shape, bias(jnp.arange(5), jnp.arange(5)).shape
        ((32, 2), (2, 5, 5))
    """

    num_heads: int
    """Heads of the attention."""
    _: KW_ONLY
    num_buckets: int = 32
    """Number of classes of distances."""
    max_distance: int = 128
    """The distance from which on all are in one class."""
    bidirectional: bool = True
    """Whether keys after a query have classes of their own."""
    w_init: InitVar[Initializer] = initializers.normal
    """Initialiser of the weight."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    weight: ParamState[Float[Array, "buckets=num_buckets heads=num_heads"]] = state(
        init=False
    )
    """What is added to the scores of each head, by the class of the distance."""

    def __post_init__(self, w_init: Initializer, param_dtype: DTypeLike) -> None:
        cls = "RelativePositionBias"
        self.num_heads = size(f"{cls}.num_heads", self.num_heads)
        self.num_buckets = buckets = size(f"{cls}.num_buckets", self.num_buckets)
        self.max_distance = size(f"{cls}.max_distance", self.max_distance)
        # Those of one direction.
        own = buckets // 2 if self.bidirectional else buckets
        if own < 2 or (self.bidirectional and buckets % 2):
            expected = (
                "an even number, 4 at least" if self.bidirectional else "2 at least"
            )
            raise ContractError(
                f"{cls}.num_buckets: expected {expected}; found {buckets}"
            )
        if self.max_distance <= own // 2:
            raise ContractError(
                f"{cls}.max_distance: expected more than {own // 2}, as distances below that have a class each; "
                f"found {self.max_distance}"
            )
        self.weight = parameter(w_init, (buckets, self.num_heads), param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variable that the weight still shows, for `gn.config.to_config`."""
        return init_vars(self.weight)

    def __call__(
        self,
        query_positions: Integer[Array, "... time"],
        key_positions: Integer[Array, "... context"],
    ) -> jax.Array:
        """What is added to the scores, of shape `[..., heads, time, context]`.

        Raises:
            ContractError: It is stacked.
        """
        check_unstacked(self)
        distances = self.distances(query_positions, key_positions)
        return jnp.moveaxis(
            rows_at(self.weight.value, self._buckets(distances)), -1, -3
        )

    def _buckets(self, distances: jax.Array) -> jax.Array:
        """The class of each distance."""
        buckets = self.num_buckets
        if self.bidirectional:
            buckets //= 2
            offset = jnp.where(distances > 0, buckets, 0).astype(distances.dtype)
            steps = jnp.abs(distances)
        else:
            offset = jnp.zeros_like(distances)
            steps = jnp.maximum(-distances, 0)
        table = jnp.asarray(_classes(buckets, self.max_distance), distances.dtype)
        return offset + table[jnp.minimum(steps, self.max_distance)]


class ALiBi(ScoreBias):
    """Scores fall with the distance, in each head with another slope.

    Press et al. 2022, "Train Short, Test Long: Attention with Linear Biases Enables
    Input Length Extrapolation", section 3: head `i` of `n`, a power of 2, has the slope
    `2 ** (-8 i / n)`, counted from 1; other numbers of heads have those of the power of
    2 below, and then every other one of the power above, as in the authors' code. Keys
    after a query, where they are seen, are as far as those before it.

    Args:
        num_heads: Heads of the attention.

    Raises:
        ContractError: A number that is not a positive integer.

    Example:
        >>> ALiBi(2)(jnp.arange(2), jnp.arange(2)).tolist()
        [[[-0.0, -0.0625], [-0.0625, -0.0]], [[-0.0, -0.00390625], [-0.00390625, -0.0]]]
    """

    num_heads: int
    """Heads of the attention."""

    def __post_init__(self) -> None:
        self.num_heads = size("ALiBi.num_heads", self.num_heads)

    def __call__(
        self,
        query_positions: Integer[Array, "... time"],
        key_positions: Integer[Array, "... context"],
    ) -> jax.Array:
        """What is added to the scores, of shape `[..., heads, time, context]`."""
        distances = jnp.abs(self.distances(query_positions, key_positions))
        # By NumPy: a constant of what is compiled, and not computed at each call.
        row = np.asarray(_slopes(self.num_heads), np.float32)
        slopes = jnp.asarray(row.reshape(*[1] * (distances.ndim - 2), -1, 1, 1))
        return -slopes * distances[..., None, :, :].astype(jnp.float32)


def _classes(buckets: int, max_distance: int) -> NDArray[np.int64]:
    """The class of each distance in one direction, from 0 to `max_distance`.

    By NumPy, as a table: a logarithm of XLA that is off by one digit would move a
    distance that begins a class into the one before.
    """
    exact = buckets // 2
    steps = np.arange(max_distance + 1)
    octaves = np.log(np.maximum(steps, exact) / exact) / np.log(max_distance / exact)
    # Of float64 to fewer digits, for the same reason.
    shared = exact + np.round(octaves * (buckets - exact), 6).astype(np.int64)
    return np.where(steps < exact, steps, np.minimum(shared, buckets - 1))


def _slopes(num_heads: int) -> list[float]:
    """The slope of each head."""
    below = 1 << (num_heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * (head + 1) / below) for head in range(below)]
    # Of twice as many heads, every other one: those that are not among the first.
    between = [2.0 ** (-4 * (head + 1) / below) for head in range(0, 2 * below, 2)]
    return slopes + between[: num_heads - below]
