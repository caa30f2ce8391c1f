"""All or nothing in the face of signals: a row of writes that no signal handler divides.

Python runs signal handlers (of Ctrl-C, above all) in the main thread, between two instructions of Python code. A loop
that runs in C, such as that of `put_all`, is therefore never divided by one. Other writes are an action for
`undivided`, which holds back the handlers until it is over.
"""

import functools
import inspect
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import attrgetter
from types import FrameType
from typing import Any, Final, TypeAlias, TypeVar

from ._state import State, mark_container, renew
from ._value import is_container

T = TypeVar("T")
Handler: TypeAlias = Callable[[int, FrameType | None], Any]

# Those that programs handle; the others end the process, or are of its faults.
_SIGNALS: Final[tuple[signal.Signals, ...]] = tuple(
    [
        signal.Signals[name]
        for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGPROF")
        if name in signal.Signals.__members__
    ]
)

# Without the wrappers, which make enums of numbers: what they wrap costs a tenth.
_get_handler: Final[Callable[[int], Any]] = inspect.unwrap(signal.getsignal)
_set_handler: Final[Callable[[int, Handler], Any]] = inspect.unwrap(signal.signal)

_value_of: Final[Callable[[State[Any]], Any]] = attrgetter("_value")


def put_all(states: Iterable[State[Any]], values: Iterable[Any], before: Sequence[Any] | None = None) -> None:
    """Give each State its value, all or none: neither a signal handler nor another thread sees a part of it.

    Nothing is checked or marked here, and the values must have been taken in.

    Args:
        states: The States.
        values: Their values.
        before: What they hold, where the caller has it in hand.
    """
    states = tuple(states)
    # Kept alive until all is written: an array that dies may call back into Python.
    before = tuple(map(_value_of, states)) if before is None else before
    deque(map(setattr, states, repeat("_value"), tuple(values)), maxlen=0)
    del before


def store_all(states: Sequence[State[Any]], contents: Sequence[Any]) -> None:
    """Give each State a value that was prepared for it, all or none; marks what holds containers."""
    for state, content in zip(states, contents, strict=True):
        if is_container(content):
            mark_container(state)
    put_all(states, contents)
    for state in states:
        renew(state)


class _Deferral:
    """Handlers of signals that wait while a row of writes is under way.

    Attributes:
        is_committed: Whether a signal has to wait, asked when one comes: before the writes show, it is handled at once.
        handlers: What the program handles each signal with.
        waiting: The calls of handlers that have waited.
    """

    def __init__(self, is_committed: Callable[[], bool]) -> None:
        self.is_committed = is_committed
        self.handlers: dict[int, Handler] = {}
        self.waiting: list[Callable[[], Any]] = []

    def handle(self, number: int, frame: FrameType | None) -> None:
        """What stands in for the handler of a signal."""
        call = functools.partial(self.handlers[number], number, frame)
        if self.is_committed():
            self.waiting.append(call)
        else:
            call()

    def install(self) -> None:
        """Stand in for the handlers of all signals."""
        for number in _SIGNALS:
            handler = _get_handler(number)
            if callable(handler):
                self.handlers[number] = handler
                _set_handler(number, self.handle)

    def restore(self, numbers: tuple[int, ...]) -> None:
        """Put back the handlers: each of them, whatever one that is back already raises."""
        if not numbers:
            return
        try:
            self.restore(numbers[1:])
        finally:
            _set_handler(numbers[0], self.handlers[numbers[0]])

    def close(self) -> None:
        """Put back the handlers, and handle what has waited."""
        try:
            self.restore(tuple(self.handlers))
        finally:
            for call in self.waiting:
                call()


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
        deferral.install()
        return action()
    finally:
        # A store, which nothing divides: from here on every signal waits, so that `close` is reached.
        deferral.is_committed = _always
        deferral.close()
