"""A `scan` whose backward pass keeps less: rounds are computed again, one by one or by segments.

What the backward pass of a scan keeps of each round are its residuals: all that the
derivative of the round needs. Recomputed, it keeps only what the round began with:

    checkpoint   kept for the whole scan     kept at a time
    -------------------------------------------------------------------------
    False        residuals of all rounds     -
    True, 1      the carry of all rounds     residuals of one round
    n            the carry of each segment   residuals of the n rounds of one

A segment is a scan of its own inside of one over segments. Where the length is not a
multiple of n, the last rounds are a shorter segment, after (in a reversed scan: before)
the others.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from .._calls import has_handlers
from .._describe import describe

# From the carry and one item to the next carry and an output.
Step: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]


class Checkpoint(NamedTuple):
    """What is computed again in the backward pass.

    Attributes:
        rounds: How many rounds are computed again together; 0 for none at all.
        policy: Of `jax.checkpoint`, what is kept nevertheless.
    """

    rounds: int = 0
    # Any: a type checker knows no more of what is only known to be callable.
    policy: Callable[..., Any] | None = None


# Any: whatever the caller gave.
def checkpoint_of(checkpoint: Any) -> Checkpoint:
    """What `checkpoint` of `scan` means.

    Raises:
        TypeError: It is nothing that the option takes.
        ValueError: It is a number below one.
    """
    if isinstance(checkpoint, bool):
        return Checkpoint(int(checkpoint))
    if callable(checkpoint):
        return Checkpoint(1, checkpoint)
    try:
        rounds = operator.index(checkpoint)
    except TypeError:
        raise TypeError(
            "gn.scan: checkpoint is a bool, the number of rounds of a segment or a policy of jax.checkpoint; found "
            f"{describe(checkpoint)}"
        ) from None
    if rounds < 1:
        raise ValueError(
            f"gn.scan: checkpoint is the number of rounds of a segment, at least 1; found {rounds}"
        )
    return Checkpoint(rounds)


class ScanOptions(NamedTuple):
    """What a scan is asked for, apart from its function and its arguments.

    Attributes:
        length: How many rounds, or `None` where the items say.
        reverse: As in `jax.lax.scan`.
        unroll: As in `jax.lax.scan`.
        checkpoint: What is computed again in the backward pass.
    """

    length: int | None
    reverse: bool
    unroll: int | bool
    checkpoint: Checkpoint


def run_scan(
    step: Step, start: Any, items: Any, options: ScanOptions
) -> tuple[Any, Any]:
    """`jax.lax.scan`, which computes rounds again in the backward pass where the options say so.

    Args:
        step: One round.
        start: The first carry.
        items: What is scanned over, along axis 0.
        options: What the scan is asked for.

    Returns:
        The last carry, and the outputs along axis 0.
    """
    length, reverse, unroll, (rounds, policy) = options
    if not rounds:
        return jax.lax.scan(step, start, items, length, reverse, unroll)
    if length is None:
        length = next((len(leaf) for leaf in jax.tree.leaves(items)), None)
    # Where nothing says how many rounds there are, the error is JAX's. What a handler sees
    # of the calls in a round has one axis, of the rounds, and none of segments.
    if rounds == 1 or not length or has_handlers():
        # In a loop nothing merges the second computation with the first; unrolled, it
        # may.
        again = jax.checkpoint(step, prevent_cse=unroll != 1, policy=policy)
        return jax.lax.scan(again, start, items, length, reverse, unroll)

    return _run_segments(step, start, items, length, options)


def _run_segments(
    step: Step, carry: Any, items: Any, length: int, options: ScanOptions
) -> tuple[Any, Any]:
    """`run_scan` by segments, each of which is computed again as a whole."""
    _, reverse, unroll, (rounds, _) = options
    whole, rest = divmod(length, rounds)
    edge = whole * rounds

    def segment(count: int, carry: Any, items: Any) -> tuple[Any, Any]:
        """So many rounds, which are computed again together."""
        return jax.lax.scan(step, carry, items, count, reverse, unroll)

    def run_whole(carry: Any) -> tuple[Any, Any]:
        """All segments of full length, as a scan over them."""
        grouped = jax.tree.map(
            lambda leaf: jnp.reshape(leaf[:edge], (whole, rounds, *leaf.shape[1:])),
            items,
        )
        # As in `run_scan`; a loop of one round may be unrolled, too.
        again = jax.checkpoint(
            functools.partial(segment, rounds), prevent_cse=whole == 1
        )
        carry, outputs = jax.lax.scan(again, carry, grouped, whole, reverse)
        return carry, jax.tree.map(
            lambda leaf: jnp.reshape(leaf, (edge, *leaf.shape[2:])), outputs
        )

    def run_rest(carry: Any) -> tuple[Any, Any]:
        """The shorter segment after them."""
        again = jax.checkpoint(functools.partial(segment, rest))
        return again(carry, jax.tree.map(lambda leaf: leaf[edge:], items))  # type: ignore[no-any-return]  # a pair

    runs = ([run_whole] if whole else []) + ([run_rest] if rest else [])
    outputs: list[Any] = []
    # The outputs are in the order of the items; a reversed scan begins with the last.
    for run in reversed(runs) if reverse else runs:
        carry, part = run(carry)
        outputs.insert(0 if reverse else len(outputs), part)
    if len(outputs) == 1:
        return carry, outputs[0]
    # Not `jnp.concatenate`, which takes the weak type of an output away.
    return carry, jax.tree.map(lambda *parts: jax.lax.concatenate(parts, 0), *outputs)
