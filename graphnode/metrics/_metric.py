"""`Metric`, the base of metrics, and what their updates have in common: batches with masks and weights."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

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
from ._pair import Pair, added, count_of, packed, pair_of, sum_of, unpacked, zeros

T = TypeVar("T", default=jax.Array)
M = TypeVar("M", bound="Metric")

Shape: TypeAlias = tuple[int, ...]


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
    """What an update adds.

    Attributes:
        values: The numbers, zero where they do not count.
        is_counted: Which of them count; `None` if all do. Of their rank.
        weights: How much each of them counts; `None` if all count alike. Of their rank.
        total_weight: The sum of the weights, or the number of values, as the array of a
            pair.
        rank: How many axes are those of the batch, which come first.
    """

    values: Pair
    is_counted: jax.Array | None
    weights: jax.Array | None
    total_weight: jax.Array
    rank: int

    def weighted(self, values: Pair) -> jax.Array:
        """The sum of these values, each times its weight, as the array of a pair."""
        if self.weights is not None:
            values = Pair(*[part * self.weights for part in values])
        return sum_of(values, self.rank)


def batch_of(
    metric: Metric,
    values: ArrayLike,
    shape: Shape,
    mask: ArrayLike | None,
    weights: ArrayLike | None,
    dtype: np.dtype,
) -> Batch:
    """The arguments of an update, checked, as what it adds.

    Args:
        metric: For messages.
        values: Numbers of shape `[*batch, *shape]`.
        shape: The last axes, which are not added over.
        mask: Of shape `[*batch]`: which values count.
        weights: Of shape `[*batch]`: how much each value counts.
        dtype: Of the metric.

    Raises:
        ContractError: One of them has another shape or dtype; or the metric is stacked.
    """
    check_unstacked(metric)
    array = numbers(metric, "values", values)
    rank = array.ndim - len(shape)
    if rank < 0 or array.shape[rank:] != shape:
        expected = ", ".join(["*batch", *map(str, shape)])
        raise ContractError(
            f"{place(metric)}: values: expected the shape [{expected}]; found {array.shape}"
        )
    marks, factors = check_batch(metric, array.shape[:rank], mask, weights)
    # An average is not a function to differentiate: with `update` inside of a loss, the
    # derivative of the loss would lead through it for nothing.
    pair = pair_of(jax.lax.stop_gradient(array), dtype)
    if marks is None:
        size = jnp.asarray(np.prod(array.shape[:rank]), jnp.int32)
        return Batch(pair, None, None, packed(pair_of(size, dtype)), rank)
    # What does not count may be infinite or NaN, which zero times it would be, too.
    is_counted = _beside(marks, array)
    counted = Pair(*[jnp.where(is_counted, part, 0) for part in pair])
    if factors is None:
        number = count_of(marks, rank, dtype)
        return Batch(counted, is_counted, None, number, rank)
    total_weight = sum_of(pair_of(factors.astype(dtype), dtype), rank)
    weights_beside = _beside(factors.astype(dtype), array)
    return Batch(counted, is_counted, weights_beside, total_weight, rank)


def check_batch(
    metric: Metric,
    shape: Shape,
    mask: ArrayLike | None,
    weights: ArrayLike | None,
) -> tuple[jax.Array | None, jax.Array | None]:
    """What counts in a batch of this shape, and the weights with 0 for all else; `None` where nothing says so.

    Raises:
        ContractError: One of them has another shape or dtype.
    """
    marks: jax.Array | None = None
    if mask is not None:
        marks = jnp.asarray(mask)
        if marks.dtype != jnp.bool_ or marks.shape != shape:
            raise ContractError(
                f"{place(metric)}: mask: expected booleans of the shape {shape} of the batch; found {shape_text(marks)}"
            )
    if weights is None:
        return marks, None
    factors = jax.lax.stop_gradient(numbers(metric, "weights", weights))
    if factors.shape != shape:
        raise ContractError(
            f"{place(metric)}: weights: expected the shape {shape} of the batch; found {shape_text(factors)}"
        )
    has_weight = factors != 0
    marks = has_weight if marks is None else marks & has_weight
    return marks, jnp.where(marks, factors, jnp.zeros_like(factors))


def numbers(metric: Metric, name: str, values: ArrayLike) -> jax.Array:
    """An argument of an update as an array of booleans, integers or floats.

    Raises:
        ContractError: It is something else, such as complex numbers.
    """
    array = jnp.asarray(values)
    is_real = jnp.issubdtype(array.dtype, jnp.integer) | jnp.issubdtype(
        array.dtype, jnp.floating
    )
    if not is_real and array.dtype != jnp.bool_:
        raise ContractError(
            f"{place(metric)}: {name}: expected real numbers; found {shape_text(array)}"
        )
    return array


def check_alike(metric: M, other: object) -> None:
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
    """A new State of a pair that is zero, which every device has as a whole, whatever the rules of a plan say."""
    return MetricState(zeros(shape), sharding=jax.P())


def pair_in(metric: Metric, state: State[Any]) -> Pair:
    """What a metric has added up in one of its States.

    Raises:
        ContractError: The metric is stacked.
    """
    check_unstacked(metric)
    return unpacked(state.value)


def add(states: Sequence[State[Any]], arrays: Sequence[jax.Array]) -> None:
    """Add the arrays of pairs to those in the States, to all or none."""
    totals = [
        packed(added(unpacked(state.value), unpacked(array)))
        for state, array in zip(states, arrays, strict=True)
    ]
    write_all(states, totals)


def clear(*states: State[Any]) -> None:
    """Write zeros into the States, into all or none."""
    write_all(states, [jnp.zeros_like(state.value) for state in states])


def _beside(x: jax.Array, other: jax.Array) -> jax.Array:
    """An array over the batch with axes of size 1 for those of `other` that come after."""
    return x.reshape(x.shape + (1,) * (other.ndim - x.ndim))
