"""Note which States a trace looks at, and hand out stand-ins for those of outside.

A function that JAX traces once and calls many times may look at two sorts of States:

    copies of its arguments     their numbers are noted: what no trace touches need not
                                be an input of what is compiled
    States of outside           a `CapturedArray` stands for each array: it is no
                                constant, and so later calls see later values

A State of outside has no mark, and reading it costs one comparison. So `RUNNING` tells
`State.value` that some thread traces, and `READING` what is noted in this one.
"""

import functools
import threading
import weakref
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from typing import Any, Final

import jax

from ._compat import StandIn, enclosing_traces, is_tracing
from ._errors import TraceError
from ._marks import Marked, trace_of


class CapturedArray(StandIn):
    """Stands for an array of a State that a traced function reads without having got it as an argument.

    Attributes:
        captured_state: The State, weakly: JAX may keep what it traced for as long as the
            function.
        leaf_number: The number of the array among the leaves of its value.
        captured_label: What messages call the State.
    """

    # No names that arrays have, such as `at`.
    __slots__ = ("captured_label", "captured_state", "leaf_number")

    def __init__(
        self, state: Marked, at: int, array: Any, label: str, context: Hashable
    ) -> None:
        """For an array of a State.

        Args:
            state: The State.
            at: The number of the array among the leaves of its value.
            array: The array.
            label: What messages call the State.
            context: Of JAX's memory: what was traced there may have it, also later.
        """
        check = functools.partial(_check_running, context, label)
        super().__init__(jax.typeof(array), check)
        self.captured_state = weakref.ref(state)
        self.leaf_number = at
        self.captured_label = label

    def _array(self) -> Any:
        """What stands in its place in the State now; `None` if the State or the place is gone."""
        state = self.captured_state()
        leaves = [] if state is None else jax.tree.leaves(state._value)
        return leaves[self.leaf_number] if self.leaf_number < len(leaves) else None

    @property
    def is_current(self) -> bool:
        """Whether the State still holds an array of the shape and dtype that were traced."""
        array = self._array()
        return array is not None and bool(jax.typeof(array) == self.aval)

    def current(self) -> Any:
        """The array that the State holds now.

        Raises:
            TraceError: The State is gone, or holds an array of another shape or dtype
                than was traced.
        """
        if self.is_current:
            return self._array()
        now = (
            "is gone"
            if self.captured_state() is None
            else "holds another shape or dtype now"
        )
        raise TraceError(
            f"{self.captured_label} was read from outside of a function while it was traced, and {now}: what JAX has "
            "kept of that trace fits no more. Pass its node to the function as an argument"
        )

    def _origin_msg(self) -> str:
        # JAX puts this below its own text, where a tracer is used as a number.
        try:
            self.check_usable()
        except TraceError as error:
            return f"\n{error}."
        return (
            f"\nIt stands for the value of {self.captured_label}, which is read from outside of the function: what it "
            "is at the time of a call is not known while the function is traced."
        )


def _check_running(context: Hashable, label: str) -> None:
    """Raise if a stand-in has leaked: no trace runs in this thread whose context of JAX's memory is this one.

    JAX keeps what it traced of inner functions, with the stand-ins in it, for other
    traces in the same context. Anywhere else one is in a cache or a global.

    Args:
        context: Of the trace that it was made in.
        label: What messages call the State that it stands for.

    Raises:
        TraceError: Names the State.
    """
    reads = READING.reads
    while reads is not None:
        if reads.context == context:
            return
        reads = reads.around
    raise TraceError(
        f"{label} was read from outside of a function while it was traced, and what that gave was kept until the trace "
        "was over: it stood there for the value at each call, and is no array. Return it from the function, or read "
        "the State again"
    )


