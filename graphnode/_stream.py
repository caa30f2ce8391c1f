"""The ambient random stream that initialisers draw from; `graphnode.random` is its public face.

A stream is a key and a counter, see `_keys`. The process has one stream; `scope` puts
another in front of it for one block, in one thread or task:

    process     key of seed 0 --"gn.random.seed"--> key;    draw n = derived(key, n)
    scope(7)    key of seed 7 --"gn.random.scope"--> key;   draw n = derived(key, n)

    gn.random.seed(0)          open scopes (a tuple in a ContextVar)
    a = split_key()            ()                     from the process's stream
    with scope(7):             (7,)
        b = split_key()                               from scope 7
        with scope(8):         (7, 8)
            c = split_key()                           from scope 8, the innermost
"""

import contextlib
import dataclasses
import inspect
import itertools
import operator
import sys
import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import CodeType, FrameType
from typing import Any, Final, SupportsIndex, TypeVar

import jax
import jax.numpy as jnp

from ._arguments import wrong_argument
from ._compat import TraceRef, current_trace
from ._errors import RngError, TraceError
from ._fields import NodeBase, set_version
from ._keys import derived, is_key, number_of, under_current_mesh
from ._versions import Constructing, PastScope

_SEED: Final = "an integer or a key of jax.random"

F = TypeVar("F", bound=Callable[..., Any])

# What the key of a stream is derived from its seed by: streams of one seed but of
# different kinds never give the same key.
_OF_PROCESS: Final = number_of("gn.random.seed")
_OF_SCOPE: Final = number_of("gn.random.scope")


class Stream:
    """A source of keys, each given out once.

    Args:
        key: A key, or the integer that it is made from.
        *numbers: The stream's own key is derived from `key` by these, one after the
            other, at the first draw.
        trace: The trace that alone may draw from it; `None` for what runs outside of
            all.
    """

    def __init__(
        self, key: jax.Array | SupportsIndex, *numbers: int, trace: TraceRef | None
    ) -> None:
        self._seed = checked_seed(key)
        self._numbers = numbers
        self._key: jax.Array | None = None
        # Its `next` is one step in C: no lock.
        self._draws = itertools.count()
        self._trace = trace

    def draw(self) -> jax.Array:
        """The next key. Counting is atomic: two threads never draw the same one.

        Raises:
            TraceError: A JAX transformation runs that started after the stream was
                opened.
        """
        if current_trace() != self._trace:
            raise TraceError(
                "the ambient random stream was opened outside of the running JAX transformation: a draw would be a "
                "constant of the compiled function. Pass a gn.Rngs in and draw from that, or pass a key in and draw "
                "inside `with gn.random.scope(key):`"
            )
        # Two threads may both make it: they make the same one.
        key = under_current_mesh(self._make_key() if self._key is None else self._key)
        self._key = key
        return derived(key, next(self._draws))

    def draw_for(self, function: Callable[[jax.Array], object]) -> jax.Array:
        """The next key, for a function that may not look at it; `Refusing` tells such functions apart."""
        return self.draw()

    def _make_key(self) -> jax.Array:
        """The stream's own key, from its seed and numbers: made at the first draw, as there may be none."""
        key = (
            self._seed
            if isinstance(self._seed, jax.Array)
            else jax.random.key(self._seed)
        )
        key = under_current_mesh(key)
        for number in self._numbers:
            key = derived(key, number)
        return key


class Refusing(Stream):
    """Stands in front of the ambient stream where a draw from it would be a mistake.

    Args:
        text: The message of the error.
    """

    def __init__(self, text: str) -> None:
        super().__init__(0, trace=None)
        self._text = text
        self._behind = _innermost()

    def draw(self) -> jax.Array:
        """Raise.

        Raises:
            RngError: Always.
        """
        raise RngError(self._text)

    def draw_for(self, function: Callable[[jax.Array], object]) -> jax.Array:
        """The next key of the stream behind it, for what makes the same of every key, such as zeros.

        Raises:
            RngError: The function looks at the key; or the stream behind it cannot be
                drawn from.
        """
        if _looks_at_key(function):
            raise RngError(self._text)
        try:
            return _stream_of(self._behind).draw_for(function)
        except TraceError:
            raise RngError(self._text) from None


def _looks_at_key(function: Callable[[jax.Array], object]) -> bool:
    """Whether the result of a function may depend on the key; the function is traced once, and nothing computed.

    For `Refusing`: what makes zeros may be given any key.
    """
    try:
        # A key of any seed: it becomes a tracer, and is never drawn from.
        jaxpr = jax.make_jaxpr(function)(jax.random.key(0)).jaxpr
    except Exception:  # whatever the function does with a tracer
        return True
    key = jaxpr.invars[0]
    # What is returned counts as used, too.
    used = list(jaxpr.outvars)
    for equation in jaxpr.eqns:
        used += equation.invars
    return any(variable is key for variable in used)


