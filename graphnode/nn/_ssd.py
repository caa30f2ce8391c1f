"""The recurrence of `Mamba2` in chunks, each of which is computed as attention is.

State-space duality: within a chunk, what each token gives to a later one is a product of
its `b` with the other's `c`, as of keys and queries, times how much was forgotten in
between. What comes from earlier chunks passes through their states.

    chunk 0      chunk 1
    t0 t1 t2     t3 t4 t5
     1  .  .      .  .  .     1   within a chunk: products of pairs
     1  1  .      .  .  .     2   from all before: the state at the end of chunk 0
     1  1  1      .  .  .
     2  2  2      1  .  .
     2  2  2      1  1  .
     2  2  2      1  1  1
"""

import math

import jax
import jax.numpy as jnp

from ._linear_scan import behind, linear_scan


def ssd(
    x: jax.Array,
    decays: jax.Array,
    b: jax.Array,
    c: jax.Array,
    before: jax.Array | None,
    chunk_size: int,
) -> tuple[jax.Array, jax.Array]:
    """All `y[t] = h[t] @ c[t]` with `h[t] = exp(decays[t]) * h[t - 1] + outer(x[t], b[t])`, and `h` between chunks.

    Dao & Gu 2024, "Transformers are SSMs", listing 1. Memory is linear in the length,
    and so is the time.

    Args:
        x: Of shape `[..., time, groups, heads, head_size]`.
        decays: The logarithms of what remains, of shape `[..., time, groups, heads]`.
        b: Of shape `[..., time, groups, state_size]`.
        c: Of the same shape.
        before: `h` before the first step, of shape `[..., groups, heads, head_size,
            state_size]`; `None` for zeros.
        chunk_size: How many steps are computed as attention is.

    Returns:
        `y`, of the shape of `x`; and `h` before each chunk and at the end, of shape `[...,
            chunks + 1, groups, heads, head_size, state_size]`.
    """
    time = x.shape[-4]
    chunk_size = max(1, min(chunk_size, time))
    # What is added at the end neither forgets, as exp(0) is 1, nor comes in.
    x, b, c = (
        _chunks(array, chunk_size, axis) for array, axis in ((x, -4), (b, -3), (c, -3))
    )
    decays = _chunks(decays, chunk_size, -3)

    # From here on: [..., chunks, steps, groups, heads, ...]. Letters: z chunk, l and s
    # steps, g group, h head of it, p feature of it, n number of the state.
    forgotten = jnp.cumsum(decays, -3)
    total = forgotten[..., -1:, :, :]

    # 1. Within chunks
    by_head = jnp.moveaxis(forgotten, -3, -1)
    between = by_head[..., :, None] - by_head[..., None, :]
    is_before = jnp.tril(jnp.ones((chunk_size, chunk_size), bool))
    # Before exp: of what lies ahead it may be infinite, and so would be its gradient.
    between = jnp.exp(jnp.where(is_before, between, -jnp.inf))
    scores = jnp.einsum("...zlgn,...zsgn->...zgls", c, b)
    y = jnp.einsum("...zghls,...zsghp->...zlghp", scores[..., None, :, :] * between, x)

    # 2. From chunk to chunk
    remaining = jnp.exp(total - forgotten)[..., None]
    sums = jnp.einsum("...zsghp,...zsgn->...zghpn", x * remaining, b)
    of_chunks = jnp.exp(total).reshape(*sums.shape[:-2], 1, 1)
    states = linear_scan(of_chunks, sums, before, axis=-5)
    first = None if before is None else before[..., None, :, :, :, :]
    states = behind(first, states, 1, axis=-5)
    earlier = jnp.einsum("...zlgn,...zghpn->...zlghp", c, states[..., :-1, :, :, :, :])
    y = y + earlier * jnp.exp(forgotten)[..., None]

    y = y.reshape(*y.shape[:-5], y.shape[-5] * chunk_size, *y.shape[-3:])
    return y[..., :time, :, :, :], states


def _chunks(x: jax.Array, chunk_size: int, axis: int) -> jax.Array:
    """`x` with its axis of time as two, those of chunks and of steps in them; zeros fill up the last one."""
    time = x.shape[axis]
    count = math.ceil(time / chunk_size)
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, count * chunk_size - time)
    at = x.ndim + axis
    return jnp.pad(x, widths).reshape(
        *x.shape[:at], count, chunk_size, *x.shape[at + 1 :]
    )
