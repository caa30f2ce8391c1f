"""`Accuracy`, the fraction of predictions that are right."""

from dataclasses import KW_ONLY

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._describe import shape_text
from .._errors import ContractError
from .._fields import state
from ..nn._checks import finite, place, size
from ._metric import (
    Metric,
    MetricState,
    add,
    batch_of,
    check_alike,
    clear,
    numbers,
    pair_in,
    state_of,
)
from ._pair import divided


class Accuracy(Metric):
    """The fraction of predictions that are right, of all batches.

    A prediction is one of these:

    * scores of the classes, floats of shape `[*batch, classes]` such as logits: right if
      the label is among the `top_k` largest. Of equal scores the first is the larger one,
      as for `jnp.argmax`; NaN is never right.
    * a class, an integer, of shape `[*batch]`: right if it is the label.
    * with `threshold`, a float of shape `[*batch]`, for labels that are 0 or 1: right if
      `score >= threshold` is what the label says. Where an example has several labels,
      each counts by itself.

    Counts are exact up to 2**48 in float32, however the examples are cut into batches.

    Args:
        top_k: Among how many of the largest scores the label has to be.
        threshold: From which score on a label is predicted. A logit is half likely at 0, a
            probability at 0.5.

    Raises:
        ContractError: A `top_k` that is not a positive integer, a threshold that is not a
            finite number, or both of them.

    Example:
        >>> accuracy = gn.metrics.Accuracy()
        >>> accuracy.update(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1]))
        >>> accuracy.update(jnp.array([0, 1]), jnp.array([0, 1]))
        >>> accuracy.compute()
        Array(0.75, dtype=float32)
    """

    _: KW_ONLY
    top_k: int = 1
    """Among how many of the largest scores the label has to be."""
    threshold: float | None = None
    """From which score on a label is predicted."""
    correct: MetricState[Float[Array, "2"]] = state(init=False)
    """How many predictions were right: a float, and what it has rounded off."""
    weight: MetricState[Float[Array, "2"]] = state(init=False)
    """How many there were, likewise."""

    def __post_init__(self) -> None:
        self.top_k = size("Accuracy.top_k", self.top_k)
        if self.threshold is not None:
            self.threshold = finite("Accuracy.threshold", self.threshold)
            if self.top_k > 1:
                raise ContractError(
                    "Accuracy: a threshold is for labels that are 0 or 1, which have no top_k; "
                    f"found top_k={self.top_k}"
                )
        self.correct = state_of(())
        self.weight = state_of(())

    def update(
        self,
        predictions: ArrayLike,
        labels: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        weights: ArrayLike | None = None,
    ) -> None:
        """Add the predictions of a batch.

        Args:
            predictions: Scores of shape `[*batch, classes]`, or classes of shape
                `[*batch]`; with `threshold`, scores of shape `[*batch]`.
            labels: Integers (with `threshold` booleans, too) of shape `[*batch]`. One
                that is not a class is a wrong prediction: leave it out by `mask`.
            mask: Of shape `[*batch]`: which of them count.
            weights: Of shape `[*batch]`: how much each of them counts.

        Raises:
            ContractError: An array of another shape or dtype; the metric is stacked.
        """
        is_right = self._is_right(predictions, labels)
        batch = batch_of(self, is_right, (), mask, weights, self.correct.value.dtype)
        sums = (batch.weighted(batch.values), batch.total_weight)
        add((self.correct, self.weight), sums)

    def compute(self) -> jax.Array:
        """The fraction of predictions that are right; NaN if there are none.

        Raises:
            ContractError: The metric is stacked.
        """
        return divided(pair_in(self, self.correct), pair_in(self, self.weight)).high

    def reset(self) -> None:
        """Forget all predictions."""
        clear(self.correct, self.weight)

    def merge(self, other: "Accuracy") -> None:
        """Add all predictions of another accuracy.

        Raises:
            StructureError: It has another class or other fields, or is this metric itself.
        """
        check_alike(self, other)
        add((self.correct, self.weight), (other.correct.value, other.weight.value))

    def _is_right(self, predictions: ArrayLike, labels: ArrayLike) -> jax.Array:
        """Whether each prediction is right."""
        scores = jax.lax.stop_gradient(numbers(self, "predictions", predictions))
        targets = class_labels(self, labels, self.threshold is not None)
        if self.threshold is not None:
            check_scores(self, scores, targets.shape, "threshold")
            return (scores >= self.threshold) == (targets != 0)
        if not jnp.issubdtype(scores.dtype, jnp.floating):
            if self.top_k > 1:
                raise ContractError(
                    f"{place(self)}: predictions: expected scores of each class for top_k={self.top_k}; "
                    f"found {shape_text(scores)}"
                )
            check_classes(self, scores, targets.shape)
            return scores == targets.astype(scores.dtype)
        check_scores(self, scores, (*targets.shape, self._classes(scores)), "classes")
        return _is_among(scores, targets, self.top_k)

    def _classes(self, scores: jax.Array) -> int:
        """How many classes there are, which must be more than `top_k`."""
        classes = scores.shape[-1] if scores.ndim else 0
        if classes <= self.top_k > 1:
            raise ContractError(
                f"{place(self)}: predictions: top_k={self.top_k} of {classes} classes is always right"
            )
        return classes


