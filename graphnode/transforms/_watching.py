"""`Watching`: a function that is traced with a watch on its calls, and the program that comes of it.

Watching.run(call)
    │ the values of the States that were touched and captured, other leaves, what is put in
    ▼
jax.jit(run).trace(...)      JAX knows what it has traced: nothing is traced a second time
    │ once for each shapes   a `WatchedTrace`, whose taps become inputs and outputs
    ▼
its equations, one by one    what is not compiled by the function itself stays so
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from .._caches import Memo
from .._calls import calls_through
from .._compat import PLAIN, closed_over, jaxpr_as_fun, using_context, weakly_typed
from .._constrain import ACTIVATIONS
from .._reads import READING
from ._arguments import Function, Values, show_as
from ._boundary import Call
from ._program import picker
from ._pure import ACTIVE
from ._surroundings import Surroundings
from ._taps import Refused, Tapped
from ._trace import Gone, Inputs, Trace, Wider
from ._watch import Watch

# From the trace, the arguments of its program and what is put in to all that is given.
Finish: TypeAlias = Callable[["WatchedTrace", list[Any], Any], Any]
# From a call, and functions that the function is watched with, to the watch of a trace.
MakeWatch: TypeAlias = Callable[[Call, Sequence[Function]], Watch]


class WatchedTrace(Trace):
    """A trace of the function of a call, with taps at the calls that a watch was for.

    Attributes:
        watch: The watch: what each tap belongs to.
        program: What was traced, without the taps.
    """

    def __init__(
        self,
        call: Call,
        watch: Watch,
        missing_ok: bool,
        values: Values,
        other_leaves: Sequence[Any],
    ) -> None:
        """Trace a function.

        Args:
            call: The call that it is traced for.
            watch: What sees the calls of nodes.
            missing_ok: Whether something may select no call.
            values: The values of all States, or others of the shapes to trace with.
            other_leaves: The other leaves.

        Raises:
            CaptureError: The watch has found what it cannot serve.
        """
        watch.check_selected()
        with calls_through(watch), watch.explaining_axes():
            super().__init__(call, call.pure().noted, values, other_leaves)
        self.watch = watch
        try:
            self.program = Tapped(watch.with_late_rules_checked(self.jaxpr), watch)
        except Refused as refused:
            raise watch.refusal(refused) from None
        watch.check(self.program, missing_ok=missing_ok)


class Watching:
    """A function that is watched in one way, for one signature: what JAX has traced of it."""

    def __init__(
        self, make_watch: Callable[[Call], Watch], missing_ok: bool, finish: Finish
    ) -> None:
        """For a function that the first call brings.

        Args:
            make_watch: Makes the watch of a trace.
            missing_ok: Whether something may select no call.
            finish: Computes what is given.
        """
        self._make_watch, self._missing_ok = make_watch, missing_ok
        self._finish = finish
        self._traced: tuple[Inputs, Any] | None = None

    def run(self, call: Call, put: Any = None) -> Any:
        """What `finish` gives for a call.

        Args:
            call: The call.
            put: What `finish` gets of the caller beside: a pytree of arrays.
        """
        inputs, jitted = self._traced or self._take(call, Inputs())
        try:
            touched = picker(inputs.touched)(call.binding.states)
            arguments = (
                call.binding.values_of(touched),
                inputs.captured_values(call),
                list(call.other_leaves),
                put,
            )
            return _evaluated(jitted, arguments)
        except Wider as wider:
            call.trace = wider.trace
            self._take(call, wider.trace.inputs.with_those_of(inputs))
        except Gone:
            self._traced = None
        return self.run(call, put)

    def _take(self, call: Call, inputs: Inputs) -> tuple[Inputs, Any]:
        """From here on take these States as inputs."""

        def run(
            values: Values, captured: Values, other_leaves: Sequence[Any], put: Any
        ) -> Any:
            """What JAX traces: the program of a trace with these in the places of its inputs."""
            return self._run(inputs, values, captured, other_leaves, put)

        show_as(run, call.function)
        # Both at once: another thread may call this now.
        self._traced = traced = inputs, jax.jit(run)
        return traced

    def _run(
        self,
        inputs: Inputs,
        values: Values,
        captured: Values,
        other_leaves: Sequence[Any],
        put: Any,
    ) -> Any:
        """What is given for these inputs, while JAX traces.

        Raises:
            Wider: The function looks at States that are not among the inputs.
        """
        call = ACTIVE.call
        assert isinstance(call, Call)
        by_number = dict(zip(inputs.touched, values, strict=True))
        by_key = dict(zip(inputs.captured, captured, strict=True))
        # Once: JAX keeps what it makes of it.
        trace, call.trace = call.trace, None
        if trace is None or not trace.fits(by_number, by_key, other_leaves):
            all_values = dict(enumerate(call.binding.peek())) | by_number
            trace = WatchedTrace(
                call,
                self._make_watch(call),
                self._missing_ok,
                tuple(all_values.values()),
                other_leaves,
            )
        if not trace.inputs.are_among(inputs):
            raise Wider(trace)
        arguments = trace.arguments(by_number, by_key, other_leaves)
        return self._finish(trace, arguments, put)


class Kept(Memo[Hashable, Watching]):
    """What was traced of one function that is watched in one way, by the signature of the arguments."""

    __slots__ = ("_functions", "_surroundings")
    limit = 256

    def __init__(self, functions: Callable[[], Sequence[Function]]) -> None:
        """For a function.

        Args:
            functions: Gives it, and those that it is watched with, as long as they live.
        """
        super().__init__()
        self._functions = functions
        self._surroundings = Surroundings()

    def run(
        self,
        call: Call,
        make_watch: MakeWatch,
        missing_ok: bool,
        finish: Finish,
        put: Any,
    ) -> Any:
        """What is given for a call; arguments as of `Watching` and `Watching.run`."""
        surroundings = self._surroundings
        if not surroundings.is_empty:
            call.held = surroundings.held()
        watching = self.get(_key(call))
        if watching is None:
            surroundings.look(self._functions(), call.binding.graphdef)
            call.held = surroundings.held()
            functions = self._functions

            def watch(call: Call) -> Watch:
                """The watch of one trace."""
                return make_watch(call, functions()[1:])

            watching = self.of(_key(call), lambda: Watching(watch, missing_ok, finish))
        return call.run(watching.run, call, put)


def _key(call: Call) -> Hashable:
    """What is traced for a call is known by: its signature, the plan of activations, and what is around the function.

    So are the names of operations in it: what its nodes are called in a trace around it.
    """
    return call.key, ACTIVATIONS.get(), call.held.key, call.labels_around()


def _evaluated(jitted: Any, arguments: tuple[Any, ...]) -> Any:
    """What JAX has traced of a function, computed for these arguments, without compiling it as a whole."""
    # Inside of another function's trace: what is traced is the same there.
    if READING.reads is None:
        traced = jitted.trace(*arguments)
    else:
        with using_context(None):
            traced = jitted.trace(*arguments)
    leaves = jax.tree.leaves(arguments)
    outputs = jaxpr_as_fun(traced.jaxpr)(*closed_over(traced), *leaves)
    arrays = map(_as_array, outputs, traced.jaxpr.out_avals)
    return jax.tree.unflatten(jax.tree.structure(traced.out_info), arrays)


def _as_array(output: Any, aval: Any) -> Any:
    """An output of a jaxpr as the array that a compiled function would give: a literal is none."""
    if isinstance(output, jax.Array):
        return output
    # A copy: `asarray` may share the memory of an argument that is NumPy's.
    array = jnp.array(output, aval.dtype)
    return weakly_typed(array) if aval.weak_type and type(array) in PLAIN else array
