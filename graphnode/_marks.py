"""Marks: what is to be known of a State before its value is handed out.

A State outside of all transformations that holds a plain array has no mark, and reading
it costs one look. One that was made inside of a transformation has that trace in its
place. Everything else is a `Mark`:

* it holds a container, of which a transformation that reads it from outside gets a copy
  (a `Loan`), so that no tracer is written into it. When the transformation is over, a
  copy that was written to is an error.
* it belongs to an argument of one of our transformations, which works on a copy right
  now in some thread (a `Capture`): in that thread the original must not be read.
* its memory was given to a call that failed.
* it belonged to the copy of an argument, of a call that is over: what is written to it
  would reach nobody.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import repeat
from operator import attrgetter
from typing import (
    Any,
    Final,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    runtime_checkable,
)

from jax.tree_util import tree_flatten, tree_unflatten

from ._compat import TraceRef, current_trace, is_live, is_tracing
from ._errors import DonationError, TraceError
from ._value import is_container
from ._versions import CLOCK, Version


@runtime_checkable
class Marked(Protocol):
    """A State, as far as marks know it."""

    _mark: "Mark | TraceRef | None"
    _value: Any


class Loss(NamedTuple):
    """Memory that was given away to a call that failed.

    Attributes:
        value: The value that it was. Where the State holds another one, as another
            thread wrote it, nothing is lost.
        text: The message for a State that still holds the value.
    """

    value: Any
    text: str


# The message for a State whose original is read, or written, where a copy of it stands.
Explain: TypeAlias = Callable[[Any, Literal["read", "written"]], str]


class Capture:
    """A transformation that works on copies of some States.

    Attributes:
        thread: The thread that does; `None` when it is done, also where an interrupt
            left a capture behind.
        explain: The message for a State of them that is read or written.
        is_eager: Whether JAX computes without a trace, as of a `gn.custom_vjp` that
            nobody differentiates.
    """

    __slots__ = ("explain", "is_eager", "thread")

    def __init__(self, explain: Explain) -> None:
        self.explain = explain
        self.thread: int | None = threading.get_ident()
        self.is_eager = not is_tracing()

    @property
    def holds_here(self) -> bool:
        """Whether the code that runs now is part of the transformation, and not of a callback out of what it traces."""
        return self.thread == threading.get_ident() and (self.is_eager or is_tracing())


class Loan:
    """A copy of a State's container, handed out inside of a transformation that the State is not part of."""

    __slots__ = ("copy", "leaves", "state", "thread", "trace", "treedef")

    def __init__(self, state: Any, trace: TraceRef) -> None:
        self.state = weakref.ref(state)
        self.trace = trace
        self.thread = threading.get_ident()
        self.leaves, treedef = tree_flatten(state._value)
        self.treedef: Any = treedef
        self.copy = tree_unflatten(self.treedef, self.leaves)

    @property
    def is_over(self) -> bool:
        """Whether the transformation has ended that it was handed out in."""
        if self.trace() is None:
            return True
        return self.thread == threading.get_ident() and not is_live(self.trace)

    @property
    def is_changed(self) -> bool:
        """Whether the copy was written to."""
        leaves, treedef = tree_flatten(self.copy)
        return bool(self.treedef != treedef) or any(
            a is not b for a, b in zip(leaves, self.leaves, strict=True)
        )


class Mark:
    """What is to be known of one State.

    Attributes:
        trace: The trace that the State was made in; `None` outside of all.
        loans: Copies of its container that transformations got.
        captures: The transformations that work on copies of it.
        loss: Which value of it was lost, if one was.
        copied_by: The name of the transformation that it was a copy for, once the call
            is over; one mark for all its copies, which must not be written.
    """

    __slots__ = ("captures", "copied_by", "loans", "loss", "trace")

    def __init__(self, trace: TraceRef | None) -> None:
        self.trace = trace
        self.loans: list[Loan] = []
        self.captures: tuple[Capture, ...] = ()
        self.loss: Loss | None = None
        self.copied_by: str | None = None