def checked_seed(seed: jax.Array | SupportsIndex) -> jax.Array | int:
    """A seed as an integer or a key. No key is made yet: that is for the first draw.

    An array is a key even where it could be an index. A legacy key becomes the typed
    key of the same bits.

    Raises:
        TypeError: It is neither an integer nor a key.
        ValueError: It is an integer of more than 64 bits, or several keys.
    """
    if isinstance(seed, jax.Array):
        return _checked_key_array(seed)
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(wrong_argument(_SEED, seed)) from None
    if not -(2**63) <= number < 2**63:
        raise ValueError(wrong_argument("an integer of 64 bits", number))
    return number


def _checked_key_array(array: jax.Array) -> jax.Array:
    """For `checked_seed`: the single key that an array is, a legacy one as a typed one.

    Raises:
        TypeError: It does not hold keys.
        ValueError: It holds several.
    """
    if array.dtype == jnp.uint32 and array.ndim == 1:
        try:
            key: jax.Array = jax.random.wrap_key_data(array)
        except (
            TypeError,
            ValueError,
        ):  # not the size of the keys of JAX's default implementation
            raise TypeError(wrong_argument(_SEED, array)) from None
        return key
    if not is_key(array):
        raise TypeError(wrong_argument(_SEED, array))
    if array.shape != ():
        raise ValueError(wrong_argument("a single key", array))
    return array


# Seeded alike in every process: with several hosts, each must make the same parameters.
# Outside of all traces, also where the first import of the process is in a traced
# function.
_process_stream = Stream(0, _OF_PROCESS, trace=None)


@dataclasses.dataclass(slots=True, eq=False)
class _Scope:
    """A stream in front of the process's, for the length of a block.

    A signal handler may raise where a block begins or ends, so the tuple of open scopes
    may hold scopes whose block is over. They do not count, and the next look at the
    tuple drops them.

    Attributes:
        stream: The stream.
        generator: The generator whose block it is, if its consumer runs in between.
        block: The block. If an exception comes before its end was noted, it dies with
            the exception.
        token: Distinguishes the context that it was entered in from the copies that
            tasks have.
        node: The node whose constructor, or a method that it calls, opened the scope;
            kept alive by their frames.
        is_entered: Whether its block has begun.
        is_left: Whether its block is over.
    """

    stream: Stream
    generator: FrameType | None
    block: "weakref.ref[Block]"
    token: Token[None]
    node: "weakref.ref[NodeBase] | None"
    is_entered: bool = False
    is_left: bool = False

    def is_over(self) -> bool:
        """For `_innermost`: whether the block is over, or has never begun. Only its tasks may go on drawing then."""
        return not self.is_entered or self.is_left or self.block() is None

    def was_entered_here(self) -> bool:
        """Whether it was entered in this context: asked when its block is over, before it is dropped.

        If not, this is a task that was started inside the block, which goes on drawing
        from its stream.
        """
        try:
            _context.reset(self.token)
        except ValueError:
            return False
        except RuntimeError:  # it was asked before, and then interrupted
            return True
        return True


# The scopes that are open, the innermost last.
_scopes: ContextVar[tuple[_Scope, ...]] = ContextVar(
    "graphnode_random_scopes", default=()
)

# Its value is never used. Its tokens know the context that they were made in, which
# Python offers no other way to compare.
_context: ContextVar[None] = ContextVar("graphnode_random_context")


def seed(seed_or_key: SupportsIndex | jax.Array, /) -> None:
    """Restart the process's stream from a seed or a key. It starts as `seed(0)`.

    Raises:
        TraceError: Called inside of a JAX transformation, which must not change the
            process.
        TypeError: `seed_or_key` is neither an integer nor a key.
        ValueError: It is an integer of more than 64 bits, or an array of several keys.

    Example:
        >>> seed(42)
        >>> first = split_key()
        >>> seed(42)
        >>> bool(first == split_key())
        True
    """
    global _process_stream
    if current_trace() is not None:
        raise TraceError(
            "seed would change the process from inside a JAX transformation; use `with scope(key):`"
        )
    _process_stream = Stream(seed_or_key, _OF_PROCESS, trace=None)


