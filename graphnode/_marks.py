"""Mark States whose value must not simply be handed out.

A State outside of all transformations that holds an array has no mark, so that reading it
costs one comparison. One that was made inside of a transformation has that trace in place
of a mark. All other cases are a `Mark`:

* the State holds a container. A transformation that reads it from outside gets a copy (a
  `Loan`), so that no tracer is written into the container. When the transformation is
  over, a copy that was written to is an error.
* the State belongs to an argument of a transformation, which works on a copy right now in
  some thread (a `Capture`): in that thread the original must not be read.
* the memory of its value was donated to a call that failed.
* the State belonged to the copy of an argument, and the call is over: a write to it would
  be lost.
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
    """The part of a State that this module uses; `_state` is to the right of here."""

    _mark: "Mark | TraceRef | None"
    _value: Any


class Loss(NamedTuple):
    """A value whose memory was donated to a call that failed.

    Attributes:
        value: The value. A State that holds another one, as another thread wrote it, has
            lost nothing.
        text: The message for a State that still holds the value.
    """

    value: Any
    text: str


# The message for a State that is read, or written, while a transformation works on a copy.
Explain: TypeAlias = Callable[[Any, Literal["read", "written"]], str]


class Capture:
    """A transformation that works on copies of some States.

    Attributes:
        thread: The thread that it runs in; `None` when it is over, even if an interrupt
            left the capture on a State.
        explain: The message for one of the States that is read or written.
        is_eager: Whether JAX computes without a trace, as for a `gn.custom_vjp` that is
            not differentiated.
    """

    __slots__ = ("explain", "is_eager", "thread")

    def __init__(self, explain: Explain) -> None:
        self.explain = explain
        # Other threads may go on reading the original.
        self.thread: int | None = threading.get_ident()
        self.is_eager = not is_tracing()

    @property
    def holds_here(self) -> bool:
        """Whether the code that runs now is part of the transformation, not of a callback from the traced function.

        Only there is it wrong to read the original: a callback has no tracers.
        """
        return self.thread == threading.get_ident() and (self.is_eager or is_tracing())


class Loan:
    """A copy of a State's container, handed out inside of a transformation that the State is not part of."""

    __slots__ = ("copy", "leaves", "state", "thread", "trace", "treedef")

    def __init__(self, state: Any, trace: TraceRef, content: Any) -> None:
        # It keeps what the container held, so that a write to the copy is noticed
        # later.
        # Weak: a loan that is still open must not keep the State.
        self.state = weakref.ref(state)
        self.trace = trace
        self.thread = threading.get_ident()
        self.leaves, treedef = tree_flatten(content)
        self.treedef: Any = treedef
        # New containers around the same arrays.
        self.copy = tree_unflatten(self.treedef, self.leaves)

    @property
    def is_over(self) -> bool:
        """Whether the transformation that got the copy has ended.

        Then the State drops the loan, and a write to the copy becomes an error.
        """
        # A trace that has ended may be gone, in any thread; whether it still runs only
        # its own thread can tell.
        if self.trace() is None:
            return True
        return self.thread == threading.get_ident() and not is_live(self.trace)

    @property
    def is_changed(self) -> bool:
        """Whether the copy was written to.

        The State has not got the write: it would be lost without a word.
        """
        leaves, treedef = tree_flatten(self.copy)
        if self.treedef != treedef:
            return True
        pairs = zip(leaves, self.leaves, strict=True)
        # By identity: an array has no truth value to compare by, and a write puts in
        # another object.
        return any(leaf is not before for leaf, before in pairs)


class Mark:
    """What has to be checked before the value of a State is read or written.

    Attributes:
        trace: The trace that the State was made in; `None` outside of all.
        loans: Copies of its container that transformations got.
        captures: The transformations that work on copies of the State.
        loss: The value whose memory is lost, if there is one.
        copied_by: The name of the transformation that the State was a copy for, if its
            call is over. All copies of a call share one such mark, which must not be
            changed.
    """

    __slots__ = ("captures", "copied_by", "loans", "loss", "trace")

    def __init__(self, trace: TraceRef | None) -> None:
        self.trace = trace
        self.loans: list[Loan] = []
        self.captures: tuple[Capture, ...] = ()
        self.loss: Loss | None = None
        self.copied_by: str | None = None


