"""From queries, keys and values to what each element collects: by JAX's function, or written out.

JAX's function, `jax.nn.dot_product_attention`, has fused kernels. What it cannot do is
written out here, in the same order and precision: a cap of the scores, values with heads
of another size, weights as a result or with dropout; and float64, which it would compute
in float32.
"""

import functools
import math
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ._dtypes import at_least_float32
from ._spread import by_compiler, entries_of

# A function of queries, keys and values of shape `[batch, time, heads, head_size]`, with
# the keywords `mask` and `bias`, of shape `[batch, heads, time, context]` or `None`. Its
# parameters are left open, so that JAX's function and others with more options fit.
Attend: TypeAlias = Callable[..., jax.Array]

# The score of what is not seen, by the bytes of a number: that of JAX's function. Not
# -inf: the softmax of who sees nobody would be NaN, and its gradients with it.
_LEAST: Final = {
    4: -0.7 * float(np.finfo(np.float32).max),
    8: -0.7 * float(np.finfo(np.float64).max),
}


class Options(NamedTuple):
    """What is said of scores by the fields of a layer."""

    is_causal: bool
    """Whether no element attends to later ones."""
    window: tuple[int, int] | None
    """How far each sees before and after."""
    scale: float | None
    """What scores are multiplied with; by default `1 / sqrt(head_size)`."""
    soft_cap: float | None
    """What scores stay below."""


def attended(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    bias: jax.Array | None,
    options: Options,
    drop: Callable[[jax.Array], jax.Array] | None = None,
    *,
    with_weights: bool = False,
) -> tuple[jax.Array, jax.Array | None]:
    """Attention of one batch axis, by JAX's function where that can do it.

    Args:
        query: Of shape `[batch, time, heads, head_size]`.
        key: Of shape `[batch, context, kv_heads, head_size]`.
        value: The same, perhaps with another size of heads.
        mask: Who attends to whom, of shape `[batch, heads, time, context]`, where axes
            may have size 1.
        bias: What is added to the scores, of such a shape.
        options: What is said of the scores.
        drop: What the weights pass through.
        with_weights: Whether the weights are asked for.

    Returns:
        What is collected, of the shape of the queries with the values' size of heads;
        and the weights, of shape `[batch, heads, time, context]`, before dropout.
    """
    is_written_out = (
        query.dtype == jnp.float64
        or options.soft_cap is not None
        or key.shape[-1] != value.shape[-1]
        or drop is not None
        or with_weights
    )
    layout = entries_of(query)
    if not is_written_out:
        # JAX's function promotes half precision to float32, also where JAX is configured
        # to refuse promotion.
        with jax.numpy_dtype_promotion("standard"):
            # Groups of heads are split by fewer devices than heads may be.
            function = functools.partial(_dot_product, options=options)
            y = by_compiler(function, layout, query, key, value, mask, bias)
        return y, None
    function = functools.partial(_weights, options=options)
    of_weights = layout and (layout[0], layout[2], layout[1], None)
    weights = by_compiler(function, of_weights, query, key, mask, bias)
    kept = weights if drop is None else drop(weights)
    return by_compiler(_collected, layout, kept, value), weights


def by_function(
    attend: Attend,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    bias: jax.Array | None,
    options: Options,
) -> jax.Array:
    """Attention by a function of the user's, which gets all that is seen as a mask."""
    seen = near(options, query.shape[1], key.shape[1])
    mask = both(mask, seen)

    def call(
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        mask: jax.Array | None,
        bias: jax.Array | None,
    ) -> jax.Array:
        """The user's function, which names mask and bias."""
        return attend(query, key, value, mask=mask, bias=bias)

    return by_compiler(call, entries_of(query), query, key, value, mask, bias)


def near(options: Options, time: int, context: int) -> jax.Array | None:
    """The mask of the options, for as many queries and keys of one sequence; `None` if all are seen."""
    return seen_from(
        jnp.arange(time, dtype=jnp.int32), jnp.arange(context, dtype=jnp.int32), options
    )


def seen_from(
    queries: jax.Array, keys: jax.Array, options: Options
) -> jax.Array | None:
    """Which keys each query sees by the options, of shape `[*rows, 1, time, context]`; `None` if all are seen.

    Args:
        queries: The place of each in the sequence, of shape `[*rows, time]`.
        keys: The place of each in the sequence, of shape `[*rows, context]`.
        options: What is said of the scores.
    """
    rank = max(queries.ndim, keys.ndim, 2) + 1
    query, key = queries[..., :, None], keys[..., None, :]
    query = jnp.expand_dims(query, range(rank - query.ndim))
    key = jnp.expand_dims(key, range(rank - key.ndim))
    mask = key <= query if options.is_causal else None
    if options.window is not None:
        before, after = options.window
        mask = both(mask, key >= query - before)
        if not options.is_causal:
            mask = both(mask, key <= query + after)
    return None if mask is None else mask[..., None, :, :]


def both(mask: jax.Array | None, other: jax.Array | None) -> jax.Array | None:
    """What two masks let see; `None` lets see all."""
    if mask is None or other is None:
        return other if mask is None else mask
    return jnp.logical_and(mask, other)


def _dot_product(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    bias: jax.Array | None,
    *,
    options: Options,
) -> jax.Array:
    """JAX's function."""
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        bias=bias,
        mask=mask,
        scale=options.scale,
        is_causal=options.is_causal,
        local_window_size=options.window,
    )


def _weights(
    query: jax.Array,
    key: jax.Array,
    mask: jax.Array | None,
    bias: jax.Array | None,
    *,
    options: Options,
) -> jax.Array:
    """What each element counts for each other one: softmax of the scores, in at least float32."""
    batch, time, num_heads, size = query.shape
    length, kv_heads = key.shape[1:3]
    dtype = at_least_float32(query.dtype)
    # Heads of queries fall into groups, each of which has one head of keys and values.
    grouped = query.reshape(batch, time, kv_heads, num_heads // kv_heads, size)
    scores = jnp.einsum(
        "btkgh,bskh->bkgts", grouped, key, preferred_element_type=dtype
    ).reshape(batch, num_heads, time, length)
    scores = scores * (
        1.0 / math.sqrt(size) if options.scale is None else options.scale
    )
    if options.soft_cap is not None:
        scores = options.soft_cap * jnp.tanh(scores / options.soft_cap)
    if bias is not None:
        scores = scores + bias.astype(dtype)
    mask = both(mask, near(options, time, length))
    if mask is not None:
        scores = jnp.where(mask, scores, _LEAST[dtype.itemsize])
    return jax.nn.softmax(scores, axis=-1).astype(key.dtype)


def _collected(weights: jax.Array, value: jax.Array) -> jax.Array:
    """The values by their weights, of shape `[batch, time, heads, size]`."""
    batch, num_heads, time, length = weights.shape
    kv_heads, size = value.shape[2:]
    grouped = weights.reshape(batch, kv_heads, num_heads // kv_heads, time, length)
    y = jnp.einsum("bkgts,bskh->btkgh", grouped, value)
    return y.reshape(batch, time, num_heads, size)