def scope(seed_or_key: SupportsIndex | jax.Array, /) -> "Block":
    """Draw from a stream of its own for the length of a `with` block, in this thread or task.

    Inside of a transformed function, with a key that was passed in, this is how nodes
    with initialisers are built. In a generator, leave it before the `yield`: draws by
    the consumer are refused there. Functions for the consumer's own `with`
    (`contextlib.contextmanager`) and fixtures may yield in it. It decorates functions
    too, but not generator or async functions, whose body runs later.

    Raises:
        RngError: At the `with`: the innermost scope is that of a generator, which is
            suspended.
        TypeError: `seed_or_key` is neither an integer nor a key; or what is decorated
            is a generator or async function.
        ValueError: It is an integer of more than 64 bits, or an array of several keys.

    Example:
        >>> with scope(7):
        ...     first = split_key()
        >>> with scope(7):
        ...     bool(first == split_key())
        True
    """
    seed = checked_seed(seed_or_key)
    return Block(lambda: Stream(seed, _OF_SCOPE, trace=current_trace()), is_users=True)


def scope_of(stream: Stream) -> "Block":
    """A `with` block in which an existing stream is the ambient one: for transforms, configs and refused draws."""
    return Block(lambda: stream, is_users=False)


class Block(contextlib.ContextDecorator):
    """The context manager of a scope.

    Args:
        make_stream: Gives the stream, when the block begins.
        is_users: Whether the user's code enters it, which may be a generator.
    """

    def __init__(self, make_stream: Callable[[], Stream], *, is_users: bool) -> None:
        self._make_stream = make_stream
        self._is_users = is_users
        self._scope: _Scope | None = None

    def __enter__(self) -> None:
        if self._scope is not None:
            raise RngError(
                "this gn.random.scope is open already: make one for each `with`"
            )
        _innermost()
        entering = sys._getframe(1) if self._is_users else None
        generator, node = _generator_around(entering), _node_made_in(entering)
        scope = _Scope(
            self._make_stream(), generator, weakref.ref(self), _context.set(None), node
        )
        _scopes.set((*_scopes.get(), scope))
        self._scope = scope
        # The last step: no signal handler runs between it and the block, which ends in
        # `__exit__`.
        scope.is_entered = True

    def __exit__(self, *_: object) -> None:
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.is_left = True
            _drop(scope)
            _note_left(scope)

    def __call__(self, func: F) -> F:
        """`func`, with a scope around each call.

        Raises:
            TypeError: Its body does not run in the call.
        """
        kind = _kind_that_runs_later(func)
        if kind is not None:
            name = getattr(func, "__qualname__", repr(func))
            raise TypeError(
                f"gn.random.scope cannot decorate {name}: the body of {kind} runs after the call, when the scope is "
                "over. Write `with gn.random.scope(...):` in the body, and leave it before each yield"
            )
        return super().__call__(func)

    def _recreate_cm(self) -> "Block":
        """For `contextlib.ContextDecorator`: a block of its own for each call of a decorated function.

        One block cannot be entered twice, as a function that calls itself would.
        """
        return Block(self._make_stream, is_users=self._is_users)


def _drop(scope: _Scope) -> None:
    """Take a scope out of those that are open in this context, wherever it stands among them.

    It need not be the last: a generator may have entered another one since, and have
    yielded in it.
    """
    _scopes.set(tuple([other for other in _scopes.get() if other is not scope]))


def _kind_that_runs_later(function: Callable[..., Any]) -> str | None:
    """What a function is whose body does not run in the call; `None` for others.

    For `Block.__call__`, which refuses to decorate it: the scope would be over before
    the body runs.
    """
    if inspect.isasyncgenfunction(function):
        return "an async generator"
    if inspect.iscoroutinefunction(function):
        return "an async function"
    return "a generator" if inspect.isgeneratorfunction(function) else None


def split_key() -> jax.Array:
    """A new key from the ambient stream, which it advances.

    Returns:
        A typed key array of shape `()`.

    Raises:
        TraceError: A JAX transformation runs that started after the stream was opened.
        RngError: The innermost scope is that of a generator, which is suspended.
    """
    return _stream_of(_innermost()).draw()


def split_key_for(function: Callable[[jax.Array], object]) -> jax.Array:
    """The next key for an initialiser; never refused to one that does not look at it, such as zeros."""
    return _stream_of(_innermost()).draw_for(function)


def _stream_of(scope: _Scope | None) -> Stream:
    """The stream of a scope, or that of the process."""
    return _process_stream if scope is None else scope.stream


# Scopes of constructors. Fields that a written `__init__` leaves unset get their
# default after it. If the constructor has opened a scope and left it again, an
# initializer would silently draw from the stream around it, and not from the scope.

CONSTRUCTORS: Final[set[CodeType]] = set()
"""The code of what runs the constructors of nodes; `_declare._node` enters it."""


def is_past_scope(node: NodeBase) -> bool:
    """Whether the constructor of a node has opened scopes, and has left all of them.

    Then a field that is still unset must not draw from the stream around the scopes,
    silently.
    """
    return type(node._version) is PastScope and not _has_scope(node)


