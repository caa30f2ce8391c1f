"""Numbers as unevaluated sums of two floats, `high + low`: sums that keep about twice the digits of their dtype.

A sum of n rounded additions loses digits as n grows; here each addition also gives what it
rounded off (Knuth 1969, "The Art of Computer Programming", volume 2, section 4.2.2), which is
carried along as `low` (Dekker 1971, "A floating-point technique for extending the available
precision"). In float32 integers are exact up to 2**48, so that counts are pairs as well.

In a State a pair is one array with an axis of size 2 in front.
"""

import functools
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..nn._spread import by_compiler, entries_of


class Pair(NamedTuple):
    """`high + low`, where `low` is at most what the dtype rounds off of `high`."""

    high: jax.Array
    low: jax.Array


# What leaves half of the digits of a dtype: the bits of its exponent, and of its fraction.
_HALF_OF: Final = {"float32": (8, 11), "float64": (11, 25)}


def zeros(shape: tuple[int, ...]) -> jax.Array:
    """The array of a pair that is zero, of JAX's default dtype, which is float64 where that is enabled."""
    return jnp.zeros((2, *shape))


def unpacked(array: jax.Array) -> Pair:
    """The pair in the array of a State."""
    return Pair(array[0], array[1])


def packed(pair: Pair) -> jax.Array:
    """The array of a State for a pair."""
    return jnp.stack(pair)


def pair_of(values: jax.Array, dtype: np.dtype) -> Pair:
    """Numbers as pairs of a dtype: also integers and floats that have more digits than it.

    Args:
        values: Booleans, integers or floats.
        dtype: A floating-point dtype.
    """
    if jnp.issubdtype(values.dtype, jnp.integer):
        half = values.dtype.itemsize * 8 // 2
        upper = (values >> half).astype(dtype) * 2.0**half
        lower = (values & (2**half - 1)).astype(dtype)
        return two_sum(upper, lower)
    high = values.astype(dtype)
    if dtype.itemsize < values.dtype.itemsize:
        rounded_off = (values - high.astype(values.dtype)).astype(dtype)
        return Pair(high, jnp.where(jnp.isfinite(high), rounded_off, 0))
    return Pair(high, jnp.zeros_like(high))


def two_sum(a: jax.Array, b: jax.Array) -> Pair:
    """The sum of two floats, and what was rounded off."""
    total = a + b
    of_b = total - a
    rounded_off = (a - (total - of_b)) + (b - of_b)
    # Infinity less infinity would make a NaN of a sum that is infinite.
    return Pair(total, jnp.where(jnp.isfinite(total), rounded_off, 0))


def added(a: Pair, b: Pair) -> Pair:
    """The sum of two pairs."""
    total = two_sum(a.high, b.high)
    return two_sum(total.high, total.low + (a.low + b.low))


def divided(a: Pair, b: Pair) -> Pair:
    """The quotient of two pairs; as for floats, NaN or infinite where `b` is 0."""
    quotient = a.high / b.high
    # By halves, whose products are exact: whether the compiler rounds them before they
    # are subtracted makes no difference.
    quotient_upper, quotient_lower = _halves(quotient)
    upper, lower = _halves(b.high)
    rest = a.high - quotient_upper * upper
    rest = rest - quotient_upper * lower
    rest = rest - quotient_lower * upper
    rest = rest - quotient_lower * lower
    rest = (rest + a.low) - quotient * b.low
    correction = rest / b.high
    is_usual = jnp.isfinite(quotient) & jnp.isfinite(correction)
    return two_sum(quotient, jnp.where(is_usual, correction, 0))


@jax.jit
def quotient(a: jax.Array, b: jax.Array) -> jax.Array:
    """The quotient of two pairs, rounded to one float; takes and gives arrays."""
    return divided(unpacked(a), unpacked(b)).high


@jax.jit
def added_arrays(a: jax.Array, b: jax.Array) -> jax.Array:
    """The sum of two pairs; takes and gives the array of one."""
    return packed(added(unpacked(a), unpacked(b)))


def sum_of(pair: Pair, count: int) -> jax.Array:
    """The sum over the first so many axes, as the array of a pair; 0 where there is nothing.

    One reduction of XLA, which may take the numbers in any order: where an axis is split
    over devices, each of them adds up its own part. The result is on all of them.
    """
    rank = pair.high.ndim - count
    out = None if entries_of(pair.high) is None else (None,) * (1 + rank)
    return by_compiler(functools.partial(_sum_of, count=count), out, *pair)


def count_of(marks: jax.Array, count: int, dtype: np.dtype) -> jax.Array:
    """How many marks are set along the first so many axes, as the array of a pair."""
    number = jnp.sum(marks, axis=tuple(range(count)), dtype=jnp.int32)
    return packed(pair_of(number, dtype))


def _sum_of(high: jax.Array, low: jax.Array, count: int) -> jax.Array:
    """For `sum_of`: of axes that the compiler lays out."""
    zero = jnp.zeros((), high.dtype)
    total = jax.lax.reduce(
        Pair(high, low),
        Pair(zero, zero),
        lambda a, b: added(Pair(*a), Pair(*b)),
        tuple(range(count)),
    )
    return packed(Pair(*total))


def _halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A float as a sum of two that have half of its digits each."""
    exponent_bits, fraction_bits = _HALF_OF[x.dtype.name]
    upper = jax.lax.reduce_precision(x, exponent_bits, fraction_bits)
    return upper, x - upper
