"""`Statistics`: mean, variance, minimum and maximum of all values."""

from dataclasses import KW_ONLY, dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._fields import state
from .._signals import write_all
from ..nn._checks import count, shape_of
from ._metric import Metric, MetricState, batch_of, check_alike, pair_in, state_of
from ._pair import Pair, added, divided, packed, unpacked


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
        whole = jax.P()
        self.minimum = MetricState(jnp.full(self.shape, jnp.inf), sharding=whole)
        self.maximum = MetricState(jnp.full(self.shape, -jnp.inf), sharding=whole)

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
        dtype = self.total.value.dtype
        batch = batch_of(self, values, self.shape, mask, weights, dtype)
        total = batch.weighted(batch.values)
        mean = divided(unpacked(total), unpacked(batch.total_weight))
        distance = (batch.values.high - mean.high) + (batch.values.low - mean.low)
        smallest = largest = batch.values.high
        if batch.is_counted is not None:
            # The mean of nothing is NaN.
            distance = jnp.where(batch.is_counted, distance, 0)
            smallest = jnp.where(batch.is_counted, smallest, jnp.inf)
            largest = jnp.where(batch.is_counted, largest, -jnp.inf)
        square = jnp.square(distance)
        axes = tuple(range(batch.rank))
        self._add(
            total,
            batch.weighted(Pair(square, jnp.zeros_like(square))),
            batch.total_weight,
            jnp.min(smallest, axes, initial=jnp.inf),
            jnp.max(largest, axes, initial=-jnp.inf),
        )

    def compute(self) -> Summary:
        """The statistics of all values; NaN, but for the count, if there are none.

        Raises:
            ContractError: The metric is stacked.
        """
        weight = pair_in(self, self.weight)
        squares = unpacked(self.squares.value)
        less = jnp.asarray(-self.ddof, weight.high.dtype)
        freedom = added(weight, Pair(less, jnp.zeros_like(less)))
        # A sample of one value has no variance, as in NumPy.
        variance = divided(squares, freedom).high
        variance = jnp.where(freedom.high > 0, variance, jnp.nan)
        is_empty = weight.high == 0
        return Summary(
            count=weight.high,
            mean=divided(unpacked(self.total.value), weight).high,
            variance=variance,
            std=jnp.sqrt(variance),
            minimum=jnp.where(is_empty, jnp.nan, self.minimum.value),
            maximum=jnp.where(is_empty, jnp.nan, self.maximum.value),
        )

    def reset(self) -> None:
        """Forget all values."""
        states = (
            self.total,
            self.squares,
            self.weight,
            self.minimum,
            self.maximum,
        )
        initial = (0.0, 0.0, 0.0, jnp.inf, -jnp.inf)
        values = [
            jnp.full_like(state.value, value)
            for state, value in zip(states, initial, strict=True)
        ]
        write_all(states, values)

    def merge(self, other: "Statistics") -> None:
        """Add all values of other statistics.

        Raises:
            StructureError: They have another class, shape or `ddof`, or are this metric
                itself.
        """
        check_alike(self, other)
        self._add(
            other.total.value,
            other.squares.value,
            other.weight.value,
            other.minimum.value,
            other.maximum.value,
        )

    def _add(
        self,
        total: jax.Array,
        squares: jax.Array,
        weight: jax.Array,
        minimum: jax.Array,
        maximum: jax.Array,
    ) -> None:
        """Add what the States hold of other values, to all or none."""
        own_total, other_total = unpacked(self.total.value), unpacked(total)
        own_weight, other_weight = unpacked(self.weight.value), unpacked(weight)
        sum_of_weights = added(own_weight, other_weight)
        own_mean = divided(own_total, own_weight)
        other_mean = divided(other_total, other_weight)
        distance = (own_mean.high - other_mean.high) + (own_mean.low - other_mean.low)
        share = own_weight.high / sum_of_weights.high
        between = jnp.square(distance) * (share * other_weight.high)
        # The mean of nothing is NaN.
        is_one_empty = (own_weight.high == 0) | (other_weight.high == 0)
        between = jnp.where(is_one_empty, 0, between)
        within = added(unpacked(self.squares.value), unpacked(squares))
        write_all(
            (self.total, self.squares, self.weight, self.minimum, self.maximum),
            (
                packed(added(own_total, other_total)),
                packed(added(within, Pair(between, jnp.zeros_like(between)))),
                packed(sum_of_weights),
                jnp.minimum(self.minimum.value, minimum),
                jnp.maximum(self.maximum.value, maximum),
            ),
        )