def class_labels(metric: Metric, labels: ArrayLike, is_binary: bool) -> jax.Array:
    """The labels of an update, checked.

    Raises:
        ContractError: They are not integers, nor booleans where these may be.
    """
    array = numbers(metric, "labels", labels)
    is_label = jnp.issubdtype(array.dtype, jnp.integer)
    if not is_label and not (is_binary and array.dtype == jnp.bool_):
        raise ContractError(
            f"{place(metric)}: labels: expected integers; found {shape_text(array)}. "
            "Of one-hot rows, take jnp.argmax(labels, axis=-1)"
        )
    return array


def check_classes(
    metric: Metric, predictions: jax.Array, shape: tuple[int, ...]
) -> None:
    """Raise if predictions are not classes, one for each label."""
    is_class = jnp.issubdtype(predictions.dtype, jnp.integer)
    if not is_class or predictions.shape != shape:
        raise ContractError(
            f"{place(metric)}: predictions: expected the shape {shape} of labels for classes, which are integers; "
            f"found {shape_text(predictions)}"
        )


def check_scores(
    metric: Metric, scores: jax.Array, shape: tuple[int, ...], what: str
) -> None:
    """Raise if predictions are not scores of this shape; `what` says why they should be."""
    reason = "of labels" if what == "threshold" else "of labels and an axis of classes"
    if scores.shape != shape or not jnp.issubdtype(scores.dtype, jnp.floating):
        raise ContractError(
            f"{place(metric)}: predictions: expected floats of the shape {shape} {reason}; found {shape_text(scores)}"
        )


def _is_among(scores: jax.Array, labels: jax.Array, top_k: int) -> jax.Array:
    """Whether the score of each label is among the largest ones.

    By counting the scores that come before it, as `jax.lax.top_k` would sort all; and
    without indexing, which would gather classes that are split over devices.
    """
    classes = jnp.arange(scores.shape[-1])
    classes = classes.reshape((1,) * labels.ndim + classes.shape)
    of_labels = labels.astype(classes.dtype)[..., None]
    lowest = jnp.asarray(-jnp.inf, scores.dtype)
    own = jnp.max(
        jnp.where(classes == of_labels, scores, lowest), axis=-1, keepdims=True
    )
    # Not `scores > own`, which no score is if the label's own is NaN.
    is_before = ~(scores <= own) | ((scores == own) & (classes < of_labels))
    is_class = (labels >= 0) & (labels < scores.shape[-1])
    return is_class & (jnp.sum(is_before, axis=-1) < top_k)
