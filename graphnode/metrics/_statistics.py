"""`Statistics`: mean, variance, minimum and maximum of all values."""

import functools
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._fields import state
from .._signals import write_all
from ..nn._checks import check_unstacked, count, shape_of
from ..nn._spread import whole
from ._metric import (
    WHOLE,
    Batch,
    Metric,
    MetricState,
    check_alike,
    check_batch,
    sample_of,
    state_of,
)
from ._pair import Pair, added, added_arrays, divided, packed, unpacked


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Summary:
    """What `Statistics` computes: a pytree of arrays, all but `count` of shape `[*shape]`."""

    count: jax.Array
    """The sum of the weights; the number of values where there are none."""
    mean: jax.Array
    """The mean."""
    variance: jax.Array
    """The variance."""
    std: jax.Array
    """The standard deviation, its root."""
    minimum: jax.Array
    """The smallest value."""
    maximum: jax.Array
    """The largest value."""


class Statistics(Metric):
    """Count, mean, variance, standard deviation, minimum and maximum of all values.

    Sums of squares around the mean of each batch are merged, and never a mean of squares,
    of which nothing is left where the mean is large (Chan, Golub & LeVeque 1979, "Updating
    formulae and a pairwise algorithm for computing sample variances", equation 2.1; for
    one value at a time it is Welford's method of 1962). All sums are pairs of floats, as
    in `Mean`.

    Args:
        shape: The last axes of the values, each entry of which has statistics of its own,
            such as `(3,)` for three features.
        ddof: What is subtracted from the count in the variance, as in `jnp.var`: 1 for
            that of a sample.

    Raises:
        ContractError: A shape that is not a tuple of positive integers, a `ddof` that is
            not an integer of at least 0.

    Example:
        >>> statistics = gn.metrics.Statistics()
        >>> statistics.update(jnp.array([1.0, 2.0]))
        >>> statistics.update(jnp.array([6.0]))
        >>> summary = statistics.compute()
        >>> print(summary.count, summary.mean, summary.variance, summary.minimum, summary.maximum)
        3.0 3.0 4.6666665 1.0 6.0
    """

    _: KW_ONLY
    shape: tuple[int, ...] = ()
    """The last axes of the values, which are not added over."""
    ddof: int = 0
    """What is subtracted from the count in the variance."""
    total: MetricState[Float[Array, "2 *shape"]] = state(init=False)
    """The sum of the values, each times its weight: a float, and what it has rounded off."""
    squares: MetricState[Float[Array, "2 *shape"]] = state(init=False)
    """The sum of their squared distances from the mean, likewise."""
    weight: MetricState[Float[Array, "2"]] = state(init=False)
    """The sum of the weights, likewise; the number of values where there are none."""
    minimum: MetricState[Float[Array, "*shape"]] = state(init=False)
    """The smallest value; infinite before the first."""
    maximum: MetricState[Float[Array, "*shape"]] = state(init=False)
    """The largest value."""

    def __post_init__(self) -> None:
        self.shape = shape_of("Statistics.shape", self.shape)
        self.ddof = count("Statistics.ddof", self.ddof)
        self.total = state_of(self.shape)
        self.squares = state_of(self.shape)
        self.weight = state_of(())
        self.minimum = MetricState(jnp.full(self.shape, jnp.inf), sharding=WHOLE)
        self.maximum = MetricState(jnp.full(self.shape, -jnp.inf), sharding=WHOLE)

    def update(
        self,
        values: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        weights: ArrayLike | None = None,
    ) -> None:
        """Add the values of a batch.

        Args:
            values: Of shape `[*batch, *shape]`, of any number of batch axes: booleans,
                integers or floats.
            mask: Of shape `[*batch]`: which of them count. What does not may be NaN.
            weights: Of shape `[*batch]`: how often each of them counts. One of weight 0
                does not.

        Raises:
            ContractError: An array of another shape or dtype; the metric is stacked.
        """
        batch = check_batch(self, values, self.shape, mask, weights)
        rank = batch.values.ndim - len(self.shape)
        self._write(
            _merged(self._sums(), _sums_of(batch, rank, self.total.value.dtype))
        )

    def compute(self) -> Summary:
        """The statistics of all values; NaN, but for the count, if there are none.

        Raises:
            ContractError: The metric is stacked.
        """
        check_unstacked(self)
        summary: Summary = _summary(self._sums(), self.ddof)
        return summary

    def reset(self) -> None:
        """Forget all values."""
        sums = self._sums()
        empty = _Sums(
            total=jnp.zeros_like(sums.total),
            squares=jnp.zeros_like(sums.squares),
            weight=jnp.zeros_like(sums.weight),
            minimum=jnp.full_like(sums.minimum, jnp.inf),
            maximum=jnp.full_like(sums.maximum, -jnp.inf),
        )
        self._write(empty)

    def merge(self, other: "Statistics") -> None:
        """Add all values of other statistics.

        Raises:
            StructureError: They have another class, shape or `ddof`, or are this metric
                itself.
        """
        check_alike(self, other)
        self._write(_merged(self._sums(), other._sums()))

    def _sums(self) -> "_Sums":
        """What the States hold."""
        return _Sums(*[state.value for state in self._states()])

    def _states(self) -> tuple[MetricState[jax.Array], ...]:
        """The States, in the order of `_Sums`."""
        return (self.total, self.squares, self.weight, self.minimum, self.maximum)

    def _write(self, sums: "_Sums") -> None:
        """Give the States new values, all or none."""
        write_all(self._states(), sums)