# What a State may have as its mark.
AnyMark: TypeAlias = Mark | TraceRef | None
_read_mark: Final[Callable[[Marked], AnyMark]] = attrgetter("_mark")


class _OpenLoans(threading.local):
    """The loans of this thread whose transformation may still run."""

    def __init__(self) -> None:
        self.loans: list[Loan] = []


_OPEN: Final = _OpenLoans()
# Held while captures are put on States or removed, in all threads; to read a mark takes
# no lock. Reentrant, since a signal handler or finalizer may trace while the lock is
# held: its own captures are gone again when the interrupted code goes on.
_LOCK: Final = threading.RLock()


def trace_of(state: Marked) -> TraceRef | None:
    """The trace that a State was made in; `None` outside of all.

    In that trace it may be written; after it, a tracer in it is of no use.
    """
    mark = state._mark
    return mark.trace if isinstance(mark, Mark) else mark


def mark_of(state: Marked) -> Mark:
    """The mark of a State, made if there is none.

    For what has to be noted of a State: a loan, a capture, a loss, or a container.
    """
    mark = state._mark
    while not isinstance(mark, Mark):
        new_mark = Mark(mark)
        # Another thread or a signal handler may have set one meanwhile. Neither can run
        # between the test and the assignment, as there is no call between them.
        if state._mark is mark:
            state._mark = new_mark
        mark = state._mark
    return mark


def is_marked(state: Marked) -> bool:
    """Whether a State has a mark beyond the trace that it was made in.

    Without one, its value is handed out as it is.
    """
    return isinstance(state._mark, Mark)


def any_marked(states: Iterable[Marked]) -> bool:
    """Whether one of some States is marked, by loops that run in C.

    For bindings: if none is, the values of all are read without a check.
    """
    return Mark in set(map(type, map(_read_mark, states)))


def check_marks(state: Marked, name_of: Callable[[], str]) -> None:
    """Raise if the value of a State must not be read now.

    For `State.value`: each such value would be wrong, or gone.

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

    For `_state.check_writable`: what was written now would be overwritten when the copy
    is written back.

    Raises:
        TraceError: It is an argument of what runs.
    """
    mark = state._mark
    if isinstance(mark, Mark):
        for capture in mark.captures:
            if capture.is_eager and capture.holds_here:
                raise TraceError(capture.explain(state, "written"))


def _settle(mark: Mark, name_of: Callable[[], str]) -> None:
    """Take back the copies whose transformation is over; raise if one was written to.

    For `check_marks`: the transformation itself had no chance to say so, as one of
    plain JAX.
    """
    over = [loan for loan in mark.loans if loan.is_over]
    # Before the error: the copy is taken back in any case, so that it is told once.
    for loan in over:
        mark.loans.remove(loan)
    if any(loan.is_changed for loan in over):
        raise TraceError(_written_text(name_of(), "that has ended "))


def _written_text(name: str, when: str) -> str:
    """The text of the error for a container that was written to inside of a transformation.

    For the errors of `_settle` and `take_back_loans`.

    Args:
        name: What messages call the State.
        when: "that has ended ", or nothing while it still runs.
    """
    return (
        f"{name}: a JAX transformation {when}wrote into its value, without having got the State as an argument. The "
        "write was made into a copy, and the State holds what it held. Pass its node to the function as an argument, "
        "under gn.jit, gn.grad and so on"
    )


def container_for(state: Marked, content: Any) -> Any:
    """The container of a State for the running code: its own in its own trace, a copy in another transformation.

    Args:
        state: The State.
        content: What the copy has in it: the State's own value, or one with stand-ins
            for its arrays.

    For `_state.read`: a write into the own container, by traced code, would put tracers
    into it.
    """
    trace = current_trace()
    if trace is None or trace == trace_of(state):
        return state._value
    mark = mark_of(state)
    for loan in mark.loans:
        # One copy for each transformation: what it writes, it reads again.
        if loan.trace == trace:
            return loan.copy
    loan = Loan(state, trace, content)
    mark.loans.append(loan)
    # Without those that nobody has taken back: their transformations are over.
    _OPEN.loans = [other for other in _OPEN.loans if not other.is_over]
    _OPEN.loans.append(loan)
    return loan.copy


