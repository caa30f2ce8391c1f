"""All-or-nothing writes despite signals: no signal handler runs in the middle of them.

Python runs signal handlers (mostly for Ctrl-C) in the main thread, between two
instructions of Python code. A loop in C, such as that of `put_all`, is therefore never
interrupted. Other writes go through `undivided`, which holds back the handlers:

    undivided(action):   open()    each handler is replaced by a deferral
                         action()  a signal comes: it is put into `waiting`
                         close()   handlers are put back, then called for what has waited
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

# The signals that programs handle; others end the process, or report its faults.
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

# The functions in C. Their wrappers in `signal` turn numbers into enums, which costs
# twenty times as much, and have no `__wrapped__`. Type checkers do not know the module.
_C_SIGNAL: Final = importlib.import_module("_signal")
_get_handler: Final[Callable[[int], Any]] = _C_SIGNAL.getsignal
_set_handler: Final[Callable[[int, Handler], Any]] = _C_SIGNAL.signal


def put_all(
    states: Iterable[State[Any]],
    values: Iterable[Any],
    before: Sequence[Any] | None = None,
) -> None:
    """Give each State its value, all or none: neither a signal handler nor another thread sees only some of them.

    Nothing is checked or marked here; the values must come from `take_in`.

    Args:
        states: The States.
        values: Their values.
        before: What they hold, if the caller has it: these arrays must live until all
            are written.
    """
    states, values = tuple(states), tuple(values)
    if len(states) == 1:
        # Nothing to be divided.
        before, states[0]._value = states[0]._value, values[0]
        return
    # Kept alive until all are written: an array that dies may call back into Python.
    before = [state._value for state in states] if before is None else before
    # A deque without room runs through the loop in C, and keeps nothing.
    deque(map(setattr, states, repeat("_value"), values), maxlen=0)
    del before


def store_all(states: Sequence[State[Any]], contents: Sequence[Any]) -> None:
    """Give each State a value that was prepared for it, all or none; marks States that hold containers.

    The last step of updates: `value_to_store` and the like have checked and prepared
    all values.
    """
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

    For layers and optimizers whose States belong together, such as the keys and the
    position of a cache.

    Args:
        states: The States.
        values: Their values.
        names: Return the name of each State for messages; by default, its class.

    Raises:
        FieldError, ContractError, TraceError: As a write to `State.value`. Nothing was
            written.
    """
    names = [str] * len(states) if names is None else names
    store_all(
        states,
        [value_to_store(*args) for args in zip(states, values, names, strict=True)],
    )


def _exchange(number: int, old: Handler, new: Handler) -> None:
    """For `_Deferral`: replace the handler of a signal, unless the program has set a third one meanwhile.

    Args:
        number: The signal.
        old: The handler that has to be there.
        new: The handler that takes its place.
    """
    if _get_handler(number) is not old:
        return
    # The call runs the handlers of signals that have come. If one raises, nothing was
    # replaced; one may also have set a third handler, which is put back then.
    replaced = _set_handler(number, new)
    if replaced is not old:
        _set_handler(number, replaced)


class _Deferral:
    """The handler of all signals during an undivided action: real handlers wait until it is over.

    A handler may raise at the entry of a function, after a call and at a jump
    backwards, and nowhere else. After each step below, an exception there loses neither
    a handler nor a signal.

    Attributes:
        is_committed: Whether a signal has to wait, asked when one comes. Before any
            write is visible, it is handled at once.
        is_open: Whether signals are held back at all.
        handlers: The program's own handler of each signal.
        waiting: The signals that wait, each with the frame that it came in.
    """

    def __init__(self, is_committed: Callable[[], bool]) -> None:
        self.is_committed = is_committed
        self.is_open = False
        self.handlers: dict[int, Handler] = {}
        self.waiting: list[tuple[int, FrameType | None]] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal, or let it wait."""
        if not self.is_open:
            # It was not removed yet, or the program has set it again: it may have got it
            # from `getsignal`.
            self.handlers[number](number, frame)
            return
        self.waiting.append((number, frame))
        if not self.is_committed():
            # While it runs, the program's handler is in its place, and may set another
            # one, which is held back from then on.
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
        """Put back the handlers, and handle all signals that wait, whatever a handler raises."""
        self.is_open = False
        try:
            for number, handler in self.handlers.items():
                _exchange(number, self, handler)
            while self.waiting:
                self.handle_next()
        except BaseException:
            self.close()  # the remaining ones; their errors get this one as their context
            raise

    def handle_next(self) -> None:
        """Handle the signal that has waited longest, by the handler that the program has now."""
        number, frame = self.waiting[0]
        handler = _get_handler(number)
        # Looked up before it is removed: an exception in between would lose the signal.
        del self.waiting[0]
        if callable(handler):
            handler(number, frame)
        # The program has removed its handler meanwhile: then the signal ends the
        # process.
        elif handler == signal.SIG_DFL:
            signal.raise_signal(number)


def _always() -> bool:
    """For `undivided`: every signal waits until the action is over."""
    return True


def undivided(action: Callable[[], T], is_committed: Callable[[], bool] = _always) -> T:
    """The result of an action that no signal handler interrupts.

    For pops and updates that change several nodes, and for calls that donate memory:
    Ctrl-C must not leave half of it. Handlers only run in the main thread, so in other
    threads it is just called.

    Args:
        action: What must not be interrupted.
        is_committed: Whether a signal has to wait, asked when one comes.
    """
    if threading.current_thread() is not threading.main_thread():
        return action()
    deferral = _Deferral(is_committed)
    try:
        deferral.open()
        return action()
    finally:
        # An assignment cannot be interrupted. After it every signal waits, so `close` is
        # reached.
        deferral.is_committed = _always
        deferral.close()
