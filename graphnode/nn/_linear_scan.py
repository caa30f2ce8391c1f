"""A linear recurrence over an axis, all of it at once: what state-space layers and linear recurrent units run on."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from ._spread import entries_of, spread

_Element: TypeAlias = tuple[jax.Array, jax.Array]


def linear_scan(
    decays: jax.Array, inputs: jax.Array, before: jax.Array | None, *, axis: int
) -> jax.Array:
    """All `h[t] = decays[t] * h[t - 1] + inputs[t]`, in about `log2(time)` rounds.

    Two steps one after the other are one step of the same kind, so that they may be
    joined in any order (Blelloch 1990, "Prefix Sums and Their Applications", section
    1.4).

    Args:
        decays: Of the rank of `inputs`; axes other than that of time may have size 1.
        inputs: What comes in at each time.
        before: What was there before the first step, without the axis of time; `None`
            for zeros.
        axis: The axis of time, counted from the end.
    """

    def joined(first: _Element, then: _Element) -> _Element:
        """Two steps as one."""
        return first[0] * then[0], then[0] * first[1] + then[1]

    # JAX's stubs say nothing of the result.
    scanned: _Element = jax.lax.associative_scan(joined, (decays, inputs), axis=axis)
    products, sums = scanned
    if before is None:
        return sums
    return products * jnp.expand_dims(before, axis) + sums


def carried_on(
    states: jax.Array, before: jax.Array | None, zeros: Callable[[], jax.Array]
) -> jax.Array:
    """What is carried at the end of a sequence: the last of its states, or what there was if no time has passed.

    Args:
        states: After each element, of shape `[..., time, features]`.
        before: What was carried into the first step.
        zeros: Makes what is carried where nothing was.
    """
    if states.shape[-2]:
        return states[..., -1, :]
    start = zeros() if before is None else before
    return start.astype(states.dtype)


def behind(
    first: jax.Array | None, rest: jax.Array, count: int, *, axis: int
) -> jax.Array:
    """`rest` with `first` before it along an axis, or with as many zeros."""
    if first is not None:
        return jnp.concatenate([first, rest], axis)
    widths = [(0, 0)] * rest.ndim
    widths[axis] = (count, 0)
    return jnp.pad(rest, widths)


def with_whole_time(x: jax.Array) -> jax.Array:
    """`x` of shape `[..., time, features]` with all of its time on one device, under a mesh with explicit axes."""
    entries = entries_of(x)
    return x if entries is None else spread(x, (*entries[:-2], None, entries[-1]))
