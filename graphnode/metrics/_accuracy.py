"""`Accuracy`, the fraction of predictions that are right."""

import functools
from dataclasses import KW_ONLY

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._describe import shape_text
from .._errors import ContractError
from .._fields import state
from .._signals import write_all
from ..nn._checks import check_unstacked, finite, place, size
from ._metric import (
    Batch,
    Metric,
    MetricState,
    check_alike,
    check_mask,
    check_weights,
    clear,
    mean_in,
    merge_sums,
    numbers,
    sample_of,
    state_of,
)
from ._pair import added_arrays


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
        check_unstacked(self)
        scores = numbers(self, "predictions", predictions)
        targets = check_labels(self, labels, self.threshold is not None)
        self._check_predictions(scores, targets)
        arguments = (
            scores,
            targets,
            check_mask(self, mask, targets.shape),
            check_weights(self, weights, targets.shape),
        )
        sums = (self.correct.value, self.weight.value)
        sums = _added_batch(sums, *arguments, self.top_k, self.threshold)
        write_all((self.correct, self.weight), sums)

    def compute(self) -> jax.Array:
        """The fraction of predictions that are right; NaN if there are none.

        Raises:
            ContractError: The metric is stacked.
        """
        return mean_in(self, self.correct, self.weight)

    def reset(self) -> None:
        """Forget all predictions."""
        clear(self.correct, self.weight)

    def merge(self, other: "Accuracy") -> None:
        """Add all predictions of another accuracy.

        Raises:
            StructureError: It has another class or other fields, or is this metric itself.
        """
        check_alike(self, other)
        merge_sums((self.correct, self.weight), (other.correct, other.weight))

    def _check_predictions(self, predictions: jax.Array, labels: jax.Array) -> None:
        """Raise if predictions do not fit labels."""
        if self.threshold is not None:
            is_float = jnp.issubdtype(predictions.dtype, jnp.floating)
            if predictions.shape != labels.shape or not is_float:
                raise ContractError(
                    f"{place(self)}: predictions: expected floats of the shape {labels.shape} of labels, "
                    f"as there is a threshold; found {shape_text(predictions)}"
                )
            return
        check_predictions(self, predictions, labels, None)
        if self.top_k == 1:
            return
        if predictions.ndim == labels.ndim:
            raise ContractError(
                f"{place(self)}: predictions: expected scores of the classes for top_k={self.top_k}; "
                f"found {shape_text(predictions)}"
            )
        if predictions.shape[-1] <= self.top_k:
            raise ContractError(
                f"{place(self)}: predictions: expected more classes than top_k={self.top_k}, "
                f"of which a label always is one; found {shape_text(predictions)}"
            )


def check_labels(metric: Metric, labels: ArrayLike, is_binary: bool) -> jax.Array:
    """The labels of an update.

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


def check_predictions(
    metric: Metric, predictions: jax.Array, labels: jax.Array, classes: int | None
) -> None:
    """Raise if predictions are neither scores of the classes nor a class for each label.

    Args:
        metric: For the message.
        predictions: The predictions.
        labels: The labels.
        classes: How many classes there are; `None` for any number.
    """
    shape = predictions.shape
    if jnp.issubdtype(predictions.dtype, jnp.floating):
        is_fitting = predictions.ndim > 0 and shape[:-1] == labels.shape
        is_fitting = is_fitting and classes in (None, shape[-1])
    else:
        is_class = jnp.issubdtype(predictions.dtype, jnp.integer)
        is_fitting = is_class and shape == labels.shape
    if not is_fitting:
        axes = [*map(str, labels.shape), str(classes or "classes")]
        raise ContractError(
            f"{place(metric)}: predictions: expected floats of the shape [{', '.join(axes)}], which are scores, "
            f"or integers of the shape {labels.shape} of labels; found {shape_text(predictions)}"
        )


@functools.partial(jax.jit, static_argnames=("top_k", "threshold"))
def _added_batch(
    sums: tuple[jax.Array, jax.Array],
    predictions: jax.Array,
    labels: jax.Array,
    mask: jax.Array | None,
    weights: jax.Array | None,
    top_k: int,
    threshold: float | None,
) -> tuple[jax.Array, jax.Array]:
    """The weights of right predictions and of all, with those of a batch."""
    correct, weight = sums
    if threshold is not None:
        is_right = (predictions >= threshold) == labels.astype(bool)
    elif predictions.ndim > labels.ndim:
        is_right = _is_among(predictions, labels, top_k)
    else:
        is_right = _are_equal(predictions, labels)
    sample = sample_of(Batch(is_right, mask, weights), labels.ndim, correct.dtype)
    return (
        added_arrays(correct, sample.total(sample.values)),
        added_arrays(weight, sample.total_weight),
    )


def _are_equal(a: jax.Array, b: jax.Array) -> jax.Array:
    """Whether integers are equal, which may be of different dtypes: a cast makes negative ones of large ones."""
    dtype = jax.dtypes.canonicalize_dtype(int)
    return (a.astype(dtype) == b.astype(dtype)) & ((a < 0) == (b < 0))


def _is_among(scores: jax.Array, labels: jax.Array, top_k: int) -> jax.Array:
    """Whether the score of each label is among the largest ones.

    By counting the scores that come before it, as `jax.lax.top_k` would sort all; and
    without indexing, which would gather classes that are split over devices.
    """
    # A small dtype, such as that of bytes, may have no room for the number of classes.
    labels = labels.astype(jax.dtypes.canonicalize_dtype(int))
    classes = jnp.arange(scores.shape[-1], dtype=labels.dtype)
    classes = jnp.expand_dims(classes, tuple(range(labels.ndim)))
    of_labels = labels[..., None]
    lowest = jnp.asarray(-jnp.inf, scores.dtype)
    own = jnp.max(
        jnp.where(classes == of_labels, scores, lowest), axis=-1, keepdims=True
    )
    # Not `scores > own`, which no score is if the label's own is NaN.
    is_before = ~(scores <= own) | ((scores == own) & (classes < of_labels))
    is_class = (labels >= 0) & (labels < scores.shape[-1])
    return is_class & (jnp.sum(is_before, axis=-1) < top_k)