# What a State has in the place of its mark.
AnyMark: TypeAlias = Mark | TraceRef | None
_read_mark: Final[Callable[[Marked], AnyMark]] = attrgetter("_mark")


class _Open(threading.local):
    """The loans of this thread whose transformation may still run."""

    def __init__(self) -> None:
        self.loans: list[Loan] = []


_OPEN: Final = _Open()
# Marks come and go in all threads that trace a model; reading one takes no lock.
# Reentrant, since a signal handler or finalizer may trace while the lock is held. It
# has taken its own captures away again when the code below goes on.
_LOCK: Final = threading.RLock()


def trace_of(state: Marked) -> TraceRef | None:
    """The trace that a State was made in; `None` outside of all."""
    mark = state._mark
    return mark.trace if isinstance(mark, Mark) else mark


def mark_of(state: Marked) -> Mark:
    """The mark of a State, made if there is none."""
    mark = state._mark
    while not isinstance(mark, Mark):
        made = Mark(mark)
        # Another thread or a signal handler may have made one meanwhile; none comes
        # between test and store.
        if state._mark is mark:
            state._mark = made
        mark = state._mark
    return mark


def is_marked(state: Marked) -> bool:
    """Whether more is to be known of a State than the trace that it was made in."""
    return isinstance(state._mark, Mark)


def any_marked(states: Iterable[Marked]) -> bool:
    """Whether one of some States is marked, by loops that run in C."""
    return Mark in set(map(type, map(_read_mark, states)))


def check_marks(state: Marked, name_of: Callable[[], str]) -> None:
    """Raise if the value of a State must not be read now.

    Args:
        state: The State.
        name_of: What messages call it.

    Raises:
        DonationError: Its memory was given to a call that failed.
        TraceError: It is an argument of what is traced; or a copy of it was written to
            in a transformation that has ended.
    """
    mark = state._mark
    if not isinstance(mark, Mark):
        return
    if mark.loss is not None and mark.loss.value is state._value:
        raise DonationError(f"{name_of()}: {mark.loss.text}")
    for capture in mark.captures:
        if capture.holds_here:
            raise TraceError(capture.explain(state, "read"))
    if mark.loans:
        _settle(mark, name_of)


def check_no_copy_runs(state: Marked) -> None:
    """Raise if a copy of a State is worked on now, outside of all traces.

    Raises:
        TraceError: It is an argument of what runs.
    """
    mark = state._mark
    if isinstance(mark, Mark):
        for capture in mark.captures:
            if capture.is_eager and capture.holds_here:
                raise TraceError(capture.explain(state, "written"))


def _settle(mark: Mark, name_of: Callable[[], str]) -> None:
    """Take back the copies whose transformation is over."""
    over = [loan for loan in mark.loans if loan.is_over]
    for loan in over:
        mark.loans.remove(loan)
    if any(loan.is_changed for loan in over):
        raise TraceError(_written(name_of(), "that has ended "))


def _written(name: str, when: str) -> str:
    return (
        f"{name}: a JAX transformation {when}wrote into its value, without having got the State as an argument. The "
        "write was made into a copy, and the State holds what it held. Pass its node to the function as an argument, "
        "under gn.jit, gn.grad and so on"
    )


def container_for(state: Marked) -> Any:
    """The container of a State as the running code may have it: its own at home, a copy in another transformation."""
    trace = current_trace()
    if trace is None or trace == trace_of(state):
        return state._value
    mark = mark_of(state)
    for loan in mark.loans:
        if loan.trace == trace:
            return loan.copy
    loan = Loan(state, trace)
    mark.loans.append(loan)
    _OPEN.loans = [other for other in _OPEN.loans if not other.is_over]
    _OPEN.loans.append(loan)
    return loan.copy


