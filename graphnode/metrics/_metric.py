"""`Metric`, the base of metrics, and what their updates have in common: batches with masks and weights."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from typing_extensions import TypeVar

from .._declare._node import Node
from .._describe import describe, shape_text
from .._errors import ContractError, StructureError, listed
from .._graph._diff import diff
from .._signals import write_all
from .._split import graphdef
from .._state import ShortTermState, State
from ..nn._checks import check_unstacked, place
from ._pair import (
    Pair,
    added_arrays,
    count_of,
    packed,
    pair_of,
    quotient,
    sum_of,
    zeros,
)

T = TypeVar("T", default=jax.Array)

Shape: TypeAlias = tuple[int, ...]

# Any: JAX has no types for it. So a plan lays a State out as a whole on each device, and
# asks for no rule.
_PartitionSpec: Final[Any] = jax.sharding.PartitionSpec
WHOLE: Final[Any] = _PartitionSpec()


class MetricState(ShortTermState[T]):
    """What a metric has added up so far.

    Example:
        >>> for path, state in gn.states(gn.metrics.Mean(), gn.metrics.MetricState).items():
        ...     print(gn.path_str(path), state.value)
        total [0. 0.]
        weight [0. 0.]
    """


class Metric(Node, ABC):
    """A node that adds up batches: `update` adds one, `compute` gives the value for all of them, `reset` forgets them.

    Its States are of class `MetricState`. It is passed to functions under `gn.jit`,
    `gn.scan` and so on as a model is.

    Example:
        >>> class Largest(gn.metrics.Metric):
        ...     value: gn.metrics.MetricState[jax.Array] = gn.state(
        ...         default_factory=lambda: gn.metrics.MetricState(jnp.float32(-jnp.inf))
        ...     )
        ...     def update(self, values: jax.Array) -> None:
        ...         self.value.value = jnp.maximum(self.value.value, values.max())
        ...     def compute(self) -> jax.Array:
        ...         return self.value.value
        ...     def reset(self) -> None:
        ...         self.value.value = jnp.float32(-jnp.inf)
        ...     def merge(self, other: "Largest") -> None:
        ...         self.update(other.value.value)
        >>> metric = Largest()
        >>> metric.update(jnp.array([1.0, 3.0]))
        >>> metric.update(jnp.array([2.0]))
        >>> metric.compute()
        Array(3., dtype=float32)
    """

    # Any: what a metric is updated with, each says for itself. Type checkers admit any
    # signature in place of this one.
    @abstractmethod
    def update(self, *args: Any, **kwargs: Any) -> None:
        """Add a batch."""

    # Any: a metric may give several arrays.
    @abstractmethod
    def compute(self) -> Any:
        """The value for all batches since the last reset."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all batches."""

    # Any: `Self` would bind each subclass to take all of its own subclasses.
    @abstractmethod
    def merge(self, other: Any) -> None:
        """Add all batches of another metric of the same class and fields, such as that of another process."""


class Batch(NamedTuple):
    """The arguments of an update, once they are checked: a pytree.

    Attributes:
        values: Of shape `[*batch, *shape]`.
        mask: Of shape `[*batch]`; `None` if all values count.
        weights: Of shape `[*batch]`; `None` if all values count alike.
    """

    values: jax.Array
    mask: jax.Array | None
    weights: jax.Array | None


class Sample(NamedTuple):
    """The values of a batch, and what counts of them.

    Attributes:
        values: The numbers, zero where they do not count.
        is_counted: Which of them count, of their rank; `None` if all do.
        weights: How much each counts, of their rank; `None` if all count alike.
        total_weight: The sum of the weights, or the number of values, as the array of a
            pair.
        rank: How many axes are those of the batch, which come first.
    """

    values: Pair
    is_counted: jax.Array | None
    weights: jax.Array | None
    total_weight: jax.Array
    rank: int

    def total(self, values: Pair) -> jax.Array:
        """The sum of values such as those of the sample, each times its weight, as the array of a pair."""
        if self.weights is not None:
            values = Pair(*[part * self.weights for part in values])
        return sum_of(values, self.rank)


def check_batch(
    metric: Metric,
    values: ArrayLike,
    shape: Shape,
    mask: ArrayLike | None,
    weights: ArrayLike | None,
) -> Batch:
    """The arguments of an update as arrays.

    Args:
        metric: For messages.
        values: Numbers of shape `[*batch, *shape]`.
        shape: The last axes, which are not added over.
        mask: Of shape `[*batch]`: which values count.
        weights: Of shape `[*batch]`: how much each value counts.

    Raises:
        ContractError: One of them has another shape or dtype; or the metric is stacked.
    """
    check_unstacked(metric)
    array = numbers(metric, "values", values)
    rank = array.ndim - len(shape)
    if rank < 0 or array.shape[rank:] != shape:
        expected = ", ".join(["*batch", *map(str, shape)])
        raise ContractError(
            f"{place(metric)}: values: expected the shape [{expected}]; found {shape_text(array)}"
        )
    batch_shape = array.shape[:rank]
    return Batch(
        array,
        check_mask(metric, mask, batch_shape),
        check_weights(metric, weights, batch_shape),
    )


