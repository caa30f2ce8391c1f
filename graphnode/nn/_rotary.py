"""Rotary positions: pairs of features are rotated by angles that grow with the position."""

import math
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY
from typing import Final, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer
from numpy.typing import NDArray

from .._declare._node import Node
from .._errors import ContractError
from .._fields import subnode
from ._checks import place, positive, size
from ._dtypes import at_least_float32
from ._module import Module
from ._spread import beside

# The angle of each pair at position 1, of float64: constants of what is compiled.
Rates: TypeAlias = NDArray[np.float64]

_PAIRS: Final = ("halves", "neighbours")


class RotaryScaling(Node, ABC):
    """How `Rotary` rotates more slowly, so that a model reads texts longer than those it was trained on.

    Example:
        >>> class Slower(gn.nn.RotaryScaling):
        ...     def rates(self, rates, base):
        ...         return rates / 2
        >>> gn.nn.Rotary(scaling=Slower())(jnp.ones((3, 1, 2)), jnp.arange(3)).shape
        (3, 1, 2)
    """

    @abstractmethod
    def rates(self, rates: Rates, base: float) -> Rates:
        """Other rates: the angle of each pair at position 1, the fastest first.

        Args:
            rates: Those without scaling, `base ** (-i / len(rates))` for pair `i`.
            base: The base that they are of.
        """

    def magnitude(self) -> float:
        """What queries and keys are multiplied with, beside being rotated."""
        return 1.0


class LinearScaling(RotaryScaling):
    """All pairs are rotated more slowly by the same factor: positions are interpolated.

    Chen et al. 2023, "Extending Context Window of Large Language Models via Positional
    Interpolation", eq. 4.

    Args:
        factor: How many times longer texts are.

    Raises:
        ContractError: A factor that is not a positive number.

    Example:
        >>> gn.nn.Rotary(scaling=LinearScaling(4.0)).rates(4).tolist()
        [0.25, 0.0025]
    """

    factor: float
    """How many times longer texts are."""

    def __post_init__(self) -> None:
        self.factor = positive("LinearScaling.factor", self.factor)

    def rates(self, rates: Rates, base: float) -> Rates:
        """All rates, divided by the factor."""
        return rates / self.factor


class Llama3Scaling(RotaryScaling):
    """Slow pairs are rotated more slowly by a factor and fast ones as before, with a ramp in between.

    The scaling of Llama 3.1 (Grattafiori et al. 2024, "The Llama 3 Herd of Models",
    whose code has the formula; `rope_type: llama3` of Hugging Face). A pair that makes
    at least `high_freq_factor` turns in `original_length` positions stays; one that
    makes fewer than `low_freq_factor` is divided by `factor`.

    Args:
        factor: How many times longer texts are.
        low_freq_factor: Turns below which a pair is slowed down by all of the factor.
        high_freq_factor: Turns from which on a pair stays as it is.
        original_length: The length of texts in training.

    Raises:
        ContractError: A number that is not positive; a `high_freq_factor` that is not
            above `low_freq_factor`.

    Example:
        >>> rotary = gn.nn.Rotary(base=500_000.0, scaling=Llama3Scaling(8.0))
        >>> [round(rate, 7) for rate in rotary.rates(8).tolist()]
        [1.0, 0.037606, 0.0005248, 6.6e-06]
    """

    factor: float
    """How many times longer texts are."""
    _: KW_ONLY
    low_freq_factor: float = 1.0
    """Turns below which a pair is slowed down by all of the factor."""
    high_freq_factor: float = 4.0
    """Turns from which on a pair stays as it is."""
    original_length: int = 8192
    """The length of texts in training."""

    def __post_init__(self) -> None:
        self.factor = positive("Llama3Scaling.factor", self.factor)
        self.low_freq_factor = low = positive(
            "Llama3Scaling.low_freq_factor", self.low_freq_factor
        )
        self.high_freq_factor = positive(
            "Llama3Scaling.high_freq_factor", self.high_freq_factor
        )
        self.original_length = size(
            "Llama3Scaling.original_length", self.original_length
        )
        if self.high_freq_factor <= low:
            raise ContractError(
                f"Llama3Scaling.high_freq_factor: expected a number above low_freq_factor={low}; "
                f"found {self.high_freq_factor}"
            )

    def rates(self, rates: Rates, base: float) -> Rates:
        """Fast rates as they are, slow ones divided by the factor."""
        turns = self.original_length * rates / (2 * math.pi)
        ramp = (turns - self.low_freq_factor) / (
            self.high_freq_factor - self.low_freq_factor
        )
        kept = np.clip(ramp, 0.0, 1.0)
        return kept * rates + (1.0 - kept) * rates / self.factor


