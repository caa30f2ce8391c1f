"""A binding: a flattened graph with the live States in it, which knows when it is out of date.

It remembers the versions of all nodes and tracked containers that it was made from:

    root --a--> node ---> w        binding of root, kept on root:
      |                              graphdef, States [w, v]
      `--layers--> [node ---> v]     watched [a, layers, layers[0]]   versions [v1, v2, v3]
                                     root_versions [v0]               clock c0

    second call:      is CLOCK.now still c0?           yes: nothing in the process has changed
                      no: are the versions the same?   yes: something else has changed; note the clock
                                                       no: walk again

The versions of the roots are apart, as a binding must not hold its roots. A write to
`.value` replaces no version: values are not structure. See `_versions` for the argument
that this holds with threads.
"""

import functools
from collections.abc import Hashable, Sequence
from typing import Any

from .._caches import Memo
from .._compat import TraceRef, is_live, is_tracing
from .._marks import any_marked, is_marked, trace_of
from .._paths import path_str
from .._reads import RUNNING
from .._state import State, check_alive, read, state_label
from .._value import take_in
from .._versions import (
    CLOCK,
)
from ._graphdef import GraphDef
from ._template import Watch


class Binding:
    """A graphdef with the live States of one graph, in layout order.

    It must not hold its roots (the node, or the nodes and States of a pytree of them):
    a root holds it, and a model without cycles should die when its last reference does.
    """

    __slots__ = (
        "clock",
        "graphdef",
        "groups",
        "has_marks",
        "root_versions",
        "states",
        "traces",
        "versions",
        "watched",
    )

    graphdef: GraphDef[Any]
    states: tuple[State[Any], ...]
    watched: list[Any]  # nodes and tracked containers, or weak proxies of them
    versions: list[object]  # of what is watched, before it was read
    root_versions: list[object]
    clock: object
    traces: tuple[TraceRef, ...]
    has_marks: bool
    groups: Memo[Hashable, Any]

    def __init__(
        self,
        graphdef: GraphDef[Any],
        states: Sequence[State[Any]],
        watch: Watch,
        root_versions: list[object],
        clock: object,
        traces: tuple[TraceRef, ...],
        has_marks: bool | None = None,
    ) -> None:
        self.graphdef = graphdef
        self.states = tuple(states)
        self.watched, self.versions = watch
        self.root_versions = root_versions
        self.clock = clock
        self.traces = traces
        self.has_marks = any_marked(self.states) if has_marks is None else has_marks
        self.groups = Memo()

    def is_current(self, roots: Sequence[Any]) -> bool:
        """Whether the structure below the roots is what it was when the binding was made.

        For `binding_of`: whether the cached binding may be used in place of a new walk.
        """
        # Read first: what changes after this line has another clock, and is found the
        # next time.
        now = CLOCK.now
        if self.clock is now:
            return True
        try:
            is_same = [watched._version for watched in self.watched] == self.versions
        except ReferenceError:
            # A joint binding watches by weak proxies: one has left the graph, and died.
            return False
        if not is_same or versions_of(roots) != self.root_versions:
            return False
        # To mark a State moves the clock, so this is up to date for as long as the clock
        # does not move.
        self.has_marks = any_marked(self.states)
        self.clock = now
        return True

    def with_states(self, states: Sequence[State[Any]]) -> "Binding":
        """A binding of the same structure with other States, with a memory of its own.

        For joint bindings, which are kept without the States that are roots themselves:
        they are taken out before, and put back in for each use.
        """
        watch = Watch(self.watched, self.versions)
        return Binding(
            self.graphdef, states, watch, self.root_versions, self.clock, self.traces
        )

    def remember(self, question: Hashable, answer: object) -> None:
        """Keep a group of its States under the filters or layout that ask for it; bounded.

        So that a second split by the same filters, or update by the same layout, looks
        for no State.
        """
        self.groups.keep(question, answer)

    def values(self) -> tuple[Any, ...]:
        """The values of all States, in layout order, with containers of their own.

        What `gn.treefy_split` returns, and what a transformed function is called with.
        """
        if self.has_marks or is_tracing():
            return self.values_of(self.states)
        # The fast path of every call of a transformed function: no State needs a check.
        return tuple([state._value for state in self.states])

    def values_of(self, states: Sequence[State[Any]]) -> tuple[Any, ...]:
        """The values of some of its States, with containers of their own.

        For a split by filters: the values of one group.

        Raises:
            TraceError, DonationError: One of them must not be read now; see
                `State.value`.
        """
        if self.has_marks or is_tracing():
            return tuple([self._value_of(state) for state in states])
        return tuple([state._value for state in states])

    def peek(self) -> tuple[Any, ...]:
        """What all States hold, in layout order, as it is: nothing is checked or noted.

        For the shapes and dtypes of a trace that finds out what is looked at.
        """
        return tuple([state._value for state in self.states])

    def _value_of(self, state: State[Any]) -> Any:
        """The value of one State, which may be marked, with a container of its own.

        The container is copied, so that a write into what was returned is no write to
        the State.
        """
        value = (
            read(state, functools.partial(self._place_of, state))
            if is_marked(state) or RUNNING
            else state._value
        )
        # Not only rebuilt: whatever may have been put into its container in place.
        return take_in(value, lambda: state_label(state, self._place_of(state)))

    def _place_of(self, state: State[Any]) -> str:
        """The path of one of its States, for messages.

        For the error of a State that must not be read.
        """
        return path_str(self.graphdef.layout.path(self.states.index(state)))

    def check_traces(self) -> None:
        """Raise if a State was made in a trace that has ended, and still holds its tracer.

        For `binding_of`: such a tracer would be handed out, and fail far from here.
        """
        if not all(map(is_live, self.traces)):
            for at, state in enumerate(self.states):
                check_alive(state, path_str(self.graphdef.layout.path(at)))


def versions_of(roots: Sequence[Any]) -> list[object]:
    """The version of each root; `None` for a State.

    For `Binding.is_current`: a binding has the versions of its roots apart, as it must
    not hold the roots.
    """
    # A State has none, and needs none
    return [getattr(root, "_version", None) for root in roots]


def traces_of(states: Sequence[State[Any]]) -> tuple[TraceRef, ...]:
    """The traces that the States were made in, each once.

    For a new binding, which asks each time it is used whether one of them has ended
    (`check_traces`).
    """
    # By identity: a reference to a trace that has ended may have no hash.
    by_id: dict[int, TraceRef] = {}
    for state in states:
        trace = trace_of(state)
        if trace is not None:
            by_id[id(trace)] = trace
    return tuple(by_id.values())
