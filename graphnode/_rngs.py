"""Random numbers at run time: streams of keys that are nodes, so that drawing from them is a change of State.

A stream is a key and a count, like the ambient stream of `_stream`. There the count
belongs to the process, and a transformed function must not touch it; here it is a State
like any other, which is split, merged, vmapped and saved with the model:

    Rngs(0, dropout=1)     "default": key of 0 folded with crc32("default"), count 0
                           "dropout": key of 1 folded with crc32("dropout"), count 0
    rngs("dropout")        draw(key, count): the next key; count.value += 1
    rngs("noise")          no stream of that name: served by "default"
"""

import enum
import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, SupportsIndex, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import TypeVar

from ._declare._node import Node
from ._describe import describe
from ._draws import Draws, explain
from ._errors import ContractError, FieldError, RngError
from ._fields import state
from ._graph._graphdef import GraphDef
from ._graph._template import NodeSpec
from ._keys import derived, draw, is_key, number_of, under_current_mesh
from ._sharding import insert_axis
from ._state import State, StateSpec
from ._value import array_of

T = TypeVar("T", default=jax.Array)

# An integer, a typed key, or the uint32 array of a legacy one.
Seed: TypeAlias = SupportsIndex | jax.Array


# Held from reading a count to writing it, so that threads that share a stream draw each
# key once. Reentrant, as a signal handler may draw in the middle of a draw.
_counting: Final = threading.RLock()


class RngState(State[T]):
    """The base of what random streams are made of, by which filters select all of it."""


class RngKey(RngState[jax.Array]):
    """The key of a stream, a typed key array."""


class RngCount(RngState[jax.Array]):
    """How many keys a stream has given out, of dtype uint32."""


