"""`Mean`, the weighted mean of all values."""

import functools
from dataclasses import KW_ONLY

import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._fields import state
from .._signals import write_all
from ..nn._checks import shape_of
from ._metric import (
    Batch,
    Metric,
    MetricState,
    check_alike,
    check_batch,
    clear,
    mean_in,
    merge_sums,
    sample_of,
    state_of,
)
from ._pair import added_arrays


class Mean(Metric):
    """The mean of all values of all batches, each with its weight: of a loss, for example.

    Sum and weight are kept as pairs of floats, which have twice the digits of one: in
    float32 the mean of 10 million values is that of float64, rounded, and counts are
    exact up to 2**48. It is the same however the values are cut into batches, to the last
    digit or the one before. Each value times its weight is rounded.

    Args:
        shape: The last axes of the values, each entry of which has a mean of its own, such
            as `(3,)` for three features.

    Raises:
        ContractError: A shape that is not a tuple of positive integers.

    Example:
        >>> loss = gn.metrics.Mean()
        >>> loss.compute()
        Array(nan, dtype=float32)
        >>> loss.update(jnp.array([1.0, 2.0, 3.0]))
        >>> loss.update(jnp.array([6.0, 0.0, 0.0]), mask=jnp.array([True, False, False]))
        >>> loss.compute()
        Array(3., dtype=float32)

    See also: `Statistics`, which has the variance too.
    """

    _: KW_ONLY
    shape: tuple[int, ...] = ()
    """The last axes of the values, which are not added over."""
    total: MetricState[Float[Array, "2 *shape"]] = state(init=False)
    """The sum of the values, each times its weight: a float, and what it has rounded off."""
    weight: MetricState[Float[Array, "2"]] = state(init=False)
    """The sum of the weights, likewise; the number of values where there are none."""

    def __post_init__(self) -> None:
        self.shape = shape_of("Mean.shape", self.shape)
        self.total = state_of(self.shape)
        self.weight = state_of(())

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
            weights: Of shape `[*batch]`: how much each of them counts; one of weight 0
                does not. For means of batches, their sizes.

        Raises:
            ContractError: An array of another shape or dtype; the metric is stacked.
        """
        batch = check_batch(self, values, self.shape, mask, weights)
        rank = batch.values.ndim - len(self.shape)
        sums = _added_batch((self.total.value, self.weight.value), batch, rank)
        write_all((self.total, self.weight), sums)

    def compute(self) -> jax.Array:
        """The mean of all values, of shape `[*shape]`; NaN if there are none.

        Raises:
            ContractError: The metric is stacked.
        """
        return mean_in(self, self.total, self.weight)

    def reset(self) -> None:
        """Forget all values."""
        clear(self.total, self.weight)

    def merge(self, other: "Mean") -> None:
        """Add all values of another mean.

        Raises:
            StructureError: It has another class or shape, or is this metric itself.
        """
        check_alike(self, other)
        merge_sums((self.total, self.weight), (other.total, other.weight))


@functools.partial(jax.jit, static_argnames="rank")
def _added_batch(
    sums: tuple[jax.Array, jax.Array], batch: Batch, rank: int
) -> tuple[jax.Array, jax.Array]:
    """Total and weight with those of a batch, whose first axes are so many."""
    total, weight = sums
    sample = sample_of(batch, rank, total.dtype)
    return (
        added_arrays(total, sample.total(sample.values)),
        added_arrays(weight, sample.total_weight),
    )