def take_back_loans(name_of: Callable[[Any], str]) -> None:
    """Take back the copies that the innermost running transformation got.

    For the end of a transformed function: `check_marks` would notice it only when the
    State is read again.

    Raises:
        TraceError: One was written to; names the States.
    """
    changed = [loan.state() for loan in _loans_of(current_trace()) if loan.is_changed]
    names = ", ".join(name_of(state) for state in changed if state is not None)
    if names:
        raise TraceError(_written_text(names, ""))


def drop_loans() -> None:
    """Take back the copies that the innermost running transformation got, whatever was written to them.

    For a transformed function that has raised: a second error would hide the first.
    """
    _loans_of(current_trace())


def _loans_of(trace: TraceRef | None) -> list[Loan]:
    """Remove the loans of a trace from their States; returns them.

    For `take_back_loans` and `drop_loans`.
    """
    # Nearly always.
    if not _OPEN.loans:
        return []
    loans = [loan for loan in _OPEN.loans if loan.trace == trace]
    _OPEN.loans = [loan for loan in _OPEN.loans if loan.trace != trace]
    for loan in loans:
        state = loan.state()
        mark = None if state is None else state._mark
        if isinstance(mark, Mark) and loan in mark.loans:
            mark.loans.remove(loan)
    return loans


@contextmanager
def captured(states: Sequence[Marked], explain: Explain) -> Generator[None]:
    """While it runs, reading one of the States inside of a transformation of this thread is an error.

    For the run of a transformed function, which is to use the copies that it got.
    """
    capture = Capture(explain)
    try:
        with _LOCK:
            for state in states:
                _capture(state, capture)
        # After the captures are there: a binding that looks earlier would miss them.
        _tell_bindings(capture)
        yield
    finally:
        # First: from here on the capture has no effect, whatever interrupts the rest.
        capture.thread = None
        with _LOCK:
            for state in states:
                _release(state)
        _tell_bindings(capture)


def _tell_bindings(capture: Capture) -> None:
    """Have bindings look again at which of their States are marked.

    For `captured`: they keep whether any State is marked, as long as the clock stands
    still.
    """
    if capture.is_eager:  # under a trace they look at every State
        CLOCK.now = Version()  # bindings keep whether they have marked States


def _capture(state: Marked, capture: Capture) -> None:
    """Put a capture on a State, whatever a signal handler does meanwhile.

    While it is there, `check_marks` refuses to hand out the value of the original.
    """
    mark = mark_of(state)
    mark.captures = (*mark.captures, capture)
    # A signal handler in between may have settled the mark, which said nothing yet.
    if state._mark is not mark:
        _capture(state, capture)


def _release(state: Marked) -> None:
    """Remove the captures of a State that are over.

    For the end of `captured`: what it marked may be read again.
    """
    mark = state._mark
    if isinstance(mark, Mark):
        # All that are over, not only the own: an interrupt may have left others.
        running = [capture for capture in mark.captures if capture.thread is not None]
        mark.captures = tuple(running)
        drop_empty_mark(state)


def drop_empty_mark(state: Marked) -> None:
    """Replace a mark by the trace of its State, if it has nothing else.

    So that reading the State costs one comparison again.
    """
    mark = state._mark
    if not isinstance(mark, Mark) or mark.captures or mark.loans:
        return
    if mark.loss is not None or mark.copied_by is not None:
        return
    # A container outside of all traces is marked, so that it is copied when it is read.
    if mark.trace is None and is_container(state._value):
        return
    state._mark = mark.trace


def close_copies(states: Sequence[Marked], transform: str) -> None:
    """Mark the copies that a call has worked on and that is over, by a loop that runs in C.

    What is written to a copy after its call is lost, and so `check_no_copy` refuses it.
    """
    # One mark for all of them, as there may be thousands.
    mark = Mark(current_trace())
    mark.copied_by = transform
    deque(map(setattr, states, repeat("_mark"), repeat(mark)), maxlen=0)


def check_no_copy(mark: AnyMark, name_of: Callable[[], str]) -> None:
    """Raise if a State of this mark belonged to the copy of an argument, of a call that is over.

    For writes to such a State, and for calls that get it as an argument.

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
    """Mark States whose memory was donated and is gone.

    JAX would say only that an array was deleted; the text says by which call.

    Args:
        losses: The States, each with the value of it that is gone.
        text: The message for a State that still holds that value.
    """
    for state, value in losses:
        # With the value: a State that gets another one has lost nothing.
        mark_of(state).loss = Loss(value, text)
    CLOCK.now = Version()  # bindings keep whether they have marked States
