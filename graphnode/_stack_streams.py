"""Random streams of nodes that are stacked: a shared stream is forked, equal streams are refused.

In a loop over layers that share a stream, each draw advances it, so each layer gets
different numbers. In a stack each layer has a stream of its own, and copies of the
shared stream would give all layers the same numbers:

    in a loop        stream (key, 7) --draw--> layer 0 --draw--> layer 1
    stacked copies   layer 0: (key, 7)     layer 1: (key, 7)        equal draws: wrong
    stacked forks    draw once, split:  layer 0: (key0, 0)   layer 1: (key1, 0)
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ._graph._binding import Binding
from ._graph._graphdef import GraphDef
from ._keys import bits_of, draw, is_on_host, under_current_mesh
from ._paths import path_str
from ._rngs import StreamStates, streams_in
from ._state import State, check_writable

# A stream of one of the nodes: the number of the node, and the stream.
_Place: TypeAlias = tuple[int, StreamStates]


@dataclasses.dataclass(frozen=True, slots=True)
class SharedStream:
    """A stream that the nodes share.

    Attributes:
        key: The State of its key.
        count: The State of its count.
        places: Where it is: the nodes in order.
        is_alone_on_key: Whether it is the only stream of the nodes with this key.
            Streams with one key differ by their counts.
    """

    key: State[Any]
    count: State[Any]
    places: list[_Place]
    is_alone_on_key: bool = True


def shared_streams(bindings: Sequence[Binding]) -> list[SharedStream]:
    """The streams that several of these nodes of one structure share, or may share, in order.

    Of a single node these are all streams. A stream may be used elsewhere in the model
    too, which cannot be seen from here, and a layer must not draw the numbers that are
    drawn there: that holds with two layers, so it has to hold with one.
    """
    streams, is_alone = _streams(bindings), len(bindings) == 1
    streams_of_key = Counter(id(stream.key) for stream in streams)
    return [
        dataclasses.replace(stream, is_alone_on_key=streams_of_key[id(stream.key)] == 1)
        for stream in streams
        if is_alone or len(stream.places) > 1
    ]


def _streams(bindings: Sequence[Binding]) -> list[SharedStream]:
    """All streams in some nodes, in order, each once, with all its places in them."""
    # By their States: `view` makes other nodes around the same ones.
    streams: dict[tuple[int, int], SharedStream] = {}
    for number, binding in enumerate(bindings):
        for stream in streams_in(binding.graphdef):
            key, count = binding.states[stream.key_at], binding.states[stream.count_at]
            shared = streams.setdefault(
                (id(key), id(count)), SharedStream(key, count, [])
            )
            # Once for each node, which may have two stream nodes around these States.
            if all(at != number for at, _ in shared.places):
                shared.places.append((number, stream))
    return list(streams.values())


def equal_stream_faults(bindings: Sequence[Binding]) -> Iterator[str]:
    """Which nodes would draw the same numbers without sharing a stream: those with equal keys and counts."""
    first_with: dict[object, tuple[SharedStream, _Place]] = {}
    for stream in _streams(bindings):
        place = stream.places[0]
        for next_draw in _next_draws(stream):
            other, other_place = first_with.setdefault(next_draw, (stream, place))
            # Within one node, equal streams were equal before they were stacked.
            if other is not stream and other_place[0] != place[0]:
                graphdef = bindings[0].graphdef
                names = f"{_stream_text(graphdef, other_place)} and {_stream_text(graphdef, place)}"
                yield (
                    f"{names} draw the same numbers: their keys and counts are equal, and they are two streams. "
                    "Build each node with another seed, or give all of them one gn.Rngs, which stack forks"
                )
                break


def _next_draws(stream: SharedStream) -> Iterator[object]:
    """For `equal_stream_faults`: what determines the next draw of a stream, for each of its keys."""
    key, count = stream.key._value, stream.count._value
    if not is_on_host(key):
        yield id(key), _count_content(count)  # a tracer, which only has its identity
        return
    bits = bits_of(key).reshape(key.size, -1)
    counts = (
        np.broadcast_to(np.asarray(count), key.shape).ravel()
        if is_on_host(count)
        else [id(count)] * key.size
    )
    # Equal bits draw other numbers by another algorithm.
    implementation = str(jax.random.key_impl(key))
    for key_bits, draws in zip(bits, counts, strict=True):
        yield implementation, key_bits.tobytes(), int(draws)


def _count_content(count: Any) -> object:
    """For `_next_draws`: what the count of a stream is compared by, its bytes, or its identity where it is traced."""
    return np.asarray(count).tobytes() if is_on_host(count) else id(count)


def _stream_text(graphdef: GraphDef[Any], place: _Place) -> str:
    """For messages: a stream, by its path and the number of its node."""
    number, stream = place
    path = path_str(graphdef.path(stream.number))
    return f"{path} of node {number}" if path else f"node {number}"


class Fork(NamedTuple):
    """What becomes of a shared stream when it is forked.

    Attributes:
        stream: The shared stream.
        keys: A key for each of its places, along a leading axis.
        start: The count that all places begin with.
        after: The count of the shared stream afterwards.
    """

    stream: SharedStream
    keys: jax.Array
    start: jax.Array
    after: jax.Array


def fork_of(shared: SharedStream) -> Fork:
    """The fork of a shared stream, by one draw of it. Nothing is written.

    A stream that was forked before gives that many keys for each of its own. Streams
    with one key differ by their counts, so these keep the counts: starting all at zero,
    two of them could meet.

    Raises:
        TraceError: A JAX transformation runs that the stream was not passed into.
    """
    key, count = (
        under_current_mesh(shared.key.value),
        under_current_mesh(shared.count.value),
    )
    after = count + jnp.ones_like(count)
    # Refused here, while nothing is written: the counts are stored when all else is
    # done.
    check_writable(shared.count, after)
    start = jnp.zeros_like(count) if shared.is_alone_on_key else count

    def fork(key: jax.Array, count: jax.Array) -> jax.Array:
        """A key for each place, from one key and count of the shared stream."""
        drawn, _ = draw(key, count)
        return jax.random.split(drawn, len(shared.places))

    if key.shape == ():
        return Fork(shared, fork(key, count), start, after)
    keys = jax.vmap(fork)(key.ravel(), jnp.broadcast_to(count, key.shape).ravel())
    return Fork(
        shared,
        jnp.moveaxis(keys, 0, 1).reshape(len(shared.places), *key.shape),
        start,
        after,
    )
