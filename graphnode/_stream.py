"""The ambient random stream that initialisers draw from; `graphnode.random` is its public face.

A stream is a key and a counter: draw number `n` is `fold_in(key, n)`. The process has one stream; `scope` puts another
in front of it for one block, in one thread or task.
"""

import contextlib
import itertools
import operator
from collections.abc import Generator
from contextvars import ContextVar
from typing import SupportsIndex

import jax

from ._arguments import wrong_argument
from ._compat import current_trace
from ._errors import TraceError
from ._keys import under_current_mesh


class Stream:
    """A source of keys, each given out once."""

    def __init__(self, key: jax.Array | SupportsIndex, folded: int | None = None) -> None:
        # An array is a key even where it could be an index; anything else is refused here, not at the first draw.
        try:
            self._key = key if isinstance(key, jax.Array) else operator.index(key)
        except TypeError:
            raise TypeError(wrong_argument("an integer or a key of jax.random", key)) from None
        self._folded = folded
        self._draws = itertools.count()
        self._trace = current_trace()

    def draw(self) -> jax.Array:
        """The next key. Counting is atomic: two threads never draw the same one.

        Raises:
            TraceError: A JAX transformation runs that started after the stream was opened.
        """
        if current_trace() != self._trace:
            raise TraceError(
                "the ambient random stream was opened outside of the running JAX transformation: a draw would be a "
                "constant of the compiled function. Pass a gn.Rngs in and draw from that, or pass a key in and draw "
                "inside `with gn.random.scope(key):`"
            )
        if isinstance(self._key, int):
            self._key = jax.random.key(self._key)
        self._key = under_current_mesh(self._key)
        if self._folded is not None:
            self._key, self._folded = jax.random.fold_in(self._key, self._folded), None
        return jax.random.fold_in(self._key, next(self._draws))


# Seeded alike in every process: with several hosts, each must make the same parameters.
_process_stream = Stream(0)
_scoped: ContextVar[Stream | None] = ContextVar("graphnode_random_scope", default=None)


def seed(seed_or_key: SupportsIndex | jax.Array, /) -> None:
    """Restart the process's stream from a seed or a key. It starts as `seed(0)`.

    Raises:
        TraceError: Called inside of a JAX transformation, which must not change the process.

    Example:
        >>> seed(42)
        >>> first = split_key()
        >>> seed(42)
        >>> bool(first == split_key())
        True
    """
    global _process_stream
    if current_trace() is not None:
        raise TraceError("seed would change the process from inside a JAX transformation; use `with scope(key):`")
    _process_stream = Stream(seed_or_key)


@contextlib.contextmanager
def scope(seed_or_key: SupportsIndex | jax.Array, /) -> Generator[None]:
    """Draw from a stream of its own for the length of a `with` block, in this thread or task.

    Inside of a transformed function, with a key that was passed in, this is how nodes with initialisers are built.

    Example:
        >>> with scope(7):
        ...     first = split_key()
        >>> with scope(7):
        ...     bool(first == split_key())
        True
    """
    with scope_of(Stream(seed_or_key)):
        yield


@contextlib.contextmanager
def scope_of(stream: Stream) -> Generator[None]:
    """Draw from a stream that is there already."""
    token = _scoped.set(stream)
    try:
        yield
    finally:
        _scoped.reset(token)


def split_key() -> jax.Array:
    """A new key from the ambient stream, which it advances.

    Returns:
        A typed key array of shape `()`.

    Raises:
        TraceError: A JAX transformation runs that started after the stream was opened.
    """
    return (_scoped.get() or _process_stream).draw()