class Reads:
    """What one trace looks at.

    Attributes:
        context: The context of JAX's memory that the trace runs in.
        around: The notes of the trace around it in this thread, while it runs.
        touched: The numbers of the States of the arguments that were looked at.
        captured: The States of outside that were, by id.
    """

    def __init__(self, label: Callable[[Any], str], context: Hashable) -> None:
        """For a trace that is about to begin.

        Args:
            label: Gives what messages call a State of outside.
            context: The context of JAX's memory that the trace runs in.
        """
        self.context: Hashable = context
        self.around: Reads | None = None
        self.touched: set[int] = set()
        self.captured: dict[int, Any] = {}
        self._label = label
        self._traces_around: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._stand_ins: dict[int, Any] = {}

    @contextmanager
    def noting(self) -> Generator[None]:
        """While it is open, in the trace that it is for, what this thread looks at is noted."""
        self.around = READING.reads
        self._traces_around = enclosing_traces()
        RUNNING.append(self)
        READING.reads = self
        try:
            yield
        finally:
            READING.reads, self.around = self.around, None
            RUNNING.remove(self)
            # Traces are not to live longer than they run.
            self._traces_around = []

    def number(self, states: Sequence[Marked]) -> None:
        """Take these for the copies of the arguments, in layout order."""
        self._numbers = {id(state): number for number, state in enumerate(states)}

    def take_originals(self, states: Sequence[Marked]) -> None:
        """Count looks at the originals of the arguments, in layout order, as looks at these: they have the same shapes.

        Not so if the value was read: it is the one of before the call.
        """
        if self.captured:
            for number, state in enumerate(states):
                if id(state) in self.captured and id(state) not in self._stand_ins:
                    del self.captured[id(state)]
                    self.touched.add(number)

    def look(self, state: Marked) -> None:
        """Note that something of a State is looked at, such as its shape."""
        number = self._numbers.get(id(state))
        if number is not None:
            self.touched.add(number)
        elif self._is_outside(state):
            # Kept, so that no other State gets its id while the trace runs.
            self.captured[id(state)] = state

    def value_of(self, state: Marked) -> Any:
        """The value of a State for the traced function, with stand-ins for arrays of outside; noted as a look at it."""
        self.look(state)
        if id(state) not in self.captured:
            return state._value
        held, stand_in = self._stand_ins.get(id(state), (None, None))
        # The value may be another one, where a trace of a trace writes between two
        # reads.
        if stand_in is None or held is not state._value:
            leaves, treedef = jax.tree.flatten(state._value)
            label = self._label(state)
            arrays = [
                CapturedArray(state, at, leaf, label, self.context)
                for at, leaf in enumerate(leaves)
            ]
            stand_in = jax.tree.unflatten(treedef, arrays)
            self._stand_ins[id(state)] = (state._value, stand_in)
        return stand_in

    def constants_of(self, key: int) -> dict[int, Any]:
        """The arrays of a captured State as they were read, by the ids of the stand-ins; the State by its id."""
        value, stand_in = self._stand_ins.get(key, (None, None))
        pairs = zip(jax.tree.leaves(stand_in), jax.tree.leaves(value), strict=True)
        return {id(part): array for part, array in pairs}

    def _is_outside(self, state: Marked) -> bool:
        """Whether a State was there before the trace: made outside of all traces, or in one around this one."""
        birth = trace_of(state)
        if birth is None:
            return True
        # Where JAX does not say, the State gives its tracer, as plain JAX would have it.
        return any([birth() is trace for trace in self._traces_around])


class _Reading(threading.local):
    """What the innermost noted trace of this thread looks at."""

    reads: Reads | None = None

    def __reduce__(self) -> str:
        # A function that is pickled by value has this among its globals: where it is
        # loaded, it is the one that is there.
        return "READING"


READING: Final = _Reading()

# The noted traces of all threads. Only whether there are any is asked: reading a State
# must not cost a look into what is local to a thread.
RUNNING: Final[list[Reads]] = []


def looked_at(state: Marked) -> Any:
    """What a State holds, for a look at its shape, dtype or structure, which is noted.

    What is compiled would otherwise not follow when that changes. In what a traced
    function may call, it stands for all looks other than by `State.value`.
    """
    reads = READING.reads
    if reads is not None and is_tracing():
        reads.look(state)
    return state._value
