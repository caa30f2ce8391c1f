"""`ConfusionMatrix`: how often each class was taken for each."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, UInt32

from .._fields import state
from ..nn._checks import check_unstacked, size
from ..nn._spread import by_compiler, entries_of
from ._accuracy import check_classes, check_scores, class_labels
from ._metric import Metric, MetricState, check_alike, check_batch, clear, numbers
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
        self.counts = MetricState(jnp.zeros(shape, jnp.uint32), sharding=jax.P())

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
        targets = class_labels(self, labels, is_binary=False)
        scores = jax.lax.stop_gradient(numbers(self, "predictions", predictions))
        if jnp.issubdtype(scores.dtype, jnp.floating):
            check_scores(self, scores, (*targets.shape, self.num_classes), "classes")
            scores = jnp.argmax(scores, axis=-1)
        check_classes(self, scores, targets.shape)
        marks, _ = check_batch(self, targets.shape, mask, None)
        classes, targets = scores.astype(jnp.int32), targets.astype(jnp.int32)
        is_counted = self._is_class(classes) & self._is_class(targets)
        if marks is not None:
            is_counted = is_counted & marks
        cells = targets * self.num_classes + classes
        # Behind the last cell, where nothing is added.
        cells = jnp.where(is_counted, cells, self.num_classes**2)
        out = None if entries_of(cells) is None else (None,)
        counts = by_compiler(self._count, out, cells)
        counts = counts.reshape(self.num_classes, self.num_classes)
        self._add(jnp.stack([jnp.zeros_like(counts), counts]))

    def compute(self) -> jax.Array:
        """The matrix, of JAX's default integers. Without 64 bits, a count above 2**31 - 1 is shown as that.

        Raises:
            ContractError: The metric is stacked.
        """
        check_unstacked(self)
        upper, lower = self.counts.value
        dtype = jax.dtypes.canonicalize_dtype(int)
        if dtype == jnp.int64:
            return (upper.astype(dtype) << 32) | lower.astype(dtype)
        most = jnp.iinfo(dtype).max
        is_small = (upper == 0) & (lower <= most)
        return jnp.where(is_small, lower.astype(dtype), most)

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
        self._add(other.counts.value)

    def accuracy(self) -> jax.Array:
        """The fraction of predictions that are right; NaN if there are none."""
        cells = self._cells()
        correct, total = sum_of(_diagonal(cells), 1), sum_of(cells, 2)
        return divided(unpacked(correct), unpacked(total)).high

    def precision(self) -> jax.Array:
        """For each class, which fraction of the predictions of it are right; NaN where there are none."""
        cells = self._cells()
        predicted = unpacked(sum_of(cells, 1))
        return divided(_diagonal(cells), predicted).high

    def recall(self) -> jax.Array:
        """For each class, which fraction of its examples are found; NaN where there are none."""
        cells = self._cells()
        labelled = unpacked(sum_of(_transposed(cells), 1))
        return divided(_diagonal(cells), labelled).high

    def f1(self) -> jax.Array:
        """For each class, the harmonic mean of precision and recall; NaN where it is neither label nor prediction.

        `2 * correct / (predicted + labelled)`, which is 0 where one of the two is NaN.
        Their mean over classes, `jnp.nanmean(matrix.f1())`, is what is called macro F1.
        """
        cells = self._cells()
        predicted = unpacked(sum_of(cells, 1))
        labelled = unpacked(sum_of(_transposed(cells), 1))
        correct = _diagonal(cells)
        return divided(added(correct, correct), added(predicted, labelled)).high

    def _cells(self) -> Pair:
        """The counts as pairs of floats, of which one alone would round those above 2**24."""
        check_unstacked(self)
        dtype = jnp.zeros(()).dtype
        upper, lower = [pair_of(words, dtype) for words in self.counts.value]
        return added(Pair(*[part * 2.0**32 for part in upper]), lower)

    def _is_class(self, classes: jax.Array) -> jax.Array:
        """Which integers are classes."""
        return (classes >= 0) & (classes < self.num_classes)

    def _count(self, cells: jax.Array) -> jax.Array:
        """How often each cell is named."""
        counts = jnp.zeros(self.num_classes**2, jnp.uint32)
        return counts.at[cells].add(jnp.uint32(1), mode="drop")

    def _add(self, counts: jax.Array) -> None:
        """Add counts in two words to those there are."""
        upper, lower = self.counts.value
        more_upper, more_lower = counts
        total = lower + more_lower
        # A sum that was cut off is less than each of its parts.
        carry = (total < lower).astype(jnp.uint32)
        self.counts.value = jnp.stack([upper + more_upper + carry, total])


def _diagonal(cells: Pair) -> Pair:
    """The right predictions of each class."""
    return Pair(*[jnp.diagonal(part) for part in cells])


def _transposed(cells: Pair) -> Pair:
    """By prediction and label."""
    return Pair(*[part.T for part in cells])
