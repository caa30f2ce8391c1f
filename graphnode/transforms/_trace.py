"""`Trace`: one trace of a function of nodes, which knows what the function looked at, and is evaluated in its place.

The function is traced with all States. What it looked at will be inputs of what is
compiled, and nothing else:

    all States, leaves ──► jaxpr    inputs.touched: States 2 and 7 of the arguments
                                    inputs.captured: a State that it closes over
                                    written: State 7

A captured State is no constant of the jaxpr: `CapturedArray`s stand for its arrays, and
are replaced by what is given for them. So a call sees what the State holds then.
"""

import dataclasses
import itertools
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import jax

from .._compat import (
    AbstractValue,
    StandIn,
    check_stand_ins,
    closed_over,
    jaxpr_as_fun,
    using_context,
)
from .._errors import TraceError
from .._reads import CapturedArray, Reads
from .._state import State, state_label
from .._value import rebuilt
from ._arguments import Values, show_as
from ._boundary import Call
from ._pure import Outcome
from ._surroundings import Held
from ._type_text import type_text
from ._written import Written

# A captured State: by its number among those that are held around the function, where
# that of another model of equal structure may take its place, or else itself.
Captured: TypeAlias = int | weakref.ReferenceType[State[Any]]
# From values, other arguments and notes of what is looked at to an outcome.
NotedFunction: TypeAlias = Callable[..., Outcome]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The States that something which was traced takes.

    Attributes:
        touched: The numbers of those of the arguments, ascending.
        captured: Those of outside.
    """

    touched: tuple[int, ...] = ()
    captured: tuple[Captured, ...] = ()

    def with_those_of(self, other: "Inputs") -> "Inputs":
        """These and those of another, each once."""
        touched = sorted({*self.touched, *other.touched})
        captured = dict.fromkeys([*self.captured, *other.captured])
        return Inputs(tuple(touched), tuple(captured))

    def are_among(self, other: "Inputs") -> bool:
        """Whether another has all of these."""
        return {*self.touched} <= {*other.touched} and {*self.captured} <= {
            *other.captured
        }

    def captured_states(self, held: Held) -> list[State[Any]]:
        """The States of outside, among what is held around the function now.

        Raises:
            Gone: One is gone.
        """
        return [
            held.states[key] if isinstance(key, int) else _alive(key)
            for key in self.captured
        ]

    def captured_names(self, held: Held) -> list[str]:
        """What messages call the States of outside."""
        return [
            held.state_name(key) if isinstance(key, int) else _name_of(key())
            for key in self.captured
        ]

    def captured_types(self, held: Held) -> dict[str, str]:
        """The types of the States of outside, by their names in messages."""
        names, states = self.captured_names(held), self.captured_states(held)
        return {
            name: type_text(state._value)
            for name, state in zip(names, states, strict=True)
        }

    def captured_values(self, call: Call) -> Values:
        """What the States of outside hold now, for a call of what was compiled.

        Raises:
            Gone: One is gone.
            TraceError: One is a State of the arguments, or must not be read now.
        """
        states = self.captured_states(call.held)
        call.refuse_captured(states)
        # Containers of their own, as all values that go to JAX.
        return tuple([rebuilt(state.value) for state in states])


def _alive(ref: "weakref.ReferenceType[Any]") -> State[Any]:
    """A State that a function has captured, which must not be gone."""
    state: State[Any] | None = ref()
    if state is None:
        raise Gone(
            "a State that the function read from outside while it was traced is gone; pass its node as an argument"
        )
    return state


def _name_of(state: State[Any] | None) -> str:
    """What messages call a State of outside that has no place there."""
    return "a State that is gone" if state is None else state_label(state)


class Gone(TraceError):
    """A State that a function has captured is gone: the function reads it no more, and is to be traced again."""


class Wider(Exception):
    """JAX traces for other shapes, and the function looks at more States than what is compiled takes."""

    def __init__(self, trace: "Trace") -> None:
        super().__init__()
        self.trace = trace


class _Unused(StandIn):
    """Stands for a State that was not touched where its jaxpr is evaluated: nothing is computed with it."""

    __slots__ = ()


class Trace:
    """One trace of the function of a call.

    Attributes:
        inputs: The States that it looked at.
        written: What it wrote.
        jaxpr: What JAX made of it: from what it closed over, all values and all other
            leaves to the outcome.
        shapes: The outcome, as shapes and dtypes.
    """

    def __init__(
        self,
        call: Call,
        function: NotedFunction,
        values: Values,
        *others: Any,
    ) -> None:
        """Trace a function.

        Args:
            call: The call that it is traced for.
            function: From the values, the others and notes of reads to an outcome.
            values: The values of all States of the call, or others of the shapes to
                trace with.
            *others: The other leaves, and whatever the function takes.

        Raises:
            TraceError: The function read a State of its arguments from outside.
        """
        self._held = held = call.held
        self._numbers = {id(state): number for number, state in enumerate(held.states)}
        arguments = values, *others
        traced, reads = self._traced(call, function, arguments, held.context)
        if not _is_up_to_date(closed_over(traced)):
            # JAX has kept the trace of a function inside, for other shapes of what it
            # has captured. In a context of its own it finds nothing.
            traced, reads = self._traced(call, function, arguments, object())
        reads.take_originals(call.binding.states)
        self.shapes: Any = traced.out_info
        self.written: Written = traced.out_info[0]
        self.jaxpr: Any = traced.jaxpr
        self._evaluate = jaxpr_as_fun(traced.jaxpr)
        self._out_treedef = jax.tree.structure(traced.out_info)
        # Of each State, how many inputs of the jaxpr it is.
        self._counts = [len(jax.tree.leaves(value)) for value in values]
        consts = closed_over(traced)
        self._avals = traced.jaxpr.in_avals[len(consts) :]
        touched = {*reads.touched, *self.written.numbers, *self._used(len(consts))}
        self.inputs: Inputs = Inputs(tuple(sorted(touched)))
        self._take_captured(call, reads, consts)
        avals = iter(self._avals)
        abstract = [jax.tree.map(lambda _: next(avals), value) for value in values]
        states = self.inputs.captured_states(held)
        self._types = self._types_of(
            dict(enumerate(abstract)),
            dict(zip(self.inputs.captured, [s._value for s in states], strict=True)),
            *jax.tree.map(lambda _: next(avals), others),
        )

    @property
    def result_def(self) -> Any:  # Any: JAX's stubs give treedefs no equality
        """The structure of the result."""
        return jax.tree.structure(self.shapes[2])

    def _traced(
        self,
        call: Call,
        function: NotedFunction,
        arguments: tuple[Any, ...],
        context: Hashable,
    ) -> tuple[jax.stages.Traced, Reads]:
        """What JAX makes of the function in a context of its memory, and what was looked at."""
        reads = Reads(self._label, context)

        # A function of its own: JAX would keep the trace of a function that it knows. Its
        # errors have the names of the parameters, which notes of `jit` explain.
        def run(values: Values, other_leaves: Any, *more: Any) -> Outcome:
            """The function, noted."""
            with reads.noting():
                outcome = function(values, other_leaves, *more, reads)
                # Of what is returned as it is, JAX asks nothing.
                check_stand_ins(jax.tree.leaves(outcome))
                return outcome

        show_as(run, call.function)
        try:
            with using_context(context):
                return jax.jit(run).trace(*arguments), reads
        except jax.errors.ConcretizationTypeError as error:
            # JAX names the arguments, and these are none.
            names = [self._label(state) for state in reads.captured.values()]
            if names:
                error.add_note(
                    f"The value of {', '.join(names)}, which is read from outside of the function, is not known while "
                    "it is traced."
                )
            raise

    def _label(self, state: State[Any]) -> str:
        """What messages call a State of outside."""
        number = self._numbers.get(id(state))
        return state_label(state) if number is None else self._held.state_name(number)

    def _used(self, const_count: int) -> list[int]:
        """The numbers of the States that the jaxpr computes with or returns."""
        jaxpr = self.jaxpr.jaxpr
        equations = itertools.chain.from_iterable([eqn.invars for eqn in jaxpr.eqns])
        used = set(map(id, itertools.chain(equations, jaxpr.outvars)))
        inputs = iter(jaxpr.invars[const_count:])
        return [
            number
            for number, count in enumerate(self._counts)
            if any([id(var) in used for var in itertools.islice(inputs, count)])
        ]

    def _take_captured(self, call: Call, reads: Reads, consts: list[Any]) -> None:
        """Find out which States stand behind what the function closed over: they become inputs.

        Raises:
            TraceError: One is a State of the arguments.
        """
        constants = _of_dead_states(reads)
        states = list(reads.captured.values())
        # What JAX kept of a function inside has no reads, but stand-ins.
        states += [
            _alive(const.captured_state)
            for const in consts
            if isinstance(const, CapturedArray) and id(const) not in constants
        ]
        states = list({id(state): state for state in states}.values())
        call.refuse_captured(states)
        self.inputs = dataclasses.replace(
            self.inputs, captured=tuple(map(self._key, states))
        )
        position = {id(state): at for at, state in enumerate(states)}
        # Of each constant: which leaf of which captured State it is, or itself.
        self._consts: list[Any] = [
            (position[id(const.captured_state())], const.leaf_number)
            if isinstance(const, CapturedArray) and id(const) not in constants
            else constants.get(id(const), const)
            for const in consts
        ]

    def _key(self, state: State[Any]) -> Captured:
        """What a captured State is found by, at a later call."""
        number = self._numbers.get(id(state))
        return weakref.ref(state) if number is None else number

    def fits(
        self,
        values: Mapping[int, Any],
        captured: Mapping[Captured, Any],
        *others: Any,
    ) -> bool:
        """Whether these are all its inputs, and have the types that were traced.

        Args:
            values: The values of States by number; those that were touched, and more.
            captured: The values of captured States; those of `inputs`, and more.
            *others: The other arguments.
        """
        # Another thread may have put what takes fewer States in the place of what this
        # was made for.
        if not self.inputs.are_among(Inputs(tuple(values), tuple(captured))):
            return False
        return self._types == self._types_of(values, captured, *others)

    def _types_of(
        self,
        values: Mapping[int, Any],
        captured: Mapping[Captured, Any],
        *others: Any,
    ) -> tuple[Any, list[Any]]:
        """What a jaxpr is made for: weak types and shardings included."""
        touched = [values[number] for number in self.inputs.touched]
        row = [captured[key] for key in self.inputs.captured]
        leaves, treedef = jax.tree.flatten((touched, row, *others))
        return treedef, [
            leaf if isinstance(leaf, AbstractValue) else jax.typeof(leaf)
            for leaf in leaves
        ]

    def outcome(
        self,
        values: Mapping[int, Any],
        captured: Mapping[Captured, Any],
        *others: Any,
    ) -> Outcome:
        """The outcome of the function for these, by evaluating the jaxpr; arguments as of `fits`."""
        return self.unflattened(
            self._evaluate(*self.arguments(values, captured, *others))
        )

    def unflattened(self, outputs: Sequence[Any]) -> Outcome:
        """The outcome, from the outputs of the jaxpr."""
        return jax.tree.unflatten(self._out_treedef, outputs)  # type: ignore[no-any-return]

    def arguments(
        self,
        values: Mapping[int, Any],
        captured: Mapping[Captured, Any],
        *others: Any,
    ) -> list[Any]:
        """What the jaxpr takes; arguments as of `fits`."""
        captured_leaves = [
            jax.tree.leaves(captured[key]) for key in self.inputs.captured
        ]
        arguments = [
            captured_leaves[const[0]][const[1]] if isinstance(const, tuple) else const
            for const in self._consts
        ]
        touched = set(self.inputs.touched)
        avals = iter(self._avals)
        for number, count in enumerate(self._counts):
            own = list(itertools.islice(avals, count))
            arguments += (
                jax.tree.leaves(values[number])
                if number in touched
                else list(map(_Unused, own))
            )
        arguments += jax.tree.leaves(others)
        return arguments


def _is_up_to_date(consts: Sequence[Any]) -> bool:
    """Whether the stand-ins among what was closed over have the shapes of what they stand for."""
    return all(
        [const.is_current for const in consts if isinstance(const, CapturedArray)]
    )


def _of_dead_states(reads: Reads) -> dict[int, Any]:
    """The arrays of States of outside that have died with the trace, by the id of the stand-in; they leave the reads.

    They were made inside, where JAX computes at once, as under
    `jax.ensure_compile_time_eval`: their arrays are constants indeed.
    """
    dead: dict[int, Any] = {}
    for key in list(reads.captured):
        ref = weakref.ref(reads.captured.pop(key))
        state = ref()
        if state is not None:
            reads.captured[key] = state
            continue
        dead |= reads.constants_of(key)
    return dead