def check_mask(
    metric: Metric, mask: ArrayLike | None, shape: Shape
) -> jax.Array | None:
    """The mask of an update.

    Raises:
        ContractError: It has not the shape of the batch, or is not of booleans.
    """
    if mask is None:
        return None
    marks = jnp.asarray(mask)
    if marks.dtype != jnp.bool_ or marks.shape != shape:
        raise ContractError(
            f"{place(metric)}: mask: expected booleans of the shape {shape} of the batch; found {shape_text(marks)}"
        )
    return marks


def check_weights(
    metric: Metric, weights: ArrayLike | None, shape: Shape
) -> jax.Array | None:
    """The weights of an update.

    Raises:
        ContractError: They have not the shape of the batch, or are not real numbers.
    """
    if weights is None:
        return None
    factors = numbers(metric, "weights", weights)
    if factors.shape != shape:
        raise ContractError(
            f"{place(metric)}: weights: expected numbers of the shape {shape} of the batch; found {shape_text(factors)}"
        )
    return factors


def sample_of(batch: Batch, rank: int, dtype: np.dtype) -> Sample:
    """The values of a batch in a dtype, with what mask and weights leave of them.

    Args:
        batch: The arguments of an update.
        rank: How many axes are those of the batch.
        dtype: That of the metric.
    """
    values, mask, weights = batch
    pair = pair_of(values, dtype)
    if weights is not None:
        has_weight = weights.astype(bool)
        mask = has_weight if mask is None else mask & has_weight
    if mask is None:
        size = jnp.asarray(math.prod(values.shape[:rank]), jnp.int32)
        return Sample(pair, None, None, packed(pair_of(size, dtype)), rank)
    # What does not count may be infinite or NaN, which zero times it would be, too.
    is_counted = _beside(mask, values)
    counted = Pair(*[jnp.where(is_counted, part, 0) for part in pair])
    if weights is None:
        return Sample(counted, is_counted, None, count_of(mask, rank, dtype), rank)
    factors = jnp.where(mask, weights.astype(dtype), 0)
    total_weight = sum_of(pair_of(factors, dtype), rank)
    return Sample(counted, is_counted, _beside(factors, values), total_weight, rank)


def numbers(metric: Metric, name: str, values: ArrayLike) -> jax.Array:
    """An argument of an update as an array of booleans, integers or floats.

    Raises:
        ContractError: It is something else, such as complex numbers.
    """
    # A metric is not a function to differentiate: with `update` inside of a loss, the
    # derivative of the loss would lead through it for nothing.
    array = jax.lax.stop_gradient(jnp.asarray(values))
    is_real = jnp.issubdtype(array.dtype, jnp.integer) | jnp.issubdtype(
        array.dtype, jnp.floating
    )
    if not is_real and array.dtype != jnp.bool_:
        raise ContractError(
            f"{place(metric)}: {name}: expected real numbers; found {shape_text(array)}"
        )
    return array


def check_alike(metric: Metric, other: object) -> None:
    """For `merge`: raise if a metric is of another class, has other fields, or is the metric itself.

    Raises:
        StructureError: Says how they differ.
    """
    if other is metric:
        raise StructureError(
            f"{place(metric)}: merge takes another metric; found the metric itself, which would count twice"
        )
    if not isinstance(other, Metric):
        raise StructureError(
            f"{place(metric)}: merge takes another metric; found {describe(other)}"
        )
    differences = diff(graphdef(metric), graphdef(other))
    if differences:
        raise StructureError(
            f"{place(metric)}: merge takes a metric of the same class and fields; they differ at "
            + listed([str(difference) for difference in differences])
        )
    check_unstacked(metric)


def state_of(shape: Shape) -> MetricState[Any]:
    """A new State of a pair that is zero."""
    return MetricState(zeros(shape), sharding=WHOLE)


def mean_in(metric: Metric, total: State[Any], weight: State[Any]) -> jax.Array:
    """The mean that two States of a metric amount to: of shape `[*shape]`.

    Raises:
        ContractError: The metric is stacked.
    """
    check_unstacked(metric)
    mean: jax.Array = quotient(total.value, weight.value)
    return mean


def merge_sums(states: Sequence[State[Any]], others: Sequence[State[Any]]) -> None:
    """Add the pairs of other States to those of the first ones, to all or none."""
    sums = [
        added_arrays(state.value, other.value)
        for state, other in zip(states, others, strict=True)
    ]
    write_all(states, sums)


def clear(*states: State[Any]) -> None:
    """Write zeros into the States, into all or none."""
    write_all(states, [jnp.zeros_like(state.value) for state in states])


def _beside(x: jax.Array, other: jax.Array) -> jax.Array:
    """An array over the batch with axes of size 1 for those of `other` that come after."""
    return jnp.expand_dims(x, tuple(range(x.ndim, other.ndim)))