def _has_scope(node: NodeBase) -> bool:
    """For `is_past_scope`: whether a scope is open that the constructor of a node has opened."""
    return any(
        scope.node is not None and scope.node() is node for scope in _scopes.get()
    )


def _note_left(scope: _Scope) -> None:
    """Note on the node whose constructor opened a scope that it has left one: see `is_past_scope`."""
    node = None if scope.node is None else scope.node()
    version = getattr(node, "_version", None)
    if (
        node is not None
        and type(version) is not PastScope
        and isinstance(version, Constructing)
    ):
        set_version(node, PastScope(version))


def _is_in_constructor(inner: FrameType) -> bool:
    """For `_node_made_in`: whether the constructor of a node is running in a frame or around it."""
    frame: FrameType | None = inner
    while frame is not None and frame.f_code not in CONSTRUCTORS:
        frame = frame.f_back
    return frame is not None


def _node_made_in(entering: FrameType | None) -> "weakref.ref[NodeBase] | None":
    """The node under construction whose method enters a scope: the method's first argument.

    For `is_past_scope`: what the constructor of this node leaves unset must not be drawn
    from the stream around the scope.

    Args:
        entering: The frame that enters the scope; `None` where no user's code does.
    """
    frame = _beyond_managers(entering)
    # The locals are read only while a constructor runs: until Python 3.13, whoever
    # reads `f_locals` keeps the objects alive for the rest of the call.
    if frame is None or not frame.f_code.co_argcount or not _is_in_constructor(frame):
        return None
    first = frame.f_locals.get(frame.f_code.co_varnames[0])
    if isinstance(first, NodeBase) and isinstance(
        getattr(first, "_version", None), Constructing
    ):
        return weakref.ref(first)
    return None


# Scopes of generators. A generator shares the context of its consumer: a scope in which
# it yields is the innermost one for the consumer too, and two generators that take
# turns would draw from each other's. That is refused:
#
#     def batches():                         for batch in batches():
#         with scope(0):                         gn.nn.Linear(2, 3)   # draws from scope(0)
#             yield split_key()
#
# If the scope is meant for the consumer, the generator is a context manager or a
# fixture, which shows in the function that runs it.

_GENERATOR: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_ENTERING: Final = frozenset({"__enter__", "__aenter__"})
_FIXTURES: Final = frozenset({"_pytest", "pytest_asyncio", "anyio"})


def _innermost() -> _Scope | None:
    """The scope to draw from; `None` for the process's stream.

    Raises:
        RngError: It is that of a generator, which is suspended.
    """
    for scope in reversed(_scopes.get()):
        if scope.is_over():
            # A task that was started inside the block keeps the scope after its end.
            # Not that of a generator, nor one that an interrupt kept from beginning.
            may_outlive = scope.is_entered and scope.generator is None
            if may_outlive and not scope.was_entered_here():
                return scope
            _drop(scope)
            continue
        if scope.generator is None or _is_running(scope.generator):
            return scope
        name = scope.generator.f_code.co_qualname
        raise RngError(
            f"the innermost gn.random.scope is that of the generator {name}, which has yielded inside of it: its "
            "consumer would draw from it. Leave a scope before the yield, or draw from a gn.Rngs that the generator "
            "holds. A generator whose scope is for its caller needs contextlib.contextmanager"
        )
    return None


def _is_running(generator: FrameType) -> bool:
    """For `_innermost`: whether the frame of a generator is on the stack of the caller: it is not suspended."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame is not generator:
        frame = frame.f_back
    return frame is not None


def _generator_around(entering: FrameType | None) -> FrameType | None:
    """The generator in whose block a scope is entered; `None` for a function, a context manager's or a fixture's.

    For `_innermost`: while such a generator is suspended, its consumer must not draw
    from the scope.

    Args:
        entering: The frame that enters it.
    """
    frame = _beyond_managers(entering)
    while frame is not None and frame.f_code.co_flags & _GENERATOR:
        runner = frame.f_back
        while runner is not None and runner.f_code.co_flags & _GENERATOR:
            runner = runner.f_back  # by `yield from`
        package = _package_of(runner)
        if package in _FIXTURES:
            return None
        if package != "contextlib":
            return frame
        # The block belongs to whatever entered the context manager, which may be a
        # generator again.
        frame = _beyond_managers(runner)
    return None


def _beyond_managers(frame: FrameType | None) -> FrameType | None:
    """For who enters a scope: the frame with the `with` block, past `contextlib` and managers that enter others."""
    while frame is not None and (
        _package_of(frame) == "contextlib" or frame.f_code.co_name in _ENTERING
    ):
        frame = frame.f_back
    return frame


def _package_of(frame: FrameType | None) -> str:
    """The top-level package whose code runs in a frame, which tells managers and fixtures; empty for no frame."""
    if frame is None:
        return ""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
