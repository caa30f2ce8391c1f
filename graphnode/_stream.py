"""The ambient random stream that initialisers draw from; `graphnode.random` is its public face.

A stream is a key and a counter, see `_keys`. The process has one stream; `scope` puts another in front of it for one
block, in one thread or task.
"""

import contextlib
import dataclasses
import inspect
import itertools
import operator
import sys
from collections.abc import Generator
from contextvars import ContextVar
from types import FrameType
from typing import Final, SupportsIndex

import jax

from ._arguments import wrong_argument
from ._compat import current_trace
from ._errors import RngError, TraceError
from ._keys import derived, number_of, under_current_mesh

# By what the key of a stream is derived from its seed: streams of one seed, but of two kinds, never give the same key.
_OF_PROCESS: Final = number_of("gn.random.seed")
_OF_SCOPE: Final = number_of("gn.random.scope")


class Stream:
    """A source of keys, each given out once.

    Args:
        key: A key, or the integer that it is made from.
        *numbers: The stream's own key is derived from `key` by these, one after the other, at the first draw.
    """

    def __init__(self, key: jax.Array | SupportsIndex, *numbers: int) -> None:
        # An array is a key even where it could be an index; anything else is refused here, not at the first draw.
        try:
            self._seed = key if isinstance(key, jax.Array) else operator.index(key)
        except TypeError:
            raise TypeError(wrong_argument("an integer or a key of jax.random", key)) from None
        self._numbers = numbers
        self._key: jax.Array | None = None
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
        # Two threads may both make it: they make the same one.
        key = under_current_mesh(self._first_key() if self._key is None else self._key)
        self._key = key
        return derived(key, next(self._draws))

    def _first_key(self) -> jax.Array:
        key = self._seed if isinstance(self._seed, jax.Array) else jax.random.key(self._seed)
        key = under_current_mesh(key)
        for number in self._numbers:
            key = derived(key, number)
        return key


# Seeded alike in every process: with several hosts, each must make the same parameters.
_process_stream = Stream(0, _OF_PROCESS)


@dataclasses.dataclass(slots=True, eq=False)
class _Scope:
    """A stream that stands in front of the process's.

    Attributes:
        stream: The stream.
        generator: The generator whose block it is, if it is one that gives its consumer control in between.
        is_left: Whether its block is over.
    """

    stream: Stream
    generator: FrameType | None
    is_left: bool = False


# The scopes that are open, the innermost last.
_scopes: ContextVar[tuple[_Scope, ...]] = ContextVar("graphnode_random_scopes", default=())


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
    _process_stream = Stream(seed_or_key, _OF_PROCESS)


@contextlib.contextmanager
def scope(seed_or_key: SupportsIndex | jax.Array, /) -> Generator[None]:
    """Draw from a stream of its own for the length of a `with` block, in this thread or task.

    Inside of a transformed function, with a key that was passed in, this is how nodes with initialisers are built. In a
    generator, leave it before the `yield`: what the consumer draws there is refused. Functions for the consumer's own
    `with` (`contextlib.contextmanager`) and fixtures may yield in it.

    Raises:
        RngError: The innermost scope is that of a generator, which is suspended.

    Example:
        >>> with scope(7):
        ...     first = split_key()
        >>> with scope(7):
        ...     bool(first == split_key())
        True
    """
    with scope_of(Stream(seed_or_key, _OF_SCOPE), _generator_around(sys._getframe())):
        yield


@contextlib.contextmanager
def scope_of(stream: Stream, generator: FrameType | None = None) -> Generator[None]:
    """Draw from a stream that is there already; `generator` is the one whose block this is, if any."""
    _innermost()
    scope = _Scope(stream, generator)
    _scopes.set((*_scopes.get(), scope))
    try:
        yield
    finally:
        scope.is_left = True
        # It need not be the last: a generator may have entered another one since, and have yielded in it.
        _scopes.set(tuple([other for other in _scopes.get() if other is not scope]))


def split_key() -> jax.Array:
    """A new key from the ambient stream, which it advances.

    Returns:
        A typed key array of shape `()`.

    Raises:
        TraceError: A JAX transformation runs that started after the stream was opened.
        RngError: The innermost scope is that of a generator, which is suspended.
    """
    scope = _innermost()
    return (_process_stream if scope is None else scope.stream).draw()


# Scopes of generators. A generator shares the context of its consumer: a scope in which it yields is the innermost one
# for the consumer too, and two generators in turn would draw from each other's. That is refused. Where the scope is
# meant for the consumer, the generator is a context manager or a fixture, which can be told by who runs it.

_GENERATOR: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_FIXTURES: Final = frozenset({"_pytest", "pytest_asyncio", "anyio"})


def _innermost() -> _Scope | None:
    """The scope to draw from; `None` for the process's stream.

    Raises:
        RngError: It is that of a generator, which is suspended.
    """
    for scope in reversed(_scopes.get()):
        if scope.generator is None:
            return scope  # also if it was left: not by this task, which was started inside of it
        if scope.is_left:
            continue  # by a generator that another thread has closed
        if _is_running(scope.generator):
            return scope
        name = scope.generator.f_code.co_qualname
        raise RngError(
            f"the innermost gn.random.scope is that of the generator {name}, which has yielded inside of it: its "
            "consumer would draw from it. Leave a scope before the yield, or draw from a gn.Rngs that the generator "
            "holds. A generator whose scope is for its caller needs contextlib.contextmanager"
        )
    return None


def _is_running(generator: FrameType) -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame is not generator:
        frame = frame.f_back
    return frame is not None


def _generator_around(entering: FrameType) -> FrameType | None:
    """The generator in whose block a scope is entered; `None` for a function, a context manager's or a fixture's.

    Args:
        entering: The generator that `contextlib.contextmanager` makes a scope of.
    """
    frame: FrameType | None = entering
    while frame is not None and frame.f_code.co_flags & _GENERATOR:
        runner = frame.f_back
        while runner is not None and runner.f_code.co_flags & _GENERATOR:
            runner = runner.f_back  # by `yield from`
        package = _package_of(runner)
        if package in _FIXTURES:
            return None
        if package != "contextlib":
            return frame
        # Its block is in what entered the context manager, which may be a generator again.
        frame = runner
        while frame is not None and _package_of(frame) == "contextlib":
            frame = frame.f_back
    return None


def _package_of(frame: FrameType | None) -> str:
    return "" if frame is None else str(frame.f_globals.get("__name__", "")).partition(".")[0]
