"""`ConfusionMatrix`: how often each class was taken for each."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, UInt32

from .._fields import state
from ..nn._checks import check_unstacked, size
from ..nn._spread import by_compiler, entries_of
from ._accuracy import check_labels, check_predictions
from ._metric import WHOLE, Metric, MetricState, check_alike, check_mask, clear, numbers
from ._pair import Pair, added, divided, pair_of, sum_of, unpacked


class ConfusionMatrix(Metric):
    """How often examples of each class (rows) were taken for each class (columns).

    Counts are integers of 64 bits, in two of 32, as JAX has no larger ones by default.

    Args:
        num_classes: How many classes there are.

    Raises:
        ContractError: A number of classes that is not a positive integer.

    Example:
        >>> matrix = gn.metrics.ConfusionMatrix(2)
        >>> matrix.update(jnp.array([0, 1, 1, 1]), jnp.array([0, 0, 1, 1]))
        >>> matrix.compute()
        Array([[1, 1],
               [0, 2]], dtype=int32)
        >>> print(matrix.recall(), matrix.accuracy())
        [0.5 1. ] 0.75
    """

    num_classes: int
    """How many classes there are."""
    counts: MetricState[UInt32[Array, "2 num_classes num_classes"]] = state(init=False)
    """The upper and the lower 32 bits of the counts, by label and prediction."""

    def __post_init__(self) -> None:
        self.num_classes = size("ConfusionMatrix.num_classes", self.num_classes)
        shape = (2, self.num_classes, self.num_classes)
        self.counts = MetricState(jnp.zeros(shape, jnp.uint32), sharding=WHOLE)

    def update(
        self,
        predictions: ArrayLike,
        labels: ArrayLike,
        *,
        mask: ArrayLike | None = None,
    ) -> None:
        """Add the predictions of a batch.

        Args:
            predictions: Scores of shape `[*batch, num_classes]`, of which the first of the
                largest ones counts, or classes of shape `[*batch]`.
            labels: Integers of shape `[*batch]`. Where a label or a class is not one of
                `num_classes`, which start at 0, nothing is counted.
            mask: Of shape `[*batch]`: which of them count.

        Raises:
            ContractError: An array of another shape or dtype; the metric is stacked.
        """
        check_unstacked(self)
        targets = check_labels(self, labels, is_binary=False)
        scores = numbers(self, "predictions", predictions)
        check_predictions(self, scores, targets, self.num_classes)
        marks = check_mask(self, mask, targets.shape)
        counts = _counts_of(scores, targets, marks, self.num_classes)
        self.counts.value = _added_counts(self.counts.value, counts)

    def compute(self) -> jax.Array:
        """The matrix, of JAX's default integers. Without 64 bits, a count above 2**31 - 1 is shown as that.

        Raises:
            ContractError: The metric is stacked.
        """
        check_unstacked(self)
        matrix: jax.Array = _integers(self.counts.value)
        return matrix

    def reset(self) -> None:
        """Forget all predictions."""
        clear(self.counts)

    def merge(self, other: "ConfusionMatrix") -> None:
        """Add all predictions of another matrix.

        Raises:
            StructureError: It has another class or number of classes, or is this metric
                itself.
        """
        check_alike(self, other)
        self.counts.value = _added_counts(self.counts.value, other.counts.value)

    def accuracy(self) -> jax.Array:
        """The fraction of predictions that are right; NaN if there are none."""
        return self._rates().accuracy

    def precision(self) -> jax.Array:
        """For each class, which fraction of the predictions of it are right; NaN where there are none."""
        return self._rates().precision

    def recall(self) -> jax.Array:
        """For each class, which fraction of its examples are found; NaN where there are none."""
        return self._rates().recall

    def f1(self) -> jax.Array:
        """For each class, the harmonic mean of precision and recall; NaN where it is neither label nor prediction.

        `2 * correct / (predicted + labelled)`, which is 0 where only one of the two is
        NaN. The mean over the classes, `jnp.nanmean(matrix.f1())`, is called macro F1.
        """
        return self._rates().f1

    def _rates(self) -> "_Rates":
        """Accuracy, precision, recall and F1."""
        check_unstacked(self)
        rates: _Rates = _rates_of(self.counts.value)
        return rates


class _Rates(NamedTuple):
    """What a matrix amounts to; all but the accuracy for each class."""

    accuracy: jax.Array
    precision: jax.Array
    recall: jax.Array
    f1: jax.Array


@functools.partial(jax.jit, static_argnames="num_classes")
def _counts_of(
    predictions: jax.Array,
    labels: jax.Array,
    mask: jax.Array | None,
    num_classes: int,
) -> jax.Array:
    """The counts of a batch, in two words."""
    if jnp.issubdtype(predictions.dtype, jnp.floating):
        predictions = jnp.argmax(predictions, axis=-1)
    # A small dtype, such as that of bytes, may have no room for the number of classes.
    dtype = jax.dtypes.canonicalize_dtype(int)
    predictions, labels = predictions.astype(dtype), labels.astype(dtype)
    is_counted = (predictions >= 0) & (predictions < num_classes)
    is_counted = is_counted & (labels >= 0) & (labels < num_classes)
    if mask is not None:
        is_counted = is_counted & mask
    cells = labels * num_classes + predictions
    # Behind the last cell, where nothing is added.
    cells = jnp.where(is_counted, cells, num_classes**2)
    out = None if entries_of(cells) is None else (None,)
    count = functools.partial(_count, size=num_classes**2)
    lower = by_compiler(count, out, cells).reshape(num_classes, num_classes)
    return jnp.stack([jnp.zeros_like(lower), lower])


def _count(cells: jax.Array, size: int) -> jax.Array:
    """How often each cell is named."""
    counts = jnp.zeros(size, jnp.uint32)
    return counts.at[cells].add(jnp.uint32(1), mode="drop")


@jax.jit
def _added_counts(a: jax.Array, b: jax.Array) -> jax.Array:
    """The sums of counts in two words."""
    lower = a[1] + b[1]
    # A sum that was cut off is less than each of its parts.
    carry = (lower < a[1]).astype(jnp.uint32)
    return jnp.stack([a[0] + b[0] + carry, lower])


@jax.jit
def _integers(counts: jax.Array) -> jax.Array:
    """Counts in two words as JAX's default integers, or the largest of these."""
    upper, lower = counts
    dtype = jax.dtypes.canonicalize_dtype(int)
    if dtype == jnp.int64:
        joined: jax.Array = (upper.astype(dtype) << 32) | lower.astype(dtype)
        return joined
    most = np.iinfo(dtype).max
    is_small = (upper == 0) & (lower <= most)
    return jnp.where(is_small, lower.astype(dtype), most)


@jax.jit
def _rates_of(counts: jax.Array) -> _Rates:
    """What counts in two words amount to."""
    dtype = jnp.zeros(()).dtype
    upper, lower = [pair_of(words, dtype) for words in counts]
    # Pairs of floats: one alone would round counts above 2**24.
    cells = added(Pair(*[part * 2.0**32 for part in upper]), lower)
    correct = Pair(*[jnp.diagonal(part) for part in cells])
    predicted = unpacked(sum_of(cells, 1))
    labelled = unpacked(sum_of(Pair(*[part.T for part in cells]), 1))
    total, right = unpacked(sum_of(cells, 2)), unpacked(sum_of(correct, 1))
    both = added(predicted, labelled)
    return _Rates(
        accuracy=divided(right, total).high,
        precision=divided(correct, predicted).high,
        recall=divided(correct, labelled).high,
        f1=divided(added(correct, correct), both).high,
    )