class RngStream(Draws, Node):
    """A source of keys, each given out once. They depend on its key and its count alone.

    A call gives a key. The functions of `jax.random` that take one are methods:
    `stream.normal((2, 3))` is `jax.random.normal(stream(), (2, 3))`.

    None of them is a key of `jax.random.split(key)`, or of `jax.random.fold_in(key, n)`
    with a small number. A draw writes the count. So a transformed function needs the
    stream as an argument; under plain JAX, it returns its States. `fork` makes several
    streams of one, for `jax.vmap`; `gn.vmap` and `gn.scan` do so where it has an axis.

    Args:
        key: The key that all others derive from.
        count: The number of keys that were drawn so far; they repeat after 2³² of them.

    Example:
        >>> stream = RngStream(RngKey(jax.random.key(0)))
        >>> first, second = stream(), stream()
        >>> bool(first == second), int(stream.count.value)
        (False, 2)
        >>> stream.normal((2, 3)).shape, stream.bernoulli(0.1).dtype
        ((2, 3), dtype('bool'))
    """

    key: RngKey
    count: RngCount = state(default_factory=lambda: RngCount(jnp.uint32(0)))

    def __call__(self) -> jax.Array:
        """The next key, a typed key array of shape `()`; advances the count.

        Raises:
            ContractError: The stream was forked into several, and is used outside of
                `jax.vmap` and `jax.lax.scan`; or its key is not a typed one.
            TraceError: A JAX transformation runs that the stream was not passed into.
                Nothing was drawn.
        """
        drawn: jax.Array
        with _counting:
            key, count = (
                under_current_mesh(self.key.value),
                under_current_mesh(self.count.value),
            )
            if key.shape:
                if not is_key(key):
                    raise ContractError(
                        f"RngStream: expected a typed key, as jax.random.key makes; found {describe(key)}. A legacy "
                        "key of jax.random.PRNGKey becomes one by jax.random.wrap_key_data"
                    )
                several = f"of {key.shape[0]} forks, which jax.vmap and jax.lax.scan tell apart along axis 0"
                raise ContractError(
                    f"RngStream: expected one key to draw from; found {describe(key)} {several}"
                )
            drawn, self.count.value = draw(key, count)
        return drawn

    # Any: the arguments and results of any function of `jax.random`.
    def _draw_with(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call a function of `jax.random` with the next key and these arguments; if it raises, nothing was drawn."""
        with _counting:
            before = self.count.value
            key = self()
            after = self.count.value
        try:
            return function(
                key,
                *map(_own, args),
                **{name: _own(value) for name, value in kwargs.items()},
            )
        except Exception as error:
            with _counting:
                # Another thread may have drawn meanwhile: then the key is lost, rather
                # than another one given out twice.
                if self.count.value is after:
                    self.count.value = before
            error.add_note(explain(function))
            raise

    # Any: of any width
    def fork(self, n: int | np.integer[Any] | None = None) -> "RngStream":
        """A new stream from one draw of this one; independent of it from then on.

        Args:
            n: How many streams to make. They are one node whose key and count have a
                leading axis of this size: map over axis 0 with `jax.vmap` or
                `jax.lax.scan`, and each call sees one of them.

        Returns:
            A stream whose count is zero, with the name, tag and metadata of this one's
            States.

        Raises:
            ContractError: `n` is not positive; or what `__call__` refuses.
            TraceError: A JAX transformation runs that the stream was not passed into.

        Example:
            >>> streams = RngStream(RngKey(jax.random.key(0))).fork(3)
            >>> graphdef, states = gn.treefy_split(streams)
            >>> jax.vmap(lambda states: jax.random.normal(gn.treefy_merge(graphdef, states)()))(states).shape
            (3,)
        """
        if n is None:
            return RngStream(
                self.key.replace(value=self()), self.count.replace(value=jnp.uint32(0))
            )
        number = _checked_count(n)
        keys, counts = jax.random.split(self(), number), jnp.zeros(number, jnp.uint32)
        return RngStream(
            self.key.replace(value=keys, sharding=insert_axis(self.key.sharding, 0)),
            self.count.replace(
                value=counts, sharding=insert_axis(self.count.sharding, 0)
            ),
        )


class StreamStates(NamedTuple):
    """A stream of a structure, by the numbers of its States in layout order.

    Attributes:
        number: The number of the stream among the objects of the structure.
        key_at: Its key.
        count_at: Its count.
    """

    number: int
    key_at: int
    count_at: int


def streams_in(graphdef: GraphDef[Any]) -> list[StreamStates]:
    """The streams of a structure that hold a key and a count, by the numbers of these States.

    For `stack` and transforms, which fork streams where copies would draw the same
    numbers.
    """
    table = graphdef.table
    states = [
        number for number, spec in enumerate(table.specs) if isinstance(spec, StateSpec)
    ]
    # From the number of an object to that of a State, which is its position in a
    # layout.
    numbers = {number: at for at, number in enumerate(states)}
    streams: list[StreamStates] = []
    for number, row in table.rows.items():
        spec = table.specs[number]
        if isinstance(spec, NodeSpec) and issubclass(spec.cls, RngStream):
            by_field = dict(zip(spec.edges, row, strict=True))
            key, count = by_field.get(("key",)), by_field.get(("count",))
            # A popped key or count leaves a stream that nobody can draw from.
            if key is not None and count is not None:
                streams.append(StreamStates(number, numbers[key], numbers[count]))
    return streams


# Any: of any dtype, and whatever JAX takes.
def _own(argument: Any) -> Any:
    """An argument of a draw that nobody writes to: JAX may read a NumPy array after the draw was returned."""
    return array_of(argument) if isinstance(argument, np.ndarray) else argument


def _checked_count(n: object) -> int:
    """For `RngStream.fork`: the number of streams to fork into, as an `int`.

    Raises:
        ContractError: It is not a positive integer.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ContractError(
            f"fork: expected a positive integer n, or None for a single stream; found {n!r}"
        )
    return int(n)


class _NoDefault(enum.Enum):
    """The class of `NO_DEFAULT`, the seed of "default" where there is none."""

    NO_DEFAULT = "NO_DEFAULT"

    def __repr__(self) -> str:
        return self.value


NO_DEFAULT: Final = _NoDefault.NO_DEFAULT


class Rngs(Draws, Node):
    """Streams of random keys by name, for what draws while a model runs.

    A call gives a key, and an item is a stream. The functions of `jax.random` that take a
    key are methods, with the stream "default": `rngs.normal((2, 3))` is
    `jax.random.normal(rngs(), (2, 3))`. Another one is named:
    `rngs["dropout"].bernoulli(0.1)`.

    Each stream's key is derived from that of its seed by the name: two streams of one
    seed give different keys. A name without a stream of its own is served by the stream
    "default".

    Args:
        default_: The seed of the stream "default".
        **streams: Seeds by name: an integer, a key, or the uint32 array of a legacy
            key. A ready `RngStream` is taken as it is, and shared.

    Raises:
        FieldError: A seed is neither an integer nor a single key, "default" is given
            twice, or there is no seed at all; or two names would make equal streams of
            one seed.

    Example:
        >>> rngs = Rngs(0, dropout=1)
        >>> key = rngs("dropout")
        >>> [int(rngs[name].count.value) for name in rngs]
        [0, 1]
        >>> rngs.uniform((2,), minval=-1.0).shape
        (2,)

    See also: `graphnode.random`, the ambient stream that initialisers draw from.
    """

    streams: dict[str, RngStream]
    """The streams by name."""

    # Not `default`, which may be the name of a stream too:
    # `inspect.signature(...).bind` takes the two for one.
    def __init__(
        self,
        default_: Seed | RngStream | _NoDefault = NO_DEFAULT,
        /,
        **streams: Seed | RngStream,
    ) -> None:
        seeds = dict(streams)
        if not isinstance(default_, _NoDefault):
            if "default" in seeds:
                raise FieldError(
                    "Rngs takes the seed of 'default' once; found it as the first argument and by name"
                )
            seeds = {"default": default_, **seeds}
        if not seeds:
            raise FieldError(
                "Rngs takes at least one seed: write Rngs(0), or Rngs(params=0, dropout=1)"
            )
        _refuse_equal_numbers(
            [name for name, seed in seeds.items() if not isinstance(seed, RngStream)]
        )
        self.streams = {name: _stream_from(name, seed) for name, seed in seeds.items()}

    def __call__(self, name: str = "default", /) -> jax.Array:
        """The next key of a stream: `rngs[name]()`.

        Raises:
            RngError: There is neither a stream of this name nor a default.
            ContractError, TraceError: As a stream raises them.
        """
        return self[name]()

    # Any: as for `RngStream`.
    def _draw_with(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call a function of `jax.random` with the next key of the stream "default"."""
        return self["default"]._draw_with(function, args, kwargs)

    def __getitem__(self, name: str) -> RngStream:
        """The stream that serves a name: its own, or else the default.

        Raises:
            RngError: There is neither.
        """
        streams = self.streams
        stream = streams.get(name, streams.get("default"))
        if stream is None:
            there = ", ".join(map(repr, sorted(streams)))
            raise RngError(
                f"Rngs has no stream {name!r} and no 'default'; it has {there}. Give it a seed by name, "
                f"Rngs({name}=0), or first for a default, Rngs(0)"
            )
        return stream

    def __contains__(self, name: object) -> bool:
        return name in self.streams

    # Without it Python would iterate by position, and a default stream serves every
    # position.
    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.streams))

    # Any: of any width
    def fork(self, n: int | np.integer[Any] | None = None) -> "Rngs":
        """New streams of the same names, each forked from its own; a stream of two names stays one.

        Args:
            n: How many streams to make of each, along a leading axis; `None` for one without it.

        Raises:
            ContractError, TraceError: As `RngStream.fork` raises them.

        Example:
            >>> Rngs(0).fork(3)["default"].key.value.shape
            (3,)
        """
        # By stream, not by name: a shared one is drawn from once.
        forks: dict[RngStream, RngStream] = {}
        for name in self:
            stream = self.streams[name]
            if stream not in forks:
                forks[stream] = stream.fork(n)
        return Rngs(**{name: forks[stream] for name, stream in self.streams.items()})


def _refuse_equal_numbers(names: Iterable[str]) -> None:
    """Raise if two names have one checksum, and so the same stream for each seed: among some 9,000 names, two may.

    Raises:
        FieldError: Names both.
    """
    name_of_number: dict[int, str] = {}
    for name in names:
        other = name_of_number.setdefault(number_of(name), name)
        if other != name:
            raise FieldError(
                f"Rngs: streams of the names {other!r} and {name!r} would be equal, as the names have one checksum; "
                "rename one of them"
            )


def _stream_from(name: str, seed: Seed | RngStream) -> RngStream:
    """For `Rngs`: the stream of a name, whose key comes from seed and name; a ready one as it is.

    Raises:
        FieldError: The seed is neither an integer, a single key nor a stream.
    """
    if isinstance(seed, RngStream):
        return seed
    key = _key_from(seed)
    if key is None:
        raise FieldError(
            f"Rngs.{name}: expected an integer or a single key as its seed; found {describe(seed)}"
        )
    return RngStream(RngKey(derived(key, number_of(name))))


def _key_from(seed: object) -> jax.Array | None:
    """The key that a seed stands for: an integer, a typed key or a legacy one; `None` if it is not a seed.

    For `_stream_from`, which derives the key of each stream from it.
    """
    if isinstance(seed, jax.Array | np.ndarray):
        return _key_from_array(seed)
    if isinstance(seed, bool) or not isinstance(seed, SupportsIndex):
        return None
    try:
        return jax.random.key(operator.index(seed))
    # An integer of more than 64 bits, or an `__index__` that fails.
    except (TypeError, OverflowError):
        return None


def _key_from_array(
    seed: "jax.Array | np.ndarray[Any, np.dtype[Any]]",
) -> jax.Array | None:
    """For `_key_from`: the key for an integer, a typed key or the words of a legacy key; `None` for other arrays."""
    if jnp.issubdtype(seed.dtype, jnp.integer) and seed.shape == ():
        return jax.random.key(seed)
    key: jax.Array
    if isinstance(seed, jax.Array) and is_key(seed):
        key = seed
    else:
        words = array_of(seed) if isinstance(seed, np.ndarray) else seed
        try:
            key = jax.random.wrap_key_data(words)
        except (TypeError, ValueError):
            # Not the dtype or size of keys of JAX's default implementation.
            return None
    return under_current_mesh(key) if key.shape == () else None