def take_back_loans(name_of: Callable[[Any], str]) -> None:
    """Take back the copies that the innermost running transformation got.

    Raises:
        TraceError: One was written to; names the States.
    """
    changed = [loan.state() for loan in _loans_of(current_trace()) if loan.is_changed]
    names = ", ".join(name_of(state) for state in changed if state is not None)
    if names:
        raise TraceError(_written(names, ""))


def drop_loans() -> None:
    """Take back the copies that the innermost running transformation got, whatever was written to them."""
    _loans_of(current_trace())


def _loans_of(trace: TraceRef | None) -> list[Loan]:
    """The loans of a trace, which are over with this."""
    if not _OPEN.loans:
        return []
    loans = [loan for loan in _OPEN.loans if loan.trace == trace]
    _OPEN.loans = [loan for loan in _OPEN.loans if loan.trace != trace]
    for loan in loans:
        state = loan.state()
        if (
            state is not None
            and isinstance(state._mark, Mark)
            and loan in state._mark.loans
        ):
            state._mark.loans.remove(loan)
    return loans


@contextmanager
def captured(states: Sequence[Marked], explain: Explain) -> Generator[None]:
    """While it runs, reading one of the States inside of a transformation of this thread is an error."""
    capture = Capture(explain)
    try:
        with _LOCK:
            for state in states:
                _capture(state, capture)
        _tell_bindings(capture)
        yield
    finally:
        # First: from here on the capture says nothing, whatever interrupts the rest.
        capture.thread = None
        with _LOCK:
            for state in states:
                _release(state)
        _tell_bindings(capture)


def _tell_bindings(capture: Capture) -> None:
    if capture.is_eager:  # under a trace they look at every State
        CLOCK.now = Version()  # bindings keep whether they have marked States


def _capture(state: Marked, capture: Capture) -> None:
    mark = mark_of(state)
    mark.captures = (*mark.captures, capture)
    # A signal handler in between may have settled the mark, which said nothing yet.
    if state._mark is not mark:
        _capture(state, capture)


def _release(state: Marked) -> None:
    """Take away the captures of a State that are over."""
    mark = state._mark
    if isinstance(mark, Mark):
        mark.captures = tuple(
            [capture for capture in mark.captures if capture.thread is not None]
        )
        settle_mark(state)


def settle_mark(state: Marked) -> None:
    """Take away a mark that says no more than the trace of its State."""
    mark = state._mark
    if (
        not isinstance(mark, Mark)
        or mark.captures
        or mark.loans
        or mark.loss is not None
    ):
        return
    if mark.copied_by is not None:
        return
    if mark.trace is None and is_container(state._value):
        return
    state._mark = mark.trace


def close_copies(states: Sequence[Marked], transform: str) -> None:
    """Note that a call is over that has worked on these copies, by a loop that runs in C."""
    mark = Mark(current_trace())
    mark.copied_by = transform
    deque(map(setattr, states, repeat("_mark"), repeat(mark)), maxlen=0)


def check_no_copy(mark: AnyMark, name_of: Callable[[], str]) -> None:
    """Raise if a State of this mark belonged to the copy of an argument, of a call that is over.

    Raises:
        TraceError: It did.
    """
    if isinstance(mark, Mark) and mark.copied_by is not None:
        raise TraceError(
            f"{name_of()} is part of the copy of an argument that {mark.copied_by} has worked on, and its call is "
            "over: what is drawn from it or written to it would be lost. Use the node that was given to the call; or "
            "return the value (or treefy_states of the node) from the transformed function instead"
        )


def mark_lost(losses: Iterable[tuple[Marked, Any]], text: str) -> None:
    """Note that the memory of some States was given away and is gone.

    Args:
        losses: The States, each with the value of it that is gone.
        text: The message for a State that still holds that value.
    """
    for state, value in losses:
        mark_of(state).loss = Loss(value, text)
    CLOCK.now = Version()  # bindings keep whether they have marked States