class YarnScaling(RotaryScaling):
    """Slow pairs are rotated more slowly, fast ones as before, and scores are a little larger.

    Peng et al. 2023, "YaRN: Efficient Context Window Extension of Large Language
    Models", sections 3.2 to 3.4. The ramp goes over the numbers of the pairs, from the
    one that makes `beta_fast` turns in `original_length` positions to the one that makes
    `beta_slow`, as the authors' code and `rope_type: yarn` of Hugging Face have it.

    Args:
        factor: How many times longer texts are.
        original_length: The length of texts in training.
        beta_fast: Turns from which on a pair stays as it is.
        beta_slow: Turns below which a pair is slowed down by all of the factor.
        attention_factor: What queries and keys are multiplied with; by default
            `0.1 * log(factor) + 1`, eq. 22.

    Raises:
        ContractError: A number that is not positive; a `beta_fast` that is not above
            `beta_slow`.

    Example:
        >>> rotary = gn.nn.Rotary(scaling=YarnScaling(4.0, 64))
        >>> [round(rate, 6) for rate in rotary.rates(8).tolist()]
        [1.0, 0.0625, 0.0025, 0.00025]
    """

    factor: float
    """How many times longer texts are."""
    original_length: int
    """The length of texts in training."""
    _: KW_ONLY
    beta_fast: float = 32.0
    """Turns from which on a pair stays as it is."""
    beta_slow: float = 1.0
    """Turns below which a pair is slowed down by all of the factor."""
    attention_factor: float | None = None
    """What queries and keys are multiplied with."""

    def __post_init__(self) -> None:
        self.factor = positive("YarnScaling.factor", self.factor)
        self.original_length = size("YarnScaling.original_length", self.original_length)
        self.beta_slow = positive("YarnScaling.beta_slow", self.beta_slow)
        self.beta_fast = positive("YarnScaling.beta_fast", self.beta_fast)
        if self.beta_fast <= self.beta_slow:
            raise ContractError(
                f"YarnScaling.beta_fast: expected a number above beta_slow={self.beta_slow}; found {self.beta_fast}"
            )
        if self.attention_factor is not None:
            self.attention_factor = positive(
                "YarnScaling.attention_factor", self.attention_factor
            )

    def rates(self, rates: Rates, base: float) -> Rates:
        """Fast rates as they are, slow ones divided by the factor."""
        count = len(rates)

        def pair_of(turns: float) -> float:
            """The number of the pair that makes so many turns in the original length, between two pairs too."""
            positions_per_radian = self.original_length / (2 * math.pi * turns)
            return count * math.log(positions_per_radian) / math.log(base)

        first = max(math.floor(pair_of(self.beta_fast)), 0)
        # The authors' code counts features here, two for each pair.
        last = min(math.ceil(pair_of(self.beta_slow)), 2 * count - 1)
        # Not 0: what one divides by.
        width = max(last - first, 0.001)
        slowed = np.clip((np.arange(count) - first) / width, 0.0, 1.0)
        return (1.0 - slowed) * rates + slowed * rates / self.factor

    def magnitude(self) -> float:
        """`attention_factor`, or what the paper recommends."""
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1.0 else 1.0