class _Sums(NamedTuple):
    """What the States of `Statistics` hold; the first three are arrays of pairs."""

    total: jax.Array
    squares: jax.Array
    weight: jax.Array
    minimum: jax.Array
    maximum: jax.Array


@functools.partial(jax.jit, static_argnames=("rank", "dtype"))
def _sums_of(batch: Batch, rank: int, dtype: np.dtype) -> _Sums:
    """Those of a batch, whose first axes are so many."""
    sample = sample_of(batch, rank, dtype)
    total = sample.total(sample.values)
    axes = tuple(range(rank))
    mean = divided(unpacked(total), unpacked(sample.total_weight))
    mean = Pair(*[jnp.expand_dims(part, axes) for part in mean])
    smallest = largest = sample.values.high
    distance = (smallest - mean.high) + (sample.values.low - mean.low)
    if sample.is_counted is not None:
        # The mean of nothing is NaN.
        distance = jnp.where(sample.is_counted, distance, 0)
        smallest = jnp.where(sample.is_counted, smallest, jnp.inf)
        largest = jnp.where(sample.is_counted, largest, -jnp.inf)
    square = jnp.square(distance)
    return _Sums(
        total,
        sample.total(Pair(square, jnp.zeros_like(square))),
        sample.total_weight,
        whole(jnp.min(smallest, axes, initial=jnp.inf)),
        whole(jnp.max(largest, axes, initial=-jnp.inf)),
    )


@jax.jit
def _merged(a: _Sums, b: _Sums) -> _Sums:
    """Those of the values of both: the sum of squares is around a mean that is neither's (Chan et al.)."""
    weight, other_weight = unpacked(a.weight), unpacked(b.weight)
    all_weight = added(weight, other_weight)
    mean = divided(unpacked(a.total), weight)
    other_mean = divided(unpacked(b.total), other_weight)
    distance = (mean.high - other_mean.high) + (mean.low - other_mean.low)
    share = weight.high / all_weight.high
    between = jnp.square(distance) * (share * other_weight.high)
    # The mean of nothing is NaN.
    is_one_empty = (weight.high == 0) | (other_weight.high == 0)
    between = jnp.where(is_one_empty, 0, between)
    within = added(unpacked(a.squares), unpacked(b.squares))
    return _Sums(
        added_arrays(a.total, b.total),
        packed(added(within, Pair(between, jnp.zeros_like(between)))),
        packed(all_weight),
        jnp.minimum(a.minimum, b.minimum),
        jnp.maximum(a.maximum, b.maximum),
    )


@functools.partial(jax.jit, static_argnames="ddof")
def _summary(sums: _Sums, ddof: int) -> Summary:
    """What they amount to."""
    weight = unpacked(sums.weight)
    less = jnp.asarray(-ddof, weight.high.dtype)
    freedom = added(weight, Pair(less, jnp.zeros_like(less)))
    variance = divided(unpacked(sums.squares), freedom).high
    # A sample of one value has none, as in NumPy.
    variance = jnp.where(freedom.high > 0, variance, jnp.nan)
    is_empty = weight.high == 0
    return Summary(
        count=weight.high,
        mean=divided(unpacked(sums.total), weight).high,
        variance=variance,
        std=jnp.sqrt(variance),
        minimum=jnp.where(is_empty, jnp.nan, sums.minimum),
        maximum=jnp.where(is_empty, jnp.nan, sums.maximum),
    )
