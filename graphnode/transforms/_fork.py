"""Random streams under `vmap` and `scan`: a stream that is given an axis, but has none, gives each lane one of its own.

The lanes' keys are split from a draw of the caller's stream, which advances by that one
draw, whatever the lanes draw.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._errors import TraceError
from .._keys import draw, under_current_mesh
from .._rngs import streams_in
from ._arguments import Values
from ._boundary import Call, Outcome


class Fork(NamedTuple):
    """A stream to be forked, by the numbers of its States."""

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


def forks_of(call: Call, axes: Sequence[Any]) -> tuple[Fork, ...]:
    """The streams of a call whose key is given an axis, but is a single key."""
    streams = [
        Fork(stream.key_at, stream.count_at)
        for stream in streams_in(call.binding.graphdef)
    ]
    values = call.values
    return tuple(
        [
            one
            for one in streams
            if isinstance(axes[one.key_at], int) and jnp.ndim(values[one.key_at]) == 0
        ]
    )


def with_forks(forks: Sequence[Fork], axes: Sequence[Any]) -> tuple[Any, ...]:
    """The axes of all States, those of the forked streams along axis 0."""
    forked = {number for one in forks for number in one}
    return tuple([0 if number in forked else axis for number, axis in enumerate(axes)])


def apart_from(forks: Sequence[Fork], axes: Sequence[Any]) -> tuple[Any, ...]:
    """The axes of all States, none for those of the forked streams."""
    forked = {number for one in forks for number in one}
    return tuple(
        [None if number in forked else axis for number, axis in enumerate(axes)]
    )


def size_of(
    values: Sequence[Any], axes: Sequence[Any], forks: Sequence[Fork]
) -> int | None:
    """How many lanes the mapped values make, apart from streams that are to be forked; `None` if none is mapped."""
    sizes = (
        leaf.shape[axis]
        for value, axis in zip(values, apart_from(forks, axes), strict=True)
        if isinstance(axis, int)
        for leaf in jax.tree.leaves(value)
    )
    return next(sizes, None)


def lane_count(
    call: Call, axes: Sequence[Any], rest: Sequence[Any], forks: Sequence[Fork]
) -> int | None:
    """How many lanes or rounds the mapped values and leaves of a call make; `None` if none is mapped."""
    size = size_of(call.values, axes, forks)
    return size_of(call.rest, rest, ()) if size is None else size


def fork(forks: Sequence[Fork], values: Values, size: int) -> Values:
    """The values of a call, with `size` streams along axis 0 in place of each of these.

    Streams around one key are told apart by their counts alone: each key is forked
    once, and they keep their counts.
    """
    forked = list(values)
    # Two stream nodes may stand around the same two States
    streams = list(dict.fromkeys(forks))
    streams_of_key = Counter(stream.key_at for stream in streams)
    for stream in streams:
        count = under_current_mesh(values[stream.count_at])
        if forked[stream.key_at] is values[stream.key_at]:
            drawn, _ = draw(under_current_mesh(values[stream.key_at]), count)
            forked[stream.key_at] = jax.random.split(drawn, size)
        start = count if streams_of_key[stream.key_at] > 1 else jnp.zeros_like(count)
        forked[stream.count_at] = jnp.broadcast_to(start, (size,))
    return tuple(forked)


def join(
    forks: Sequence[Fork],
    values: Values,
    outcome: Outcome,
    transform: str,
    where: Callable[[int], str],
) -> Outcome:
    """An outcome in which each of these streams has advanced by one draw, whatever its lanes drew.

    Args:
        forks: The streams.
        values: The values of the call.
        outcome: What the lanes have given.
        transform: The name of the transform, for a message.
        where: Gives the name of a State, for a message.

    Raises:
        TraceError: A key was written, which would be lost.
    """
    written, given, result = outcome
    new = dict(zip(written.numbers, given, strict=True))
    untouched = set(written.untouched)
    for one in forks:
        if one.key_at in new and one.key_at not in untouched:
            raise TraceError(
                f"gn.{transform}: {where(one.key_at)} was written, but its stream has no axis: it is forked, and what "
                "is written into a fork is lost. Write the key outside of the function, or give the stream an axis "
                "before, as by rngs.fork(n)"
            )
        new[one.key_at] = values[one.key_at]
        count = under_current_mesh(values[one.count_at])
        new[one.count_at] = count + jnp.ones_like(count)
        untouched = (untouched | {one.key_at}) - {one.count_at}
    numbers = tuple(sorted(new))
    return (
        dataclasses.replace(written, numbers=numbers, untouched=frozenset(untouched)),
        tuple([new[number] for number in numbers]),
        result,
    )
