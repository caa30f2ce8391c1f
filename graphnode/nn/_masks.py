"""Masks of attention: who attends to whom. `True` is for what is seen."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Integer

from .._errors import ContractError
from ._checks import is_integer


def make_attention_mask(
    query_input: jax.Array,
    key_input: jax.Array,
    pairwise_fn: Callable[..., jax.Array] = jnp.logical_and,
    extra_batch_dims: int = 0,
    dtype: DTypeLike = jnp.bool_,
) -> jax.Array:
    """The mask of a function of each query and each key.

    Args:
        query_input: Of shape `[*batch, time]`: what the function is told of each query.
        key_input: Of shape `[*batch, context]`: what it is told of each key.
        pairwise_fn: Whether a query sees a key; by default where both are true.
        extra_batch_dims: How many axes of size 1 stand before all others.
        dtype: Of the mask; `MultiHeadAttention` takes booleans.

    Returns:
        An array of shape `[*batch, 1, time, context]`, whose axis of size 1 is for heads.

    Example:
        >>> document = jnp.array([0, 0, 1])  # two documents in one row
        >>> make_attention_mask(document, document, jnp.equal)[0].astype(int).tolist()
        [[1, 1, 0], [1, 1, 0], [0, 0, 1]]

    See also: `make_causal_mask`, `make_window_mask`, `make_padding_mask`,
    `combine_masks`.
    """
    mask = pairwise_fn(query_input[..., :, None], key_input[..., None, :])
    axes = (*range(extra_batch_dims), -3)
    return jnp.expand_dims(mask, axes).astype(dtype)


def make_causal_mask(
    x: jax.Array, extra_batch_dims: int = 0, dtype: DTypeLike = jnp.bool_
) -> jax.Array:
    """The mask by which no element sees later ones.

    Args:
        x: Of shape `[*batch, time]`, such as tokens. Only its shape counts.
        extra_batch_dims: How many axes of size 1 stand before all others.
        dtype: Of the mask.

    Returns:
        An array of shape `[*batch, 1, time, time]`.

    Example:
        >>> make_causal_mask(jnp.ones(3))[0].astype(int).tolist()
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    indices = _indices(x)
    return make_attention_mask(
        indices, indices, jnp.greater_equal, extra_batch_dims, dtype
    )


def make_window_mask(
    x: jax.Array,
    window: int | tuple[int, int],
    extra_batch_dims: int = 0,
    dtype: DTypeLike = jnp.bool_,
) -> jax.Array:
    """The mask by which each element sees those near to it.

    Args:
        x: Of shape `[*batch, time]`, such as tokens. Only its shape counts.
        window: A number `n` for those that are fewer than `n` away, or a pair: how many
            are seen before and how many after.
        extra_batch_dims: How many axes of size 1 stand before all others.
        dtype: Of the mask.

    Returns:
        An array of shape `[*batch, 1, time, time]`.

    Raises:
        ContractError: A window that is neither.

    Example:
        >>> make_window_mask(jnp.ones(4), (2, 0))[0].astype(int).tolist()
        [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1]]
    """
    before, after = reach("make_window_mask: window", window)
    indices = _indices(x)

    def is_near(query: jax.Array, key: jax.Array) -> jax.Array:
        """Whether a query sees a key."""
        return jnp.logical_and(key >= query - before, key <= query + after)

    return make_attention_mask(indices, indices, is_near, extra_batch_dims, dtype)


def make_padding_mask(
    lengths: Integer[Array, "*batch"], length: int, dtype: DTypeLike = jnp.bool_
) -> jax.Array:
    """The mask by which nobody sees the padding at the end of each row.

    Args:
        lengths: How many elements of each row count.
        length: The size of the rows.
        dtype: Of the mask.

    Returns:
        An array of shape `[*batch, 1, 1, length]`.

    Example:
        >>> make_padding_mask(jnp.array([1, 3]), 3)[:, 0, 0].astype(int).tolist()
        [[1, 0, 0], [1, 1, 1]]
    """
    at = jnp.arange(length, dtype=lengths.dtype)
    at = at.reshape(*[1] * (lengths.ndim + 2), length)
    return (at < lengths[..., None, None, None]).astype(dtype)


def combine_masks(
    *masks: jax.Array | None, dtype: DTypeLike = jnp.bool_
) -> jax.Array | None:
    """The mask by which is seen what all of several masks let see; `None` if all of them are `None`.

    Args:
        *masks: Masks of one rank, whose axes may have size 1; `None` is left out.
        dtype: Of the result.

    Raises:
        ContractError: Masks of several ranks.

    Example:
        >>> tokens = jnp.ones((2, 3))
        >>> combine_masks(make_causal_mask(tokens), None, make_padding_mask(jnp.array([1, 3]), 3)).shape
        (2, 1, 3, 3)
    """
    arrays = [mask for mask in masks if mask is not None]
    if not arrays:
        return None
    ranks = {mask.ndim for mask in arrays}
    if len(ranks) > 1:
        shapes = ", ".join(str(mask.shape) for mask in arrays)
        raise ContractError(
            f"combine_masks: expected masks of one rank; found the shapes {shapes}"
        )
    combined = arrays[0]
    for mask in arrays[1:]:
        combined = jnp.logical_and(combined, mask)
    return combined.astype(dtype)


# Any: a field may hold whatever a caller passed in spite of its type.
def reach(where: str, window: Any) -> tuple[int, int]:
    """How far a window goes before and after an element.

    Raises:
        ContractError: The window is neither a positive integer nor a pair of integers
            that are not negative.
    """
    if is_integer(window, 1):
        return int(window) - 1, int(window) - 1
    is_pair = isinstance(window, tuple) and len(window) == 2
    if not is_pair or not all(is_integer(item, 0) for item in window):
        raise ContractError(
            f"{where}: expected a positive integer, or a pair of integers of at least 0, before and after; "
            f"found {window!r}"
        )
    before, after = map(int, window)
    return before, after


def _indices(x: jax.Array) -> jax.Array:
    """The place of each element in its row."""
    return jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
