"""Random streams under `vmap` and `scan`: a stream that is given an axis, but has none, gives each lane one of its own.

The lanes' keys are split from a draw of the caller's stream, which advances by that one
draw, whatever the lanes draw.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._errors import TraceError
from .._keys import draw, under_current_mesh
from .._rngs import streams_in
from ._arguments import Values
from ._axes import Spread
from ._boundary import Call
from ._pure import Outcome
from ._signature import CallSite


class StreamFork(NamedTuple):
    """A stream to be forked: the numbers of its key and its count, which are States."""

    key_at: int
    count_at: int


def at_home(call: Call) -> Values:
    """The values of a call, those of its streams under the mesh that is set.

    A round or branch that draws moves its stream there, and all rounds and branches
    must give what they were given.
    """
    values = list(call.values)
    for stream in streams_in(call.binding.graphdef):
        for number in (stream.key_at, stream.count_at):
            values[number] = under_current_mesh(values[number])
    return tuple(values)


def forks_of(call: Call, axes: Sequence[Any]) -> tuple[StreamFork, ...]:
    """The streams of a call whose key is given an axis, but is a single key: each lane gets a fork of its own."""
    values = call.values
    return tuple(
        [
            StreamFork(stream.key_at, stream.count_at)
            for stream in streams_in(call.binding.graphdef)
            if isinstance(axes[stream.key_at], int)
            # A typed key is a scalar; a stream that has an axis already holds a row of
            # keys.
            and jnp.ndim(values[stream.key_at]) == 0
        ]
    )


def with_fork_axes(
    forks: Sequence[StreamFork], axes: Spread, fork_axis: int | None
) -> Spread:
    """The axes of a call, with this one for the States of the forked streams.

    That is `None` for the values of the caller, which have no axis yet, and 0 for those
    that `forked_values` gives.
    """
    forked = {number for fork in forks for number in fork}
    values = [
        fork_axis if number in forked else axis
        for number, axis in enumerate(axes.values)
    ]
    return Spread(tuple(values), axes.other_leaves)


def lane_count(call: Call, axes: Spread) -> int | None:
    """How many lanes or rounds the mapped values and leaves of a call make; `None` if none is mapped.

    For `forked_values`, which makes as many streams.
    """
    rows = zip((*call.values, *call.other_leaves), axes.all(), strict=True)
    sizes = (
        leaf.shape[axis]
        for value, axis in rows
        if isinstance(axis, int)
        for leaf in jax.tree.leaves(value)
    )
    return next(sizes, None)


def forked_values(forks: Sequence[StreamFork], values: Values, size: int) -> Values:
    """The values of a call, with `size` streams along axis 0 in place of each of these.

    Streams around one key are told apart by their counts alone: each key is forked
    once, and they keep their counts.
    """
    forked = list(values)
    # Two stream nodes may share the same two States.
    streams = list(dict.fromkeys(forks))
    streams_of_key = Counter(stream.key_at for stream in streams)
    for stream in streams:
        count = under_current_mesh(values[stream.count_at])
        if forked[stream.key_at] is values[stream.key_at]:
            drawn, _ = draw(under_current_mesh(values[stream.key_at]), count)
            forked[stream.key_at] = jax.random.split(drawn, size)
        # A stream with a key of its own begins anew, as one that was just made does.
        start = count if streams_of_key[stream.key_at] > 1 else jnp.zeros_like(count)
        forked[stream.count_at] = jnp.broadcast_to(start, (size,))
    return tuple(forked)


def advanced(
    forks: Sequence[StreamFork],
    values: Values,
    outcome: Outcome,
    site: CallSite,
) -> Outcome:
    """An outcome in which each of these streams has advanced by one draw, whatever its lanes drew.

    Args:
        forks: The streams.
        values: The values of the call.
        outcome: Of the lanes.
        site: The call, for a message.

    Raises:
        TraceError: A key was written, which would be lost.
    """
    written, lane_values, result = outcome
    new = dict(zip(written.numbers, lane_values, strict=True))
    unchanged = set(written.unchanged)
    for key_at, count_at in forks:
        if key_at in new and key_at not in unchanged:
            raise TraceError(
                f"gn.{site.transform}: {site.state_name(key_at)} was written, but its stream has no axis: it is "
                "forked, and what is written into a fork is lost. Write the key outside of the function, or give the "
                "stream an axis before, as by rngs.fork(n)"
            )
        # The caller's own key and count, in place of those of the lanes.
        new[key_at] = values[key_at]
        unchanged.add(key_at)
        count = under_current_mesh(values[count_at])
        new[count_at] = count + jnp.ones_like(count)
        unchanged.discard(count_at)
    # The States of a stream may be new among them, and all are in layout order.
    numbers = tuple(sorted(new))
    return (
        dataclasses.replace(written, numbers=numbers, unchanged=frozenset(unchanged)),
        tuple([new[number] for number in numbers]),
        result,
    )
