"""All or nothing in the face of signals: a row of writes that no signal handler divides.

Python runs signal handlers (of Ctrl-C, above all) in the main thread, between two
instructions of Python code. A loop that runs in C, such as that of `put_all`, is
therefore never divided by one. Other writes are an action for `undivided`, which holds
back the handlers until it is over.
"""

import importlib
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from types import FrameType
from typing import Any, Final, TypeAlias, TypeVar

from ._state import State, mark_container, renew, value_to_store
from ._value import is_container

T = TypeVar("T")
Handler: TypeAlias = Callable[[int, FrameType | None], Any]

# Those that programs handle; the others end the process, or are of its faults.
_SIGNALS: Final[tuple[signal.Signals, ...]] = tuple(
    [
        signal.Signals[name]
        for name in (
            "SIGINT",
            "SIGTERM",
            "SIGALRM",
            "SIGHUP",
            "SIGQUIT",
            "SIGUSR1",
            "SIGUSR2",
            "SIGVTALRM",
            "SIGPROF",
        )
        if name in signal.Signals.__members__
    ]
)

# The functions in C: their wrappers in `signal` make enums of numbers, which costs
# twenty times as much. They have no `__wrapped__`, and type checkers do not know the
# module.
_C_SIGNAL: Final = importlib.import_module("_signal")
_get_handler: Final[Callable[[int], Any]] = _C_SIGNAL.getsignal
_set_handler: Final[Callable[[int, Handler], Any]] = _C_SIGNAL.signal


def put_all(
    states: Iterable[State[Any]],
    values: Iterable[Any],
    before: Sequence[Any] | None = None,
) -> None:
    """Give each State its value, all or none: neither a signal handler nor another thread sees a part of it.

    Nothing is checked or marked here, and the values must have been taken in.

    Args:
        states: The States.
        values: Their values.
        before: What they hold, where the caller has it in hand.
    """
    states = tuple(states)
    # Kept alive until all is written: an array that dies may call back into Python.
    before = [state._value for state in states] if before is None else before
    deque(map(setattr, states, repeat("_value"), tuple(values)), maxlen=0)
    del before


def store_all(states: Sequence[State[Any]], contents: Sequence[Any]) -> None:
    """Give each State a value, checked before, all or none; marks what holds containers."""
    for state, content in zip(states, contents, strict=True):
        if is_container(content):
            mark_container(state)
    put_all(states, contents)
    for state in states:
        renew(state)


def write_all(
    states: Sequence[State[Any]],
    values: Sequence[Any],
    names: Sequence[Callable[[], str]] | None = None,
) -> None:
    """Write values into States as `state.value = value` does one, all or none.

    Args:
        states: The States.
        values: Their values.
        names: Give what messages call each State; by default, they say its class.

    Raises:
        FieldError, ContractError, TraceError: As a write to `State.value`. Nothing was
            written.
    """
    names = [str] * len(states) if names is None else names
    store_all(
        states,
        [value_to_store(*one) for one in zip(states, values, names, strict=True)],
    )


def _exchange(number: int, old: Handler, new: Handler) -> None:
    """Put a handler in the place of another one, unless the program has put a third one there."""
    if _get_handler(number) is not old:
        return
    # This runs the handlers of signals that have come: one may raise, and nothing is
    # put there, or put one there.
    replaced = _set_handler(number, new)
    if replaced is not old:
        _set_handler(number, replaced)


class _Deferral:
    """What stands in for the handlers of signals while a row of writes is under way: they wait until it is over.

    A handler may raise at the entry of a function, after a call and at a jump
    backwards, and nowhere else. Each step below leaves things such that an exception
    right after it loses nothing.

    Attributes:
        is_committed: Whether a signal has to wait, asked when one comes: before the
            writes show, it is handled at once.
        is_open: Whether signals are held back at all.
        handlers: What the program handled each signal with.
        waiting: The signals that have waited, each with the frame that it came in.
    """

    def __init__(self, is_committed: Callable[[], bool]) -> None:
        self.is_committed = is_committed
        self.is_open = False
        self.handlers: dict[int, Handler] = {}
        self.waiting: list[tuple[int, FrameType | None]] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal, or let it wait."""
        if not self.is_open:
            # It could not be taken out yet, or the program has put it back, having
            # found it by `getsignal`.
            self.handlers[number](number, frame)
            return
        self.waiting.append((number, frame))
        if not self.is_committed():
            # The handler finds itself in its place, and may put another one there,
            # which is held back from then on.
            try:
                self.close()
            finally:
                self.open()

    def open(self) -> None:
        """Stand in for the handlers of all signals."""
        self.is_open = True
        for number in _SIGNALS:
            handler = _get_handler(number)
            if callable(handler) and handler is not self:
                self.handlers[number] = handler
                _exchange(number, handler, self)

    def close(self) -> None:
        """Put back the handlers, and handle what has waited: all of it, whatever a handler raises."""
        self.is_open = False
        try:
            for number, handler in self.handlers.items():
                _exchange(number, self, handler)
            while self.waiting:
                self.handle_next()
        except BaseException:
            self.close()  # the rest; an exception there has this one as its context
            raise

    def handle_next(self) -> None:
        """Handle the signal that has waited longest as the program wants it handled now."""
        number, frame = self.waiting[0]
        handler = _get_handler(number)
        del self.waiting[0]
        if callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            signal.raise_signal(number)


def _always() -> bool:
    return True


def undivided(action: Callable[[], T], is_committed: Callable[[], bool] = _always) -> T:
    """What an action gives, with the handlers of signals held back until it is over.

    They run in the main thread alone, so that elsewhere nothing is to be done.

    Args:
        action: What is not to be divided.
        is_committed: Whether a signal has to wait, asked when one comes.
    """
    if threading.current_thread() is not threading.main_thread():
        return action()
    deferral = _Deferral(is_committed)
    try:
        deferral.open()
        return action()
    finally:
        # A store, which nothing divides: from here on every signal waits, so that
        # `close` is reached.
        deferral.is_committed = _always
        deferral.close()