class Rotary(Module):
    """Rotates pairs of features of queries and keys by their positions, so that scores depend on distances alone.

    At position `p`, pair `i` of `n` is rotated by the angle `p * base ** (-i / n)` (Su
    et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", eq.
    34). Angles are taken in the dtype of the input, in float32 if that has less
    precision; the dtype stays.

    Args:
        base: The larger, the slower the slowest rotation.
        fraction: The part of the features that is rotated, the first ones; the others
            stay (Phi, GPT-NeoX).
        pairs: Which features are a pair: `"halves"`, feature `i` of the first half and
            feature `i` of the second, as in GPT-NeoX and LLaMA; or `"neighbours"`, as in
            the paper and in GPT-J.
        scaling: How pairs are slowed down for longer texts; by default they are not.

    Raises:
        ContractError: A base that is not a positive number, a fraction that is not above
            0 and at most 1; other pairs; an odd number of features to be rotated, or
            none; positions of another shape.

    Example:
        >>> rotate = Rotary(pairs="neighbours", fraction=0.5)
        >>> rotate(jnp.ones((2, 1, 4)), jnp.arange(2))[1, 0].tolist()
        [-0.301, 1.381, 1.0, 1.0]

    See also: `MultiHeadAttention(rotary_base=...)`, short for the plain one; `rotary`,
    the function.
    """

    base: float = 10_000.0
    """The larger, the slower the slowest rotation."""
    _: KW_ONLY
    fraction: float = 1.0
    """The part of the features that is rotated."""
    pairs: Literal["halves", "neighbours"] = "halves"
    """Which features are a pair."""
    scaling: RotaryScaling | None = subnode(default=None)
    """How pairs are slowed down for longer texts."""

    def __post_init__(self) -> None:
        self.base = positive("Rotary.base", self.base)
        self.fraction = positive("Rotary.fraction", self.fraction)
        if self.fraction > 1.0:
            raise ContractError(
                f"Rotary.fraction: expected a number above 0 and at most 1; found {self.fraction}"
            )
        if self.pairs not in _PAIRS:
            raise ContractError(
                f"Rotary.pairs: expected {' or '.join(map(repr, _PAIRS))}; found {self.pairs!r}"
            )

    def rates(self, count: int) -> Rates:
        """The angle of each pair at position 1, the fastest first, for so many features that are rotated."""
        pairs = count // 2
        rates = self.base ** (-np.arange(pairs) / pairs)
        if self.scaling is None:
            return rates
        return self.scaling.rates(rates, self.base)

    def rotated_features(self, where: str, head_size: int) -> int:
        """How many features of a head are rotated.

        Args:
            where: The place that an error names.
            head_size: How many the head has.

        Raises:
            ContractError: An odd number of them, or none.
        """
        count = int(head_size * self.fraction)
        if count < 2 or count % 2:
            raise ContractError(
                f"{where}: expected an even number of features to be rotated; found {count}, which is fraction="
                f"{self.fraction} of {head_size}"
            )
        return count

    def __call__(
        self,
        x: Float[Array, "... time heads head_size"],
        positions: Integer[Array, "... time"],
    ) -> Float[Array, "... time heads head_size"]:
        """Rotate queries or keys by their positions.

        Args:
            x: Queries or keys.
            positions: Of each element, of shape `[time]` or, for each row, `[..., time]`.

        Raises:
            ContractError: Positions of another shape; an odd number of features to be
                rotated.
        """
        count = int(x.shape[-1] * self.fraction)
        if count < 2 or count % 2:
            # Only now: a place is looked for in all that is being called.
            self.rotated_features(place(self), x.shape[-1])
        shape = (*x.shape[:-3], x.shape[-3])
        if positions.shape not in (shape, shape[-1:]) or not is_counted(positions):
            raise ContractError(
                f"{place(self)}: positions: expected integers of shape {shape} or {shape[-1:]}; "
                f"found {positions.dtype} of shape {positions.shape}"
            )
        magnitude = 1.0 if self.scaling is None else self.scaling.magnitude()
        rates = self.rates(count)
        if count == x.shape[-1]:
            return _rotated(x, positions, rates, magnitude, self.pairs)
        turned = _rotated(x[..., :count], positions, rates, magnitude, self.pairs)
        return jnp.concatenate([turned, x[..., count:]], -1)


def is_counted(positions: jax.Array) -> bool:
    """Whether an array has a dtype of integers."""
    return jnp.issubdtype(positions.dtype, jnp.integer)


def rotary(
    x: Float[Array, "... time heads head_size"],
    positions: Integer[Array, "... time"],
    base: float = 10_000.0,
) -> Float[Array, "... time heads head_size"]:
    """`x` with its features rotated by its positions, so that scalar products depend on distances alone.

    Feature `i` of the first half and feature `i` of the second are a pair; at position
    `p` it is rotated by the angle `p * base ** (-2 i / head_size)` (Su et al. 2021,
    "RoFormer: Enhanced Transformer with Rotary Position Embedding", eq. 34, which pairs
    neighbours; halves are what GPT-NeoX and LLaMA pair). Angles are taken in the dtype
    of `x`, in float32 if that has less precision; the dtype stays.

    Args:
        x: Queries or keys.
        positions: Of each element, of shape `[time]` or, for each row, `[..., time]`.
        base: The larger, the slower the slowest rotation.

    Example:
        >>> x = jnp.ones((3, 1, 2))
        >>> y = rotary(x, jnp.arange(3))
        >>> [round(float(y[0, 0] @ y[1, 0]), 3), round(float(y[1, 0] @ y[2, 0]), 3)]
        [1.081, 1.081]

    See also: `Rotary`, which has options.
    """
    pairs = x.shape[-1] // 2
    rates = base ** (-np.arange(pairs) / pairs)
    return _rotated(x, positions, rates, 1.0, "halves")


def _rotated(
    x: jax.Array,
    positions: jax.Array,
    rates: Rates,
    magnitude: float,
    pairs: Literal["halves", "neighbours"],
) -> jax.Array:
    """`x` with all of its features rotated."""
    dtype = at_least_float32(x.dtype)
    # By NumPy: a constant of what is compiled, and not computed at each call.
    row = rates.astype(dtype).reshape(*[1] * (positions.ndim + 1), -1)
    angles = positions.astype(dtype)[..., None, None] * row
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    if magnitude != 1.0:
        cos, sin = cos * magnitude, sin * magnitude
    # Only now in the dtype of `x`: in half precision, large angles could be off by a
    # whole turn.
    missing = range(x.ndim - angles.ndim)
    cos, sin = (
        beside(jnp.expand_dims(part, missing).astype(x.dtype), x) for part in (cos, sin)
    )
    if pairs == "neighbours":
        first, second = x[..., ::2], x[..., 1::2]
        turned = [first * cos - second * sin, second * cos + first * sin]
        return jnp.stack(turned, -1).reshape(x.shape)
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
